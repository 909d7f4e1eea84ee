//! Integer money. Rates are femto-dollars (1e-15 $) per unit, amounts nano-dollars (1e-9 $).
//!
//! ```text
//! Usage --parts--> quantities per Item --Price--> factors (quantity x rate) --sum, adjust, round--> Bill
//! ```
//!
//! | rule | |
//! |---|---|
//! | parts | cached and written tokens are parts of the prompt and win over audio, image and video parts; reasoning and the others are parts of the completion. A part that does not fit is cut, so that nothing is counted twice |
//! | no rate | an item without a rate is priced as what it is a part of: cached, written, audio, ... as input, reasoning, audio, ... as output; an hour's cache writes as other writes |
//! | class | a class without a rate of its own has the standard one |
//! | size | the highest threshold that the whole prompt has crossed prices all tokens of the request, not just those above it |
//! | adjust | discount, then margin, then fee, on the sum |
//! | rounding | half up to the nano-dollar, once at the end |

mod adjust;
mod bill;
mod decimal;
mod field;
mod item;
mod parts;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::usage::Usage;

pub use adjust::{Adjust, MAX_MARGIN, WHOLE};
pub use bill::{Bill, BillError, Factor};
pub use decimal::{PriceError, femto_from_decimal};
pub use field::{field_name, field_names, place_of_field};
pub use item::{Class, Item, Place};

/// What a model costs: its rates, and what is taken off and added. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Femto-dollars per unit, sorted by place, one each.
    rates: Arc<[(Place, u64)]>,
    pub adjust: Adjust,
}

impl Default for Price {
    fn default() -> Self {
        Self::new([])
    }
}

impl Price {
    /// A price of these rates. Of two for one place the later one holds.
    #[must_use]
    pub fn new(rates: impl IntoIterator<Item = (Place, u64)>) -> Self {
        let sorted: std::collections::BTreeMap<Place, u64> = rates.into_iter().collect();
        Self { rates: sorted.into_iter().collect(), adjust: Adjust::default() }
    }

    /// Input and output, femto-dollars per token.
    #[must_use]
    pub fn per_token(input: u64, output: u64) -> Self {
        Self::new([(Place::base(Item::Input), input), (Place::base(Item::Output), output)])
    }

    /// With these rates over its own.
    #[must_use]
    pub fn with(&self, rates: impl IntoIterator<Item = (Place, u64)>) -> Self {
        Self { adjust: self.adjust, ..Self::new(self.rates.iter().copied().chain(rates)) }
    }

    /// With another discount, margin and fee.
    #[must_use]
    pub fn adjusted(self, adjust: Adjust) -> Self {
        Self { adjust, ..self }
    }

    /// Every rate, sorted by place.
    #[must_use]
    pub fn rates(&self) -> &[(Place, u64)] {
        &self.rates
    }

    /// The rate of exactly this place.
    #[must_use]
    pub fn rate(&self, place: Place) -> Option<u64> {
        let at = self.rates.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.rates.get(at).map(|(_, rate)| *rate)
    }

    /// The standard rate of an item for small prompts.
    #[must_use]
    pub fn base(&self, item: Item) -> Option<u64> {
        self.rate(Place::base(item))
    }

    /// What an answer cost.
    #[must_use]
    pub fn bill(&self, usage: &Usage) -> Bill {
        let mut factors: Vec<Factor> = Vec::new();
        parts::each(usage, |item, quantity| {
            let Some((place, rate)) = self.find(item, usage.class, usage.prompt) else { return };
            match factors.iter_mut().find(|known| known.place == place) {
                Some(known) => known.quantity = known.quantity.saturating_add(quantity),
                None => factors.push(Factor { place, quantity, rate }),
            }
        });
        Bill::new(factors, self.adjust)
    }

    /// What an answer cost; `None` if something was counted, but this price has no rate for any of it.
    #[must_use]
    pub fn cover(&self, usage: &Usage) -> Option<Bill> {
        let bill = self.bill(usage);
        (!bill.factors.is_empty() || parts::is_nothing(usage)).then_some(bill)
    }

    /// Nano-dollars of [`Self::bill`], without making one.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> u64 {
        let mut sum = 0_u128;
        parts::each(usage, |item, quantity| {
            if let Some((place, rate)) = self.find(item, usage.class, usage.prompt) {
                sum = sum.saturating_add(Factor { place, quantity, rate }.milli_femto());
            }
        });
        bill::nanos(sum, self.adjust)
    }

    /// The rate that an item has in this class and with a prompt of this size, or that of what stands in for it.
    fn find(&self, item: Item, class: Class, prompt: u64) -> Option<(Place, u64)> {
        let holds =
            |place: &Place| (place.class == class || place.class == Class::Standard) && prompt >= place.from;
        let mut wanted = Some(item);
        while let Some(item) = wanted {
            let first = self.rates.partition_point(|(place, _)| place.item < item);
            let rest = self.rates.get(first..).unwrap_or_default().iter();
            let of_item = rest.take_while(|(place, _)| place.item == item).filter(|(place, _)| holds(place));
            // The highest threshold first; at it, the class's own.
            if let Some(found) = of_item.max_by_key(|(place, _)| (place.from, place.class == class)) {
                return Some(*found);
            }
            wanted = item.instead();
        }
        None
    }
}

/// A text that is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceTextError;

impl fmt::Display for PriceTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a price, such as `in 2500000000;out 10000000000`")
    }
}

impl std::error::Error for PriceTextError {}

/// `in 2500000000;out 10000000000;in@flex>200000 5000000000;margin 10%`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (place, rate) in self.rates.iter() {
            write!(f, "{between}{place} {rate}")?;
            between = ";";
        }
        if self.adjust.is_none() { Ok(()) } else { write!(f, "{between}{}", self.adjust) }
    }
}

impl FromStr for Price {
    type Err = PriceTextError;

    fn from_str(text: &str) -> Result<Self, PriceTextError> {
        let (mut rates, mut adjust) = (Vec::new(), Adjust::default());
        for part in text.split(';').filter(|_| !text.is_empty()) {
            let (name, value) = part.split_once(' ').ok_or(PriceTextError)?;
            if !adjust.read(name, value) {
                let place = Place::parse(name).ok_or(PriceTextError)?;
                rates.push((place, item::digits(value).ok_or(PriceTextError)?));
            }
        }
        Ok(Self::new(rates).adjusted(adjust))
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
