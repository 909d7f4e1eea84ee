//! Requests whose cost nobody knows: their spend is missing from every sum, so they must be seen.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::metrics::{escaped, head, line};
use crate::store::SpendRow;

/// Model groups that are told apart. They are those of the configurations so far; the rest is `other`.
const MAX_GROUPS: usize = 1_000;
const OTHER: &str = "other";

/// Counts by model group.
#[derive(Debug, Default)]
pub(super) struct PriceMetrics {
    unpriced: Mutex<BTreeMap<String, u64>>,
}

impl PriceMetrics {
    /// Counts the rows without a cost.
    pub(super) fn rows(&self, rows: &[SpendRow]) {
        for row in rows.iter().filter(|row| row.cost_nanos.is_none()) {
            let mut unpriced = self.unpriced.lock();
            let full = unpriced.len() >= MAX_GROUPS && !unpriced.contains_key(&row.group);
            let group = if full || row.group.is_empty() { OTHER } else { &row.group };
            *unpriced.entry(group.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        head(
            out,
            "unpriced_requests_total",
            "counter",
            "Requests recorded without a cost: no price, or no usage.",
        );
        for (group, count) in &*self.unpriced.lock() {
            line(out, &format!("unpriced_requests_total{{model_group=\"{}\"}}", escaped(group)), *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, cost_nanos: Option<i64>) -> SpendRow {
        SpendRow { group: group.to_owned(), cost_nanos, ..SpendRow::default() }
    }

    #[test]
    fn only_rows_without_a_cost_are_counted_and_groups_are_bounded() {
        let metrics = PriceMetrics::default();
        metrics.rows(&[row("a", None), row("a", None), row("a", Some(0)), row("b\"", None), row("", None)]);
        let mut out = String::new();
        metrics.render(&mut out);
        assert!(out.contains("attache_unpriced_requests_total{model_group=\"a\"} 2\n"), "{out}");
        assert!(out.contains("attache_unpriced_requests_total{model_group=\"b\\\"\"} 1\n"), "{out}");
        assert!(out.contains("attache_unpriced_requests_total{model_group=\"other\"} 1\n"), "{out}");
        let many: Vec<_> = (0..2 * MAX_GROUPS).map(|n| row(&format!("g{n}"), None)).collect();
        metrics.rows(&many);
        metrics.rows(&[row("a", None)]);
        let unpriced = metrics.unpriced.lock();
        assert_eq!((unpriced.len(), unpriced["a"]), (MAX_GROUPS, 3));
        assert_eq!(unpriced.values().sum::<u64>(), 4 + 2 * MAX_GROUPS as u64 + 1);
    }
}
