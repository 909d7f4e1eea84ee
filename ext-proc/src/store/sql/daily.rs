//! What new rows of the ledger add to `attache_daily`, in the terms of `daily!`: whoever has the rows at hand need not
//! have the database read and sort them again.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::checked::MAX_SUM;
use super::stored::Stored;

/// Key of a row of `attache_daily`, in the order of `daily_key!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key<'a> {
    pub(super) kind: &'static str,
    pub(super) id: &'a str,
    pub(super) day: i64,
    pub(super) key_hash: &'a str,
    pub(super) model: &'a str,
    pub(super) group: &'a str,
    pub(super) provider: &'a str,
    pub(super) endpoint: &'a str,
}

/// What is summed up there, in the order of `daily_sums!`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: i64,
    pub(super) successes: i64,
    pub(super) failures: i64,
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    pub(super) cached_tokens: i64,
    pub(super) cache_write_tokens: i64,
    pub(super) nanos: i64,
    pub(super) unpriced: i64,
    pub(super) estimated: i64,
    pub(super) duration_us: i64,
}

impl Sums {
    fn of(row: &Stored<'_>) -> Self {
        Self {
            requests: 1,
            successes: i64::from(row.outcome == "success"),
            failures: i64::from(row.outcome == "failure"),
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            cached_tokens: row.cached_tokens,
            cache_write_tokens: row.cache_write_tokens,
            nanos: row.cost_nanos.unwrap_or_default(),
            unpriced: i64::from(row.cost_nanos.is_none()),
            estimated: i64::from(row.estimated),
            duration_us: row.duration_us,
        }
    }

    fn add(&mut self, more: &Self) {
        let bounded = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more).min(MAX_SUM);
        self.requests += more.requests;
        self.successes += more.successes;
        self.failures += more.failures;
        bounded(&mut self.prompt_tokens, more.prompt_tokens);
        bounded(&mut self.completion_tokens, more.completion_tokens);
        bounded(&mut self.cached_tokens, more.cached_tokens);
        bounded(&mut self.cache_write_tokens, more.cache_write_tokens);
        bounded(&mut self.nanos, more.nanos);
        self.unpriced += more.unpriced;
        self.estimated += more.estimated;
        bounded(&mut self.duration_us, more.duration_us);
    }
}

/// The sums of rows that are new, in order of their key.
pub(super) fn sums<'a>(rows: &[&'a Stored<'_>]) -> Vec<(Key<'a>, Sums)> {
    let mut sums: HashMap<Key<'a>, Sums, RandomState> = HashMap::default();
    for row in rows {
        let own = Sums::of(row);
        each(row, |key| sums.entry(key).or_default().add(&own));
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    sums
}

/// Every key that a row adds to.
fn each<'a>(row: &'a Stored<'_>, mut add: impl FnMut(Key<'a>)) {
    let total = Key {
        kind: "total",
        id: "",
        day: row.day(),
        key_hash: "",
        model: &row.provider_model,
        group: &row.group,
        provider: &row.provider,
        endpoint: &row.endpoint,
    };
    add(total);
    let of_key = Key { key_hash: &row.key, ..total };
    add(Key { kind: "key", id: &row.key, ..of_key });
    let named = [
        ("user", &row.user_id),
        ("team", &row.team_id),
        ("organization", &row.organization_id),
        ("customer", &row.end_user),
    ];
    let named = named.into_iter().filter_map(|(kind, id)| Some((kind, &**id.as_ref()?)));
    let tags = row.tag_names.iter().map(|tag| ("tag", &**tag));
    for (kind, id) in named.chain(tags).filter(|(_, id)| !id.is_empty()) {
        add(Key { kind, id, ..of_key });
    }
}
