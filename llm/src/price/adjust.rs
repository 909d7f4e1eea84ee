//! Discounts and margins, applied to the sum of a bill.

use std::fmt;

use super::item::digits;

/// Parts of a share: a billion is the whole.
pub const WHOLE: u64 = 1_000_000_000;
/// Largest margin: a hundredfold.
pub const MAX_MARGIN: u64 = WHOLE * 100;
/// `WHOLE * WHOLE`: what a discount and a margin are applied over.
const SQUARE: u128 = 1_000_000_000_000_000_000;
/// Fractional digits of a per cent in parts of [`WHOLE`].
const PERCENT_PLACES: usize = 7;
const PERCENT: u64 = 10_000_000;

/// What is taken off and added, in this order: the discount, the margin on what is left, the fee.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Adjust {
    /// Parts of [`WHOLE`], at most all.
    pub discount: u64,
    /// Parts of [`WHOLE`], at most [`MAX_MARGIN`].
    pub margin: u64,
    /// Femto-dollars per priced answer.
    pub fee: u64,
}

impl Adjust {
    /// Is there nothing to do?
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whole units of `amount` after it, the fee (times `per_fee`) included; what is less than a unit is cut off, which
    /// decides nothing as long as the caller rounds at a larger unit. Saturates.
    pub(super) fn apply(&self, amount: u128, per_fee: u128) -> u128 {
        if self.is_none() {
            return amount;
        }
        let kept = WHOLE.saturating_sub(self.discount);
        let raised = WHOLE.saturating_add(self.margin.min(MAX_MARGIN));
        let factor = u128::from(kept).saturating_mul(u128::from(raised));
        let (whole, rest) = (amount.wrapping_div(SQUARE), amount.wrapping_rem(SQUARE));
        // In two parts, so that nothing overflows: `rest * factor` is below 10^18 * 10^20.2.
        let adjusted =
            whole.saturating_mul(factor).saturating_add(rest.saturating_mul(factor).wrapping_div(SQUARE));
        adjusted.saturating_add(u128::from(self.fee).saturating_mul(per_fee))
    }

    /// Takes over one `name value` of a text; false if it is none of these.
    pub(super) fn read(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "discount" => (&mut self.discount, share(value).filter(|share| *share <= WHOLE)),
            "margin" => (&mut self.margin, share(value).filter(|share| *share <= MAX_MARGIN)),
            "fee" => (&mut self.fee, digits(value)),
            _ => return false,
        };
        let (place, Some(value)) = place else { return false };
        *place = value;
        true
    }
}

/// `discount 5%;margin 10%;fee 1000000000`, what is nothing left out.
impl fmt::Display for Adjust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, share) in [("discount", self.discount), ("margin", self.margin)] {
            if share > 0 {
                write!(f, "{between}{name} {}%", Percent(share))?;
                between = ";";
            }
        }
        if self.fee > 0 { write!(f, "{between}fee {}", self.fee) } else { Ok(()) }
    }
}

/// Parts of [`WHOLE`] as the shortest decimal of a per cent.
struct Percent(u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.wrapping_div(PERCENT), self.0.wrapping_rem(PERCENT));
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{rest:0PERCENT_PLACES$}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// Reads `7.25%`.
fn share(text: &str) -> Option<u64> {
    let (whole, fraction) = text.strip_suffix('%').map(|text| text.split_once('.').unwrap_or((text, "0")))?;
    let missing = u32::try_from(PERCENT_PLACES.checked_sub(fraction.len())?).ok()?;
    let fraction = digits(fraction)?.checked_mul(10_u64.checked_pow(missing)?)?;
    digits(whole)?.checked_mul(PERCENT)?.checked_add(fraction)
}
