//! `attache spend verify` and `rebuild`: on the database of the configuration, with or without a running gateway.

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, date};

use super::gateway::Gateway;
use super::target::Target;
use super::{ConfigFlag, DataDir, shown};
use crate::limits::parse_duration;
use crate::store::{Scope, Verified};

/// Days of one call at most: what is more is a slip of the keyboard.
const MOST_DAYS: i64 = 3_660;

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
    /// First day whose rows are read, UTC: `2026-11-01`, or so long ago: `7d` [default: all].
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// Differences that are printed; the others are counted.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rebuild {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
    /// Days (UTC), with commas between: `2026-11-01`, or from and to: `2026-11-01..2026-11-07` [default: all whose rows
    /// are there].
    #[arg(long, value_delimiter = ',', value_name = "DAY")]
    days: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// 0: everything balances; 1: something does not; 2: it could not be checked.
    pub(super) fn run(self) -> ExitCode {
        match Gateway::block_on(self.verified()) {
            Ok((verified, text)) => {
                println!("{text}");
                ExitCode::from(u8::from(verified.differences > 0))
            }
            Err(error) => {
                eprintln!("attache: {error:#}");
                ExitCode::from(2)
            }
        }
    }

    async fn verified(self) -> anyhow::Result<(Verified, String)> {
        let since = self.since.as_deref().map(|text| first_day(text, Timestamp::now())).transpose()?;
        let database = Target::load(&self.config, &self.data)?.open().await?;
        let verified = database.verify(&Scope { since, shown: self.limit }).await?;
        let text = if self.json { serde_json::to_string_pretty(&verified)? } else { report(&verified) };
        Ok((verified, text))
    }
}

impl Rebuild {
    pub(super) fn run(self) -> ExitCode {
        match Gateway::block_on(self.rebuilt()) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("attache: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    async fn rebuilt(self) -> anyhow::Result<String> {
        let days = self.days.iter().map(|text| span(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let days: Vec<i64> = days.into_iter().flatten().collect();
        let database = Target::load(&self.config, &self.data)?.open().await?;
        let rebuilt = database.rebuild((!days.is_empty()).then_some(&days)).await?;
        Ok(if self.json {
            serde_json::to_string_pretty(&rebuilt)?
        } else {
            format!(
                "sums of {} days made again from {} rows; spend of {} entities changed",
                rebuilt.days, rebuilt.rows, rebuilt.entities
            )
        })
    }
}

/// What was checked, then each difference.
fn report(verified: &Verified) -> String {
    let checked = [
        ("days", verified.days),
        ("days without their rows (retention), not compared", verified.days_without_rows),
        ("rows", verified.rows),
        ("rows without a price", verified.unpriced),
        ("rows that do not say whom they are charged to, use not compared", verified.rows_without_charge),
        ("lines priced again", verified.lines),
        ("sums per day", verified.daily),
        ("sums per quarter of an hour", verified.usage),
        ("entities", verified.entities),
    ];
    let rows: Vec<Vec<String>> =
        checked.iter().map(|(what, count)| vec![(*what).to_owned(), count.to_string()]).collect();
    let mut text = shown::table(&["CHECKED", "COUNT"], &rows);
    let (dollars, nanos) = (verified.nanos / 1_000_000_000, verified.nanos % 1_000_000_000);
    text.push_str(&format!("\n\nThe rows cost ${dollars}.{nanos:09}.\n"));
    if verified.differences == 0 {
        text.push_str("Everything balances.");
        return text;
    }
    let differences: Vec<Vec<String>> = verified
        .shown
        .iter()
        .map(|one| [one.of, &one.at, &one.stored, &one.computed].map(printable).to_vec())
        .collect();
    text.push_str(&shown::table(&["TABLE", "WHERE", "STORED", "COMPUTED"], &differences));
    text.push_str(&format!("\n{} differences", verified.differences));
    let hidden = verified.differences.saturating_sub(verified.shown.len() as u64);
    if hidden > 0 {
        text.push_str(&format!(", {hidden} of them not shown (--limit)"));
    }
    text
}

/// Control characters of somebody's names stay away from the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn first_day(text: &str, now: Timestamp) -> anyhow::Result<i64> {
    if let Ok(period) = parse_duration(text) {
        let seconds = i64::try_from(period.seconds())?;
        return Ok((now.as_second().saturating_sub(seconds)).div_euclid(86_400));
    }
    day(text)
}

/// Unix day of `2026-11-01`.
fn day(text: &str) -> anyhow::Result<i64> {
    let day: Date = text.parse().with_context(|| format!("{text:?} is no day such as 2026-11-01"))?;
    let days = (day - date(1970, 1, 1)).get_days();
    ensure!(days >= 0, "{text} is before 1970");
    Ok(i64::from(days))
}

fn span(text: &str) -> anyhow::Result<Vec<i64>> {
    let Some((from, to)) = text.split_once("..") else { return Ok(vec![day(text)?]) };
    let (from, to) = (day(from)?, day(to)?);
    if from > to || to - from > MOST_DAYS {
        bail!("{text} is no span of days: the first is after the last, or they are more than {MOST_DAYS}");
    }
    Ok((from..=to).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Difference;

    #[test]
    fn days_are_read() {
        let now: Timestamp = "2026-11-29T00:30:00Z".parse().unwrap();
        assert_eq!(first_day("2026-11-29", now).unwrap(), 20_786);
        assert_eq!(first_day("1d", now).unwrap(), 20_785);
        assert_eq!(first_day("30m", now).unwrap(), 20_786);
        assert!(first_day("yesterday", now).is_err());
        assert_eq!(span("2026-11-28..2026-11-29").unwrap(), [20_785, 20_786]);
        assert_eq!(span("1970-01-01").unwrap(), [0]);
        for wrong in ["2026-11-29..2026-11-28", "1969-12-31", "..", "2026-02-30", "1970-01-01..2026-01-01"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_balance_is_told() {
        let mut verified = Verified { days: 2, rows: 3, nanos: 1_000_000_001, ..Verified::default() };
        let text = report(&verified);
        assert!(text.contains("The rows cost $1.000000001.\nEverything balances."), "{text}");
        verified.differences = 3;
        verified.shown = vec![Difference {
            of: "attache_daily",
            at: "2026-11-29 team / \u{1b}[31m".into(),
            stored: "nanos 7".into(),
            computed: "nanos 8".into(),
        }];
        let text = report(&verified);
        assert!(text.contains("attache_daily  2026-11-29 team /  [31m  nanos 7  nanos 8"), "{text}");
        assert!(text.ends_with("3 differences, 2 of them not shown (--limit)"), "{text}");
    }
}
