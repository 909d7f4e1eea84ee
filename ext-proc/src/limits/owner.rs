//! In whose name a request was made, and on which counters it is: all that is needed to settle and to attribute it later,
//! on any replica.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::order::{Dimension, Subject};
use super::{DAY_TTL, MINUTE_TTL, Since, Tally, TokenKind};
use crate::entity::{Entity, EntityKind, EntityRef, Principal, member_id, member_parts};
use crate::store::{Charge, Counter, Settlement};

/// Of the text form. Others are not understood.
const VERSION: u64 = 1;
/// Parts of one owner at most; whoever has more was not written by us.
const MAX_PARTS: usize = 256;
/// Tags without limits that are remembered at most.
pub(super) const MAX_TAGS: usize = 64;
/// Id of [`EntityKind::Proxy`].
pub(super) const PROXY: &str = "proxy";

/// What a request really used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// 1 for a request that was let in, however often it was tried.
    pub requests: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Nano-dollars.
    pub nanos: u64,
}

/// Whom a request is charged to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Owner {
    /// Unix minute of the decision.
    minute: u64,
    tokens: TokenKind,
    key: KeyId,
    parts: Vec<Part>,
    /// How often the first pass was asked for before.
    pub(super) again: u8,
}

/// Id of the key that asked, without a copy of it where there is one already.
#[derive(Debug, Clone, Default)]
enum KeyId {
    #[default]
    None,
    Entity(Arc<Entity>),
    Text(Box<str>),
}

impl KeyId {
    fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Entity(entity) => &entity.id,
            Self::Text(text) => text,
        }
    }
}

impl PartialEq for KeyId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// One of those who are charged.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    of: Subject,
    /// Only what the other parts do not tell: of a key its account if that is not the key itself, of a member nothing if it
    /// is the user in the team, of the use of a model or a tag that alone.
    id: String,
    /// One bit per dimension that is counted.
    mask: u8,
    budget: Option<BudgetWindow>,
}

/// Where a budget is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BudgetWindow {
    pub(super) number: u64,
    /// How long the counter is kept, seconds.
    pub(super) ttl_s: u64,
}

impl Owner {
    /// Everyone in whose name the request is made; nothing is counted yet.
    pub(super) fn of(principal: &Principal, tokens: TokenKind, minute: u64) -> Self {
        let key = principal.key.as_ref();
        let mut owner = Self {
            minute,
            tokens,
            key: key.map_or(KeyId::None, |key| KeyId::Entity(Arc::clone(&key.entity))),
            parts: Vec::new(),
            again: 0,
        };
        if let Some(key) = key.filter(|key| key.entity.account() != key.entity.id) {
            owner.part(Subject::Of(EntityKind::Key), key.entity.account());
        }
        let asked = |pick: fn(&Entity) -> Option<&String>| key.and_then(|key| pick(&key.entity));
        let holders = [
            (EntityKind::Team, &principal.team, asked(|key| key.team_id.as_ref())),
            (EntityKind::User, &principal.user, asked(|key| key.user_id.as_ref())),
            (EntityKind::Organization, &principal.organization, asked(|key| key.organization_id.as_ref())),
        ];
        for (kind, holder, named) in holders {
            // The key may name somebody whom nobody stored.
            let id = holder.as_ref().map(|holder| &holder.entity.id).or(named);
            if let Some(id) = id {
                owner.part(Subject::Of(kind), id);
            }
        }
        let both = owner.team_id().is_some() && owner.user_id().is_some();
        match &principal.member {
            Some(member) => _ = owner.part(Subject::Of(EntityKind::Member), &member.entity.id),
            None if both => _ = owner.part(Subject::Of(EntityKind::Member), ""),
            None => {}
        }
        if let Some((end_user, _)) = &principal.end_user {
            owner.part(Subject::Of(EntityKind::EndUser), end_user);
        }
        for (tag, _) in principal.tags.iter().take(MAX_TAGS) {
            owner.part(Subject::Of(EntityKind::Tag), tag);
        }
        owner
    }

    /// The owner of a request of which only the key is known.
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        Self { key: KeyId::Text(key.into()), ..Self::default() }
    }

    /// The part of a subject; `id` is the whole id, or what it uses.
    fn part(&mut self, of: Subject, id: &str) -> &mut Part {
        let short = match of {
            Subject::Of(EntityKind::Key) if id == self.key.as_str() => "",
            Subject::Of(EntityKind::Member) if self.is_own_member(id) => "",
            Subject::Of(EntityKind::Proxy) => "",
            _ => id,
        };
        let at = self.parts.iter().position(|part| part.of == of && part.id == short).unwrap_or_else(|| {
            self.parts.push(Part { of, id: short.to_owned(), mask: 0, budget: None });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    fn is_own_member(&self, id: &str) -> bool {
        member_parts(id)
            .is_some_and(|(team, user)| self.team_id() == Some(team) && self.user_id() == Some(user))
    }

    /// Something is counted for a subject; of the use of a model or a tag, `id` is that alone. Returns the counter's base.
    pub(super) fn counts(
        &mut self,
        of: Subject,
        id: &str,
        dimension: Dimension,
        budget: Option<BudgetWindow>,
    ) -> Arc<str> {
        let part = self.part(of, id);
        part.mask |= dimension.bit();
        part.budget = budget.or(part.budget);
        let full = match of {
            Subject::Of(EntityKind::KeyModel | EntityKind::TeamModel | EntityKind::UserModel)
            | Subject::KeyTag => &self.full_id(of, id),
            _ => id,
        };
        base(of, full, dimension)
    }

    /// Whole id of a part.
    pub(super) fn full_id(&self, of: Subject, id: &str) -> String {
        match of {
            Subject::KeyTag | Subject::Of(EntityKind::KeyModel) => member_id(self.account(), id),
            Subject::Of(EntityKind::TeamModel) => member_id(self.team_id().unwrap_or_default(), id),
            Subject::Of(EntityKind::UserModel) => member_id(self.user_id().unwrap_or_default(), id),
            Subject::Of(EntityKind::Key) if id.is_empty() => self.key.as_str().to_owned(),
            Subject::Of(EntityKind::Member) if id.is_empty() => {
                member_id(self.team_id().unwrap_or_default(), self.user_id().unwrap_or_default())
            }
            Subject::Of(EntityKind::Proxy) => PROXY.to_owned(),
            Subject::Of(_) => id.to_owned(),
        }
    }

    /// Names a part as an entity.
    pub(super) fn reference(&self, of: Subject, id: &str) -> EntityRef {
        let kind = match of {
            Subject::KeyTag => EntityKind::Tag,
            Subject::Of(kind) => kind,
        };
        EntityRef { kind, id: self.full_id(of, id) }
    }

    /// Id under which the key's use is counted; empty for the master key.
    #[must_use]
    pub fn account(&self) -> &str {
        self.id_of(EntityKind::Key).filter(|id| !id.is_empty()).unwrap_or(self.key.as_str())
    }

    pub(super) fn token_kind(&self) -> TokenKind {
        self.tokens
    }

    #[must_use]
    pub fn team_id(&self) -> Option<&str> {
        self.id_of(EntityKind::Team)
    }

    /// Owner of the key.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.id_of(EntityKind::User)
    }

    #[must_use]
    pub fn organization_id(&self) -> Option<&str> {
        self.id_of(EntityKind::Organization)
    }

    #[must_use]
    pub fn end_user(&self) -> Option<&str> {
        self.id_of(EntityKind::EndUser)
    }

    /// Tags of the request, the key and the team.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        let tags = self.parts.iter().filter(|part| part.of == Subject::Of(EntityKind::Tag));
        tags.map(|part| part.id.clone()).collect()
    }

    fn id_of(&self, kind: EntityKind) -> Option<&str> {
        self.parts.iter().find(|part| part.of == Subject::Of(kind)).map(|part| part.id.as_str())
    }

    /// To whose spend and usage the request is added: the key's account first, then everyone else, with uses of a model
    /// where that has a budget.
    #[must_use]
    pub fn charged(&self) -> Vec<EntityRef> {
        let mut out = Vec::with_capacity(self.parts.len() + 1);
        if !self.account().is_empty() {
            out.push(EntityRef::new(EntityKind::Key, self.account()));
        }
        for part in &self.parts {
            let Subject::Of(kind) = part.of else { continue };
            let counted_only = matches!(
                kind,
                EntityKind::KeyModel | EntityKind::TeamModel | EntityKind::UserModel | EntityKind::Proxy
            );
            if kind == EntityKind::Key || (counted_only && part.budget.is_none()) {
                continue;
            }
            out.push(EntityRef { kind, id: self.full_id(part.of, &part.id) });
        }
        out
    }

    /// Is there something to settle?
    #[must_use]
    pub fn counts_something(&self) -> bool {
        self.parts.iter().any(|part| part.mask != 0)
    }

    /// The same people, of a request that is on no counter.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        for part in &mut self.parts {
            (part.mask, part.budget) = (0, None);
        }
        self
    }

    /// Id of the reservation of the first pass of `call_id`: that of its deployment's.
    #[must_use]
    pub fn reservation(&self, call_id: &str) -> String {
        let id = format!("{}/{call_id}/0", self.minute);
        if self.again == 0 { id } else { format!("{id}~{}", self.again) }
    }

    /// Ends the reservation of the first pass of `call_id` with what was really used. Places in flight are given back;
    /// a request that failed without usage stays counted as one, without tokens and money.
    #[must_use]
    pub fn settlement(&self, call_id: &str, used: &Used) -> Settlement {
        let mut actual = Vec::new();
        for part in &self.parts {
            if part.mask == 0 {
                continue;
            }
            let full = self.full_id(part.of, &part.id);
            for dimension in Dimension::ALL.into_iter().filter(|d| part.mask & d.bit() != 0) {
                let minute = (self.minute, MINUTE_TTL);
                let day = (self.minute / 1_440, DAY_TTL);
                let tokens = tokens(self.tokens, used.input, used.output);
                let (amount, (window, ttl)) = match dimension {
                    Dimension::Budget => {
                        let Some(budget) = part.budget else { continue };
                        (used.nanos, (budget.number, Duration::from_secs(budget.ttl_s)))
                    }
                    Dimension::Rpm => (used.requests, minute),
                    Dimension::Tpm => (tokens, minute),
                    Dimension::InputTpm => (used.input, minute),
                    Dimension::OutputTpm => (used.output, minute),
                    Dimension::Rpd => (used.requests, day),
                    Dimension::Tpd => (tokens, day),
                    Dimension::Parallel => continue,
                };
                let counter = Counter { base: base(part.of, &full, dimension), window };
                actual.push(Charge { counter, amount, ttl });
            }
        }
        Settlement::end(self.reservation(call_id), actual)
    }

    /// The budgets that it is counted in, as far as the ledger can say what is on them.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        let counted = |part: &Part| {
            let (Subject::Of(kind), Some(budget)) = (part.of, part.budget) else { return None };
            let full = self.full_id(part.of, &part.id);
            let counter = Counter { base: base(part.of, &full, Dimension::Budget), window: budget.number };
            let mut tally = Tally::new(counter, EntityRef { kind, id: full })?;
            // A key that was rotated keeps its account, and its spend under its new hash.
            if kind == EntityKind::Key && matches!(tally.since, Since::Reset(_)) {
                self.key.as_str().clone_into(&mut tally.of.id);
            }
            Some(tally)
        };
        self.parts.iter().filter_map(counted).collect()
    }

    /// The text form: JSON in ASCII. `None`: there is nothing that the key alone would not tell.
    #[must_use]
    pub fn encode(&self) -> Option<String> {
        if self.parts.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(64 + 32 * self.parts.len());
        let _ = write!(out, "[{VERSION},{},{},[", self.minute, self.tokens as u8);
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str("[\"");
            out.push_str(code(part.of));
            out.push_str("\",");
            quote(&part.id, &mut out);
            if part.mask != 0 {
                let _ = write!(out, ",{}", part.mask);
            }
            if let Some(BudgetWindow { number, ttl_s }) = part.budget {
                let _ = write!(out, ",{number},{ttl_s}");
            }
            out.push(']');
        }
        out.push(']');
        if self.again > 0 {
            let _ = write!(out, ",{}", self.again);
        }
        out.push(']');
        Some(out)
    }

    /// Reads [`Self::encode`] back, of a request that `key` made. `None` for anything else.
    #[must_use]
    pub fn decode(text: &str, key: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire(u64, u64, u64, Vec<Part>, #[serde(default)] u8);
        let Wire(version, minute, tokens, parts, again) = serde_json::from_str(text).ok()?;
        if version != VERSION || parts.len() > MAX_PARTS {
            return None;
        }
        let tokens = match tokens {
            0 => TokenKind::Total,
            1 => TokenKind::Input,
            2 => TokenKind::Output,
            _ => return None,
        };
        Some(Self { minute, tokens, key: KeyId::Text(key.into()), parts, again })
    }
}

/// From an array of its code and id, perhaps its mask, perhaps its budget's window, too.
impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("2, 3 or 5 members")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part, A::Error> {
        let short = |length| A::Error::invalid_length(length, &self);
        let code: &'de str = seq.next_element()?.ok_or_else(|| short(0))?;
        let of = subject(code).ok_or_else(|| A::Error::custom("nobody's code"))?;
        let id = seq.next_element()?.ok_or_else(|| short(1))?;
        let mask = seq.next_element()?;
        let mut budget = None;
        if mask.is_some()
            && let Some(number) = seq.next_element()?
        {
            budget = Some(BudgetWindow { number, ttl_s: seq.next_element()?.ok_or_else(|| short(4))? });
        }
        if budget.is_some() && seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(short(6));
        }
        Ok(Part { of, id, mask: mask.unwrap_or(0), budget })
    }
}

/// Tokens as limits of all tokens count them.
pub(super) fn tokens(kind: TokenKind, input: u64, output: u64) -> u64 {
    match kind {
        TokenKind::Total => input.saturating_add(output),
        TokenKind::Input => input,
        TokenKind::Output => output,
    }
}

fn base(of: Subject, id: &str, dimension: Dimension) -> Arc<str> {
    let kind = match of {
        Subject::Of(kind) => kind.name(),
        Subject::KeyTag => "key_tag",
    };
    Arc::from([kind, id, dimension.name()].join(":"))
}

const CODES: [(Subject, &str); 12] = [
    (Subject::Of(EntityKind::Key), "k"),
    (Subject::Of(EntityKind::KeyModel), "km"),
    (Subject::KeyTag, "kg"),
    (Subject::Of(EntityKind::Team), "t"),
    (Subject::Of(EntityKind::TeamModel), "tm"),
    (Subject::Of(EntityKind::User), "u"),
    (Subject::Of(EntityKind::UserModel), "um"),
    (Subject::Of(EntityKind::Member), "m"),
    (Subject::Of(EntityKind::Organization), "o"),
    (Subject::Of(EntityKind::EndUser), "e"),
    (Subject::Of(EntityKind::Tag), "g"),
    (Subject::Of(EntityKind::Proxy), "p"),
];

fn code(of: Subject) -> &'static str {
    CODES.iter().find(|(known, _)| *known == of).map_or("", |(_, code)| code)
}

fn subject(code: &str) -> Option<Subject> {
    CODES.iter().find(|(_, known)| *known == code).map(|(of, _)| *of)
}

/// A JSON string in ASCII.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.push_str(text);
    } else {
        text.chars().for_each(|c| quote_char(c, out));
    }
    out.push('"');
}

fn quote_char(c: char, out: &mut String) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        ' '..='~' => out.push(c),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
