//! What entities spent, as far as their budget is concerned.

use super::Admin;
use super::reply::Failure;
use crate::entity::{Entity, EntityRef};
use crate::limits::Window;
use crate::routing::now_ms;

impl Admin {
    /// Spend of each entity, nano-dollars: of the current window where its budget has a duration, else since it was
    /// set last. One read for all of them.
    pub(super) async fn spend_of(&self, entities: &[Entity]) -> Result<Vec<i64>, Failure> {
        let mut spend: Vec<i64> = entities.iter().map(|entity| entity.spend_nanos).collect();
        let rules = self.state.snapshot.load().limits.clone();
        let now = now_ms();
        let mut asked: Vec<(usize, (EntityRef, u64))> = Vec::new();
        for (at, entity) in entities.iter().enumerate() {
            let Some(duration) = entity.settings.budget_duration.as_deref() else { continue };
            let window = Window::of(Some(duration), &rules, now, entity.spend_reset_ms);
            // Since the spend was set last, the total is what counts.
            if window.start_ms > entity.spend_reset_ms {
                let of = EntityRef::new(entity.kind, entity.account());
                asked.push((at, (of, window.start_ms / 1_000)));
            }
        }
        if asked.is_empty() {
            return Ok(spend);
        }
        let (places, asked): (Vec<usize>, Vec<(EntityRef, u64)>) = asked.into_iter().unzip();
        let sums = self.state.database.usage(&asked).await?;
        for (place, sum) in places.into_iter().zip(sums) {
            if let Some(spend) = spend.get_mut(place) {
                *spend = i64::try_from(sum.nanos).unwrap_or(i64::MAX);
            }
        }
        Ok(spend)
    }
}
