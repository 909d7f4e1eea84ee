//! Windows of budgets, from the clock and the calendar alone: no job has to reset anything.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::period::{Period, Unit, parse_duration};
use super::rules::Rules;

/// The span of time over which a budget is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Unix milliseconds.
    pub start_ms: u64,
    /// Unix milliseconds, the first moment that is not in it; `None`: it never ends.
    pub end_ms: Option<u64>,
}

impl Window {
    /// The window in which `now_ms` (Unix milliseconds) falls, by LiteLLM's rules (docs/limits.md): days begin at midnight,
    /// weeks on Monday, `30d` and `1mo` on the first of the month, other numbers of days are counted from the epoch's
    /// midnight, shorter ones are aligned to the clock. Without a duration it never ends. If the spend was set at
    /// `reset_ms` (0: never), nothing before that counts.
    ///
    /// An unreadable duration is a day.
    #[must_use]
    pub fn of(duration: Option<&str>, rules: &Rules, now_ms: u64, reset_ms: u64) -> Self {
        let Some(duration) = duration else { return Self { start_ms: reset_ms, end_ms: None } };
        let period = parse_duration(duration).unwrap_or(Period { count: 1, unit: Unit::Day });
        let window = Self::calendar(period, rules, now_ms);
        let later = (window.start_ms..window.end_ms.unwrap_or(u64::MAX)).contains(&reset_ms);
        Self { start_ms: if later { reset_ms } else { window.start_ms }, ..window }
    }

    fn calendar(period: Period, rules: &Rules, now_ms: u64) -> Self {
        let clock = Clock { zone: rules.time_zone(), reset_minute: rules.reset_minute.min(1_439) };
        let now = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let bounds = now.and_then(|now| clock.bounds(period, now));
        // Beyond the calendar's end there is only plain arithmetic.
        let (start, end) = bounds.unwrap_or_else(|| {
            let length = i64::try_from(period.seconds()).unwrap_or(i64::MAX).max(1);
            let now = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
            let start = now - now.rem_euclid(length);
            (start, start.saturating_add(length))
        });
        let ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
        Self { start_ms: ms(start), end_ms: Some(ms(end)) }
    }

    /// Names the window among those of its counter: seconds of its start; milliseconds if it begins with a reset, so that
    /// no two resets share one.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self.end_ms {
            Some(_) if self.start_ms.is_multiple_of(1_000) => self.start_ms / 1_000,
            _ => self.start_ms,
        }
    }
}

/// A wall clock, and when its day begins for budgets.
struct Clock {
    zone: TimeZone,
    /// Minutes after midnight.
    reset_minute: u32,
}

impl Clock {
    /// Start and end of the window of `now`, Unix seconds.
    fn bounds(&self, period: Period, now: Timestamp) -> Option<(i64, i64)> {
        let count = i64::try_from(period.count).ok()?.max(1);
        match (period.unit, count) {
            (Unit::Month, _) => self.months(count, now),
            (Unit::Day, 30) => self.months(1, now),
            (Unit::Day, 7) => self.days(7, MONDAY, now),
            (Unit::Week, _) => self.days(count.checked_mul(7)?, MONDAY, now),
            (Unit::Day, _) => self.days(count, 0, now),
            (Unit::Hour, _) if count % 24 == 0 => self.days(count / 24, 0, now),
            (Unit::Hour, 1..24) => self.hours(count, now),
            _ => self.seconds(i64::try_from(period.seconds()).ok()?.max(1), now),
        }
    }

    fn months(&self, count: i64, now: Timestamp) -> Option<(i64, i64)> {
        let date = self.date(now)?;
        let month = (i64::from(date.year()) * 12) + i64::from(date.month()) - 1;
        let at = |index: i64| {
            let month = index.checked_mul(count)?;
            let year = i16::try_from(month.div_euclid(12)).ok()?;
            let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
            self.start_of(Date::new(year, month, 1).ok()?)
        };
        around(now.as_second(), month.div_euclid(count), at)
    }

    /// Windows of `count` days, one of which begins `first` days after 1970-01-01.
    fn days(&self, count: i64, first: i64, now: Timestamp) -> Option<(i64, i64)> {
        let day = days_since_epoch(self.date(now)?);
        let at = |index: i64| {
            let day = index.checked_mul(count)?.checked_add(first)?;
            self.start_of(EPOCH.checked_add(day.days()).ok()?)
        };
        around(now.as_second(), (day - first).div_euclid(count), at)
    }

    /// By the wall clock: `12h` is midnight and noon even on days of 23 or 25 hours.
    fn hours(&self, count: i64, now: Timestamp) -> Option<(i64, i64)> {
        let local = self.zone.to_datetime(now);
        let per_day = (23 / count) + 1;
        let at = |index: i64| {
            let date = local.date().checked_add(index.div_euclid(per_day).days()).ok()?;
            let hour = i8::try_from(index.rem_euclid(per_day) * count).ok()?;
            self.moment(date.to_datetime(Time::new(hour, 0, 0, 0).ok()?))
        };
        around(now.as_second(), i64::from(local.hour()) / count, at)
    }

    /// Aligned to midnight where a day is a multiple of it, else to the epoch.
    fn seconds(&self, length: i64, now: Timestamp) -> Option<(i64, i64)> {
        let second = now.as_second();
        if length >= 86_400 {
            let start = second - second.rem_euclid(length);
            return Some((start, start.checked_add(length)?));
        }
        let midnight = |date: Date| self.moment(date.to_datetime(Time::midnight()));
        let date = self.zone.to_datetime(now).date();
        let (day, next) = (midnight(date)?, midnight(date.tomorrow().ok()?)?);
        let start = second - (second - day).rem_euclid(length);
        Some((start, start.checked_add(length)?.min(next)))
    }

    /// Date of the window of one day in which `now` falls.
    fn date(&self, now: Timestamp) -> Option<Date> {
        let shift = i64::from(self.reset_minute).minutes();
        Some(self.zone.to_datetime(now).checked_sub(shift).ok()?.date())
    }

    /// Unix seconds at which the date begins for budgets.
    fn start_of(&self, date: Date) -> Option<i64> {
        let [hour, minute] = [self.reset_minute / 60, self.reset_minute % 60].map(i8::try_from);
        self.moment(date.to_datetime(Time::new(hour.ok()?, minute.ok()?, 0, 0).ok()?))
    }

    /// A wall clock time that a change of the clock skips comes as much later; of two equal ones it is the earlier.
    fn moment(&self, local: DateTime) -> Option<i64> {
        Some(self.zone.to_ambiguous_timestamp(local).compatible().ok()?.as_second())
    }
}

const EPOCH: Date = Date::constant(1970, 1, 1);
/// The first Monday after the epoch, days.
const MONDAY: i64 = 4;

fn days_since_epoch(date: Date) -> i64 {
    date.duration_since(EPOCH).as_hours() / 24
}

/// The two neighbouring bounds around `now`, from a guess of the first one's index that changes of the clock may put off
/// by one or two. Bounds that fall together enclose nothing.
fn around(now: i64, guess: i64, at: impl Fn(i64) -> Option<i64>) -> Option<(i64, i64)> {
    let mut index = guess;
    let mut start = at(index)?;
    while start > now {
        index = index.checked_sub(1)?;
        start = at(index)?;
    }
    loop {
        index = index.checked_add(1)?;
        let end = at(index)?;
        if end > now {
            return Some((start, end));
        }
        start = end;
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
