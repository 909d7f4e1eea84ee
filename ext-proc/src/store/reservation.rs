use std::sync::Arc;
use std::time::Duration;

use super::{Admission, Candidate, Charge, Counters, Limited, Pick, Settlement, StoreError};

/// What was admitted for one request. Either [`Reservation::hand_over`] passes it to the usage record that will
/// settle it, or dropping it refunds it: it cannot be forgotten.
#[must_use = "dropping a reservation refunds it"]
pub struct Reservation {
    id: String,
    counters: Option<Arc<dyn Counters>>,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("id", &self.id).field("held", &self.counters.is_some()).finish()
    }
}

impl Reservation {
    /// Reserves, atomically over all charges and without limits.
    pub async fn take(
        counters: Arc<dyn Counters>,
        id: String,
        charges: Vec<Charge>,
        lease: Duration,
    ) -> Result<Self, StoreError> {
        let limited = |Charge { counter, amount, ttl }| Limited::new(counter, amount, ttl, None);
        let charges = charges.into_iter().map(limited).collect();
        let candidates = vec![Candidate { tier: 0, charges, probe: None }];
        let admission =
            Admission { id, lease, required: Vec::new(), candidates, pick: Pick::First, renew: None };
        counters.admit(&admission).await?;
        Ok(Self::held(counters, admission.id))
    }

    /// What [`Counters::admit`] charged under `id`.
    pub fn held(counters: Arc<dyn Counters>, id: String) -> Self {
        Self { id, counters: Some(counters) }
    }

    /// A reservation of nothing (no limits, degraded mode).
    pub fn none(id: String) -> Self {
        Self { id, counters: None }
    }

    /// The request goes on: from here the usage record settles it (or the lease ends it). Returns the id.
    pub fn hand_over(mut self) -> String {
        self.counters = None;
        std::mem::take(&mut self.id)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(counters) = self.counters.take() else { return };
        let nothing = Settlement::end(std::mem::take(&mut self.id), Vec::new());
        // Drop cannot wait; outside a runtime (shutdown) the lease refunds instead.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = counters.settle_all(std::slice::from_ref(&nothing)).await {
                    tracing::warn!(reservation = nothing.id, %error, "refund failed; its lease will end it");
                }
            });
        }
    }
}
