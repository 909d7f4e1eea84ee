use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use crate::store::{DatabaseBackend, StoreError, postgres_options};

const PATIENCE: Duration = Duration::from_secs(15);

/// Are Attaché's tables there? Opening the database would make them, which a dry run must not.
///
/// # Errors
/// Postgres does not answer.
pub async fn tables_exist(backend: &DatabaseBackend) -> Result<bool, StoreError> {
    let DatabaseBackend::Postgres { url, .. } = backend else {
        let DatabaseBackend::Sqlite { path } = backend else { return Ok(false) };
        return Ok(path.exists());
    };
    let options = postgres_options(url)?;
    let asking = async {
        let mut connection = options.connect().await?;
        let query = sqlx::query_scalar("SELECT to_regclass('attache_entities') IS NOT NULL");
        let found: bool = query.fetch_one(&mut connection).await?;
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>(found)
    };
    let away = |reason: String| StoreError::Unavailable { backend: "postgres", reason };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| away(error.to_string())),
        Err(_) => Err(away("no answer within 15 s".to_owned())),
    }
}
