//! Decimal dollars to integers, exactly.

/// Decimal places of a femto-dollar.
const FEMTO_PLACES: i64 = 15;

/// Why a price is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceError {
    NotANumber,
    Negative,
    TooLarge,
}

impl std::fmt::Display for PriceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "not a decimal number",
            Self::Negative => "a price cannot be negative",
            Self::TooLarge => "price too large",
        })
    }
}

impl std::error::Error for PriceError {}

/// Femto-dollars of a decimal number of dollars (`"1.5e-07"`, `"0.00003"`), exactly, without floating point; digits
/// beyond the femto-dollar are rounded half up.
///
/// # Errors
/// Not a number, negative, or more than `u64` femto-dollars (18,446 $).
pub fn femto_from_decimal(text: &str) -> Result<u64, PriceError> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(PriceError::NotANumber);
    }
    let mut digits = Vec::with_capacity(mantissa.len());
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return Err(PriceError::NotANumber);
        }
        digits.push(byte.saturating_sub(b'0'));
    }
    // The value is 0.d1d2d3... * 10^point femto-dollars.
    let places = i64::try_from(whole.len()).map_err(|_| PriceError::TooLarge)?;
    let point = places.saturating_add(exponent).saturating_add(FEMTO_PLACES);
    let femto = shifted(&digits, point)?;
    if negative && digits.iter().any(|digit| *digit != 0) { Err(PriceError::Negative) } else { Ok(femto) }
}

fn parse_exponent(text: &str) -> Result<i64, PriceError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PriceError::NotANumber);
    }
    let magnitude = digits.parse::<i64>().unwrap_or(i64::from(i32::MAX)).min(i64::from(i32::MAX));
    Ok(if text.starts_with('-') { magnitude.saturating_neg() } else { magnitude })
}

/// The first `point` digits as an integer, rounded half up by the digit after them.
fn shifted(digits: &[u8], point: i64) -> Result<u64, PriceError> {
    let Ok(point) = usize::try_from(point) else { return Ok(0) };
    let mut value: u64 = 0;
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    if leading == digits.len() {
        return Ok(0);
    }
    for at in leading..point {
        let digit = digits.get(at).copied().unwrap_or(0);
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit)))
            .ok_or(PriceError::TooLarge)?;
    }
    if digits.get(point).is_some_and(|digit| *digit >= 5) {
        value = value.checked_add(1).ok_or(PriceError::TooLarge)?;
    }
    Ok(value)
}

#[cfg(test)]
#[path = "decimal_tests.rs"]
mod tests;
