//! `/spend/export`: rows of any number as CSV, JSON lines or Parquet, oldest first. They are read a batch at a time, and
//! no further than the client takes them: a client that goes ends it.

mod columns;
mod csv;
mod parquet;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::logs::filtered;
use super::range::{self, Span};
use super::shown;
use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::body::refused;
use crate::admin::query::Query;
use crate::admin::reply::Failure;
use crate::store::{RowFilter, RowQuery, SpendRow};

/// Rows that are read at once; a part of a Parquet file.
const BATCH: u32 = 2_000;
/// Batches that wait for the client.
const WAITING: usize = 2;
/// Days of an export without dates.
const DEFAULT_DAYS: i64 = 30;

/// Writes rows in a format. Text that is done is taken after each step.
trait Format: Send + 'static {
    fn rows(&mut self, rows: &[SpendRow]) -> anyhow::Result<Vec<u8>>;
    fn end(self: Box<Self>) -> anyhow::Result<Vec<u8>>;
}

/// One JSON object a line, as `/spend/logs` shows rows.
struct Lines;

impl Format for Lines {
    fn rows(&mut self, rows: &[SpendRow]) -> anyhow::Result<Vec<u8>> {
        let mut text = Vec::new();
        for row in shown::rows(rows, &super::figures::Names::default()) {
            serde_json::to_writer(&mut text, &row)?;
            text.push(b'\n');
        }
        Ok(text)
    }

    fn end(self: Box<Self>) -> anyhow::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

pub(super) async fn export(
    State(admin): State<Admin>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut query = Query::parse(query.as_deref());
    let (format, mime, name): (Box<dyn Format>, _, _) = match query.take("format").as_deref() {
        None | Some("csv") => (Box::new(csv::Csv::new()), "text/csv; charset=utf-8", "spend.csv"),
        Some("jsonl") => (Box::new(Lines), "application/x-ndjson", "spend.jsonl"),
        Some("parquet") => {
            let format = parquet::Parquet::new().map_err(|error| internal(&error))?;
            (Box::new(format), "application/vnd.apache.parquet", "spend.parquet")
        }
        Some(_) => return Err(refused("format", "must be csv, jsonl or parquet").into()),
    };
    let span = Span::take(&mut query, Some(DEFAULT_DAYS))?;
    let mut filter = filtered(&admin, &mut query)?;
    query.finish()?;
    (filter.from_us, filter.until_us) = (span.from_us, Some(span.until_us));
    admin.flush_soon().await;
    admin.may_see_rows(&actor, &mut filter).await?;
    // The first batch decides whether there is an answer at all.
    let first = batch(&admin, &filter, None).await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        if let Err(error) = send(&admin, &filter, first, format, &sender).await {
            tracing::warn!(%error, "an export ended early");
            // The client must not take a part for the whole.
            let _ = sender.send(Err(std::io::Error::other("the export failed"))).await;
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let disposition = format!("attachment; filename=\"{}-{name}\"", range::iso(span.days().first));
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

fn internal(error: &anyhow::Error) -> Failure {
    attache_llm::error::ApiError::internal(error.to_string()).into()
}

async fn batch(
    admin: &Admin,
    filter: &RowFilter,
    after: Option<(u64, String)>,
) -> Result<Vec<SpendRow>, Failure> {
    let filter =
        RowFilter { from_us: after.as_ref().map_or(filter.from_us, |(us, _)| *us), ..filter.clone() };
    let query = RowQuery { filter, ascending: true, after, limit: BATCH, ..RowQuery::default() };
    Ok(admin.state.database.page(&query).await?)
}

type Sender = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// Sends batch after batch, each when there is room for it; ends with the client.
async fn send(
    admin: &Admin,
    filter: &RowFilter,
    mut rows: Vec<SpendRow>,
    mut format: Box<dyn Format>,
    sender: &Sender,
) -> anyhow::Result<()> {
    loop {
        let full = rows.len() == BATCH as usize;
        let after = rows.last().map(|row| (row.start_us, row.call_id.clone())).filter(|_| full);
        // Requests are decided on these threads: a batch is written beside them.
        let written = tokio::task::spawn_blocking(move || {
            let bytes = format.rows(&rows);
            (format, bytes)
        });
        let bytes;
        (format, bytes) = written.await?;
        let bytes = bytes?;
        if !bytes.is_empty() && sender.send(Ok(bytes.into())).await.is_err() || sender.is_closed() {
            return Ok(());
        }
        if after.is_none() {
            break;
        }
        let next = batch(admin, filter, after).await;
        rows = next.map_err(|failure| anyhow::anyhow!("{}", failure.message()))?;
    }
    let end = tokio::task::spawn_blocking(move || format.end()).await??;
    if !end.is_empty() {
        // A client that is gone needs no end.
        let _ = sender.send(Ok(end.into())).await;
    }
    Ok(())
}
