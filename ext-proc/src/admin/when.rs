//! Times of the admin API: RFC 3339 in UTC, and LiteLLM's durations.

use time::format_description::well_known::Rfc3339;
use time::{Duration, Month, OffsetDateTime};

/// Longest life of a key, years.
const LONGEST_YEARS: i64 = 100;

/// Unix milliseconds as `2026-01-31T12:00:00.000Z`.
pub(super) fn rfc3339_ms(ms: u64) -> String {
    rfc3339_us(ms.saturating_mul(1_000))
}

/// Unix microseconds, shown to the millisecond.
pub(super) fn rfc3339_us(us: u64) -> String {
    let nanos = i128::from(us - us % 1_000) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The end of a `duration` (`30s`, `30m`, `12h`, `30d`, `2w`, `1mo`) that begins at `now_ms`, Unix milliseconds.
/// A month is a calendar month, as in LiteLLM.
pub(super) fn expiry(duration: &str, now_ms: u64) -> Option<u64> {
    let digits = duration.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = duration.split_at_checked(digits)?;
    let number: i64 = number.parse().ok().filter(|number| *number > 0)?;
    let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ms) * 1_000_000).ok()?;
    let seconds = |each: i64| number.checked_mul(each).and_then(|s| now.checked_add(Duration::seconds(s)));
    let end = match unit {
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        "w" => seconds(604_800),
        "mo" => add_months(now, number),
        _ => None,
    }?;
    let limit = now.checked_add(Duration::days(LONGEST_YEARS * 366))?;
    (end <= limit).then(|| u64::try_from(end.unix_timestamp_nanos() / 1_000_000).ok())?
}

/// A moment as clients write it: RFC 3339, the same without an offset (UTC), or a day; Unix milliseconds.
pub(super) fn moment(text: &str) -> Option<u64> {
    let text = text.trim().replacen(' ', "T", 1);
    let tries = [text.clone(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    let time = tries.iter().find_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok())?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The same day `months` later, or the last day of a shorter month.
fn add_months(from: OffsetDateTime, months: i64) -> Option<OffsetDateTime> {
    let month = i64::from(u8::from(from.month())) - 1;
    let total = i64::from(from.year()).checked_mul(12)?.checked_add(month)?.checked_add(months)?;
    let year = i32::try_from(total.div_euclid(12)).ok()?;
    let month = Month::try_from(u8::try_from(total.rem_euclid(12) + 1).ok()?).ok()?;
    let day = from.day().min(month.length(year));
    let date = time::Date::from_calendar_date(year, month, day).ok()?;
    Some(from.replace_date(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-01-31T12:00:00Z
    const NOW: u64 = 1_769_860_800_000;

    #[test]
    fn durations_end_when_litellm_says() {
        let end = |duration| expiry(duration, NOW).map(rfc3339_ms);
        assert_eq!(end("30s").unwrap(), "2026-01-31T12:00:30Z");
        assert_eq!(end("30m").unwrap(), "2026-01-31T12:30:00Z");
        assert_eq!(end("1h").unwrap(), "2026-01-31T13:00:00Z");
        assert_eq!(end("30d").unwrap(), "2026-03-02T12:00:00Z");
        assert_eq!(end("1mo").unwrap(), "2026-02-28T12:00:00Z");
        assert_eq!(end("12mo").unwrap(), "2027-01-31T12:00:00Z");
    }

    #[test]
    fn moments_are_read_with_and_without_an_offset() {
        let noon = Some(NOW);
        assert_eq!(moment("2026-01-31T12:00:00Z"), noon);
        assert_eq!(moment("2026-01-31T13:00:00+01:00"), noon);
        assert_eq!(moment("2026-01-31T12:00:00.000"), noon);
        assert_eq!(moment("2026-01-31 12:00:00"), noon);
        assert_eq!(moment("2026-01-31"), Some(NOW - 12 * 3_600_000));
        for text in ["", "tomorrow", "2026-13-01", "1769860800", "1900-01-01"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in
            ["", "30", "d", "-1d", "1.5h", "0d", "30 d", "1y", "99999999999999999999d", "40000d", "9999999mo"]
        {
            assert_eq!(expiry(text, NOW), None, "{text}");
        }
    }
}
