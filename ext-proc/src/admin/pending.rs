//! Stands in for the stored directory until the database has it: every call is `Unavailable`.

use async_trait::async_trait;

use crate::entity::{Entity, EntityRef};
use crate::store::{
    AuditFilter, AuditRow, Author, Changes, Directory, Filter, Page, StoreError, UsageSum, Write,
};

pub struct Pending;

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable { backend: "directory", reason: "not there yet".to_owned() })
}

#[async_trait]
impl Directory for Pending {
    async fn key(&self, _: &str) -> Result<Option<Entity>, StoreError> {
        away()
    }
    async fn entities(&self, _: &[EntityRef]) -> Result<Vec<Entity>, StoreError> {
        away()
    }
    async fn list(&self, _: &Filter) -> Result<Page, StoreError> {
        away()
    }
    async fn apply(&self, _: &[Write], _: &Author) -> Result<Vec<Option<Entity>>, StoreError> {
        away()
    }
    async fn changes(&self, _: u64) -> Result<Changes, StoreError> {
        away()
    }
    async fn audit(&self, _: &AuditFilter) -> Result<(Vec<AuditRow>, u64), StoreError> {
        away()
    }
    async fn usage(&self, _: &[(EntityRef, u64)]) -> Result<Vec<UsageSum>, StoreError> {
        away()
    }
}
