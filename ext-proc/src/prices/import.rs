use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ModelPrice, PriceTable, price};

/// Kinds of models that are billed per token and served by the endpoints there are.
const MODES: [&str; 4] = ["chat", "completion", "embedding", "responses"];

/// An entry of LiteLLM's file, as far as it matters here.
#[derive(Deserialize)]
struct Entry<'a> {
    mode: Option<String>,
    #[serde(borrow)]
    input_cost_per_token: Option<&'a RawValue>,
    #[serde(borrow)]
    output_cost_per_token: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_token_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_token_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    max_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
}

/// Turns LiteLLM's published `model_prices_and_context_window.json` into a table. Entries that cannot be read,
/// such as the file's own `sample_spec`, are left out: one odd entry must not cost all the others.
///
/// # Errors
/// Not that file: no JSON object, or no entry with a mode that is known.
pub fn import(text: &str, date: &str) -> anyhow::Result<PriceTable> {
    let raw: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).context("not LiteLLM's price file: expected a JSON object of models")?;
    let mut models = BTreeMap::new();
    for (name, value) in raw {
        if name == "sample_spec" {
            continue;
        }
        if let Some(row) = row(value) {
            models.insert(name, row);
        }
    }
    anyhow::ensure!(!models.is_empty(), "not LiteLLM's price file: no model with a known mode in it");
    Ok(PriceTable { models: Arc::new(models), date: date.to_owned(), source: "imported".to_owned() })
}

fn row(value: &RawValue) -> Option<ModelPrice> {
    let entry: Entry<'_> = serde_json::from_str(value.get()).ok()?;
    let mode = entry.mode.filter(|mode| MODES.contains(&mode.as_str()))?;
    let price = price(
        entry.input_cost_per_token,
        entry.output_cost_per_token,
        entry.cache_read_input_token_cost,
        entry.cache_creation_input_token_cost,
    );
    Some(ModelPrice {
        price: price.ok()?,
        mode: Some(mode),
        max_input_tokens: limit(entry.max_input_tokens),
        max_output_tokens: limit(entry.max_output_tokens),
    })
}

/// Some limits are written as text or with a fraction.
fn limit(raw: Option<&RawValue>) -> Option<u64> {
    let text = raw?.get().trim_matches('"');
    let whole = text.strip_suffix(".0").unwrap_or(text);
    whole.parse().ok()
}
