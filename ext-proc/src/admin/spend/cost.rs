//! What a request cost, factor by factor.

use attache_llm::price::{Bill, Factor, Item};
use serde::Serialize;
use serde_json::value::RawValue;

use super::figures::dollars;
use crate::admin::money::Dollars;
use crate::admin::shown::Shown;
use crate::store::SpendLine;

/// Digits of a dollar in thousandths of a femto-dollar, in which bills are summed up.
const PLACES: usize = 18;
const ONE: u128 = 1_000_000_000_000_000_000;

/// A quantity at a rate.
#[derive(Debug, Serialize)]
pub(super) struct ShownFactor {
    /// `in`, `cached`, `out`, ...
    item: &'static str,
    quantity: u64,
    /// `token`, `image`, ...; seconds are counted in milliseconds.
    unit: &'static str,
    /// Class of service whose rate it is.
    class: &'static str,
    /// Fewest prompt tokens for which the rate holds; 0: any number.
    from_prompt_tokens: u64,
    /// Dollars per unit (per second, that is).
    rate: Box<RawValue>,
    rate_per_million: Box<RawValue>,
    /// Dollars, before rounding.
    amount: Box<RawValue>,
}

/// A cost and how it came about. All amounts are dollars, exact.
#[derive(Debug, Serialize)]
pub(super) struct ShownBill {
    factors: Vec<ShownFactor>,
    /// Sum of the factors.
    sum: Box<RawValue>,
    /// `5%`, taken off the sum; then `10%`, put on what is left; then dollars.
    discount: Option<String>,
    margin: Option<String>,
    fee: Option<Box<RawValue>>,
    /// Rounded half up to the nano-dollar.
    total: Dollars,
    total_nanos: u64,
    /// As it is stored.
    text: String,
}

/// LiteLLM's `cost_breakdown`, dollars, exact.
#[derive(Debug, Default, Clone, Copy)]
struct Sides {
    input: u128,
    output: u128,
    other: u128,
}

/// Thousandths of a femto-dollar as an exact decimal of dollars.
fn decimal(amount: u128) -> Box<RawValue> {
    let (whole, rest) = (amount / ONE, amount % ONE);
    let fraction = format!("{rest:0PLACES$}");
    let fraction = match fraction.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    RawValue::from_string(format!("{whole}.{fraction}")).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn amount(factor: &Factor) -> u128 {
    let each = u128::from(factor.rate).saturating_mul(1_000) / u128::from(factor.place.item.per().max(1));
    u128::from(factor.quantity).saturating_mul(each)
}

/// Describes a bill.
pub(super) fn described(bill: &Bill) -> ShownBill {
    let factor = |factor: &Factor| ShownFactor {
        item: factor.place.item.code(),
        quantity: factor.quantity,
        unit: factor.place.item.unit(),
        class: factor.place.class.code(),
        from_prompt_tokens: factor.place.from,
        rate: decimal(u128::from(factor.rate) * 1_000),
        rate_per_million: decimal(u128::from(factor.rate) * 1_000_000_000),
        amount: decimal(amount(factor)),
    };
    let sum = bill.factors.iter().fold(0_u128, |sum, factor| sum.saturating_add(amount(factor)));
    // The text says it in per cent.
    let text = bill.encode();
    let part = |name: &str| {
        let found = text.split(';').filter_map(|part| part.split_once(' ')).find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_owned())
    };
    ShownBill {
        factors: bill.factors.iter().map(factor).collect(),
        sum: decimal(sum),
        discount: part("discount"),
        margin: part("margin"),
        fee: (bill.adjust.fee > 0).then(|| decimal(u128::from(bill.adjust.fee) * 1_000)),
        total: dollars(bill.nanos),
        total_nanos: bill.nanos,
        text,
    }
}

/// An attempt that cost money.
#[derive(Debug, Serialize)]
pub(super) struct ShownLine<'a> {
    attempt: u32,
    model_id: &'a str,
    model_group: &'a str,
    custom_llm_provider: &'a str,
    model: &'a str,
    outcome: &'a str,
    status_code: u16,
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    estimated: bool,
    /// Null when the price is unknown.
    spend: Option<Dollars>,
    spend_nanos: Option<i64>,
    /// Null when the price is unknown.
    bill: Option<ShownBill>,
    /// Does the bill come to the amount of the row? Null without a bill.
    recomputed: Option<bool>,
}

/// Describes the lines of a request.
pub(super) fn lines(lines: &[SpendLine]) -> Vec<ShownLine<'_>> {
    let line = |line| {
        let bill = bill(line);
        let same = |bill: &Bill| i64::try_from(bill.recompute()).ok() == line.cost_nanos;
        ShownLine {
            attempt: line.attempt,
            model_id: &line.deployment,
            model_group: &line.group,
            custom_llm_provider: &line.provider,
            model: &line.model,
            outcome: &line.outcome,
            status_code: line.status,
            prompt_tokens: line.prompt,
            completion_tokens: line.completion,
            cached_tokens: line.cached,
            cache_write_tokens: line.cache_write,
            reasoning_tokens: line.reasoning,
            estimated: line.estimated,
            spend: line.cost_nanos.map(Dollars),
            spend_nanos: line.cost_nanos,
            recomputed: bill.as_ref().map(same),
            bill: bill.as_ref().map(described),
        }
    };
    lines.iter().map(line).collect()
}

/// The bill of a line with a price.
fn bill(line: &SpendLine) -> Option<Bill> {
    line.cost_nanos.and_then(|_| Bill::decode(&line.factors).ok())
}

/// `cost_breakdown` of a request: dollars of what went in, came out, and was used beside; `original_cost` is their sum,
/// `total_cost` what was charged after discounts, margins and fees. `None` when a price is unknown.
pub(super) fn breakdown(lines: &[SpendLine], nanos: Option<i64>) -> Option<Shown> {
    let nanos = nanos?;
    let mut sides = Sides::default();
    for line in lines {
        for factor in bill(line)?.factors {
            let side = side(&mut sides, factor.place.item);
            *side = side.saturating_add(amount(&factor));
        }
    }
    let original = sides.input.saturating_add(sides.output).saturating_add(sides.other);
    let mut shown = Shown::default();
    shown
        .put("input_cost", &decimal(sides.input))
        .put("output_cost", &decimal(sides.output))
        .put("tool_usage_cost", &decimal(sides.other))
        .put("original_cost", &decimal(original))
        .put("total_cost", &Dollars(nanos));
    Some(shown)
}

fn side(sides: &mut Sides, item: Item) -> &mut u128 {
    match item {
        Item::Output
        | Item::Reasoning
        | Item::AudioOut
        | Item::ImageTokensOut
        | Item::VideoTokensOut
        | Item::SecondsOut
        | Item::CharactersOut
        | Item::ImagesOut => &mut sides.output,
        Item::Citations | Item::SearchLow | Item::SearchMedium | Item::SearchHigh | Item::Request => {
            &mut sides.other
        }
        _ => &mut sides.input,
    }
}
