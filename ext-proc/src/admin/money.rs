//! Nano-dollars as exact decimal dollars, and back.

use serde::{Serialize, Serializer};
use serde_json::Number;
use serde_json::value::RawValue;

const NANOS: u64 = 1_000_000_000;

/// Nano-dollars that serialise as a JSON number of dollars, every digit exact (`0.000000125`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Dollars(pub(super) i64);

impl std::fmt::Display for Dollars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, amount) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, nanos) = (amount / NANOS, amount % NANOS);
        let fraction = format!("{nanos:09}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}.0"),
            fraction => write!(f, "{sign}{whole}.{fraction}"),
        }
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// Dollars of a JSON number as nano-dollars, rounded to the nearest; `None` beyond what fits.
pub(super) fn nanos(dollars: &Number) -> Option<i64> {
    if let Some(whole) = dollars.as_i64() {
        return whole.checked_mul(i64::try_from(NANOS).ok()?);
    }
    let nanos = (dollars.as_f64()? * 1e9).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
    (nanos.is_finite() && nanos.abs() <= 9e18).then_some(nanos as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_written_to_the_last_nano() {
        let text = |nanos| serde_json::to_string(&Dollars(nanos)).unwrap();
        assert_eq!(text(0), "0.0");
        assert_eq!(text(125), "0.000000125");
        assert_eq!(text(2_500_000_000), "2.5");
        assert_eq!(text(-1_000_000_001), "-1.000000001");
        assert_eq!(text(i64::MAX), "9223372036.854775807");
    }

    #[test]
    fn dollars_are_read_back() {
        let read = |text: &str| nanos(&serde_json::from_str(text).unwrap());
        assert_eq!(read("10"), Some(10_000_000_000));
        assert_eq!(read("0.1"), Some(100_000_000));
        assert_eq!(read("0.000000125"), Some(125));
        assert_eq!(read("1e300"), None);
        assert_eq!(read("99999999999"), None);
    }
}
