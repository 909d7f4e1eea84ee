//! The SQL backends. Statements and the traits are written once, in `shared.rs`, and compiled for each driver:
//! `sqlite.rs` and `postgres.rs` say how to connect, lease a connection and end a lease.

mod errors;
mod lease;
mod postgres;
mod records;
mod sqlite;

pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
