//! What an answer cost, and how that came about.

use std::fmt;

use super::adjust::Adjust;
use super::item::{Place, digits};

/// Femto-dollars in a nano-dollar.
const FEMTO_PER_NANO: u128 = 1_000_000;
/// Sums are kept in thousandths of a femto-dollar, since seconds are counted in milliseconds.
const MILLI: u128 = 1_000;
/// Factors of a text at most: there are fewer places with a quantity than this.
const MAX_FACTORS: usize = 64;

/// A quantity at a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    /// What, in which class of service, and from how many prompt tokens on the rate holds.
    pub place: Place,
    /// Tokens, searches, ...; milliseconds of what is priced per second ([`super::Item::per`]).
    pub quantity: u64,
    /// Femto-dollars per unit (per second, that is).
    pub rate: u64,
}

impl Factor {
    /// Thousandths of a femto-dollar.
    pub(super) fn milli_femto(&self) -> u128 {
        let product = u128::from(self.quantity).saturating_mul(u128::from(self.rate));
        // Seconds are counted in thousandths already.
        if self.place.item.per() == 1 { product.saturating_mul(MILLI) } else { product }
    }
}

/// The cost of one answer: what was counted, at which rates, and what was taken off and added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bill {
    /// Nano-dollars: the sum of the factors, adjusted, rounded half up once at the end. Saturates instead of overflowing.
    pub nanos: u64,
    pub factors: Vec<Factor>,
    pub adjust: Adjust,
}

/// A text that is no bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BillError;

impl fmt::Display for BillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a bill, such as `in 1200*2500000000;out 50*10000000000`")
    }
}

impl std::error::Error for BillError {}

impl Bill {
    pub(super) fn new(factors: Vec<Factor>, adjust: Adjust) -> Self {
        let mut bill = Self { nanos: 0, factors, adjust };
        bill.nanos = bill.recompute();
        bill
    }

    /// The cost by the factors, nano-dollars: what [`Self::nanos`] is.
    #[must_use]
    pub fn recompute(&self) -> u64 {
        let sum = self.factors.iter().fold(0_u128, |sum, factor| sum.saturating_add(factor.milli_femto()));
        nanos(sum, self.adjust)
    }

    /// The factors as text, about a hundred bytes: `in 1200*2500000000;cached 300*1250000000;margin 10%`.
    #[must_use]
    pub fn encode(&self) -> String {
        self.to_string()
    }

    /// Reads what [`Self::encode`] wrote. An empty text is the bill of nothing.
    ///
    /// # Errors
    /// [`BillError`] for anything else.
    pub fn decode(text: &str) -> Result<Self, BillError> {
        let (mut factors, mut adjust) = (Vec::new(), Adjust::default());
        for part in text.split(';').filter(|_| !text.is_empty()) {
            let (name, value) = part.split_once(' ').ok_or(BillError)?;
            if adjust.read(name, value) {
                continue;
            }
            if factors.len() >= MAX_FACTORS {
                return Err(BillError);
            }
            let factor = || {
                let (quantity, rate) = value.split_once('*')?;
                Some(Factor { place: Place::parse(name)?, quantity: digits(quantity)?, rate: digits(rate)? })
            };
            factors.push(factor().ok_or(BillError)?);
        }
        Ok(Self::new(factors, adjust))
    }
}

/// Nano-dollars of a sum in thousandths of a femto-dollar: adjusted, rounded half up.
pub(super) fn nanos(sum: u128, adjust: Adjust) -> u64 {
    let fine = FEMTO_PER_NANO.saturating_mul(MILLI);
    let adjusted = adjust.apply(sum, MILLI);
    let nanos = adjusted.saturating_add(fine.wrapping_div(2)).checked_div(fine).unwrap_or(u128::MAX);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for Factor { place, quantity, rate } in &self.factors {
            write!(f, "{between}{place} {quantity}*{rate}")?;
            between = ";";
        }
        if self.adjust.is_none() { Ok(()) } else { write!(f, "{between}{}", self.adjust) }
    }
}
