//! Costs that `scripts/cost_cases.py` computed in exact fractions, held against [`Price::bill`].

use std::collections::BTreeMap;

use attache_llm::price::{Adjust, Bill, Price, femto_from_decimal};
use attache_llm::usage::Usage;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    /// Prices of the price table, by model.
    prices: BTreeMap<String, Price>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    model: Option<String>,
    /// In place of the model's.
    price: Option<Price>,
    #[serde(default)]
    adjust: BTreeMap<String, String>,
    usage: Option<Usage>,
    /// What a provider said, in place of `usage`.
    raw: Option<Value>,
    nanos: u64,
}

/// A decimal in units of `femto` femto-dollars, exactly.
fn decimal(case: &Case, name: &str, femto: u64) -> u64 {
    let amount = case.adjust.get(name).map_or(0, |text| femto_from_decimal(text).unwrap());
    assert_eq!(amount % femto, 0, "{}: {name}", case.name);
    amount / femto
}

#[test]
fn every_cost_is_exact() {
    let file: File = serde_json::from_str(include_str!("cost_cases.json")).unwrap();
    assert!(file.cases.len() >= 200, "{} cases", file.cases.len());
    for case in &file.cases {
        let listed = || case.model.as_ref().map(|model| file.prices[model].clone());
        let price = case.price.clone().or_else(listed).unwrap_or_default();
        let price = price.adjusted(Adjust {
            discount: decimal(case, "discount", 1_000_000),
            margin: decimal(case, "margin", 1_000_000),
            fee: decimal(case, "fee", 1),
        });
        let read = || Usage::from_value(case.raw.as_ref()?);
        let usage = case.usage.or_else(read).unwrap_or_else(|| panic!("{}: no usage", case.name));
        let bill = price.bill(&usage);
        assert_eq!(bill.nanos, case.nanos, "{}: {bill}", case.name);
        let again = Bill::decode(&bill.encode()).unwrap();
        assert_eq!((again.recompute(), &again), (case.nanos, &bill), "{}", case.name);
    }
}
