//! `Prompts`, over `super::{Db, Connection, Store, Lease}`: this file is compiled once per driver.

use async_trait::async_trait;
use serde::Serialize;

use super::super::lease::{Failure, within};
use super::super::records::{MAX_ID, bounded, signed};
use super::directory::given;
use super::{Connection, READ, Store, WRITE};
use crate::store::{PromptRow, Prompts, StoreError};

/// Longest text, bytes: above the bounds of the gate.
const MAX_WORDS: usize = 1024 * 1024;

const INSERT: &str = concat!(
    "INSERT INTO attache_prompts (call_id, start_us, request, response) \
     SELECT call_id, start_us, request, response FROM ",
    given!(call_id text, start_us bigint, request text, response text),
    " WHERE TRUE ORDER BY call_id ON CONFLICT (call_id) DO NOTHING"
);
const PROMPT: &str = "SELECT start_us, request, response FROM attache_prompts WHERE call_id = $1";
/// A thousand at once: nobody waits for long.
const FORGET: &str = "DELETE FROM attache_prompts WHERE call_id IN \
     (SELECT call_id FROM attache_prompts WHERE start_us < $1 ORDER BY start_us LIMIT 1000)";

#[derive(Serialize)]
struct Given<'a> {
    call_id: std::borrow::Cow<'a, str>,
    start_us: i64,
    request: Option<std::borrow::Cow<'a, str>>,
    response: Option<std::borrow::Cow<'a, str>>,
}

#[async_trait]
impl Prompts for Store {
    async fn write_prompts(&self, prompts: &[PromptRow]) -> Result<(), StoreError> {
        if prompts.is_empty() {
            return Ok(());
        }
        let mut lease = self.lease(WRITE).await?;
        let answer = within(lease.deadline, write(&mut lease.connection, prompts)).await;
        lease.end(answer)
    }

    async fn prompt(&self, call_id: &str) -> Result<Option<PromptRow>, StoreError> {
        let mut lease = self.lease(READ).await?;
        let query = sqlx::query_as::<_, (i64, Option<String>, Option<String>)>(PROMPT)
            .bind(bounded(call_id, MAX_ID).into_owned());
        let answer = within(lease.deadline, query.fetch_optional(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.map(|(start_us, request, response)| PromptRow {
            call_id: call_id.to_owned(),
            start_us: u64::try_from(start_us).unwrap_or_default(),
            request,
            response,
        }))
    }

    async fn forget_prompts(&self, before_us: u64) -> Result<u64, StoreError> {
        let mut lease = self.lease(WRITE).await?;
        let query = sqlx::query(FORGET).bind(signed(before_us));
        let answer = within(lease.deadline, query.execute(&mut *lease.connection)).await;
        Ok(lease.end(answer)?.rows_affected())
    }
}

async fn write(connection: &mut Connection, prompts: &[PromptRow]) -> Result<(), Failure> {
    let rows: Vec<Given<'_>> = prompts
        .iter()
        .map(|prompt| Given {
            call_id: bounded(&prompt.call_id, MAX_ID),
            start_us: signed(prompt.start_us),
            request: prompt.request.as_deref().map(|text| bounded(text, MAX_WORDS)),
            response: prompt.response.as_deref().map(|text| bounded(text, MAX_WORDS)),
        })
        .collect();
    sqlx::query(INSERT).bind(given(&rows)?).execute(connection).await?;
    Ok(())
}
