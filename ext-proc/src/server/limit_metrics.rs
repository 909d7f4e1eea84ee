//! What callers' limits did: refusals, and budgets that refuse nothing but are to be heard of.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use attache_llm::error::{ApiError, LimitHit};
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::entity::EntityRef;
use crate::routing::Alert;

/// Alerts that are remembered, so that each is logged once per window.
const MAX_TOLD: u64 = 10_000;
/// An alert of a budget that lasts is repeated so often.
const TELL_AGAIN: Duration = Duration::from_secs(86_400);

/// By entity and kind of limit: both are words of ours, never names of a client's.
type Counts = Mutex<BTreeMap<(String, String), u64>>;

#[derive(Debug)]
pub(super) struct LimitMetrics {
    refused: Counts,
    audited: Counts,
    soft: Counts,
    told: Cache<(EntityRef, u64, bool), ()>,
}

impl Default for LimitMetrics {
    fn default() -> Self {
        let told = Cache::builder().max_capacity(MAX_TOLD).time_to_live(TELL_AGAIN).build();
        Self { refused: Counts::default(), audited: Counts::default(), soft: Counts::default(), told }
    }
}

fn count(counts: &Counts, entity: &str, limit: &str) {
    let mut counts = counts.lock();
    *counts.entry((entity.to_owned(), limit.to_owned())).or_default() += 1;
}

impl LimitMetrics {
    pub(super) fn refused(&self, error: &ApiError) {
        let Some(LimitHit { entity_type, limit_type, .. }) = error.limit.as_deref() else { return };
        count(&self.refused, entity_type, limit_type);
    }

    /// Counts, and logs once per window of the budget.
    pub(super) fn alert(&self, alert: &Alert) {
        let kind = alert.of.kind.name();
        let (counts, limit) =
            if alert.audit { (&self.audited, "max_budget") } else { (&self.soft, "soft_budget") };
        count(counts, kind, limit);
        let key = (alert.of.clone(), alert.window_ms, alert.audit);
        if self.told.contains_key(&key) {
            return;
        }
        self.told.insert(key, ());
        let (who, limit_nanos) = (&alert.shown, alert.limit);
        if alert.audit {
            tracing::warn!(
                entity = kind,
                who,
                limit_nanos,
                "budget used up: audit mode lets requests through"
            );
        } else {
            tracing::warn!(entity = kind, who, limit_nanos, "soft budget passed");
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        let all = [
            ("limit_refusals_total", "Requests refused by a caller's limit.", &self.refused),
            ("limit_audit_total", "Requests that a budget in audit mode would have refused.", &self.audited),
            ("soft_budget_total", "Requests beyond a soft budget.", &self.soft),
        ];
        for (name, help, counts) in all {
            let _ = writeln!(out, "# HELP attache_{name} {help}\n# TYPE attache_{name} counter");
            for ((entity, limit), count) in &*counts.lock() {
                let _ = writeln!(out, "attache_{name}{{entity=\"{entity}\",limit=\"{limit}\"}} {count}");
            }
        }
    }
}
