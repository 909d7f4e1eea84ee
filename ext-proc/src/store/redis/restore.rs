//! Data that the server lost, and leases that it never heard of.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, RedisWrite};

use super::super::memory::{Entry, Learnt};
use super::{CONNECT, RedisCounters, StoreError, millis};

/// Counters, leases or ids per script call.
const PART: usize = 1_000;

/// What a replica hears when it says that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Joined {
    /// Name of the server's data: another one when it lost what it had.
    pub(in super::super) epoch: Arc<str>,
    pub(in super::super) age: Duration,
    /// The data was there before the name.
    pub(in super::super) kept: bool,
    /// For so long another replica may go on restoring.
    pub(in super::super) restoring: Duration,
    /// Live replicas, at least 1.
    pub(in super::super) replicas: u64,
    /// How many of them come before this one.
    pub(in super::super) rank: u64,
}

impl RedisCounters {
    /// Tells the server that this replica lives, and asks whose data it has. Makes an epoch where there is none. A
    /// replica that is silent for `patience` is gone.
    pub(in super::super) async fn join(
        &self,
        replica: &str,
        patience: Duration,
    ) -> Result<Joined, StoreError> {
        let mut call = self.scripts.join.call("");
        call.command.arg(replica).arg(format!("{:032x}", rand::random::<u128>())).arg(millis(patience));
        let answer: (String, u64, u8, u64, u64, u64) = self.run(&call).await?;
        let (epoch, age, kept, restoring, replicas, rank) = answer;
        Ok(Joined {
            epoch: epoch.into(),
            age: Duration::from_millis(age),
            kept: kept == 1,
            restoring: Duration::from_millis(restoring),
            replicas: replicas.max(1),
            rank,
        })
    }

    /// The epoch that every call is bound to; empty before the first.
    pub(in super::super) fn epoch(&self) -> Arc<str> {
        Arc::clone(&self.epoch.load())
    }

    pub(in super::super) fn set_epoch(&self, epoch: Arc<str>) {
        self.epoch.store(Arc::new(epoch));
    }

    /// Brings back what was known of `epoch`'s predecessor: counters, leases that were charged there, and ids of leases
    /// of others that are settled. May be called again, by several replicas at once.
    pub(in super::super) async fn restore(
        &self,
        epoch: &str,
        counters: &[Learnt],
        leases: &[Entry],
        settled: &[String],
        wait: Duration,
    ) -> Result<(), StoreError> {
        for part in counters.chunks(PART) {
            let mut call = self.scripts.restore.call(epoch);
            call.command.arg(millis(wait)).arg(part.len());
            for Learnt { counter, value, moment, ttl } in part {
                call.command.write_arg_fmt(format_args!("{counter}"));
                call.command.arg(*value).arg(*moment).arg(millis(*ttl));
            }
            call.command.arg(0).arg(0);
            self.patient(&call).await?;
        }
        for part in leases.chunks(PART) {
            let mut call = self.scripts.restore.call(epoch);
            call.command.arg(millis(wait)).arg(0).arg(part.len());
            part.iter().for_each(|entry| lease(&mut call.command, entry, true));
            call.command.arg(0);
            self.patient(&call).await?;
        }
        for part in settled.chunks(PART) {
            let mut call = self.scripts.restore.call(epoch);
            call.command.arg(millis(wait)).arg(0).arg(0).arg(part.len()).arg(part);
            self.patient(&call).await?;
        }
        Ok(())
    }

    /// Enters leases that the server never heard of, with their charges. One that it has heard of stays as it is.
    /// `waits`: a request waits for it.
    pub(in super::super) async fn enter_leases(
        &self,
        leases: &[Entry],
        waits: bool,
    ) -> Result<(), StoreError> {
        for part in leases.chunks(PART) {
            let mut call = self.scripts.restore.call(&self.epoch());
            call.command.arg(0).arg(0).arg(part.len());
            part.iter().for_each(|entry| lease(&mut call.command, entry, false));
            call.command.arg(0);
            match waits {
                true => {
                    let _: i64 = self.run(&call).await?;
                }
                false => self.patient(&call).await?,
            }
        }
        Ok(())
    }

    /// No request waits for it.
    async fn patient(&self, call: &super::Call<'_>) -> Result<(), StoreError> {
        let _: i64 = self.run_within(call, self.deadline.max(CONNECT)).await?;
        Ok(())
    }
}

/// `again`: it was charged before the data was lost.
fn lease(command: &mut Cmd, entry: &Entry, again: bool) {
    command.arg(&*entry.id).arg(millis(entry.left)).arg(entry.candidate);
    command.arg(entry.probe.as_deref().unwrap_or_default()).arg(entry.charges.len());
    for (held, begin) in &entry.charges {
        command.write_arg_fmt(format_args!("{}", held.counter));
        command.arg(held.amount).arg(millis(held.ttl));
        match (again, held.level) {
            (true, true) => command.arg("level"),
            (true, false) => command.arg("held"),
            (false, _) => command.arg(*begin),
        };
    }
    command.arg(entry.settled.len());
    for counter in &entry.settled {
        command.write_arg_fmt(format_args!("{counter}"));
    }
}
