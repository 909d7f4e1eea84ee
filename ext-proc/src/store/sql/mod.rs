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

/// Columns of `attache_spend`, as they are written.
macro_rules! spend_columns {
    () => {
        "start_us, duration_us, first_event_us, cost_nanos, prompt_tokens, completion_tokens, total_tokens, \
         cached_tokens, cache_write_tokens, reasoning_tokens, status, attempts, fallbacks, stream, estimated, call_id, \
         request_id, key_hash, user_id, team_id, organization_id, end_user, tags, charged, endpoint, model, \
         model_group, deployment, provider, provider_model, outcome, lines"
    };
}

/// Columns of `attache_spend` from which `attache_daily` is made.
macro_rules! daily_source {
    () => {
        "start_us, duration_us, cost_nanos, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, \
         estimated, key_hash, user_id, team_id, organization_id, end_user, tags, endpoint, model_group, provider, \
         provider_model, outcome"
    };
}

/// Key of `attache_daily`.
macro_rules! daily_key {
    () => {
        "kind, id, day, key_hash, model, model_group, provider, endpoint"
    };
}

/// What `attache_daily` sums up.
macro_rules! daily_sums {
    () => {
        "requests, successes, failures, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, nanos, \
         unpriced, estimated, duration_us"
    };
}

/// `attache_daily` of the rows in `new`, which has the columns of `daily_source!`. Sums are bounded (by ten million
/// dollars), so that those over any number of days fit.
macro_rules! daily {
    () => {
        concat!(
            "SELECT kind, id, start_us / 86400000000 AS day, of_key AS key_hash, provider_model AS model, model_group, provider, \
             endpoint, COUNT(*) AS requests, SUM(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END) AS successes, \
             SUM(CASE WHEN outcome = 'failure' THEN 1 ELSE 0 END) AS failures, ",
            bounded_sum!("prompt_tokens"),
            bounded_sum!("completion_tokens"),
            bounded_sum!("cached_tokens"),
            bounded_sum!("cache_write_tokens"),
            bounded_sum!("COALESCE(cost_nanos, 0)", "nanos"),
            "SUM(CASE WHEN cost_nanos IS NULL THEN 1 ELSE 0 END) AS unpriced, \
             SUM(CASE WHEN estimated THEN 1 ELSE 0 END) AS estimated, CAST(",
            least!(),
            "(SUM(duration_us), 10000000000000000) AS BIGINT) AS duration_us FROM (\
             SELECT 'total' AS kind, '' AS id, '' AS of_key, new.* FROM new \
             UNION ALL SELECT 'key', key_hash, key_hash, new.* FROM new \
             UNION ALL SELECT 'user', user_id, key_hash, new.* FROM new WHERE user_id <> '' \
             UNION ALL SELECT 'team', team_id, key_hash, new.* FROM new WHERE team_id <> '' \
             UNION ALL SELECT 'organization', organization_id, key_hash, new.* FROM new WHERE organization_id <> '' \
             UNION ALL SELECT 'customer', end_user, key_hash, new.* FROM new WHERE end_user <> '' \
             UNION ALL SELECT 'tag', tag.value, key_hash, new.* FROM new JOIN ",
            each_tag!(),
            " ON TRUE WHERE tag.value <> '') AS counted GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
        )
    };
}

macro_rules! bounded_sum {
    ($name:literal) => {
        bounded_sum!($name, $name)
    };
    ($sum:literal, $name:literal) => {
        concat!("CAST(", least!(), "(SUM(", $sum, "), 10000000000000000) AS BIGINT) AS ", $name, ", ")
    };
}

/// Adds that to the table, in order of its key: two writers wait for each other in one direction only.
macro_rules! add_daily {
    () => {
        concat!(into_daily!(), daily!(), " ORDER BY 1, 2, 3, 4, 5, 6, 7, 8", onto_daily!())
    };
}

macro_rules! into_daily {
    () => {
        concat!("INSERT INTO attache_daily (", daily_key!(), ", ", daily_sums!(), ") ")
    };
}

/// What is there already, and what comes on top.
macro_rules! onto_daily {
    () => {
        concat!(
            " ON CONFLICT (",
            daily_key!(),
            ") DO UPDATE SET requests = attache_daily.requests + excluded.requests, \
             successes = attache_daily.successes + excluded.successes, \
             failures = attache_daily.failures + excluded.failures, ",
            bounded_add!("prompt_tokens"),
            bounded_add!("completion_tokens"),
            bounded_add!("cached_tokens"),
            bounded_add!("cache_write_tokens"),
            bounded_add!("nanos"),
            bounded_add!("duration_us"),
            "unpriced = attache_daily.unpriced + excluded.unpriced, \
             estimated = attache_daily.estimated + excluded.estimated"
        )
    };
}

macro_rules! bounded_add {
    ($name:literal) => {
        concat!(
            $name,
            " = ",
            least!(),
            "(attache_daily.",
            $name,
            " + excluded.",
            $name,
            ", 10000000000000000), "
        )
    };
}

mod charged;
mod checked;
mod daily;
mod entities;
mod errors;
mod lease;
mod lines;
mod postgres;
mod records;
mod sqlite;
mod stored;

pub use postgres::PostgresStore;
pub(crate) use postgres::options as postgres_options;
pub use sqlite::SqliteStore;
