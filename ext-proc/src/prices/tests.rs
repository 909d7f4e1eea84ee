use attache_llm::price::{Class, Item, Place, Price, femto_from_decimal, field_name, place_of_field};
use proptest::prelude::*;

use super::table::decimal;
use super::*;

#[test]
fn embedded_prices_are_exact() {
    let table = PriceTable::embedded();
    let row = table.lookup("gpt-4o").unwrap();
    let price = row.price.as_ref().unwrap();
    assert_eq!(price.base(Item::Input), Some(2_500_000_000));
    assert_eq!(price.base(Item::Output), Some(10_000_000_000));
    assert_eq!(price.base(Item::Cached), Some(1_250_000_000));
    assert_eq!(price.rate(Place { class: Class::Batch, ..Place::base(Item::Input) }), Some(1_250_000_000));
    assert_eq!(row.mode.as_deref(), Some("chat"));
    assert_eq!(row.max_input_tokens, Some(128_000));
    assert_eq!(table.lookup("text-embedding-3-small").unwrap().mode.as_deref(), Some("embedding"));
}

#[test]
fn embedded_file_is_what_render_writes() {
    assert!(PriceTable::embedded().render() == include_str!("../../data/model_prices.json"));
}

#[test]
fn a_bare_name_is_openai_s_or_azure_s() {
    let table = PriceTable::embedded();
    assert!(table.lookup_for("openai", "gpt-4o").is_some());
    assert!(table.lookup_for("azure", "gpt-4o").is_some());
    assert!(table.lookup_for("hosted_vllm", "gpt-4o").is_none(), "a local model is not billed as OpenAI's");
}

#[test]
fn search_finds_slips_and_parts() {
    let table = PriceTable::embedded();
    assert!(table.search("gtp-4o").contains(&"gpt-4o"));
    assert_eq!(table.search("gpt-4o").first(), Some(&"gpt-4o"));
    assert!(table.search("no-such-model-at-all-anywhere").is_empty());
}

fn imported(text: &str) -> PriceTable {
    import(text, "2026-01-31").unwrap().table
}

/// The price of the model `m` with these fields of LiteLLM's.
fn rates(fields: &str) -> String {
    let table = imported(&format!(r#"{{"m": {{"mode": "chat", {fields}}}}}"#));
    table.lookup("m").unwrap().price.as_ref().map(Price::to_string).unwrap_or_default()
}

#[test]
fn import_reads_decimals_exactly_and_tells_what_is_left_out() {
    let text = r#"{
        "sample_spec": {"mode": "one of ...", "input_cost_per_token": 0},
        "a": {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 0.0000006,
              "cache_read_input_token_cost": 7.5e-08, "max_input_tokens": 128000, "max_output_tokens": "16384"},
        "picture": {"mode": "image_generation", "input_cost_per_image": 0.04, "input_cost_per_pixel": 1e-8},
        "odd": {"mode": "chat", "input_cost_per_token": [1]},
        "limits": {"mode": "embedding", "max_input_tokens": 8191},
        "nothing": {"mode": "chat"}
    }"#;
    let Imported { table, left_out, unread } = import(text, "2026-01-31").unwrap();
    assert_eq!(table.models.keys().collect::<Vec<_>>(), ["a", "limits", "picture"]);
    assert_eq!(
        (left_out.get("input_cost_per_pixel"), unread.as_slice()),
        (Some(&1), &["odd".to_owned()][..])
    );
    let row = table.lookup("a").unwrap();
    assert_eq!(row.price.as_ref().unwrap().to_string(), "in 150000000;cached 75000000;out 600000000");
    assert_eq!(row.max_output_tokens, Some(16_384));
    assert_eq!(table.lookup("limits").unwrap().price, None);
    let picture = table.lookup("picture").unwrap().price.as_ref().unwrap().to_string();
    assert_eq!(picture, "images_out 40000000000000", "what one that is made costs");
    assert!(import("[]", "").is_err());
    assert!(import("{}", "").is_err());
}

#[test]
fn thresholds_and_classes_are_read_from_names() {
    let text = rates(
        r#""input_cost_per_token": 1e-6, "input_cost_per_token_above_200k_tokens": 2e-6,
           "input_cost_per_token_priority": 3e-6, "input_cost_per_token_above_200k_tokens_priority": 4e-6,
           "input_cost_per_token_batches": 5e-7, "cache_creation_input_token_cost": 1.25e-6,
           "cache_creation_input_token_cost_above_1hr": 2e-6,
           "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 4e-6"#,
    );
    assert_eq!(
        text,
        "in 1000000000;in>200000 2000000000;in@batch 500000000;in@priority 3000000000;\
         in@priority>200000 4000000000;write 1250000000;write_1h 2000000000;write_1h>200000 4000000000"
    );
    // xAI's hold from the threshold on.
    let xai = rates(
        r#""litellm_provider": "xai", "input_cost_per_token": 1e-6, "input_cost_per_token_above_128k_tokens": 2e-6"#,
    );
    assert_eq!(xai, "in 1000000000;in>127999 2000000000");
}

#[test]
fn ranges_searches_and_other_names_are_read() {
    let ranges = rates(
        r#""tiered_pricing": [{"range": [0, 32000.0], "input_cost_per_token": 1e-6},
            {"range": [32000, 128e3], "input_cost_per_token": 2e-6, "output_cost_per_token": 3e-6}]"#,
    );
    assert_eq!(ranges, "in 1000000000;in>32000 2000000000;out>32000 3000000000");
    let search = rates(
        r#""search_context_cost_per_query": {"search_context_size_low": 0.005, "search_context_size_medium": 0.008,
            "search_context_size_high": 0.012}"#,
    );
    assert_eq!(search, "search_low 5000000000000;search 8000000000000;search_high 12000000000000");
    let hit = rates(r#""input_cost_per_token": 1e-6, "input_cost_per_token_cache_hit": 1e-7"#);
    assert_eq!(hit, "in 1000000000;cached 100000000");
    let own = rates(r#""cache_read_input_token_cost": 2e-7, "input_cost_per_token_cache_hit": 1e-7"#);
    assert_eq!(own, "cached 200000000", "its own name wins");
}

#[test]
fn a_part_that_costs_what_the_whole_costs_is_left_out() {
    let text = rates(
        r#""output_cost_per_token": 2.5e-6, "output_cost_per_token_flex": 1e-6,
           "output_cost_per_reasoning_token": 2.5e-6, "output_cost_per_audio_token": 3e-6"#,
    );
    assert_eq!(text, "out 2500000000;out@flex 1000000000;audio_out 3000000000");
}

#[test]
fn every_price_of_the_built_in_table_has_a_name_of_litellms() {
    for row in PriceTable::embedded().models.values() {
        for (place, _) in row.price.iter().flat_map(Price::rates) {
            let reached = place.from % 1_000 == 0;
            assert_eq!(
                place_of_field(&field_name(*place), false).map(|p| p.from),
                Some(place.from),
                "{place} {reached}"
            );
        }
    }
}

#[test]
fn differences_are_told_one_model_a_line() {
    let one = imported(r#"{"a": {"input_cost_per_token": 1e-6}, "b": {"input_cost_per_token": 1e-6}}"#);
    let two = imported(
        r#"{"b": {"input_cost_per_token": 2e-6, "output_cost_per_image": 0.5}, "c": {"input_cost_per_token": 1e-6}}"#,
    );
    assert_eq!(
        one.differences(&two),
        [
            "- a",
            "~ b: in $1.00 per million tokens -> $2.00 per million tokens, images_out none -> $0.50 per image",
            "+ c",
        ]
    );
    assert!(one.differences(&one).is_empty());
}

#[test]
fn a_table_of_version_1_is_read() {
    let text = r#"{"version":1,"date":"2025-01-31","models":{
        "old":{"in":1e-6,"out":2e-6,"cache_read":1e-7,"cache_write":1.25e-6,"max_in":8000}}}"#;
    let table = parse(text, "old").unwrap();
    let price = table.lookup("old").unwrap().price.as_ref().unwrap();
    assert_eq!(price.to_string(), "in 1000000000;cached 100000000;write 1250000000;out 2000000000");
    for bad in [
        r#"{"version":3,"models":{}}"#,
        r#"{"version":2,"models":{"a":{"inn":1}}}"#,
        r#"{"version":2,"models":{"a":{"in":"x"}}}"#,
        r#"{"version":2,"models":{"a":{"in":-1}}}"#,
    ] {
        assert!(parse(bad, "bad").is_err(), "{bad}");
    }
}

#[test]
fn a_table_in_the_data_directory_extends_and_overrides() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"mine": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
                   "gpt-4o": {"mode": "chat", "input_cost_per_token": 1, "output_cost_per_token": 2}}"#;
    let rendered = imported(text).render();
    std::fs::write(dir.path().join("model_prices.json"), rendered).unwrap();
    let table = PriceTable::for_data_dir(dir.path()).unwrap();
    assert_eq!(
        table.lookup("mine").unwrap().price.clone().unwrap().base(Item::Input).unwrap(),
        1_000_000_000
    );
    assert_eq!(
        table.lookup("gpt-4o").unwrap().price.clone().unwrap().base(Item::Input).unwrap(),
        1_000_000_000_000_000
    );
    assert!(table.lookup("gpt-4o-mini").is_some());
    assert!(table.describe().contains("2026-01-31"));
}

#[test]
fn a_broken_table_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("model_prices.json"), r#"{"gpt-4o": {}}"#).unwrap();
    let error = format!("{:#}", PriceTable::for_data_dir(dir.path()).unwrap_err());
    assert!(error.contains("model_prices.json") && error.contains("attache prices import"), "{error}");
}

#[test]
fn people_read_dollars_per_million() {
    assert_eq!(per_million(2_500_000_000), "2.50");
    assert_eq!(per_million(75_000_000), "0.075");
    assert_eq!(per_million(0), "0.00");
    let text = PriceTable::embedded().describe_model("gpt-4o").unwrap();
    assert!(text.contains("$2.50") && text.contains("128000"), "{text}");
}

proptest! {
    #[test]
    fn decimals_read_back_exactly(femto in any::<u64>()) {
        prop_assert_eq!(femto_from_decimal(&decimal(femto)), Ok(femto));
    }
}

/// Of the cases that `scripts/cost_cases.py` makes, the part that the costs themselves do not show: that the prices are
/// those of the table, with what the configuration says over them.
#[test]
fn the_cost_cases_have_the_prices_of_the_table_and_of_the_configuration() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../../llm/tests/cost_cases.json")).unwrap();
    let table = PriceTable::embedded();
    let listed = |model: &str| table.lookup(model).and_then(|row| row.price.clone()).unwrap_or_default();
    let read = |text: &serde_json::Value| text.as_str().unwrap().parse::<Price>().unwrap();
    let prices = file["prices"].as_object().unwrap();
    for (model, price) in prices {
        assert_eq!(listed(model), read(price), "{model}: scripts/cost_cases.py");
    }
    let mut overrides = 0;
    for case in file["cases"].as_array().unwrap() {
        let Some(over) = case.get("over") else { continue };
        let over: BTreeMap<String, serde_json::Value> = serde_json::from_value(over.clone()).unwrap();
        let base = case.get("model").map(|model| listed(model.as_str().unwrap())).unwrap_or_default();
        let made = base.with(crate::config::overrides(&over, &BTreeMap::new(), false));
        assert_eq!(made, read(&case["price"]), "{}", case["name"]);
        overrides += 1;
    }
    assert!(prices.len() >= 30 && overrides >= 40, "{} prices, {overrides} overrides", prices.len());
}
