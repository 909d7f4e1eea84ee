use std::sync::Arc;
use std::time::Duration;

use super::{Charge, Counters, Settlement, StoreError};

/// Counters reserved for one request. Either [`Reservation::hand_over`] passes it to the usage record that will
/// settle it, or dropping it refunds it: it cannot be forgotten.
#[must_use = "dropping a reservation refunds it"]
pub struct Reservation {
    id: String,
    /// `None`: admitted, so that nothing need be named to take it back.
    charges: Option<Vec<Charge>>,
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
        Ok(Self { id, charges: Some(charges), counters: Some(counters) })
    }

    /// What [`Counters::admit`] charged under `id`.
    pub fn held(counters: Arc<dyn Counters>, id: String) -> Self {
        Self { id, charges: None, counters: Some(counters) }
    }

    /// A reservation of nothing (tests, degraded mode).
    pub fn none(id: String) -> Self {
        Self { id, charges: None, counters: None }
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
        let (id, refund) = (std::mem::take(&mut self.id), self.charges.as_deref().map(zeroed));
        // Drop cannot wait; outside a runtime (shutdown) the lease refunds instead.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let ended = match &refund {
                    Some(refund) => counters.settle(&id, refund).await.map(drop),
                    None => counters
                        .settle_all(&[Settlement { id: id.clone(), actual: Vec::new() }])
                        .await
                        .map(drop),
                };
                if let Err(error) = ended {
                    tracing::warn!(reservation = id, %error, "refund failed; its lease will end it");
                }
            });
        }
    }
}

fn zeroed(charges: &[Charge]) -> Vec<Charge> {
    charges.iter().map(|c| Charge { amount: 0, ..c.clone() }).collect()
}
