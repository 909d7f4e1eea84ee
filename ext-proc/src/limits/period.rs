//! Durations as LiteLLM writes them.

use jiff::{Timestamp, ToSpan, tz::TimeZone};

/// Longest duration, days: a hundred years. Longer ones are slips of the keyboard.
const MAX_DAYS: u64 = 36_500;

/// A duration as written: `30s`, `15m`, `12h`, `7d`, `2w`, `1mo`. Never of no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub count: u64,
    pub unit: Unit,
}

/// What a [`Period`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    /// Of the calendar.
    Month,
}

impl Unit {
    /// Seconds; a month counts as 30 days.
    const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
        }
    }
}

impl Period {
    /// Seconds; a month counts as 30 days.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.count.saturating_mul(self.unit.seconds())
    }

    /// The moment so long after `now_ms` (Unix milliseconds), as keys expire: months are the calendar's (in UTC),
    /// everything else is plain seconds.
    #[must_use]
    pub fn after(self, now_ms: u64) -> u64 {
        let plain = now_ms.saturating_add(self.seconds().saturating_mul(1_000));
        let months = || {
            let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?)
                .ok()?
                .to_zoned_datetime(TimeZone::UTC);
            let then = now.checked_add(i32::try_from(self.count).ok()?.months()).ok()?;
            u64::try_from(then.timestamp().as_millisecond()).ok()
        };
        if self.unit == Unit::Month { months().unwrap_or(plain) } else { plain }
    }
}

/// Reads a duration: a whole number above 0 and a unit, `s`, `m` (minutes), `h`, `d`, `w` or `mo` (months).
///
/// # Errors
/// What is wrong with it, for the person who wrote it.
pub fn parse_duration(text: &str) -> Result<Period, String> {
    let text = text.trim();
    let shown: String = text.chars().take(40).collect();
    let wrong = |why: &str| {
        format!(
            "`{shown}` is no duration: {why}. Write a number and a unit: `30s`, `15m`, `12h`, `7d`, `2w` or `1mo`"
        )
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    if count.is_empty() {
        return Err(wrong("it does not begin with a number"));
    }
    let unit = match unit {
        "s" => Unit::Second,
        "m" => Unit::Minute,
        "h" => Unit::Hour,
        "d" => Unit::Day,
        "w" => Unit::Week,
        "mo" => Unit::Month,
        "" => return Err(wrong("it has no unit")),
        _ => return Err(wrong("nobody knows its unit")),
    };
    let count = count.parse().map_err(|_| wrong("its number is too large"))?;
    let period = Period { count, unit };
    match period.seconds() {
        0 => Err(wrong("it has no length")),
        seconds if seconds > MAX_DAYS * 86_400 => Err(wrong("it is longer than a hundred years")),
        _ => Ok(period),
    }
}

#[cfg(test)]
#[path = "period_tests.rs"]
mod tests;
