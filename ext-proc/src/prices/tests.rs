use attache_llm::price::Price;
use proptest::prelude::*;

use super::*;

#[test]
fn embedded_prices_are_exact() {
    let table = PriceTable::embedded();
    let row = table.lookup("gpt-4o").unwrap();
    let price = Price {
        input: 2_500_000_000,
        output: 10_000_000_000,
        cache_read: Some(1_250_000_000),
        cache_creation: None,
    };
    assert_eq!(row.price, Some(price));
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

#[test]
fn import_reads_decimals_exactly_and_leaves_out_the_rest() {
    let text = r#"{
        "sample_spec": {"mode": "one of ...", "input_cost_per_token": 0},
        "a": {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 0.0000006,
              "cache_read_input_token_cost": 7.5e-08, "max_input_tokens": 128000, "max_output_tokens": "16384"},
        "picture": {"mode": "image_generation", "output_cost_per_image": 0.04},
        "odd": {"mode": "chat", "input_cost_per_token": [1]},
        "limits": {"mode": "embedding", "max_input_tokens": 8191}
    }"#;
    let table = import(text, "2026-01-31").unwrap();
    assert_eq!(table.models.keys().collect::<Vec<_>>(), ["a", "limits"]);
    let row = table.lookup("a").unwrap();
    let price =
        Price { input: 150_000_000, output: 600_000_000, cache_read: Some(75_000_000), cache_creation: None };
    assert_eq!(row.price, Some(price));
    assert_eq!(row.max_output_tokens, Some(16_384));
    assert_eq!(table.lookup("limits").unwrap().price, None);
    assert!(import("[]", "").is_err());
    assert!(import("{}", "").is_err());
}

#[test]
fn a_table_in_the_data_directory_extends_and_overrides() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"mine": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
                   "gpt-4o": {"mode": "chat", "input_cost_per_token": 1, "output_cost_per_token": 2}}"#;
    let rendered = import(text, "2026-01-31").unwrap().render();
    std::fs::write(dir.path().join("model_prices.json"), rendered).unwrap();
    let table = PriceTable::for_data_dir(dir.path()).unwrap();
    assert_eq!(table.lookup("mine").unwrap().price.unwrap().input, 1_000_000_000);
    assert_eq!(table.lookup("gpt-4o").unwrap().price.unwrap().input, 1_000_000_000_000_000);
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
