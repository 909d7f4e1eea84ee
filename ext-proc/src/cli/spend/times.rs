//! `--since` and `--until`.

use anyhow::bail;
use clap::Args;
use time::format_description::well_known::Rfc3339;
use time::{Date, Duration, OffsetDateTime};

/// A part of time.
#[derive(Debug, Args)]
pub(super) struct Times {
    /// `7d`, `12h`, `4w`, a day (`2026-01-31`) or a time (RFC 3339). Days are of UTC; `7d` is today and six days before.
    #[arg(long, default_value = "7d", value_name = "TIME")]
    since: String,
    /// A day, included, or a time; now without it.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Times {
    /// Adds `start_date` and `end_date`.
    pub(super) fn put(&self, query: &mut Vec<(&'static str, String)>) -> anyhow::Result<()> {
        query.push(("start_date", since(&self.since, OffsetDateTime::now_utc())?));
        query.extend(self.until.clone().map(|until| ("end_date", until)));
        Ok(())
    }
}

fn since(text: &str, now: OffsetDateTime) -> anyhow::Result<String> {
    let wrong = "--since is 7d, 12h, 4w, a day such as 2026-01-31 or a time (RFC 3339)";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    // Dates are the gateway's to read.
    if number.is_empty() || unit.is_empty() || unit.starts_with('-') {
        if number.len() == 4 {
            return Ok(text.to_owned());
        }
        bail!("{wrong}");
    }
    let Ok(number) = number.parse::<i32>() else { bail!("{wrong}") };
    let day = |days: i64| now.date().checked_sub(Duration::days(days)).map(|day: Date| day.to_string());
    let text = match unit {
        "d" => day(i64::from(number) - 1),
        "w" => day(i64::from(number) * 7 - 1),
        "h" => now
            .checked_sub(Duration::hours(i64::from(number)))
            .and_then(|time| time.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()),
        _ => bail!("{wrong}"),
    };
    match text {
        Some(text) if number > 0 => Ok(text),
        _ => bail!("{wrong}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ago_is_a_day_or_a_moment() {
        let now = OffsetDateTime::parse("2026-01-31T12:30:15.5Z", &Rfc3339).unwrap();
        let found = |text| since(text, now).unwrap();
        assert_eq!(found("1d"), "2026-01-31");
        assert_eq!(found("7d"), "2026-01-25");
        assert_eq!(found("1w"), "2026-01-25");
        assert_eq!(found("2h"), "2026-01-31T10:30:15Z");
        assert_eq!(found("2026-01-02"), "2026-01-02");
        for wrong in ["", "7", "d", "0d", "7y", "yesterday", "-7d", "99999999999d", "2147483647d"] {
            assert!(since(wrong, now).is_err(), "{wrong}");
        }
    }
}
