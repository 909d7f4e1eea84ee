//! One row of LiteLLM's database, as Postgres shows it in JSON: a column that a version does not have is absent, and
//! money keeps every digit.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Why a row cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {why}")]
pub(super) struct RowError {
    pub(super) column: String,
    pub(super) why: &'static str,
}

pub(super) fn error(column: &str, why: &'static str) -> RowError {
    RowError { column: column.to_owned(), why }
}

pub(super) type Found<T> = Result<T, RowError>;

/// The columns of a row that are not null.
#[derive(Debug, Clone, Default)]
pub(super) struct Row(BTreeMap<String, Box<RawValue>>);

impl Row {
    pub(super) fn parse(json: &str) -> Found<Self> {
        let mut columns: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(json).map_err(|_| error("row", "it is no JSON object"))?;
        columns.retain(|_, value| value.get() != "null");
        Ok(Self(columns))
    }

    fn raw(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(|value| value.get())
    }

    fn typed<T: DeserializeOwned>(&self, column: &str, why: &'static str) -> Found<Option<T>> {
        let Some(raw) = self.raw(column) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| error(column, why))
    }

    /// Empty is absent.
    pub(super) fn text(&self, column: &str) -> Found<Option<String>> {
        let text: Option<String> = self.typed(column, "it is no text")?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// Text that may become a part of an id.
    pub(super) fn name(&self, column: &str) -> Found<Option<String>> {
        let name = self.text(column)?;
        match name.as_ref().is_some_and(|name| name.chars().any(char::is_control)) {
            true => Err(error(column, "it has control characters")),
            false => Ok(name),
        }
    }

    /// As [`Self::name`], of a primary key.
    pub(super) fn id(&self, column: &str) -> Found<String> {
        self.name(column)?.ok_or_else(|| error(column, "it is empty"))
    }

    pub(super) fn texts(&self, column: &str) -> Found<Vec<String>> {
        let list: Option<Vec<Option<String>>> = self.typed(column, "it is no list of texts")?;
        Ok(list.unwrap_or_default().into_iter().flatten().filter(|text| !text.is_empty()).collect())
    }

    pub(super) fn flag(&self, column: &str) -> Found<bool> {
        Ok(self.typed(column, "it is no boolean")?.unwrap_or(false))
    }

    /// A limit. Below zero is as good as zero: nothing passes.
    pub(super) fn count(&self, column: &str) -> Found<Option<u64>> {
        let count: Option<i64> = self.typed(column, "it is no whole number")?;
        Ok(count.map(|count| u64::try_from(count).unwrap_or(0)))
    }

    /// Dollars as nano-dollars, rounded half to even. Infinity (no budget) is absent.
    pub(super) fn money(&self, column: &str) -> Found<Option<i64>> {
        match self.raw(column) {
            None | Some("\"Infinity\"") => Ok(None),
            Some(raw) => nanos(raw).map(Some).ok_or_else(|| error(column, "it is no amount")),
        }
    }

    /// As [`Self::money`]; below zero is as good as zero: nothing passes.
    pub(super) fn budget(&self, column: &str) -> Found<Option<u64>> {
        Ok(self.money(column)?.map(|nanos| u64::try_from(nanos).unwrap_or(0)))
    }

    /// Unix milliseconds. Columns without a time zone are in UTC, as LiteLLM writes them.
    pub(super) fn time(&self, column: &str) -> Found<Option<u64>> {
        let text: Option<String> = self.typed(column, "it is no time")?;
        let Some(text) = text else { return Ok(None) };
        moment(&text).map(Some).ok_or_else(|| error(column, "it is no time"))
    }

    /// A JSON column; older versions wrote its text into it.
    pub(super) fn json(&self, column: &str) -> Found<Value> {
        let value: Option<Value> = self.typed(column, "it is no JSON")?;
        Ok(unwrapped(value.unwrap_or(Value::Null)))
    }

    pub(super) fn object(&self, column: &str) -> Found<Map<String, Value>> {
        match self.json(column)? {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }
}

pub(super) fn unwrapped(value: Value) -> Value {
    match &value {
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            serde_json::from_str(text).unwrap_or(value)
        }
        _ => value,
    }
}

/// A decimal number of dollars (`12.5`, `1e-07`) as nano-dollars, rounded half to even; what is too large becomes the
/// largest there is.
pub(super) fn nanos(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= 400)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    // Where the decimal point of the nano-dollars is, counted from the left of the digits.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(9)?;
    let amount = rounded(&digits, point);
    Some(if negative { -amount } else { amount })
}

fn rounded(digits: &str, point: i32) -> i64 {
    let Ok(point) = usize::try_from(point) else { return 0 };
    let (kept, cut) = digits.split_at(point.min(digits.len()));
    let zeros = "0".repeat(point.saturating_sub(digits.len()).min(400));
    let kept = format!("{kept}{zeros}");
    let kept = kept.trim_start_matches('0');
    let amount = if kept.is_empty() { 0 } else { kept.parse().unwrap_or(i64::MAX) };
    let cut = cut.trim_end_matches('0');
    let up = match cut.as_bytes().first() {
        Some(b'5') if cut.len() == 1 => amount % 2 == 1,
        Some(first) => *first >= b'5',
        None => false,
    };
    if up { amount.saturating_add(1) } else { amount }
}

/// Dollars somewhere in a JSON column; below zero is as good as zero.
pub(super) fn budget_of(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    nanos(&text).map(|nanos| u64::try_from(nanos).unwrap_or(0))
}

/// Unix milliseconds of a time as Postgres or Python writes it.
pub(super) fn moment(text: &str) -> Option<u64> {
    const PLAIN: &[time::format_description::BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second][optional [.[subsecond]]]");
    let text = text.replacen(' ', "T", 1);
    let at = OffsetDateTime::parse(&text, &Rfc3339)
        .ok()
        .or_else(|| Some(PrimitiveDateTime::parse(&text, PLAIN).ok()?.assume_utc()))?;
    // Before 1970 is over, whatever it was.
    Some(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_become_nano_dollars_half_to_even() {
        let cases = [
            ("0", 0),
            ("12", 12_000_000_000),
            ("12.34", 12_340_000_000),
            ("0.1", 100_000_000),
            ("1e-07", 100),
            ("1.25e+2", 125_000_000_000),
            ("0.0000000005", 0),
            ("0.0000000015", 2),
            ("0.0000000025", 2),
            ("0.00000000250000001", 3),
            ("2.5e-9", 2),
            ("-0.0000000015", -2),
            ("1e-30", 0),
            ("0.30000000000000004", 300_000_000),
            ("1e300", i64::MAX),
            ("99999999999999999999", i64::MAX),
        ];
        for (text, nano) in cases {
            assert_eq!(nanos(text), Some(nano), "{text}");
        }
        for text in ["", "x", "1.2.3", "\"1\"", "1e", "--1", "1e999999999999", ".", "NaN"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        assert_eq!(moment("1970-01-01T00:00:01.5"), Some(1_500));
        assert_eq!(moment("1970-01-01 00:00:01"), Some(1_000));
        assert_eq!(moment("1970-01-01T01:00:01+01:00"), Some(1_000));
        assert_eq!(moment("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(moment("1960-01-01T00:00:00"), Some(0));
        assert_eq!(moment("soon"), None);
    }

    #[test]
    fn columns_are_read_by_what_they_hold() {
        let row = r#"{"a": null, "spend": 0.1234567891, "models": ["x", null, ""], "metadata": "{\"k\": 1}", "rpm": -5,
            "on": true, "id": "a\u001fb", "max": "Infinity"}"#;
        let row = Row::parse(row).unwrap();
        assert_eq!(row.text("a").unwrap(), None);
        assert_eq!(row.text("not there").unwrap(), None);
        assert_eq!(row.money("spend").unwrap(), Some(123_456_789));
        assert_eq!(row.texts("models").unwrap(), ["x"]);
        assert_eq!(row.object("metadata").unwrap()["k"], 1);
        assert_eq!(row.count("rpm").unwrap(), Some(0));
        assert!(row.flag("on").unwrap() && !row.flag("off").unwrap());
        assert_eq!(row.name("id").unwrap_err().to_string(), "id: it has control characters");
        assert_eq!(row.budget("max").unwrap(), None);
        assert_eq!(row.count("spend").unwrap_err().column, "spend");
    }
}
