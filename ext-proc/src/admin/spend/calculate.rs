//! `/spend/calculate`: what a request would cost, or did.

use attache_llm::error::ApiError;
use attache_llm::price::{Bill, Price};
use attache_llm::scan::{BodyScan, ScanLimits};
use attache_llm::usage::Usage;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use serde_json::Value;

use super::cost;
use super::figures::dollars;
use crate::admin::Admin;
use crate::admin::access::Actor;
use crate::admin::body::{Fields, refused};
use crate::admin::reply::{Failure, private_json};
use crate::admin::shown::Shown;
use crate::prices::PriceTable;
use crate::routing::price_of;

const LONGEST_MODEL: usize = 512;

/// Takes `model` with `messages` (or `prompt`, `input`) or with `usage`, or a `completion_response` that names both.
pub(super) async fn calculate(
    State(admin): State<Admin>,
    _: Actor,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let mut fields = Fields::parse(body)?;
    let response = fields.take("completion_response");
    let model = fields.text("model", LONGEST_MODEL)?;
    let usage = used(&mut fields, response.as_ref())?;
    let named = response.as_ref().and_then(|response| response["model"].as_str());
    let model = model.or_else(|| named.map(str::to_owned));
    let model = model.ok_or_else(|| refused("model", "is missing, and `completion_response` names none"))?;
    let price = price(&admin, &model);
    let bill = price.as_ref().and_then(|price| price.cover(&usage));
    let mut shown = Shown::default();
    // Null when nobody knows the price: no cost is not a cost of nothing.
    shown
        .put("cost", &bill.as_ref().map(|bill| dollars(bill.nanos)))
        .put("cost_nanos", &bill.as_ref().map(|bill| bill.nanos))
        .put("model", &model)
        .put("estimated", &usage.estimated)
        .put("usage", &usage)
        .put("bill", &bill.as_ref().map(|bill: &Bill| cost::described(bill)));
    Ok(private_json(&shown))
}

fn used(fields: &mut Fields, response: Option<&Value>) -> Result<Usage, ApiError> {
    if let Some(usage) = fields.take("usage") {
        return Usage::from_value(&usage).ok_or_else(|| refused("usage", "counts nothing"));
    }
    if let Some(response) = response {
        let usage = Usage::from_value(&response["usage"]);
        return usage.ok_or_else(|| refused("completion_response", "has no `usage`"));
    }
    let mut body = serde_json::Map::new();
    for name in ["messages", "prompt", "input"] {
        if let Some(value) = fields.take(name) {
            body.insert(name.to_owned(), value);
        }
    }
    if body.is_empty() {
        let why = "is missing: give `messages`, `prompt`, `input`, `usage` or `completion_response`";
        return Err(refused("messages", why));
    }
    // Counted as the gate counts a prompt before the provider has.
    let text = Value::Object(body).to_string();
    let mut scan = BodyScan::new(ScanLimits::default());
    let found = scan.feed(text.as_bytes()).and_then(|()| scan.finish());
    let found = found.map_err(|_| refused("messages", "is not a prompt"))?;
    Ok(Usage::estimate(found.input_tokens(), 0))
}

/// A model of the configuration, else one of the price table.
fn price(admin: &Admin, model: &str) -> Option<Price> {
    if let Some(price) = price_of(&admin.state.snapshot.load(), model) {
        return price;
    }
    let table = admin.state.snapshot.load().prices.as_deref().cloned().unwrap_or_else(PriceTable::embedded);
    let row = table.lookup(model).or_else(|| {
        let (provider, model) = model.split_once('/')?;
        table.lookup_for(provider, model)
    });
    row.and_then(|row| row.price.clone())
}
