//! The SQL backends. Statements and the traits are written once, in `shared/`, and compiled for each driver: `sqlite.rs`
//! and `postgres.rs` say how to connect, lease a connection and end a lease, and what the dialects do not share.
//!
//! A statement gets any number of rows as one parameter, a JSON array, which `given!` turns into a table: one text for
//! any number, in both dialects.

/// Columns of an entity, of `attache_entities AS e`.
macro_rules! entity_columns {
    () => {
        "e.kind, e.id, e.account, e.name, e.alias, e.team_id, e.user_id, e.organization_id, e.budget_id, e.role, \
         e.email, e.successor, e.blocked, e.expires_ms, e.settings, e.spend_nanos, e.spend_reset_ms, e.created_ms, \
         e.updated_ms, e.created_by, e.updated_by"
    };
}

mod entities;
mod errors;
mod lease;
mod postgres;
mod records;
mod sqlite;

pub use postgres::PostgresStore;
pub(crate) use postgres::options as postgres_options;
pub use sqlite::SqliteStore;
