use proptest::prelude::*;

use super::*;

fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
    Usage { prompt, cached, completion, ..Usage::default() }
}

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

#[test]
fn known_costs() {
    // gpt-4o-mini: 0.15 $ and 0.60 $ per million, cached 0.075 $.
    let mini = price("in 150000000;out 600000000;cached 75000000");
    assert_eq!(mini.cost(&usage(1_000_000, 0, 1_000_000)), 750_000_000);
    assert_eq!(mini.cost(&usage(1_000_000, 1_000_000, 0)), 75_000_000);
    assert_eq!(mini.cost(&usage(10, 0, 5)), 10 * 150 + 5 * 600);
    // More cached than prompt: never more than the prompt.
    assert_eq!(mini.cost(&usage(10, 1_000, 0)), 750);
    let without_cache_price = price("in 150000000;out 600000000");
    assert_eq!(without_cache_price.cost(&usage(10, 4, 0)), 1_500);
}

#[test]
fn rounding_is_half_up_once() {
    let quarter = Price::per_token(250_000, 250_000);
    assert_eq!(quarter.cost(&usage(1, 0, 0)), 0);
    assert_eq!(quarter.cost(&usage(1, 0, 1)), 1);
    assert_eq!(quarter.cost(&usage(3, 0, 0)), 1);
    assert_eq!(quarter.cost(&usage(3, 0, 3)), 2);
}

#[test]
fn a_bill_tells_its_factors_and_reads_them_back() {
    let bill =
        price("in 2500000000;cached 1250000000;out 10000000000;margin 10%").bill(&usage(1_500, 300, 50));
    assert_eq!(bill.encode(), "in 1200*2500000000;cached 300*1250000000;out 50*10000000000;margin 10%");
    // 3,000,000 + 375,000 + 500,000 nano-dollars, and a tenth.
    assert_eq!(bill.nanos, 4_262_500);
    assert_eq!(Bill::decode(&bill.encode()), Ok(bill));
    assert_eq!(Bill::decode(""), Ok(Bill::default()));
    for bad in
        [";", "in", "in 1", "in 1*", "in 1*2;", "in -1*2", "nothing 1*2", "in@x 1*2", "in>x 1*2", "margin 10"]
    {
        assert_eq!(Bill::decode(bad), Err(BillError), "{bad}");
    }
}

#[test]
fn an_older_deployment_text_is_read_without_its_price() {
    let old = serde_json::json!({"contract": 1, "id": "a", "group": "g", "provider": "openai", "model": "m",
        "authority": "h", "base_path": "/v1", "price": {"input": 1, "output": 2}});
    let meta: crate::contract::DeploymentMeta = serde_json::from_value(old).unwrap();
    assert_eq!(meta.price, None);
}

fn places() -> impl Strategy<Value = Place> {
    let item = proptest::sample::select(Item::ALL.to_vec());
    let class = proptest::sample::select(Class::ALL.to_vec());
    let from = prop_oneof![3 => Just(0), 1 => 1_u64..2_000, 1 => any::<u64>()];
    (item, class, from).prop_map(|(item, class, from)| Place { item, class, from })
}

fn adjusts() -> impl Strategy<Value = Adjust> {
    let fee = prop_oneof![Just(0), any::<u64>()];
    let parts = (0..=WHOLE, 0..=MAX_MARGIN, fee);
    let some = parts.prop_map(|(discount, margin, fee)| Adjust { discount, margin, fee });
    prop_oneof![Just(Adjust::default()), some]
}

fn prices(rate: impl Strategy<Value = u64>) -> impl Strategy<Value = Price> {
    let rates = proptest::collection::vec((places(), rate), 0..40);
    (rates, adjusts()).prop_map(|(rates, adjust)| Price::new(rates).adjusted(adjust))
}

/// Numbers of any size, small ones most often.
fn counts() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..3_000, 1 => 0_u64..1 << 40, 1 => any::<u64>()]
}

fn usages() -> impl Strategy<Value = Usage> {
    let numbers = proptest::collection::vec(counts(), 26);
    let class = proptest::sample::select(Class::ALL.to_vec());
    (numbers, class).prop_map(|(n, class)| Usage {
        prompt: n[0],
        completion: n[1],
        total: n[2],
        cached: n[3],
        cache_creation: n[4],
        reasoning: n[5],
        audio_in: n[6],
        audio_out: n[7],
        cache_creation_1h: n[8],
        audio_cached: n[9],
        image_cached: n[10],
        image_in: n[11],
        image_out: n[12],
        video_in: n[13],
        video_out: n[14],
        citations: n[15],
        searches: n[16],
        audio_ms: n[17],
        video_ms: n[18],
        made_ms: n[19],
        chars_in: n[20],
        chars_out: n[21],
        images_in: n[22],
        images_out: n[23],
        queries: n[24],
        pages: n[25],
        class,
        ..Usage::default()
    })
}

proptest! {
    #[test]
    fn a_bill_is_its_factors_and_its_text(price in prices(any::<u64>()), usage in usages()) {
        let bill = price.bill(&usage);
        prop_assert_eq!(bill.recompute(), bill.nanos);
        prop_assert_eq!(price.cost(&usage), bill.nanos);
        prop_assert_eq!(Bill::decode(&bill.encode()), Ok(bill.clone()));
        prop_assert!(bill.factors.iter().all(|factor| factor.quantity > 0));
        prop_assert!(bill.factors.iter().all(|factor| price.rate(factor.place) == Some(factor.rate)));
        prop_assert_eq!(price.to_string().parse::<Price>(), Ok(price.clone()));
        prop_assert_eq!(serde_json::from_value::<Price>(serde_json::to_value(&price).unwrap()).unwrap(), price);
    }

    #[test]
    fn no_token_is_counted_twice(price in prices(0_u64..1 << 30), usage in usages()) {
        let all = Price::new(Item::ALL.map(|item| (Place::base(item), 1))).with(price.rates().iter().copied());
        let tokens = all.bill(&usage).factors.iter().filter(|f| f.place.item.is_tokens()).fold(0_u128, |sum, f| {
            sum + u128::from(f.quantity)
        });
        let counted = u128::from(usage.prompt) + u128::from(usage.completion) + u128::from(usage.citations);
        prop_assert_eq!(tokens, counted);
    }

    #[test]
    fn more_costs_more(
        rates in proptest::collection::vec((proptest::sample::select(Item::ALL.to_vec()), counts()), 0..12),
        adjust in adjusts(), usage in usages(), more in counts(),
    ) {
        // One rate per item, so that nothing becomes cheaper by its class or size.
        let price = Price::new(rates.iter().map(|(item, rate)| (Place::base(*item), *rate))).adjusted(adjust);
        let cost = price.cost(&usage);
        let add = |number: u64| number.saturating_add(more);
        for larger in [
            Usage { searches: add(usage.searches), ..usage },
            Usage { citations: add(usage.citations), ..usage },
            Usage { audio_ms: add(usage.audio_ms), ..usage },
            Usage { pages: add(usage.pages), ..usage },
        ] {
            prop_assert!(price.cost(&larger) >= cost);
        }
        let dearer = price.with(price.rates().iter().map(|(place, rate)| (*place, add(*rate))));
        prop_assert!(dearer.cost(&usage) >= cost);
        let margin = adjust.margin.saturating_add(more).min(MAX_MARGIN);
        let raised = price.clone().adjusted(Adjust { margin, ..adjust });
        prop_assert!(raised.cost(&usage) >= cost);
        let discount = adjust.discount.saturating_add(more).min(WHOLE);
        let lowered = price.adjusted(Adjust { discount, ..adjust });
        prop_assert!(lowered.cost(&usage) <= cost);
    }

    #[test]
    fn more_plain_tokens_cost_more(
        input in any::<u64>(), output in any::<u64>(), cached in any::<u64>(), usage in usages(), more in any::<u64>(),
    ) {
        let price = Price::per_token(input, output).with([(Place::base(Item::Cached), cached)]);
        let plain = Usage { prompt: usage.prompt, completion: usage.completion, ..Usage::default() };
        let cost = price.cost(&plain);
        let longer = Usage { prompt: plain.prompt.saturating_add(more), ..plain };
        prop_assert!(price.cost(&longer) >= cost);
        let wordier = Usage { completion: plain.completion.saturating_add(more), ..plain };
        prop_assert!(price.cost(&wordier) >= cost);
    }

    #[test]
    fn sums_are_exact_for_small_numbers(
        input in 0u64..1 << 40, output in 0u64..1 << 40, prompt in 0u64..1 << 20, completion in 0u64..1 << 20,
        discount in 0..=WHOLE, margin in 0..=MAX_MARGIN, fee in 0u64..1 << 40,
    ) {
        let price = Price::per_token(input, output);
        let femto = u128::from(input) * u128::from(prompt) + u128::from(output) * u128::from(completion);
        let usage = Usage { prompt, completion, ..Usage::default() };
        prop_assert_eq!(u128::from(price.cost(&usage)), (femto + 500_000) / 1_000_000);
        // Below 2^61 * 2^30 * 2^36.6, so that all of it fits.
        let adjusted = femto * u128::from(WHOLE - discount) * u128::from(WHOLE + margin);
        let whole = u128::from(WHOLE) * u128::from(WHOLE);
        let nanos = (adjusted + u128::from(fee) * whole + 500_000 * whole) / (1_000_000 * whole);
        let cost = price.adjusted(Adjust { discount, margin, fee }).cost(&usage);
        prop_assert_eq!(u128::from(cost), nanos);
    }

    #[test]
    fn any_text_is_a_bill_or_none(text in "\\PC{0,60}", near in "[a-z_@>; *0-9.%]{0,60}") {
        for text in [text, near] {
            let _ = text.parse::<Price>();
            if let Ok(bill) = Bill::decode(&text) {
                prop_assert_eq!(Bill::decode(&bill.encode()), Ok(bill));
            }
        }
    }
}
