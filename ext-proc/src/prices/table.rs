//! The table as a file: one model a line, sorted, so that two versions can be compared.
//!
//! ```text
//! {"version":2,"date":"2026-11-23","models":{
//! "gpt-4o":{"in":2.5e-6,"cached":1.25e-6,"out":1e-5,"in@batch":1.25e-6,...,"max_in":128000,"max_out":16384},
//! ```
//!
//! Dollars per unit, by the places that bills name; `can` and `cannot` are capabilities.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, bail};
use attache_llm::price::{Place, Price};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::femto;
use super::{ModelPrice, PriceTable, known_capability};

/// Version of the file format. Version 1 had four prices, of which two are called otherwise now.
const VERSION: u32 = 2;

#[derive(Deserialize)]
struct FileFormat<'a> {
    version: u32,
    #[serde(default)]
    date: String,
    #[serde(borrow)]
    models: BTreeMap<String, BTreeMap<Cow<'a, str>, &'a RawValue>>,
}

/// # Errors
/// Not a table, or one of a version to come.
pub(super) fn parse(text: &str, source: &str) -> anyhow::Result<PriceTable> {
    let file: FileFormat<'_> = serde_json::from_str(text).map_err(|error| {
        anyhow::anyhow!("not a price table ({error}); `attache prices import` makes one from LiteLLM's file")
    })?;
    if !(1..=VERSION).contains(&file.version) {
        bail!("price table of version {}, this program reads up to version {VERSION}", file.version);
    }
    let mut models = BTreeMap::new();
    for (name, row) in file.models {
        let row = read(&row).with_context(|| format!("model {name:?}"))?;
        models.insert(name, row);
    }
    Ok(PriceTable { models: Arc::new(models), date: file.date, source: source.to_owned() })
}

fn read(row: &BTreeMap<Cow<'_, str>, &RawValue>) -> anyhow::Result<ModelPrice> {
    let mut model = ModelPrice { mode: Some("chat".to_owned()), ..ModelPrice::default() };
    let mut rates = Vec::with_capacity(row.len());
    for (name, raw) in row {
        match name.as_ref() {
            "mode" => model.mode = serde_json::from_str(raw.get()).context("mode")?,
            "max_in" => model.max_input_tokens = serde_json::from_str(raw.get()).context("max_in")?,
            "can" | "cannot" => {
                let names: Vec<Cow<'_, str>> = serde_json::from_str(raw.get()).context("capabilities")?;
                // Those of a later version mean nothing to this one.
                let known = names.iter().filter_map(|name| known_capability(name));
                model.supports.extend(known.map(|capability| (capability, name == "can")));
            }
            "max_out" => model.max_output_tokens = serde_json::from_str(raw.get()).context("max_out")?,
            name => {
                let place = match name {
                    "cache_read" => "cached",
                    "cache_write" => "write",
                    name => name,
                };
                let place = Place::parse(place).with_context(|| format!("unknown price {name:?}"))?;
                let rate = femto(raw).map_err(|error| anyhow::anyhow!("price {}: {error}", raw.get()))?;
                rates.push((place, rate));
            }
        }
    }
    model.price = (!rates.is_empty()).then(|| Price::new(rates));
    Ok(model)
}

impl PriceTable {
    /// The table as a file.
    #[must_use]
    pub fn render(&self) -> String {
        let date = json(&self.date);
        let mut out = format!("{{\"version\":{VERSION},\"date\":{date},\"models\":{{\n");
        for (at, (name, row)) in self.models.iter().enumerate() {
            if at > 0 {
                out.push_str(",\n");
            }
            let _ = write!(out, "{}:{{{}}}", json(name), fields(row).join(","));
        }
        out.push_str("\n}}\n");
        out
    }
}

fn fields(row: &ModelPrice) -> Vec<String> {
    let mut fields = Vec::new();
    match row.mode.as_deref() {
        Some("chat") => {}
        Some(mode) => fields.push(format!("\"mode\":{}", json(mode))),
        None => fields.push("\"mode\":null".to_owned()),
    }
    let rates = row.price.iter().flat_map(Price::rates);
    fields.extend(rates.map(|(place, rate)| format!("\"{place}\":{}", decimal(*rate))));
    fields.extend(row.max_input_tokens.map(|n| format!("\"max_in\":{n}")));
    fields.extend(row.max_output_tokens.map(|n| format!("\"max_out\":{n}")));
    for (field, wanted) in [("can", true), ("cannot", false)] {
        let of = row.supports.iter().filter(|(_, has)| **has == wanted);
        let names: Vec<String> = of.map(|(name, _)| json(name)).collect();
        if !names.is_empty() {
            fields.push(format!("\"{field}\":[{}]", names.join(",")));
        }
    }
    fields
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Femto-dollars as the shortest exact decimal of dollars: `2.5e-6`.
pub(super) fn decimal(femto: u64) -> String {
    let digits = femto.to_string();
    let exponent = i64::try_from(digits.len()).unwrap_or(0) - 1 - 15;
    let digits = digits.trim_end_matches('0');
    let Some((first, rest)) = digits.split_at_checked(1) else { return "0".to_owned() };
    let mantissa = if rest.is_empty() { first.to_owned() } else { format!("{first}.{rest}") };
    if exponent == 0 { mantissa } else { format!("{mantissa}e{exponent}") }
}
