//! Counters held against the ledger: what is on them, and what is mended.

use std::time::Duration;

use ::redis::RedisWrite;

use super::super::{Correction, Counter, MAX_AMOUNT, Standing, StoreError};
use super::{CONNECT, RedisCounters, broken_answer, millis};

/// Leases that one question looks at, at most: no request of others is to wait for it long.
const MAX_LEASES: usize = 1_000;

impl RedisCounters {
    /// As [`super::Counters::standing`]; `who` asks.
    pub(in super::super) async fn stand(
        &self,
        who: &str,
        counters: &[Counter],
        turn: Duration,
    ) -> Result<Option<Vec<Option<Standing>>>, StoreError> {
        let mut call = self.scripts.standing.call(&self.epoch.load());
        call.command.arg(who).arg(millis(turn)).arg(MAX_LEASES);
        for counter in counters {
            call.command.write_arg_fmt(format_args!("{counter}"));
        }
        let answer: Vec<i64> = self.run_within(&call, self.deadline.max(CONNECT)).await?;
        let [mine, numbers @ ..] = answer.as_slice() else { return Err(broken_answer("standing")) };
        if *mine == 0 {
            return Ok(None);
        }
        let (values, held) = numbers.split_at_checked(counters.len()).unwrap_or((numbers, &[]));
        let standing = |(value, held): (&i64, &i64)| {
            let value = u64::try_from(*value).ok()?;
            Some(Standing { value, held: u64::try_from(*held).ok() })
        };
        Ok(Some(values.iter().zip(held).map(standing).collect()))
    }

    /// As [`super::Counters::correct`].
    pub(in super::super) async fn mend(
        &self,
        who: &str,
        corrections: &[Correction],
    ) -> Result<bool, StoreError> {
        let mut call = self.scripts.correct.call(&self.epoch.load());
        call.command.arg(who);
        for Correction { counter, by } in corrections {
            call.command.write_arg_fmt(format_args!("{counter}"));
            call.command.arg(if *by < 0 { "-" } else { "+" }).arg(by.unsigned_abs().min(MAX_AMOUNT));
        }
        let mine: i64 = self.run_within(&call, self.deadline.max(CONNECT)).await?;
        Ok(mine == 1)
    }
}
