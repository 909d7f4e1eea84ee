//! A request's bill for people.

use serde_json::Value;
use serde_json::value::RawValue;

use super::dollars;
use crate::cli::shown;

/// The request, then each attempt that cost money with its factors.
pub(super) fn text(row: &Value) -> String {
    let cell = |name: &str| shown::text(row, name);
    let tokens = format!(
        "{} prompt ({} cached, {} written to the cache), {} completion ({} reasoning){}",
        cell("prompt_tokens"),
        cell("cached_tokens"),
        cell("cache_write_tokens"),
        cell("completion_tokens"),
        cell("reasoning_tokens"),
        if row["estimated"] == true { ", estimated: the provider told none" } else { "" },
    );
    let mut text = shown::fields(&[
        ("request", cell("request_id")),
        ("start", cell("startTime")),
        ("key", shown::text(&row["metadata"], "user_api_key_alias")),
        ("key hash", cell("api_key")),
        ("team", cell("team_id")),
        ("user", cell("user")),
        ("asked for", cell("requested_model")),
        (
            "answered by",
            format!("{} of {} ({})", cell("model"), cell("model_group"), cell("custom_llm_provider")),
        ),
        ("outcome", format!("{}, status {}", cell("outcome"), cell("status_code"))),
        ("tokens", tokens),
        ("spend", spend(row)),
    ]);
    let lines = row["lines"].as_array().map_or(&[][..], Vec::as_slice);
    if lines.is_empty() {
        text.push_str("\n\nNo attempt cost anything, or the row is older than bills.");
    }
    for line in lines {
        text.push_str(&attempt(line));
    }
    if lines.len() > 1 {
        let sum: u64 = lines.iter().filter_map(|line| line["spend_nanos"].as_u64()).sum();
        text.push_str(&format!("\n\nsum of the attempts  {}", dollars(sum)));
    }
    text
}

fn spend(of: &Value) -> String {
    match of["spend_nanos"].as_u64() {
        Some(nanos) => dollars(nanos),
        None => "unknown: nobody knows the price, or nobody counted the tokens".to_owned(),
    }
}

fn attempt(line: &Value) -> String {
    let cell = |name: &str| shown::text(line, name);
    let head = format!(
        "\n\nattempt {}: {} at {} (deployment {} of {}), {}{}",
        line["attempt"].as_u64().unwrap_or(0) + 1,
        cell("model"),
        cell("custom_llm_provider"),
        cell("model_id"),
        cell("model_group"),
        cell("outcome").replace('_', " "),
        if line["estimated"] == true { ", tokens estimated" } else { "" },
    );
    let bill = &line["bill"];
    if bill.is_null() {
        return format!("{head}\n  {}", spend(line));
    }
    let factor = |factor: &Value| {
        let tokens = factor["unit"] == "token";
        let rate = number(&factor[if tokens { "rate_per_million" } else { "rate" }]);
        let per = if tokens { "million".to_owned() } else { shown::text(factor, "unit") };
        vec![
            format!("  {}", shown::text(factor, "item")),
            shown::text(factor, "quantity"),
            format!("${rate} per {per}"),
            tier(factor),
            format!("${}", number(&factor["amount"])),
        ]
    };
    let rows: Vec<Vec<String>> = bill["factors"].as_array().into_iter().flatten().map(factor).collect();
    let table = shown::table(&["  ITEM", "QUANTITY", "RATE", "TIER", "AMOUNT"], &rows);
    let mut pairs = vec![("  sum", format!("${}", number(&bill["sum"])))];
    for (name, field) in [("  discount", "discount"), ("  margin", "margin")] {
        pairs.push((name, shown::text(bill, field)));
    }
    if !bill["fee"].is_null() {
        pairs.push(("  fee", format!("${}", number(&bill["fee"]))));
    }
    pairs.push(("  rounded", format!("{} (half up, to the nano-dollar)", spend(line))));
    let checked = match line["recomputed"].as_bool() {
        Some(true) => "the factors, computed again, come to this amount",
        _ => "THE FACTORS DO NOT COME TO THIS AMOUNT",
    };
    pairs.push(("  checked", checked.to_owned()));
    format!("{head}\n{table}\n{}", shown::fields(&pairs))
}

/// Service class and size, where the rate is not the plain one.
fn tier(factor: &Value) -> String {
    let class = shown::text(factor, "class");
    let mut parts = if class == "standard" { Vec::new() } else { vec![class] };
    if let Some(from) = factor["from_prompt_tokens"].as_u64().filter(|from| *from > 0) {
        parts.push(format!("prompts above {}", from - 1));
    }
    parts.join(", ")
}

/// A number as it was written, not as a float writes it.
fn number(value: &Value) -> String {
    let text = serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned());
    decimal(text.get())
}

/// Without an exponent: `1.5e-7` is `0.00000015`.
fn decimal(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once(['e', 'E']) else { return text.to_owned() };
    let Ok(places) = exponent.trim_start_matches('-').parse::<usize>() else { return text.to_owned() };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !exponent.starts_with('-') || whole.len() != 1 || places > 30 {
        return text.to_owned();
    }
    format!("0.{}{whole}{}", "0".repeat(places - 1), fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_factor_is_printed() {
        let row = json!({
            "request_id": "c1", "startTime": "2026-01-31T12:00:00Z", "api_key": "hash", "metadata": {},
            "requested_model": "chat", "model": "gpt-4o", "model_group": "chat", "custom_llm_provider": "openai",
            "outcome": "success", "status_code": 200, "prompt_tokens": 300_000, "completion_tokens": 5,
            "spend": 1.5, "spend_nanos": 1_500_000_001, "estimated": false,
            "lines": [{
                "attempt": 1, "model": "gpt-4o", "model_id": "d1", "model_group": "chat", "custom_llm_provider": "openai",
                "outcome": "complete", "spend_nanos": 1_500_000_001, "recomputed": true,
                "bill": {
                    "factors": [
                        {"item": "in", "quantity": 300_000, "unit": "token", "class": "flex", "rate": 2.5e-6,
                         "from_prompt_tokens": 200_001, "rate_per_million": 2.5, "amount": 0.75},
                        {"item": "search", "quantity": 1, "unit": "search", "class": "standard", "rate": 0.035,
                         "from_prompt_tokens": 0, "rate_per_million": 35000.0, "amount": 0.035},
                    ],
                    "sum": 1.5e-7, "margin": "10%", "discount": null, "fee": null,
                },
            }, {"attempt": 2, "spend_nanos": null, "bill": null, "outcome": "error_in_stream"}],
        });
        let text = text(&row);
        assert!(text.contains("attempt 2: gpt-4o at openai (deployment d1 of chat), complete"), "{text}");
        assert!(text.contains("$2.5 per million   flex, prompts above 200000  $0.75"), "{text}");
        assert!(text.contains("$0.035 per search"), "{text}");
        assert!(text.contains("  sum      $0.00000015\n  margin   10%\n  rounded  $1.500000001"), "{text}");
        assert!(text.contains("attempt 3") && text.contains("unknown: nobody knows the price"), "{text}");
        assert!(text.contains("computed again, come to this amount"), "{text}");
    }
}
