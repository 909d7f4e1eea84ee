//! Prices, discounts and margins of the file.

use attache_llm::price::{Adjust, Item, Place};

use super::*;

fn priced(model: &str, params: &str, info: &str, settings: &str) -> Option<String> {
    let text = format!(
        "model_list:\n  - {{model_name: m, litellm_params: {{model: {model}, api_base: 'http://h', api_key: k{params}}}, \
         model_info: {{mode: chat{info}}}}}\nlitellm_settings: {{num_retries: 1{settings}}}\n"
    );
    let snapshot = snapshot(&text);
    snapshot.groups["m"].deployments[0].meta.price.as_ref().map(ToString::to_string)
}

#[test]
fn any_price_may_be_overridden_and_the_others_stay() {
    let listed = priced("openai/gpt-4o", "", "", "").unwrap();
    let over = priced(
        "openai/gpt-4o",
        ", output_cost_per_token: 1e-6, input_cost_per_token_flex: '0.000002'",
        "",
        "",
    );
    let over = over.unwrap();
    assert!(over.contains("out 1000000000;") && over.contains("in@flex 2000000000;"), "{over}");
    let kept = |text: &str| {
        text.split(';').filter(|rate| rate.starts_with("cached")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(kept(&over), kept(&listed));
    assert!(!kept(&over).is_empty());
}

#[test]
fn prices_of_litellm_params_win_over_model_info() {
    let both = priced(
        "openai/mine",
        ", input_cost_per_token: 2e-6, search_context_cost_per_query: {search_context_size_low: 0.01}",
        ", input_cost_per_token: 1e-6, output_cost_per_token_above_200k_tokens: 3e-6, tiered_pricing: [{range: [0, 1000], \
         output_cost_per_token: 1e-6}]",
        "",
    );
    let expected = "in 2000000000;out 1000000000;out>200000 3000000000;search_low 10000000000000";
    assert_eq!(both.as_deref(), Some(expected));
    assert_eq!(
        priced("xai/mine", ", input_cost_per_token_above_1k_tokens: 1e-6", "", "").as_deref(),
        Some("in>999 1000000000")
    );
    assert_eq!(priced("openai/mine", "", "", ""), None);
}

#[test]
fn an_unknown_base_model_is_looked_up_by_the_model_itself() {
    let listed = priced("openai/gpt-4o", "", "", "");
    assert_eq!(priced("openai/gpt-4o", "", ", base_model: nobody-s", ""), listed);
    assert_eq!(priced("azure/mine", "", ", base_model: gpt-4o", ""), listed);
}

#[test]
fn discounts_and_margins_go_by_provider() {
    let settings = ", cost_discount_config: {openai: 0.05}, cost_margin_config: {global: 0.1, azure: {percentage: '0.0725', \
                    fixed_amount: 0.001}}";
    let of = |model: &str| {
        let price: attache_llm::price::Price =
            priced(model, ", input_cost_per_token: 1e-6", "", settings).unwrap().parse().unwrap();
        price.adjust
    };
    assert_eq!(of("openai/a"), Adjust { discount: 50_000_000, margin: 100_000_000, fee: 0 });
    assert_eq!(of("azure/a"), Adjust { discount: 0, margin: 72_500_000, fee: 1_000_000_000_000 });
    assert_eq!(of("groq/a"), Adjust { margin: 100_000_000, ..Adjust::default() });
}

#[test]
fn a_pattern_has_its_provider_s_margin() {
    let text = "model_list:\n  - {model_name: 'openai/*', litellm_params: {model: 'openai/*', api_key: k}}\n\
                litellm_settings: {cost_margin_config: {openai: 0.5}}\n";
    let snapshot = snapshot(text);
    let deployment = &snapshot.groups["openai/*"].deployments[0];
    let price = snapshot.price(deployment, Some("gpt-4o")).unwrap();
    assert_eq!((price.adjust.margin, price.base(Item::Input)), (500_000_000, Some(2_500_000_000)));
    assert_eq!(price.rate(Place::base(Item::Cached)), Some(1_250_000_000));
}

#[test]
fn wrong_prices_are_errors_that_name_the_nearest() {
    let errors = |params: &str, settings: &str| {
        let text = format!(
            "model_list:\n  - {{model_name: m, litellm_params: {{model: openai/gpt-4o, api_key: k{params}}}}}\n\
             litellm_settings: {{num_retries: 1{settings}}}\n"
        );
        super::errors(&text).join("\n")
    };
    for (params, settings, expected) in [
        (", input_cost_per_tokn: 1", "", "did you mean `input_cost_per_token`?"),
        (", output_cost_per_token_abov_200k_tokens: 1", "", "unknown key"),
        (", input_cost_per_token: -1", "", "cannot be negative"),
        (", input_cost_per_token: [1]", "", "not a decimal number"),
        (", input_cost_per_token: 1e6", "", "too large"),
        (", tiered_pricing: 3", "", "expected a list of ranges"),
        (", tiered_pricing: [{input_cost_per_token: 1}]", "", "without a range"),
        (
            ", search_context_cost_per_query: {small: 1}",
            "",
            "unknown price `search_context_cost_per_query.small`",
        ),
        ("", ", cost_discount_config: {opnai: 0.1}", "did you mean `openai`?"),
        ("", ", cost_discount_config: {openai: 1.1}", "a share of 0 to 1"),
        ("", ", cost_discount_config: 3", "expected a map of providers"),
        ("", ", cost_margin_config: {openai: {percent: 1}}", "did you mean `percentage`?"),
        ("", ", cost_margin_config: {globl: 1}", "did you mean `global`?"),
        ("", ", cost_margin_config: {openai: -1}", "a share of 0 to 100"),
        ("", ", cost_margin_config: {openai: {fixed_amount: 1e9}}", "dollars of 0 to 1000"),
    ] {
        let found = errors(params, settings);
        assert!(found.contains(expected), "{params}{settings}: {found}");
    }
}
