//! `/spend/*`, `/global/*`, `*/daily/activity` and `*/spend/report`: what the ledger says, row by row and in sums.
//!
//! ```text
//! sums  attache_daily  figures  daily, global, activity, report      one scan of a range of days, never of rows
//! rows  attache_spend  shown    logs, pages, export                  parts found by the sums of the days, or by keyset
//! who                  sight    what a caller may see is made part of the question
//! ```

mod activity;
mod calculate;
mod cost;
mod daily;
mod export;
mod figures;
mod global;
mod logs;
mod pages;
mod range;
mod report;
mod shown;
mod sight;
mod totals;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use parking_lot::Mutex;

use super::Admin;
use super::access::Actor;
use super::reply::Failure;
use crate::store::{RowFilter, SumFilter, SumGroup, SumQuery};
use sight::Sight;

/// Reading spend writes the ledger first, at most this often...
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// ...and without waiting longer for it than this.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/spend/logs", get(logs::logs))
        .route("/spend/logs/v2", get(logs::pages))
        .route("/spend/logs/ui", get(logs::pages))
        .route("/spend/logs/ui/{request_id}", get(logs::one))
        .route("/spend/export", get(export::export))
        .route("/spend/report", get(report::own))
        .route("/spend/calculate", post(calculate::calculate))
        .route("/spend/keys", get(totals::keys))
        .route("/spend/users", get(totals::users))
        .route("/spend/tags", get(global::log_tags))
        .route("/global/spend", get(global::total))
        .route("/global/spend/logs", get(global::logs))
        .route("/global/spend/keys", get(global::keys))
        .route("/global/spend/teams", get(global::teams))
        .route("/global/spend/models", get(global::models))
        .route("/global/spend/provider", get(global::providers))
        .route("/global/spend/report", get(report::global))
        .route("/global/spend/tags", get(global::tags))
        .route("/global/spend/all_tag_names", get(global::tag_names))
        .route("/global/spend/end_users", post(global::end_users))
        .route("/global/activity", get(activity::all))
        .route("/global/activity/model", get(activity::models))
        .route("/user/daily/activity", get(daily::users))
        .route("/team/daily/activity", get(daily::teams))
        .route("/tag/daily/activity", get(daily::tags))
        .route("/organization/daily/activity", get(daily::organizations))
        .route("/customer/daily/activity", get(daily::customers))
        .route("/key/spend/report", get(report::of_keys))
        .route("/user/spend/report", get(report::of_users))
        .route("/team/spend/report", get(report::of_teams))
        .route("/organization/spend/report", get(report::of_organizations))
        .route("/tag/summary", get(global::tag_summary))
}

/// When the last flush on behalf of a reader began.
#[derive(Default)]
pub(super) struct FlushLimit(Mutex<Option<Instant>>);

impl FlushLimit {
    fn due(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= FLUSH_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Admin {
    /// Brings accepted records into the database, so that a reader sees the request it just made. A database that
    /// is away fails the read itself, with a better message.
    pub(super) async fn flush_soon(&self) {
        if self.flushed.due()
            && let Ok(Err(error)) = tokio::time::timeout(FLUSH_WAIT, self.state.books.flush()).await
        {
            tracing::debug!(%error, "reading spend without the newest rows");
        }
    }

    /// Makes what the caller may see a part of the question about rows.
    async fn may_see_rows(&self, actor: &Actor, filter: &mut RowFilter) -> Result<(), Failure> {
        match Sight::of(self, actor).await? {
            Some(sight) => sight.narrow_rows(self, actor, filter).await,
            None => Ok(()),
        }
    }

    /// The same for sums.
    async fn may_see_sums(&self, actor: &Actor, filter: &mut SumFilter) -> Result<(), Failure> {
        match Sight::of(self, actor).await? {
            Some(sight) => sight.narrow_sums(self, actor, filter).await,
            None => Ok(()),
        }
    }

    async fn sums(&self, query: SumQuery) -> Result<Vec<SumGroup>, Failure> {
        Ok(self.state.database.sums(&query).await?)
    }

    /// Hash of a key that a client names, plain or by hash.
    fn key_of(&self, named: &str) -> String {
        let hash = super::keys::hash_of(named);
        if self.is_master(&hash) { attache_llm::contract::MASTER_KEY_HASH.to_owned() } else { hash }
    }
}
