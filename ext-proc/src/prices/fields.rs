//! Prices by LiteLLM's names: in its price file, and in the configuration's `litellm_params` and `model_info`.

use std::collections::BTreeMap;

use attache_llm::price::{self, Item, Place, femto_from_decimal};
use serde_json::value::RawValue;

/// An object of prices per search, by the size of the context.
const SEARCH: &str = "search_context_cost_per_query";
/// A list of prices by ranges of the prompt's size.
const TIERS: &str = "tiered_pricing";

/// What LiteLLM's names come to.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Femto-dollars per unit.
    pub(crate) rates: BTreeMap<Place, u64>,
    /// Names of prices that nothing is charged for here.
    pub(crate) unknown: Vec<String>,
    /// Names whose value is no price, and why.
    pub(crate) wrong: Vec<(String, String)>,
}

/// Is this the name of a price, of one that is charged or not?
fn is_price(name: &str) -> bool {
    name.contains("_cost") || name.starts_with("cost_per") || name == TIERS
}

/// Is this the name of a price that is charged?
pub(crate) fn is_charged(name: &str) -> bool {
    name == SEARCH || name == TIERS || price::place_of_field(name, false).is_some()
}

/// Names that are charged, without their thresholds and classes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    price::field_names().chain([SEARCH, TIERS])
}

impl Fields {
    /// Reads the prices among `fields`. `reached`: thresholds count when they are reached (xAI), not only when they are
    /// exceeded.
    pub(crate) fn read(fields: &BTreeMap<String, &RawValue>, reached: bool) -> Self {
        let mut read = Self::default();
        for (name, raw) in fields {
            match name.as_str() {
                SEARCH => read.object(name, raw, reached),
                TIERS => read.tiers(name, raw, reached),
                _ => read.one(name, raw, reached, fields),
            }
        }
        read
    }

    fn one(&mut self, name: &str, raw: &RawValue, reached: bool, all: &BTreeMap<String, &RawValue>) {
        if raw.get() == "null" {
            return;
        }
        let Some(place) = price::place_of_field(name, reached) else {
            if is_price(name) {
                self.unknown.push(name.to_owned());
            }
            return;
        };
        // Another name for the same thing: where its own is given, that one holds.
        let own = price::field_name(place);
        if own != name && all.contains_key(&own) {
            return;
        }
        self.set(name, place, raw);
    }

    fn set(&mut self, name: &str, place: Place, raw: &RawValue) {
        match femto(raw) {
            Ok(rate) => drop(self.rates.insert(place, rate)),
            Err(error) => self.wrong.push((name.to_owned(), error)),
        }
    }

    fn object(&mut self, name: &str, raw: &RawValue, reached: bool) {
        let Ok(inner) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
            self.wrong.push((name.to_owned(), "expected a map of search_context_size_low, ...".to_owned()));
            return;
        };
        for (key, raw) in inner {
            match price::place_of_field(&key, reached) {
                Some(place @ Place { item: Item::SearchLow | Item::SearchMedium | Item::SearchHigh, .. }) => {
                    self.set(&key, place, raw);
                }
                _ => self.unknown.push(format!("{name}.{key}")),
            }
        }
    }

    /// `[{range: [0, 32000], input_cost_per_token: ...}, ...]`: each holds above the beginning of its range.
    fn tiers(&mut self, name: &str, raw: &RawValue, reached: bool) {
        let Ok(tiers) = serde_json::from_str::<Vec<BTreeMap<String, &RawValue>>>(raw.get()) else {
            self.wrong.push((name.to_owned(), "expected a list of ranges with their prices".to_owned()));
            return;
        };
        for mut tier in tiers {
            let range = tier.remove("range").and_then(|raw| serde_json::from_str::<[f64; 2]>(raw.get()).ok());
            let Some(begin) = range.and_then(|[begin, _]| tokens(begin)) else {
                self.unknown.push(format!("{name} without a range of tokens"));
                continue;
            };
            let from = if begin == 0 { 0 } else { begin.saturating_add(u64::from(!reached)) };
            for (key, raw) in &tier {
                match price::place_of_field(key, reached) {
                    Some(place) if place.from == 0 => self.set(key, Place { from, ..place }, raw),
                    _ => self.unknown.push(format!("{name}.{key}")),
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: whole, and below 2^53")]
fn tokens(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
}

/// A price as JSON: a number, or text that is one.
pub(super) fn femto(raw: &RawValue) -> Result<u64, String> {
    let text = raw.get().trim_matches('"');
    femto_from_decimal(text).map_err(|error| error.to_string())
}
