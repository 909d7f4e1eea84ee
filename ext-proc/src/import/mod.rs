//! Brings a LiteLLM database over: keys (whose hashes go on working), teams, users, members, organisations, end users,
//! tags, budgets, spend, models and credentials. Reads page by page, so that a million keys need little memory, and may
//! be run as often as one likes.

mod keys;
mod merge;
mod models;
mod models_file;
mod people;
mod report;
mod row;
mod source;
mod target;

use std::collections::BTreeMap;

pub use models_file::{ModelsFile, write_models};
pub use report::{Reason, Report, TableReport};
pub use target::tables_exist;

use keys::Key;
use merge::{Merge, Wanted};
use models::Keys;
use people::Around;
use row::{Found, Row};
use source::{Source, Table};

use crate::config::Secret;
use crate::secrets::{self, CheckError, Salt, SaltKey};
use crate::store::{Author, Directory, StoreError};

/// Rows per page, and entities per transaction.
const PAGE: u32 = 500;
/// Teams per page of members: each may have many.
const TEAMS: u32 = 20;
/// Who changed it, in the audit log.
const AUTHOR: &str = "attache import litellm";

const BUDGETS: Table = Table::new("LiteLLM_BudgetTable", &["budget_id"]);
const ORGANIZATIONS: Table = Table::new("LiteLLM_OrganizationTable", &["organization_id"]);
const TEAM: Table = Table::new("LiteLLM_TeamTable", &["team_id"]);
const USERS: Table = Table::new("LiteLLM_UserTable", &["user_id"]);
const MEMBERS: &str = "LiteLLM_TeamMembership";
const ORGANIZATION_MEMBERS: Table =
    Table::new("LiteLLM_OrganizationMembership", &["user_id", "organization_id"]);
const END_USERS: Table = Table::new("LiteLLM_EndUserTable", &["user_id"]);
const TAGS: Table = Table::new("LiteLLM_TagTable", &["tag_name"]);
const KEYS: Table = Table::new("LiteLLM_VerificationToken", &["token"]);
const ROTATED: Table = Table::new("LiteLLM_DeprecatedVerificationToken", &["token"]);
const CREDENTIALS: Table = Table::new("LiteLLM_CredentialsTable", &["credential_name"]);
const MODELS: Table = Table::new("LiteLLM_ProxyModelTable", &["model_id"]);

/// What to copy, and how.
#[derive(Debug)]
pub struct Options {
    /// LiteLLM's database.
    pub database_url: Secret,
    /// LiteLLM's salt key (or the master key it used for one).
    pub from_salt: Option<SaltKey>,
    /// The one that this gateway will read with.
    pub to_salt: Option<Salt>,
    /// Nothing is written.
    pub dry_run: bool,
    /// LiteLLM's settings win over what was changed here.
    pub overwrite: bool,
    /// Models and credentials are left out.
    pub without_models: bool,
    pub now_ms: u64,
}

/// Why an import ended early. What was written until then stays, and the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("--database-url: {0}")]
    Url(StoreError),
    #[error("LiteLLM's database: {0}")]
    Source(String),
    #[error("this is no LiteLLM database: it has no table \"LiteLLM_VerificationToken\"")]
    NotLiteLlm,
    #[error(transparent)]
    Salt(#[from] CheckError),
    #[error("Attaché's database: {0}")]
    Target(#[from] StoreError),
}

/// Copies everything. `directory` is none when a dry run finds no tables yet.
///
/// # Errors
/// Either database fails, or a salt key is missing or not the one of the stored credentials. A single row that cannot
/// be taken over is no error: the report names it.
pub async fn litellm(options: &Options, directory: Option<&dyn Directory>) -> Result<Report, ImportError> {
    let author = Author { user: AUTHOR.to_owned(), key: String::new(), action: AUTHOR.to_owned() };
    let source = Source::open(&options.database_url).await?;
    let merge = Merge {
        directory,
        author: &author,
        dry_run: options.dry_run,
        overwrite: options.overwrite,
        now_ms: options.now_ms,
    };
    let mut copy = Copy { source, merge, options, report: Report::default() };
    copy.report.dry_run = options.dry_run;
    if !copy.source.has(KEYS.name).await? {
        return Err(ImportError::NotLiteLlm);
    }
    copy.people().await?;
    copy.keys().await?;
    if !options.without_models {
        copy.models().await?;
    }
    let Copy { source, report, .. } = copy;
    source.close().await;
    Ok(report)
}

struct Copy<'a> {
    source: Source,
    merge: Merge<'a>,
    options: &'a Options,
    report: Report,
}

/// What one row becomes.
enum Taken {
    Wanted(Box<Wanted>),
    Skipped(String, String),
}

impl Copy<'_> {
    /// Budgets first: others refer to them.
    async fn people(&mut self) -> Result<(), ImportError> {
        let wanted = |made: Found<Wanted>| made.map(|wanted| Taken::Wanted(Box::new(wanted)));
        self.table(BUDGETS, "budget", |row, around| wanted(people::budget(row, around))).await?;
        self.table(ORGANIZATIONS, "organization", |row, around| wanted(people::organization(row, around)))
            .await?;
        self.table(TEAM, "team", |row, around| wanted(people::team(row, around))).await?;
        self.table(USERS, "user", |row, around| wanted(people::user(row, around))).await?;
        self.members().await?;
        self.table(ORGANIZATION_MEMBERS, "organization member", |row, around| {
            wanted(people::organization_member(row, around))
        })
        .await?;
        self.table(END_USERS, "end user", |row, around| wanted(people::end_user(row, around))).await?;
        self.table(TAGS, "tag", |row, around| wanted(people::tag(row, around))).await
    }

    async fn keys(&mut self) -> Result<(), ImportError> {
        let taken = |made: Found<Key>| {
            made.map(|key| match key {
                Key::Wanted(wanted) => Taken::Wanted(wanted),
                Key::Skipped(row, why) => Taken::Skipped(row, why.to_owned()),
            })
        };
        self.table(KEYS, "key", |row, around| taken(keys::key(row, around))).await?;
        self.table(ROTATED, "rotated key", |row, around| taken(keys::rotated(row, around))).await
    }

    /// The salt key is needed only if there is anything to encrypt.
    async fn models(&mut self) -> Result<(), ImportError> {
        let mut any = false;
        for table in [CREDENTIALS, MODELS] {
            any |= self.source.has(table.name).await?
                && !self.source.page(table, None, 1).await?.rows.is_empty();
        }
        let salt = self.options.to_salt.as_ref();
        if let (Some(directory), true) = (self.merge.directory, any) {
            if self.options.dry_run {
                secrets::check(directory, salt).await?;
            } else {
                secrets::prepare(directory, salt, self.merge.author).await?;
            }
        }
        let keys = Keys { from: self.options.from_salt.clone(), to: salt.map(|salt| salt.key.clone()) };
        let wanted = |made: Found<Wanted>| made.map(|wanted| Taken::Wanted(Box::new(wanted)));
        self.table(CREDENTIALS, "credential", |row, _| wanted(models::credential(row, &keys))).await?;
        self.table(MODELS, "model", |row, _| wanted(models::model(row, &keys))).await
    }

    async fn table(
        &mut self,
        table: Table,
        becomes: &'static str,
        take: impl Fn(&Row, &Around) -> Found<Taken>,
    ) -> Result<(), ImportError> {
        let mut report = TableReport { table: table.name, becomes, ..TableReport::default() };
        report.missing = !self.source.has(table.name).await?;
        let mut after: Option<Vec<String>> = None;
        while !report.missing {
            let page = self.source.page(table, after.as_deref(), PAGE).await?;
            let full = page.rows.len() == PAGE as usize;
            let around = self.around(&page.rows).await?;
            let mut wanted = Vec::with_capacity(page.rows.len());
            for row in &page.rows {
                report.read += 1;
                match row.as_ref().map_err(Clone::clone).and_then(|row| take(row, &around)) {
                    Ok(Taken::Wanted(found)) => {
                        self.notes(&found);
                        wanted.push(*found);
                    }
                    Ok(Taken::Skipped(row, why)) => report.skip(&row, why),
                    Err(why) => report.fail(&named(row, table), why.to_string()),
                }
            }
            self.merge.page(wanted, &mut report).await?;
            match page.last {
                Some(last) if full => after = Some(last),
                _ => break,
            }
        }
        tracing::debug!(table = report.table, read = report.read, "imported");
        self.report.tables.push(report);
        Ok(())
    }

    /// Memberships, together with the members that only the team's own row lists.
    async fn members(&mut self) -> Result<(), ImportError> {
        let mut report = TableReport { table: MEMBERS, becomes: "member", ..TableReport::default() };
        let has_rows = self.source.has(MEMBERS).await?;
        report.missing = !has_rows || !self.source.has(TEAM.name).await?;
        let mut after: Option<Vec<String>> = None;
        while !report.missing {
            let page = self.source.page(TEAM, after.as_deref(), TEAMS).await?;
            let full = page.rows.len() == TEAMS as usize;
            let ids: Vec<String> =
                page.rows.iter().flatten().filter_map(|row| row.id("team_id").ok()).collect();
            let memberships = self.source.lookup(MEMBERS, "team_id", &ids).await?;
            let around = self.around_rows(memberships.values().flatten()).await?;
            for team in page.rows.iter().flatten() {
                let id = team.id("team_id").unwrap_or_default();
                let rows = memberships.get(&id).map_or(&[][..], Vec::as_slice);
                match people::members(team, rows, &around) {
                    Ok(mut wanted) => {
                        report.read += wanted.len() as u64;
                        while !wanted.is_empty() {
                            let rest = wanted.split_off(wanted.len().min(PAGE as usize));
                            self.merge.page(std::mem::replace(&mut wanted, rest), &mut report).await?;
                        }
                    }
                    Err(why) => report.fail(&id, why.to_string()),
                }
            }
            match page.last {
                Some(last) if full => after = Some(last),
                _ => break,
            }
        }
        if !report.missing {
            let orphans = self.source.orphans().await?;
            report.read += orphans;
            if orphans > 0 {
                report.skip("memberships", format!("{orphans} of teams that do not exist"));
                report.skipped += orphans - 1;
            }
        }
        self.report.tables.push(report);
        Ok(())
    }

    async fn around(&mut self, rows: &[Found<Row>]) -> Result<Around, ImportError> {
        self.around_rows(rows.iter().flatten()).await
    }

    /// What these rows refer to.
    async fn around_rows<'r>(&mut self, rows: impl Iterator<Item = &'r Row>) -> Result<Around, ImportError> {
        let (mut budgets, mut renames) = (Vec::new(), Vec::new());
        for row in rows {
            budgets.extend(row.text("budget_id").ok().flatten());
            let metadata = row.object("metadata").unwrap_or_default();
            budgets
                .extend(metadata.get("team_member_budget_id").and_then(|id| id.as_str()).map(str::to_owned));
            renames.extend(row.count("model_id").ok().flatten().map(|id| id.to_string()));
        }
        let one = |found: BTreeMap<String, Vec<Row>>| {
            found.into_iter().filter_map(|(id, mut rows)| Some((id, rows.pop()?))).collect()
        };
        Ok(Around {
            budgets: one(self.source.lookup(BUDGETS.name, "budget_id", &budgets).await?),
            renames: one(self.source.lookup("LiteLLM_ModelTable", "id", &renames).await?),
            now_ms: self.options.now_ms,
        })
    }

    /// Counts settings that will have no effect here, so that nobody relies on them.
    fn notes(&mut self, wanted: &Wanted) {
        const IDLE: [&str; 9] = [
            "budget_limits",
            "access_group_ids",
            "object_permission_id",
            "policies",
            "router_settings",
            "project_id",
            "agent_id",
            "auto_rotate",
            "permissions",
        ];
        let settings = &wanted.entity.settings;
        for name in IDLE {
            if settings.rest.contains_key(name) {
                self.report.note(name);
            }
        }
        if settings.metadata.get("guardrails").and_then(|list| list.as_array()).is_some_and(|l| !l.is_empty())
        {
            self.report.note("guardrails");
        }
    }
}

/// How a row that cannot be read is named. An ancient LiteLLM stored plain keys: no token is shown whole.
fn named(row: &Found<Row>, table: Table) -> String {
    let Ok(row) = row else { return "a row".to_owned() };
    if table == KEYS || table == ROTATED {
        let alias = row.text("key_alias").ok().flatten();
        return alias.unwrap_or_else(|| "a key without an alias".to_owned());
    }
    let parts: Vec<String> = table.key.iter().filter_map(|column| row.text(column).ok().flatten()).collect();
    if parts.is_empty() { "a row".to_owned() } else { parts.join(" in ") }
}

#[cfg(test)]
mod tests;
