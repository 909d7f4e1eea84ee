//! Prices of the file: those of a deployment, discounts and margins of providers, and what becomes of them.

use std::collections::BTreeMap;

use attache_llm::price::{Adjust, MAX_MARGIN, Place as RatePlace, WHOLE, femto_from_decimal};
use attache_llm::provider;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_yaml_ng::{Mapping, Value};

use super::LitellmSettings;
use super::files::key_text;
use super::issue::{Findings, Place, did_you_mean};
use super::providers::NOT_YET;
use super::walk::{found, real};
use crate::prices::{Fields, is_charged};

/// The name that stands for every provider without a margin of its own.
const GLOBAL: &str = "global";

/// What is added to the cost, after any discount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Margin {
    /// 0.1: a tenth of the cost.
    pub percentage: f64,
    /// Dollars per answer.
    pub fixed_amount: f64,
}

/// One price of a deployment; what is wrong with it is the error.
pub(super) fn price(name: &str, value: &Value) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let json = serde_json::to_value(value).map_err(|_| "holds something that JSON cannot say".to_owned())?;
    let fields = read(&BTreeMap::from([(name.to_owned(), json)]), false);
    if let Some((field, error)) = fields.wrong.first() {
        return Err(format!("`{field}`: {error}; found {}", found(value)));
    }
    if let Some(field) = fields.unknown.first() {
        return Err(format!("unknown price `{field}`"));
    }
    // A thousand dollars a token is a slip of the keyboard.
    let largest =
        fields.rates.iter().filter(|(place, _)| place.item.is_tokens()).map(|(_, rate)| *rate).max();
    if largest.is_some_and(|rate| rate > 1_000_000_000_000_000_000) {
        Err("price too large".into())
    } else {
        Ok(())
    }
}

/// The prices among the keys of a deployment, those of `litellm_params` before those of `model_info`.
pub(crate) fn overrides(
    params: &BTreeMap<String, serde_json::Value>,
    info: &BTreeMap<String, serde_json::Value>,
    reached: bool,
) -> BTreeMap<RatePlace, u64> {
    let mut rates = read(info, reached).rates;
    rates.extend(read(params, reached).rates);
    rates
}

fn read(values: &BTreeMap<String, serde_json::Value>, reached: bool) -> Fields {
    // The shortest text that reads back as the same number is the one in the file.
    let charged: BTreeMap<_, _> = values.iter().filter(|(name, _)| is_charged(name)).collect();
    let text = serde_json::to_string(&charged).unwrap_or_default();
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(&text).unwrap_or_default();
    Fields::read(&raw, reached)
}

/// `{provider: 0.05}`.
pub(super) fn discounts(value: &mut Value, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let Value::Mapping(map) = value else {
        return Err(format!("found {}, expected a map of providers to shares such as 0.05", found(value)));
    };
    for (key, share) in map.iter_mut() {
        let here = place.key(&key_text(key));
        must_be_provider(&key_text(key), false, &here, findings);
        put(share, 1.0, "a share of 0 to 1", &here, findings);
    }
    Ok(())
}

/// `{provider: 0.1}` or `{provider: {percentage, fixed_amount}}`; both become the latter.
pub(super) fn margins(value: &mut Value, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let Value::Mapping(map) = value else {
        return Err(format!("found {}, expected a map of providers to shares such as 0.1", found(value)));
    };
    for (key, margin) in map.iter_mut() {
        let here = place.key(&key_text(key));
        must_be_provider(&key_text(key), true, &here, findings);
        if let Value::Mapping(parts) = margin {
            for (name, part) in parts.iter_mut() {
                let at = here.key(&key_text(name));
                match name.as_str() {
                    Some("percentage") => put(part, 100.0, "a share of 0 to 100", &at, findings),
                    Some("fixed_amount") => put(part, 1_000.0, "dollars of 0 to 1000", &at, findings),
                    _ => {
                        let near = did_you_mean(&key_text(name), ["percentage", "fixed_amount"]);
                        findings.error(&at, format!("unknown key{near}"));
                    }
                }
            }
        } else {
            put(margin, 100.0, "a share of 0 to 100, or `{percentage, fixed_amount}`", &here, findings);
            let share = std::mem::take(margin);
            *margin = Value::Mapping(Mapping::from_iter([(Value::from("percentage"), share)]));
        }
    }
    Ok(())
}

fn put(value: &mut Value, most: f64, expected: &str, place: &Place, findings: &mut Findings) {
    match real(value, 0.0).filter(|number| number.as_f64().is_some_and(|number| number <= most)) {
        Some(number) => *value = number,
        None => findings.error(place, format!("found {}, expected {expected}", found(value))),
    }
}

fn must_be_provider(name: &str, global: bool, place: &Place, findings: &mut Findings) {
    let is_known = provider::lookup(name).is_some() || NOT_YET.contains(&name) || (global && name == GLOBAL);
    if !is_known {
        let names = provider::PROVIDERS.iter().map(|row| row.name).chain(NOT_YET.iter().copied());
        let near = did_you_mean(name, names.chain([GLOBAL].into_iter().filter(|_| global)));
        findings.error(place, format!("no provider is called `{name}`{near}"));
    }
}

/// Discount and margin of a provider.
pub(super) fn adjust(settings: &LitellmSettings, provider: &str) -> Adjust {
    let margins = &settings.cost_margin_config;
    let margin = margins.get(provider).or_else(|| margins.get(GLOBAL)).copied().unwrap_or_default();
    let discount = settings.cost_discount_config.get(provider).copied().unwrap_or_default();
    Adjust {
        discount: share(discount).min(WHOLE),
        margin: share(margin.percentage).min(MAX_MARGIN),
        // The loader has refused what is not a price.
        fee: femto_from_decimal(&format!("{:e}", margin.fixed_amount)).unwrap_or(0),
    }
}

/// Parts of a billion, rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100: below 2^37")]
fn share(number: f64) -> u64 {
    (number * 1e9).round() as u64
}
