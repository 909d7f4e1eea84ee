use std::future::Future;
use std::time::Duration;

use sqlx::pool::{Pool, PoolConnection};
use sqlx::{Database, Error};
use tokio::time::Instant;

use super::errors::{store_error, unavailable};
use crate::store::StoreError;

/// A pooled connection for one call, which must be over by `deadline`.
pub(super) struct Lease<DB: Database> {
    pub(super) connection: PoolConnection<DB>,
    pub(super) deadline: Instant,
    backend: &'static str,
}

/// Why a call has no value.
pub(super) enum Failure {
    Late,
    Sql(Error),
    /// The call itself says so.
    Refused(StoreError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// Runs a call up to its deadline.
pub(super) async fn within<T, E: Into<Failure>>(
    deadline: Instant,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(deadline, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::Late),
    }
}

impl<DB: Database> Lease<DB> {
    /// Waits for a connection; the time counts towards `limit`.
    pub(super) async fn take(
        backend: &'static str,
        pool: &Pool<DB>,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let deadline = Instant::now() + limit;
        // Boxed: opening a connection makes a future of 29 kB, which every caller's would contain.
        match within(deadline, Box::pin(pool.acquire())).await {
            Ok(connection) => Ok(Self { connection, deadline, backend }),
            Err(Failure::Sql(error)) => Err(store_error(backend, &error)),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Late) => Err(unavailable(backend, "no connection in time")),
        }
    }

    /// Ends the lease. After a missed deadline the connection is closed, not pooled: its answer is still under
    /// way, or its peer is gone.
    pub(super) fn end<T>(self, answer: Result<T, Failure>) -> Result<T, StoreError> {
        match answer {
            Ok(value) => Ok(value),
            Err(Failure::Sql(error)) => Err(store_error(self.backend, &error)),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Late) => {
                drop(self.connection.detach());
                Err(unavailable(self.backend, "no answer in time"))
            }
        }
    }
}
