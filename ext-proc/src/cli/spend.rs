//! `attache spend`: sums, rows and bills of a running gateway; whether its ledger balances.

mod explain;
mod times;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::gateway::Gateway;
use super::key::pretty;
use super::shown;
use super::spend_verify::{Rebuild, Verify};
use times::Times;

/// `attache spend`.
#[derive(Debug, Subcommand)]
pub(super) enum Spend {
    /// Who or what spent most.
    Top(Top),
    /// The same day by day, or month by month.
    Report(Report),
    /// Why a request cost what it did: each factor of each attempt.
    Explain(Explain),
    /// Requests, newest first.
    Logs(Logs),
    /// Write requests to a file.
    Export(Export),
    /// Compute every cost and sum of the ledger again from its rows, and compare. Exit status 1: something does not
    /// balance; 2: it could not be checked.
    Verify(Verify),
    /// Set the ledger's sums per day, use and spend to what its rows say.
    Rebuild(Rebuild),
}

/// What sums are grouped by.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Key,
    Team,
    User,
    Organization,
    Customer,
    Tag,
    Model,
    ModelGroup,
    Provider,
    Endpoint,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
            Self::User => "user",
            Self::Organization => "organization",
            Self::Customer => "customer",
            Self::Tag => "tag",
            Self::Model => "model",
            Self::ModelGroup => "model_group",
            Self::Provider => "provider",
            Self::Endpoint => "endpoint",
        }
    }
}

/// Which requests. Each narrows.
#[derive(Debug, Args)]
struct Filters {
    /// Of this key, plain or by its hash.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Of this team.
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// Of the keys of this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Of this organization.
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Answered by this model (its name at the provider).
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

impl Filters {
    fn put(&self, query: &mut Vec<(&'static str, String)>) {
        let given = [
            ("api_key", &self.key),
            ("team_id", &self.team),
            ("user_id", &self.user),
            ("organization_id", &self.organization),
            ("model", &self.model),
        ];
        query.extend(given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    }
}

#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    gateway: Gateway,
    #[arg(long, value_enum)]
    by: By,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    filters: Filters,
    /// Lines at most, up to 1000.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Period {
    Day,
    Month,
}

#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    gateway: Gateway,
    #[arg(long, value_enum)]
    by: By,
    #[arg(long, value_enum, default_value = "day")]
    group_by: Period,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    filters: Filters,
    /// So many at most, those with the largest spend, up to 1000.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Id of the request: `x-litellm-call-id` of the answer.
    request: String,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    filters: Filters,
    /// `success` or `failure` only.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    #[arg(long, default_value_t = 1, value_name = "N")]
    page: u32,
    /// Requests per page, up to 100.
    #[arg(long, default_value_t = 50, value_name = "N")]
    size: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
    Parquet,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    gateway: Gateway,
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Where to write; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    filters: Filters,
}

impl Spend {
    pub(super) fn run(self) -> ExitCode {
        let asked = match self {
            Self::Verify(verify) => return verify.run(),
            Self::Rebuild(rebuild) => return rebuild.run(),
            Self::Top(top) => Gateway::block_on(top.run()),
            Self::Report(report) => Gateway::block_on(report.run()),
            Self::Explain(explain) => Gateway::block_on(explain.run()),
            Self::Logs(logs) => Gateway::block_on(logs.run()),
            Self::Export(export) => Gateway::block_on(export.run()),
        };
        super::report(asked.map(|text| {
            if !text.is_empty() {
                println!("{text}");
            }
        }))
    }
}

async fn get(gateway: &Gateway, path: &str, query: &[(&'static str, String)]) -> anyhow::Result<Value> {
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    gateway.get(path, &query).await
}

impl Top {
    async fn run(self) -> anyhow::Result<String> {
        let mut query = vec![("by", self.by.name().to_owned()), ("limit", self.limit.to_string())];
        self.times.put(&mut query)?;
        self.filters.put(&mut query);
        let answer = get(&self.gateway, "/spend/report", &query).await?;
        if self.gateway.json { pretty(&answer) } else { Ok(table(&answer, self.by, false)) }
    }
}

impl Report {
    async fn run(self) -> anyhow::Result<String> {
        let group_by = match self.group_by {
            Period::Day => "day",
            Period::Month => "month",
        };
        let mut query = vec![
            ("by", self.by.name().to_owned()),
            ("limit", self.limit.to_string()),
            ("group_by", group_by.to_owned()),
        ];
        self.times.put(&mut query)?;
        self.filters.put(&mut query);
        let answer = get(&self.gateway, "/spend/report", &query).await?;
        if self.gateway.json { pretty(&answer) } else { Ok(table(&answer, self.by, true)) }
    }
}

/// Sums as a table, with the sum of all below.
fn table(answer: &Value, by: By, dated: bool) -> String {
    let total = answer["total"]["spend_nanos"].as_u64().unwrap_or(0);
    let row = |row: &Value| {
        let metrics = &row["metrics"];
        let nanos = metrics["spend_nanos"].as_u64().unwrap_or(0);
        let mut cells = if dated { vec![shown::text(row, "date")] } else { Vec::new() };
        cells.extend([
            name(row, by),
            shown::text(metrics, "api_requests"),
            shown::text(metrics, "total_tokens"),
            dollars(nanos),
            share(nanos, total),
            unpriced(metrics),
        ]);
        cells
    };
    let rows: Vec<Vec<String>> = answer["results"].as_array().into_iter().flatten().map(row).collect();
    let by = by.name().to_uppercase();
    let head = [by.as_str(), "REQUESTS", "TOKENS", "SPEND", "SHARE", "UNPRICED"];
    let head: Vec<&str> = dated.then_some("DATE").into_iter().chain(head).collect();
    let metrics = &answer["total"];
    let sum = format!(
        "{} to {}: {} requests, {} tokens, {}{}",
        shown::text(answer, "start_date"),
        shown::text(answer, "end_date"),
        shown::text(metrics, "api_requests"),
        shown::text(metrics, "total_tokens"),
        dollars(total),
        match metrics["unpriced_requests"].as_u64() {
            None | Some(0) => String::new(),
            Some(unpriced) => format!(", and {unpriced} requests whose price nobody knows"),
        },
    );
    let note = answer["note"].as_str().map(|note| format!("\n{note}")).unwrap_or_default();
    format!("{}\n\n{sum}{note}", shown::table(&head, &rows))
}

/// Its alias, else its id; a key without one by the beginning of its hash.
fn name(row: &Value, by: By) -> String {
    let (name, id) = (shown::text(row, "name"), shown::text(row, "id"));
    match (name.is_empty(), by) {
        (false, _) => name,
        (true, By::Key) if id.len() == 64 => format!("{}...", id.get(..12).unwrap_or_default()),
        (true, _) if id.is_empty() => "(none)".to_owned(),
        (true, _) => id,
    }
}

fn unpriced(metrics: &Value) -> String {
    match metrics["unpriced_requests"].as_u64() {
        None | Some(0) => String::new(),
        Some(requests) => requests.to_string(),
    }
}

/// Exact.
fn dollars(nanos: u64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let fraction = format!("{rest:09}");
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("${whole}.{}", fraction.get(..kept).unwrap_or_default())
}

fn share(nanos: u64, total: u64) -> String {
    if total == 0 {
        return String::new();
    }
    let tenths = u128::from(nanos) * 1_000 / u128::from(total);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

impl Explain {
    async fn run(self) -> anyhow::Result<String> {
        let answer = self.gateway.get("/spend/logs", &[("request_id", &self.request)]).await?;
        let row = answer.get(0).with_context(|| {
            format!("no request {:?} is in the ledger, or it is not yours to see", self.request)
        })?;
        if self.gateway.json { pretty(row) } else { Ok(explain::text(row)) }
    }
}

impl Logs {
    async fn run(self) -> anyhow::Result<String> {
        let mut query = vec![("page", self.page.to_string()), ("page_size", self.size.to_string())];
        query.extend(self.status.clone().map(|status| ("status_filter", status)));
        self.times.put(&mut query)?;
        self.filters.put(&mut query);
        let answer = get(&self.gateway, "/spend/logs/v2", &query).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let row = |row: &Value| {
            let cell = |name: &str| shown::text(row, name);
            let key = shown::text(&row["metadata"], "user_api_key_alias");
            let key = if key.is_empty() { cell("api_key").chars().take(12).collect() } else { key };
            let spend = match row["spend_nanos"].as_u64() {
                Some(nanos) => dollars(nanos),
                None => "unknown".to_owned(),
            };
            vec![
                cell("startTime"),
                cell("request_id"),
                key,
                cell("team_id"),
                cell("model"),
                format!("{} {}", cell("outcome"), cell("status_code")),
                cell("total_tokens"),
                spend,
            ]
        };
        let rows: Vec<Vec<String>> = answer["data"].as_array().into_iter().flatten().map(row).collect();
        let head = ["START", "REQUEST", "KEY", "TEAM", "MODEL", "OUTCOME", "TOKENS", "SPEND"];
        let capped = if answer["total_is_capped"] == true { "more than " } else { "" };
        let (total, pages) = (shown::text(&answer, "total"), shown::text(&answer, "total_pages"));
        Ok(format!("{}\n{capped}{total} requests, page {} of {pages}", shown::table(&head, &rows), self.page))
    }
}

impl Export {
    async fn run(self) -> anyhow::Result<String> {
        let format = match self.format {
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
        };
        let mut query = vec![("format", format.to_owned())];
        self.times.put(&mut query)?;
        self.filters.put(&mut query);
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.out == Path::new("-") {
            let mut out = std::io::stdout();
            self.gateway.download("/spend/export", &query, &mut out).await?;
            out.flush()?;
            return Ok(String::new());
        }
        // A reader must never take half an export for a whole one.
        let partial = self.out.with_added_extension("partial");
        let file = File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
        let mut file = BufWriter::new(file);
        let done = self.gateway.download("/spend/export", &query, &mut file).await;
        let done = done.and_then(|()| Ok(file.flush()?));
        if done.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        done?;
        let size = file.get_ref().metadata()?.len();
        std::fs::rename(&partial, &self.out)?;
        Ok(format!("{size} bytes written to {}", self.out.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_a_table() {
        let metrics = |nanos: u64, unpriced: u64| json!({"spend_nanos": nanos, "api_requests": 3, "total_tokens": 40, "unpriced_requests": unpriced});
        let answer = json!({
            "start_date": "2026-01-01", "end_date": "2026-01-07",
            "results": [
                {"id": "t1", "name": "search", "metrics": metrics(1_500_000_000, 0)},
                {"id": "", "name": null, "metrics": metrics(500_000_001, 2)},
            ],
            "total": metrics(2_000_000_001, 2),
        });
        let text = table(&answer, By::Team, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TEAM    REQUESTS  TOKENS  SPEND         SHARE  UNPRICED");
        assert_eq!(lines[1], "search  3         40      $1.50         74.9%");
        assert_eq!(lines[2], "(none)  3         40      $0.500000001  25.0%  2");
        assert!(lines[4].starts_with("2026-01-01 to 2026-01-07: 3 requests, 40 tokens, $2.000000001, and 2"));
        let hash = "ab".repeat(32);
        assert_eq!(name(&json!({"id": hash, "name": null}), By::Key), "abababababab...");
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(dollars(0), "$0.00");
        assert_eq!(dollars(1), "$0.000000001");
        assert_eq!(dollars(12_340_000_000), "$12.34");
        assert_eq!(
            (share(1, 3).as_str(), share(0, 0).as_str(), share(3, 3).as_str()),
            ("33.3%", "", "100.0%")
        );
    }
}
