use super::admission::Meter;
use super::{Budget, Snapshot};
use crate::store::{Counter, Counters, StoreError};

/// What a provider may cost, and does, in the current window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSpend {
    pub provider: String,
    pub budget: Budget,
    /// Nano-dollars, reservations of requests in flight included.
    pub spent: u64,
    /// Unix milliseconds when the window ends.
    pub reset_ms: u64,
}

/// Every provider with a budget (`provider_budget_config`), by name. One read of the counters.
///
/// # Errors
/// [`StoreError`] when the counters are away.
pub async fn provider_budgets(
    snapshot: &Snapshot,
    counters: &dyn Counters,
    now_ms: u64,
) -> Result<Vec<ProviderSpend>, StoreError> {
    let meter = Meter::new(snapshot, now_ms / 60_000);
    let named: Vec<Counter> =
        snapshot.provider_budgets.keys().filter_map(|name| meter.provider(name)).collect();
    let spent = if named.is_empty() { Vec::new() } else { counters.values(&named).await? };
    let rows = snapshot.provider_budgets.iter().zip(named.iter().zip(spent));
    let row = |((name, budget), (counter, spent)): ((&String, &Budget), (&Counter, u64))| {
        let period = u64::try_from(budget.period.as_millis()).unwrap_or(u64::MAX);
        let reset_ms = counter.window.saturating_add(1).saturating_mul(period);
        ProviderSpend { provider: name.clone(), budget: *budget, spent, reset_ms }
    };
    Ok(rows.map(row).collect())
}
