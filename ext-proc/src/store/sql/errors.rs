use sqlx::Error;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

use crate::store::StoreError;

pub(super) fn unavailable(backend: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Unavailable { backend, reason: reason.to_string() }
}

pub(super) fn broken(backend: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Broken { backend, reason: reason.to_string() }
}

/// What an error of the driver means to the caller: degrade, conflict, or a bug.
pub(super) fn store_error(backend: &'static str, error: &Error) -> StoreError {
    match error {
        Error::Database(refusal) if refusal.is_unique_violation() => StoreError::Conflict(field(&**refusal)),
        Error::Database(refusal) if passing(backend, &**refusal) => unavailable(backend, error),
        // Mid-statement death of the server shows as any of these.
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => unavailable(backend, error),
        _ => broken(backend, error),
    }
}

/// As [`store_error`], while the tables are brought up to date.
pub(super) fn migration_error(backend: &'static str, error: &MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            match store_error(backend, cause) {
                // Two processes at once: the other one was first.
                StoreError::Conflict(_) => unavailable(backend, error),
                other => other,
            }
        }
        _ => broken(backend, format!("migrations: {error}")),
    }
}

/// At start: does the server refuse us for a reason that waiting does not mend?
pub(super) fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Configuration(_) => true,
        // Wrong credentials; no such database.
        Error::Database(refusal) => {
            refusal.code().is_some_and(|code| code.starts_with("28") || code.starts_with("3D"))
        }
        _ => false,
    }
}

fn field(refusal: &dyn DatabaseError) -> &'static str {
    // Postgres names the constraint, SQLite the column, in the message.
    let alias = refusal.constraint().is_some_and(|name| name.contains("alias"))
        || refusal.message().contains("alias");
    if alias { "key_alias" } else { "id" }
}

fn passing(backend: &'static str, refusal: &dyn DatabaseError) -> bool {
    let Some(code) = refusal.code() else { return false };
    if backend == super::sqlite::BACKEND {
        // Primary result code: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN.
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14));
    }
    // Connection, resources, shutdown and start-up, system, deadlock and serialisation, lock timeout, a standby
    // during a failover, credentials or database being changed under a running process.
    const PASSING: [&str; 9] = ["08", "53", "57", "58", "40", "55P03", "25006", "28", "3D"];
    PASSING.iter().any(|prefix| code.starts_with(prefix))
}
