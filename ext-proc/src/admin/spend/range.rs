//! The time that a report is about.

use attache_llm::error::ApiError;
use time::{Date, Duration, Month, OffsetDateTime};

use crate::admin::body::refused;
use crate::admin::query::Query;
use crate::admin::when;
use crate::routing::now_ms;
use crate::store::{DAY_US, Days};

const DAY_MS: u64 = 86_400_000;
/// Days of a report without dates: today and those before it.
const DEFAULT_DAYS: i64 = 30;
/// Days of one report at most: ten years.
const MOST_DAYS: i64 = 3_660;
/// Years that rows may be of.
const LAST_YEAR: i64 = 2_932_896;

/// Unix day of a moment.
pub(super) fn day_of_us(us: u64) -> i64 {
    i64::try_from(us / DAY_US).unwrap_or(i64::MAX).min(LAST_YEAR)
}

/// Unix microseconds at which a day begins.
pub(super) fn start_of(day: i64) -> u64 {
    u64::try_from(day).unwrap_or_default().saturating_mul(DAY_US)
}

pub(super) fn today() -> i64 {
    day_of_us(now_ms().saturating_mul(1_000))
}

fn date(day: i64) -> Date {
    OffsetDateTime::UNIX_EPOCH.date().saturating_add(Duration::days(day))
}

/// `2026-01-31`.
pub(super) fn iso(day: i64) -> String {
    date(day).to_string()
}

/// `2026-01`.
pub(super) fn month(day: i64) -> String {
    let date = date(day);
    format!("{}-{:02}", date.year(), u8::from(date.month()))
}

/// `Jan 31`, as LiteLLM's charts have it.
pub(super) fn short(day: i64) -> String {
    let date = date(day);
    let month = match date.month() {
        Month::January => "Jan",
        Month::February => "Feb",
        Month::March => "Mar",
        Month::April => "Apr",
        Month::May => "May",
        Month::June => "Jun",
        Month::July => "Jul",
        Month::August => "Aug",
        Month::September => "Sep",
        Month::October => "Oct",
        Month::November => "Nov",
        Month::December => "Dec",
    };
    format!("{month} {:02}", date.day())
}

/// A part of time, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub from_us: u64,
    /// Before this moment.
    pub until_us: u64,
}

impl Span {
    /// The days that it touches.
    pub(super) fn days(self) -> Days {
        Days { first: day_of_us(self.from_us), last: day_of_us(self.until_us.saturating_sub(1)) }
    }

    /// Takes `start_date` and `end_date`: moments ([`when::moment`]). A day alone is the whole day, the last one included.
    /// Without `start_date` it is `default` days up to now.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub(super) fn take(query: &mut Query, default: Option<i64>) -> Result<Self, ApiError> {
        let now = now_ms();
        let end = query.take("end_date").map(|text| moment("end_date", &text, true)).transpose()?;
        let end = end.unwrap_or_else(|| (now / DAY_MS + 1) * DAY_MS);
        let start = match (query.take("start_date"), default) {
            (Some(text), _) => moment("start_date", &text, false)?,
            (None, Some(days)) => {
                let before = u64::try_from(days).unwrap_or_default().saturating_mul(DAY_MS);
                (end.saturating_sub(1) / DAY_MS * DAY_MS + DAY_MS).saturating_sub(before)
            }
            (None, None) => 0,
        };
        if start >= end {
            return Err(refused("end_date", "must not be before `start_date`"));
        }
        Ok(Self { from_us: start.saturating_mul(1_000), until_us: end.saturating_mul(1_000) })
    }
}

/// Unix milliseconds; of the end: of the first moment behind it.
fn moment(name: &'static str, text: &str, end: bool) -> Result<u64, ApiError> {
    let wrong = || refused(name, "must be a day (2026-01-31) or a time (2026-01-31 12:00:00, RFC 3339)");
    let ms = when::moment(text).ok_or_else(wrong)?;
    Ok(match (end, text.trim().len() == "2026-01-31".len()) {
        (true, true) => ms + DAY_MS,
        // A time to the second is that second, whole.
        (true, false) => ms + if ms.is_multiple_of(1_000) { 1_000 } else { 1 },
        (false, _) => ms,
    })
}

/// Takes `start_date` and `end_date` of a report over whole days, the last thirty without them.
///
/// # Errors
/// 400 naming the parameter.
pub(super) fn days(query: &mut Query) -> Result<Days, ApiError> {
    let days = Span::take(query, Some(DEFAULT_DAYS))?.days();
    if days.last - days.first >= MOST_DAYS {
        return Err(refused("start_date", "may be ten years before `end_date` at most"));
    }
    Ok(days)
}

/// The last thirty days.
pub(super) fn last_days() -> Days {
    let today = today();
    Days { first: today - DEFAULT_DAYS + 1, last: today }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Result<(String, String), ApiError> {
        let mut query = Query::parse(Some(text));
        let span = Span::take(&mut query, Some(30))?;
        query.finish().unwrap();
        Ok((when::rfc3339_us(span.from_us), when::rfc3339_us(span.until_us)))
    }

    #[test]
    fn days_are_whole_and_times_are_exact() {
        let found = |text| span(text).unwrap();
        let own = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            found("start_date=2026-01-01&end_date=2026-01-31"),
            own("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
        );
        assert_eq!(
            found("start_date=2026-01-01+10:00:00&end_date=2026-01-01%2012:30:00"),
            own("2026-01-01T10:00:00Z", "2026-01-01T12:30:01Z")
        );
        assert_eq!(found("end_date=2026-01-30").0, "2026-01-01T00:00:00Z");
        assert_eq!(found("end_date=2026-01-30T05:00:00Z").0, "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_wrong_date_is_named() {
        let param = |text| span(text).unwrap_err().param.unwrap();
        assert_eq!(param("start_date=yesterday"), "start_date");
        assert_eq!(param("start_date=2026-01-01&end_date=2026-13-01"), "end_date");
        assert_eq!(param("start_date=2026-01-02&end_date=2026-01-01"), "end_date");
        let long = days(&mut Query::parse(Some("start_date=1990-01-01&end_date=2026-01-01"))).unwrap_err();
        assert_eq!(long.param.unwrap(), "start_date");
    }

    #[test]
    fn days_are_written_in_three_ways() {
        let day = day_of_us(1_769_860_800_000_000);
        assert_eq!(
            (iso(day), month(day), short(day)),
            ("2026-01-31".into(), "2026-01".into(), "Jan 31".into())
        );
        assert_eq!(start_of(day), 1_769_817_600_000_000);
    }
}
