//! Prices for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use attache_llm::price::{Place, field_name};

use super::{ModelPrice, PriceTable};

impl PriceTable {
    /// Every price and limit of one model. `None` when the table does not have it.
    #[must_use]
    pub fn describe_model(&self, model: &str) -> Option<String> {
        let row = self.lookup(model)?;
        let mut text = format!("{model} ({})\n", row.mode.as_deref().unwrap_or("mode unknown"));
        match &row.price {
            None => text.push_str("  price unknown\n"),
            Some(price) => {
                for (place, rate) in price.rates() {
                    let _ = writeln!(
                        text,
                        "  {:<40} {:<24} {}",
                        rate_text(*place, *rate),
                        place.to_string(),
                        field_name(*place)
                    );
                }
            }
        }
        let limit = |limit: Option<u64>| limit.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let (input, output) = (limit(row.max_input_tokens), limit(row.max_output_tokens));
        let _ = write!(text, "  largest input {input} tokens, largest output {output} tokens");
        Some(text)
    }

    /// Size, age and origin, and how many models of each mode have a price.
    #[must_use]
    pub fn describe(&self) -> String {
        let priced = self.models.values().filter(|row| row.price.is_some()).count();
        let mut text =
            format!("{} models, {priced} with a price, of {} ({})", self.len(), self.date, self.source);
        let mut modes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for row in self.models.values() {
            let (all, priced) = modes.entry(row.mode.as_deref().unwrap_or("mode unknown")).or_default();
            *all += 1;
            *priced += usize::from(row.price.is_some());
        }
        for (mode, (all, priced)) in modes {
            let _ = write!(text, "\n  {mode:<24}{all:>6}{priced:>6} priced");
        }
        text
    }

    /// What another table has otherwise, one line each: models that are gone, new, or priced otherwise.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.models.keys().chain(other.models.keys()).collect();
        let mut lines = Vec::new();
        for name in names {
            match (self.models.get(name), other.models.get(name)) {
                (Some(_), None) => lines.push(format!("- {name}")),
                (None, Some(_)) => lines.push(format!("+ {name}")),
                (Some(one), Some(two)) => {
                    let changes = changes(one, two);
                    if !changes.is_empty() {
                        lines.push(format!("~ {name}: {}", changes.join(", ")));
                    }
                }
                (None, None) => {}
            }
        }
        lines
    }
}

fn changes(one: &ModelPrice, two: &ModelPrice) -> Vec<String> {
    let rates = |row: &ModelPrice| -> BTreeMap<Place, u64> {
        row.price.iter().flat_map(|price| price.rates().iter().copied()).collect()
    };
    let (before, after) = (rates(one), rates(two));
    let places: BTreeSet<Place> = before.keys().chain(after.keys()).copied().collect();
    let shown =
        |place: Place, rate: Option<&u64>| rate.map_or("none".to_owned(), |rate| rate_text(place, *rate));
    let mut changes = Vec::new();
    for place in places {
        let (old, new) = (before.get(&place), after.get(&place));
        if old != new {
            changes.push(format!("{place} {} -> {}", shown(place, old), shown(place, new)));
        }
    }
    changes
}

/// `$2.50 per million tokens`, `$0.04 per image`.
fn rate_text(place: Place, femto: u64) -> String {
    if place.item.is_tokens() {
        return format!("${} per million tokens", per_million(femto));
    }
    format!("${} per {}", dollars(femto), place.item.unit())
}

/// Dollars per million tokens: `2.50`, `0.075`.
pub(crate) fn per_million(femto: u64) -> String {
    // A femto-dollar per token is a nano-dollar per million tokens.
    decimal(femto, 1_000_000_000, 9)
}

fn dollars(femto: u64) -> String {
    decimal(femto, 1_000_000_000_000_000, 15)
}

/// With two places at least.
fn decimal(amount: u64, one: u64, places: usize) -> String {
    let fraction = format!("{:0places$}", amount % one);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{}.{}", amount / one, &fraction[..kept])
}
