//! What entities spent, as far as their budget is concerned.

use super::Admin;
use super::reply::Failure;
use crate::entity::Entity;

impl Admin {
    /// Spend of each entity, nano-dollars: of the current window where its budget has a duration, else since it was
    /// set last.
    pub(super) async fn spend_of(&self, entities: &[Entity]) -> Result<Vec<i64>, Failure> {
        Ok(entities.iter().map(|entity| entity.spend_nanos).collect())
    }
}
