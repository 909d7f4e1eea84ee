//! The double keeps a ledger too, so that it is a whole database.

use async_trait::async_trait;

use super::{Entities, gone};
use crate::entity::{EntityKind, EntityRef};
use crate::store::{
    Ledger, LedgerTotals, PromptRow, Prompts, Rebuilt, Retention, Scope, SpendRow, StoreError, Tended,
    Upkeep, Verified,
};

/// What the next writes do; an empty script succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails before anything is written.
    Before,
    /// Commits, and then the answer is lost.
    After,
    Fine,
}

impl Entities {
    /// Adds a new row to the spend of whom it is charged to: whom it says, else its key.
    fn charge(&self, row: &SpendRow) {
        let mut all = self.all.lock();
        let key = EntityRef::new(EntityKind::Key, &row.key);
        let account = all.get(&key).map(|key| EntityRef::new(EntityKind::Key, key.account()));
        let charged = if row.charged.is_empty() { account.as_slice() } else { &row.charged };
        for entity in all.values_mut() {
            if charged.iter().any(|of| of.kind == entity.kind && of.id == entity.account()) {
                entity.spend_nanos += row.cost_nanos.unwrap_or(0);
            }
        }
    }
}

#[async_trait]
impl Prompts for Entities {
    async fn write_prompts(&self, prompts: &[PromptRow]) -> Result<(), StoreError> {
        self.check()?;
        for prompt in prompts {
            self.prompts.lock().entry(prompt.call_id.clone()).or_insert_with(|| prompt.clone());
        }
        Ok(())
    }

    async fn prompt(&self, call_id: &str) -> Result<Option<PromptRow>, StoreError> {
        self.check()?;
        Ok(self.prompts.lock().get(call_id).cloned())
    }

    async fn forget_prompts(&self, before_us: u64) -> Result<u64, StoreError> {
        self.check()?;
        let mut prompts = self.prompts.lock();
        let before = prompts.len();
        prompts.retain(|_, prompt| prompt.start_us >= before_us);
        Ok((before - prompts.len()) as u64)
    }
}

#[async_trait]
impl Ledger for Entities {
    async fn write(&self, rows: &[SpendRow]) -> Result<u64, StoreError> {
        self.check()?;
        let fault = self.faults.lock().pop().unwrap_or(Fault::Fine);
        if fault == Fault::Before {
            return Err(gone());
        }
        if let Some(poison) = &*self.poison.lock()
            && rows.iter().any(|row| row.call_id == *poison)
        {
            return Err(StoreError::Broken { backend: "double", reason: "poison".to_owned() });
        }
        let mut new = 0;
        for row in rows {
            if self.rows.lock().insert(row.call_id.clone(), row.clone()).is_none() {
                new += 1;
                self.charge(row);
            }
        }
        if fault == Fault::After { Err(gone()) } else { Ok(new) }
    }

    async fn rows(&self, key: Option<&str>, limit: u32) -> Result<Vec<SpendRow>, StoreError> {
        self.check()?;
        let mut rows: Vec<_> =
            self.rows.lock().values().filter(|row| key.is_none_or(|key| key == row.key)).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.start_us));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn row(&self, call_id: &str) -> Result<Option<SpendRow>, StoreError> {
        self.check()?;
        Ok(self.rows.lock().get(call_id).cloned())
    }

    async fn totals(&self) -> Result<LedgerTotals, StoreError> {
        self.check()?;
        let rows = self.rows.lock();
        Ok(LedgerTotals {
            rows: rows.len() as u64,
            prompt_tokens: rows.values().map(|row| row.prompt_tokens).sum(),
            completion_tokens: rows.values().map(|row| row.completion_tokens).sum(),
            cost_nanos: rows.values().filter_map(|row| row.cost_nanos).sum(),
            unpriced_rows: rows.values().filter(|row| row.cost_nanos.is_none()).count() as u64,
        })
    }
}

/// There is nothing beside the rows that could need care.
#[async_trait]
impl Upkeep for Entities {
    async fn tend(&self, _: &Retention) -> Result<Tended, StoreError> {
        self.check()?;
        Ok(Tended::default())
    }

    async fn verify(&self, _: &Scope) -> Result<Verified, StoreError> {
        self.check()?;
        Ok(Verified { rows: self.rows.lock().len() as u64, ..Verified::default() })
    }

    async fn rebuild(&self, _: Option<&[i64]>) -> Result<Rebuilt, StoreError> {
        self.check()?;
        Ok(Rebuilt::default())
    }
}
