//! Brings what LiteLLM has together with what is here: created, updated, unchanged or left alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::report::TableReport;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Author, Directory, StoreError, Write};

/// Where an imported entity remembers what it was imported from, in `settings.rest`.
const MARK: &str = "litellm_import";

/// An entity as LiteLLM has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) entity: Entity,
    /// Spend of the window that LiteLLM counts now; nano-dollars.
    pub(super) spend_nanos: i64,
    /// What tells whether LiteLLM's row changed: not the entity itself, since encryption never gives the same twice.
    pub(super) fingerprint: String,
    /// How the report names it.
    pub(super) shown: String,
}

impl Wanted {
    pub(super) fn new(entity: Entity, spend_nanos: i64) -> Self {
        let fingerprint = fingerprint(&entity);
        let shown = entity.alias.clone().unwrap_or_else(|| match entity.kind {
            EntityKind::Key | EntityKind::RotatedKey => entity.id.chars().take(12).collect(),
            _ => entity.id.clone(),
        });
        Self { entity, spend_nanos, fingerprint, shown }
    }

    pub(super) fn with_fingerprint_of(mut self, text: &str) -> Self {
        self.fingerprint = digest(text);
        self
    }
}

/// Everything an admin can set, in one hash. Spend and times are not part of it.
fn fingerprint(entity: &Entity) -> String {
    let mut settings = entity.settings.clone();
    settings.rest.remove(MARK);
    let Entity { name, alias, team_id, user_id, organization_id, budget_id, blocked, expires_ms, .. } =
        entity;
    let all = json!([
        name,
        alias,
        team_id,
        user_id,
        organization_id,
        budget_id,
        blocked,
        expires_ms,
        serde_json::to_value(settings).unwrap_or_default()
    ]);
    digest(&all.to_string())
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..12])
}

/// What was noted at the last import.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// LiteLLM's row.
    source: String,
    /// The entity as it was stored.
    stored: String,
    spend_nanos: i64,
}

impl Mark {
    fn of(entity: &Entity) -> Option<Self> {
        let mark = entity.settings.rest.get(MARK)?;
        let text = |name: &str| mark.get(name).and_then(Value::as_str).map(str::to_owned);
        let spend_nanos = mark.get("spend_nanos").and_then(Value::as_i64).unwrap_or(0);
        Some(Self { source: text("source")?, stored: text("stored")?, spend_nanos })
    }

    fn put(wanted: &Wanted) -> Entity {
        let mut entity = wanted.entity.clone();
        let mark = json!({
            "source": wanted.fingerprint,
            "stored": fingerprint(&entity),
            "spend_nanos": wanted.spend_nanos,
        });
        entity.settings.rest.insert(MARK.to_owned(), mark);
        entity.updated_by = Some(super::AUTHOR.to_owned());
        entity
    }
}

/// What is to be done about one entity.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Create(Vec<Write>),
    Update(Vec<Write>),
    Unchanged,
    Keep(&'static str),
}

fn step(wanted: &Wanted, here: Option<&Entity>, overwrite: bool, now_ms: u64) -> Step {
    let Some(here) = here else {
        let mut new = Mark::put(wanted);
        if wanted.spend_nanos != 0 {
            // As if an admin had set it: the window that is open now begins with it.
            (new.spend_nanos, new.spend_reset_ms) = (wanted.spend_nanos, now_ms);
        }
        return Step::Create(vec![Write::Insert(new)]);
    };
    let mark = Mark::of(here);
    let own = mark.as_ref().is_none_or(|mark| mark.stored != fingerprint(here));
    let same = mark.as_ref().is_some_and(|mark| mark.source == wanted.fingerprint);
    // Money spent through this gateway since is not forgotten.
    let unused = mark.as_ref().is_some_and(|mark| mark.spend_nanos == here.spend_nanos);
    let spend = (unused || overwrite) && here.spend_nanos != wanted.spend_nanos;
    if own && !overwrite {
        return match (same, mark.is_some()) {
            (true, _) => Step::Unchanged,
            (false, true) => Step::Keep("changed here since the import; --overwrite takes LiteLLM's again"),
            (false, false) => Step::Keep("exists here and was not imported; --overwrite takes LiteLLM's"),
        };
    }
    if same && !own && !spend {
        return Step::Unchanged;
    }
    let mut noted = wanted.clone();
    if !spend {
        // The spend here was not touched: what it was compared with stays.
        noted.spend_nanos = mark.map_or(0, |mark| mark.spend_nanos);
    }
    // It could not have its alias the first time, and would not now.
    if here.alias.is_some() && here.alias == renamed(&wanted.entity) {
        noted.entity.alias.clone_from(&here.alias);
    }
    // A key that was rotated here goes on with the counters it had.
    noted.entity.settings.account.clone_from(&here.settings.account);
    let mut after = Mark::put(&noted);
    (after.spend_nanos, after.spend_reset_ms) = (here.spend_nanos, here.spend_reset_ms);
    (after.created_ms, after.updated_ms) = (here.created_ms, here.updated_ms);
    let mut writes = vec![Write::Replace { before: Box::new(here.clone()), after: Box::new(after) }];
    if spend {
        writes.push(Write::ResetSpend { of: here.reference(), to_nanos: wanted.spend_nanos });
    }
    Step::Update(writes)
}

/// The alias of a key whose own is taken: LiteLLM does not keep them unique, here they are.
fn renamed(entity: &Entity) -> Option<String> {
    let part: String = entity.id.chars().take(8).collect();
    Some(format!("{}-{part}", entity.alias.as_ref()?))
}

/// Writes for one page after another.
pub(super) struct Merge<'a> {
    /// `None`: there is nothing yet, not even tables (a dry run).
    pub(super) directory: Option<&'a dyn Directory>,
    pub(super) author: &'a Author,
    pub(super) dry_run: bool,
    pub(super) overwrite: bool,
    pub(super) now_ms: u64,
}

impl Merge<'_> {
    /// Brings one page in, and counts it.
    pub(super) async fn page(&self, page: Vec<Wanted>, report: &mut TableReport) -> Result<(), StoreError> {
        let here = self.here(&page).await?;
        let mut pending = Vec::new();
        for wanted in page {
            match step(&wanted, here.get(&wanted.entity.reference()), self.overwrite, self.now_ms) {
                Step::Unchanged => report.unchanged += 1,
                Step::Keep(why) => report.skip(&wanted.shown, why),
                Step::Create(writes) => pending.push((wanted, writes, true)),
                Step::Update(writes) => pending.push((wanted, writes, false)),
            }
        }
        if self.dry_run || pending.is_empty() {
            pending.iter().for_each(|(_, _, new)| count(report, *new));
            return Ok(());
        }
        let all: Vec<Write> = pending.iter().flat_map(|(_, writes, _)| writes.clone()).collect();
        match self.apply(&all).await {
            Ok(()) => pending.iter().for_each(|(_, _, new)| count(report, *new)),
            // Somebody is in the way: only that one shall suffer.
            Err(StoreError::Conflict(_)) => {
                for (wanted, writes, new) in pending {
                    self.alone(wanted, &writes, new, report).await?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn here(&self, page: &[Wanted]) -> Result<BTreeMap<EntityRef, Entity>, StoreError> {
        let Some(directory) = self.directory else { return Ok(BTreeMap::new()) };
        let refs: Vec<EntityRef> = page.iter().map(|wanted| wanted.entity.reference()).collect();
        let found = directory.entities(&refs).await?;
        Ok(found.into_iter().map(|entity| (entity.reference(), entity)).collect())
    }

    async fn apply(&self, writes: &[Write]) -> Result<(), StoreError> {
        let Some(directory) = self.directory else { return Ok(()) };
        directory.apply(writes, self.author).await.map(|_| ())
    }

    async fn alone(
        &self,
        mut wanted: Wanted,
        writes: &[Write],
        new: bool,
        report: &mut TableReport,
    ) -> Result<(), StoreError> {
        match self.apply(writes).await {
            Ok(()) => count(report, new),
            Err(StoreError::Conflict(field))
                if new && field.contains("alias") && wanted.entity.alias.is_some() =>
            {
                wanted.entity.alias = renamed(&wanted.entity);
                let alias = wanted.entity.alias.as_deref().unwrap_or_default();
                let why = format!("its alias is taken; it is now {alias}");
                let Step::Create(writes) = step(&wanted, None, self.overwrite, self.now_ms) else {
                    return Ok(());
                };
                match self.apply(&writes).await {
                    Ok(()) => {
                        count(report, new);
                        report.reason(&wanted.shown, why);
                    }
                    Err(StoreError::Conflict(field)) => {
                        report.fail(&wanted.shown, format!("{field} is taken"))
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(StoreError::Conflict("version")) => {
                report.fail(&wanted.shown, "it was changed here at the same moment; run the import again");
            }
            Err(StoreError::Conflict(field)) => report.fail(&wanted.shown, format!("{field} is taken")),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn count(report: &mut TableReport, new: bool) {
    if new {
        report.created += 1;
    } else {
        report.updated += 1;
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
