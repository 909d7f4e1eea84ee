use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use attache_llm::price::{Item, Place, Price};
use serde_json::value::RawValue;

use super::fields::Fields;
use super::{ModelPrice, PriceTable, SUPPORTS, known_capability};

/// A table, and what of the file is not in it.
#[derive(Debug)]
pub struct Imported {
    pub table: PriceTable,
    /// Fields that nothing is charged for here, and how many models have them.
    pub left_out: BTreeMap<String, usize>,
    /// Models that could not be read.
    pub unread: Vec<String>,
}

/// Turns LiteLLM's published `model_prices_and_context_window.json` into a table. Entries that cannot be read are left
/// out: one odd entry must not cost all the others.
///
/// # Errors
/// Not that file: no JSON object, or no model with a price or a limit in it.
pub fn import(text: &str, date: &str) -> anyhow::Result<Imported> {
    let raw: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).context("not LiteLLM's price file: expected a JSON object of models")?;
    let (mut models, mut left_out, mut unread) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (name, value) in raw.into_iter().filter(|(name, _)| name != "sample_spec") {
        let Some((row, unknown)) = row(value) else {
            unread.push(name);
            continue;
        };
        unknown.into_iter().for_each(|field| *left_out.entry(field).or_default() += 1);
        if row.price.is_some() || row.max_input_tokens.is_some() || row.max_output_tokens.is_some() {
            models.insert(name, row);
        }
    }
    anyhow::ensure!(!models.is_empty(), "not LiteLLM's price file: no model with a price in it");
    let table = PriceTable { models: Arc::new(models), date: date.to_owned(), source: "imported".to_owned() };
    Ok(Imported { table, left_out, unread })
}

/// `None` when it cannot be read.
fn row(value: &RawValue) -> Option<(ModelPrice, Vec<String>)> {
    let entry: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
    let text = |name: &str| serde_json::from_str::<String>(entry.get(name)?.get()).ok();
    let mode = text("mode");
    let fields = Fields::read(&entry, text("litellm_provider").as_deref() == Some("xai"));
    if !fields.wrong.is_empty() {
        return None;
    }
    let mut rates = fields.rates;
    if matches!(mode.as_deref(), Some("image_generation" | "image_edit")) {
        made_images(&mut rates);
    }
    merge(&mut rates);
    let row = ModelPrice {
        price: (!rates.is_empty()).then(|| Price::new(rates)),
        mode,
        max_input_tokens: limit(entry.get("max_input_tokens").copied()),
        max_output_tokens: limit(entry.get("max_output_tokens").copied()),
        supports: capabilities(&entry),
    };
    Some((row, fields.unknown))
}

fn capabilities(entry: &BTreeMap<String, &RawValue>) -> BTreeMap<&'static str, bool> {
    let of = |(name, raw): (&String, &&RawValue)| {
        let kept = known_capability(name.strip_prefix(SUPPORTS)?)?;
        Some((kept, serde_json::from_str(raw.get()).ok()?))
    };
    entry.iter().filter_map(of).collect()
}

/// For models that make images, `input_cost_per_image` is what one that is made costs.
fn made_images(rates: &mut BTreeMap<Place, u64>) {
    let made = Place::base(Item::ImagesOut);
    if !rates.contains_key(&made)
        && let Some(rate) = rates.remove(&Place::base(Item::ImagesIn))
    {
        rates.insert(made, rate);
    }
}

/// Leaves out the rates of an item that are nowhere other than those of what stands in for it: it is that, then, and has
/// its price in every class of service.
fn merge(rates: &mut BTreeMap<Place, u64>) {
    for item in Item::ALL {
        let Some(instead) = item.instead() else { continue };
        let own = || rates.iter().filter(|(place, _)| place.item == item);
        let same = own().all(|(place, rate)| rates.get(&Place { item: instead, ..*place }) == Some(rate));
        if same {
            rates.retain(|place, _| place.item != item);
        }
    }
}

/// Some limits are written as text or with a fraction.
fn limit(raw: Option<&RawValue>) -> Option<u64> {
    let text = raw?.get().trim_matches('"');
    let whole = text.strip_suffix(".0").unwrap_or(text);
    whole.parse().ok()
}
