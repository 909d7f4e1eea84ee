use std::sync::Arc;
use std::time::Duration;

use super::{Charge, Counters, StoreError};

/// Counters reserved for one request. Either [`Reservation::hand_over`] passes it to the usage record that will
/// settle it, or dropping it refunds it: it cannot be forgotten.
#[must_use = "dropping a reservation refunds it"]
pub struct Reservation {
    id: String,
    charges: Vec<Charge>,
    counters: Option<Arc<dyn Counters>>,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("id", &self.id).field("charges", &self.charges).finish()
    }
}

impl Reservation {
    /// Reserves, atomically over all charges.
    pub async fn take(
        counters: Arc<dyn Counters>,
        id: String,
        charges: Vec<Charge>,
        lease: Duration,
    ) -> Result<Self, StoreError> {
        counters.reserve(&id, &charges, lease).await?;
        Ok(Self { id, charges, counters: Some(counters) })
    }

    /// A reservation of nothing (tests, degraded mode).
    pub fn none(id: String) -> Self {
        Self { id, charges: Vec::new(), counters: None }
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
        let (id, refund) = (std::mem::take(&mut self.id), zeroed(&self.charges));
        // Drop cannot wait; outside a runtime (shutdown) the lease refunds instead.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = counters.settle(&id, &refund).await {
                    tracing::warn!(reservation = id, %error, "refund failed; its lease will end it");
                }
            });
        }
    }
}

fn zeroed(charges: &[Charge]) -> Vec<Charge> {
    charges.iter().map(|c| Charge { amount: 0, ..c.clone() }).collect()
}
