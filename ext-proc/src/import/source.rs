//! LiteLLM's tables, read page by page and never written.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::ImportError;
use super::row::{Found, Row};
use crate::config::Secret;
use crate::store::postgres_options;

const CONNECT: Duration = Duration::from_secs(15);
/// One page of a table, or a count.
const STATEMENT: Duration = Duration::from_secs(120);

/// A table with the columns that tell its rows apart, in the order of its primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static [&'static str],
}

impl Table {
    pub(super) const fn new(name: &'static str, key: &'static [&'static str]) -> Self {
        Self { name, key }
    }
}

/// A connection that can only read.
#[derive(Debug)]
pub(super) struct Source {
    connection: PgConnection,
}

/// One page: each row, or why it cannot be read, and where the next page begins.
pub(super) struct Rows {
    pub(super) rows: Vec<Found<Row>>,
    pub(super) last: Option<Vec<String>>,
}

impl Source {
    pub(super) async fn open(url: &Secret) -> Result<Self, ImportError> {
        let options = postgres_options(url).map_err(ImportError::Url)?.application_name("attache-import");
        let connecting = tokio::time::timeout(CONNECT, options.connect()).await;
        let mut connection = connecting
            .map_err(|_| ImportError::Source("no connection within 15 s".to_owned()))?
            .map_err(source_error)?;
        // Whatever a bug here tries: LiteLLM's data stays as it is.
        for setting in [
            "SET default_transaction_read_only = on",
            "SET TIME ZONE 'UTC'",
            "SET extra_float_digits = 1",
            "SET DateStyle = ISO",
        ] {
            sqlx::query(setting).execute(&mut connection).await.map_err(source_error)?;
        }
        Ok(Self { connection })
    }

    pub(super) async fn has(&mut self, table: &str) -> Result<bool, ImportError> {
        let name = format!("\"{table}\"");
        let query = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(name);
        within(query.fetch_one(&mut self.connection)).await
    }

    /// The rows after `after`, in the order of the key.
    pub(super) async fn page(
        &mut self,
        table: Table,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Rows, ImportError> {
        let columns: Vec<String> = table.key.iter().map(|name| format!("\"{name}\"")).collect();
        let order = columns.join(", ");
        let shown: Vec<String> = columns.iter().map(|name| format!("{name}::text")).collect();
        let places: Vec<String> = (1..=columns.len()).map(|at| format!("${at}")).collect();
        let wanted = match after {
            Some(_) => format!("WHERE ({order}) > ({})", places.join(", ")),
            None => String::new(),
        };
        let sql = format!(
            "SELECT ARRAY[{}], to_jsonb(t)::text FROM \"{}\" t {wanted} ORDER BY {order} LIMIT {limit}",
            shown.join(", "),
            table.name
        );
        let mut query = sqlx::query_as::<_, (Vec<String>, String)>(AssertSqlSafe(sql));
        for value in after.unwrap_or_default() {
            query = query.bind(value);
        }
        let found = within(query.fetch_all(&mut self.connection)).await?;
        let last = found.last().map(|(key, _)| key.clone());
        Ok(Rows { rows: found.into_iter().map(|(_, json)| Row::parse(&json)).collect(), last })
    }

    /// Rows whose `column` is one of `values`, by that column. Of a table that does not exist: none.
    pub(super) async fn lookup(
        &mut self,
        table: &'static str,
        column: &'static str,
        values: &[String],
    ) -> Result<BTreeMap<String, Vec<Row>>, ImportError> {
        let mut found: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        if values.is_empty() || !self.has(table).await? {
            return Ok(found);
        }
        let sql = format!(
            "SELECT \"{column}\"::text, to_jsonb(t)::text FROM \"{table}\" t WHERE \"{column}\"::text = ANY($1)"
        );
        let query = sqlx::query_as::<_, (String, String)>(AssertSqlSafe(sql)).bind(values);
        for (value, json) in within(query.fetch_all(&mut self.connection)).await? {
            if let Ok(row) = Row::parse(&json) {
                found.entry(value).or_default().push(row);
            }
        }
        Ok(found)
    }

    /// How many memberships belong to teams that do not exist.
    pub(super) async fn orphans(&mut self) -> Result<u64, ImportError> {
        const SQL: &str = "SELECT count(*) FROM \"LiteLLM_TeamMembership\" m WHERE NOT EXISTS \
             (SELECT 1 FROM \"LiteLLM_TeamTable\" t WHERE t.team_id = m.team_id)";
        let count: i64 = within(sqlx::query_scalar(SQL).fetch_one(&mut self.connection)).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) async fn close(self) {
        let _ = self.connection.close().await;
    }
}

async fn within<T>(query: impl Future<Output = sqlx::Result<T>>) -> Result<T, ImportError> {
    match tokio::time::timeout(STATEMENT, query).await {
        Ok(answer) => answer.map_err(source_error),
        Err(_) => Err(ImportError::Source("no answer within 120 s".to_owned())),
    }
}

fn source_error(error: sqlx::Error) -> ImportError {
    ImportError::Source(error.to_string())
}

#[cfg(test)]
impl Source {
    pub(super) async fn execute_for_test(mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::query(sql).execute(&mut self.connection).await.map(|_| ())
    }
}
