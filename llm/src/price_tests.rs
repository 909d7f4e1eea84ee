use proptest::prelude::*;

use super::*;

fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
    Usage { prompt, cached, completion, ..Usage::default() }
}

#[test]
fn decimal_prices_are_exact() {
    for (text, femto) in [
        ("1.5e-07", 150_000_000),
        ("0.00000015", 150_000_000),
        ("15E-8", 150_000_000),
        ("2.5e-06", 2_500_000_000),
        (".5", 500_000_000_000_000),
        ("5.", 5_000_000_000_000_000),
        ("1e-15", 1),
        ("4e-16", 0),
        ("5e-16", 1),
        ("1.4999e-15", 1),
        ("0", 0),
        ("-0.0", 0),
        ("0e999999999999", 0),
        ("1e-999999999999", 0),
        ("000001", 1_000_000_000_000_000),
    ] {
        assert_eq!(femto_from_decimal(text), Ok(femto), "{text}");
    }
}

#[test]
fn bad_prices_are_named() {
    for text in ["", ".", "e5", "1e", "1e+", "abc", "1.2.3", "NaN", "inf", "0x10", "1_000", "--1"] {
        assert_eq!(femto_from_decimal(text), Err(PriceError::NotANumber), "{text}");
    }
    assert_eq!(femto_from_decimal("-1e-9"), Err(PriceError::Negative));
    assert_eq!(femto_from_decimal("1e30"), Err(PriceError::TooLarge));
    assert_eq!(femto_from_decimal("1e999999999999"), Err(PriceError::TooLarge));
}

#[test]
fn known_costs() {
    // gpt-4o-mini: 0.15 $ and 0.60 $ per million, cached 0.075 $.
    let price =
        Price { input: 150_000_000, output: 600_000_000, cache_read: Some(75_000_000), cache_creation: None };
    assert_eq!(price.cost(&usage(1_000_000, 0, 1_000_000)), 750_000_000);
    assert_eq!(price.cost(&usage(1_000_000, 1_000_000, 0)), 75_000_000);
    assert_eq!(price.cost(&usage(10, 0, 5)), 10 * 150 + 5 * 600);
    // More cached than prompt: never more than the prompt.
    assert_eq!(price.cost(&usage(10, 1_000, 0)), 750);
    let without_cache_price = Price { cache_read: None, ..price };
    assert_eq!(without_cache_price.cost(&usage(10, 4, 0)), 1_500);
}

#[test]
fn rounding_is_half_up_once() {
    let price = Price { input: 250_000, output: 250_000, ..Price::default() };
    assert_eq!(price.cost(&usage(1, 0, 0)), 0);
    assert_eq!(price.cost(&usage(1, 0, 1)), 1);
    assert_eq!(price.cost(&usage(3, 0, 0)), 1);
    assert_eq!(price.cost(&usage(3, 0, 3)), 2);
}

proptest! {
    #[test]
    fn decimals_agree_with_integers(femto in any::<u64>()) {
        let text = format!("{}.{:015}", femto / 1_000_000_000_000_000, femto % 1_000_000_000_000_000);
        prop_assert_eq!(femto_from_decimal(&text), Ok(femto));
        prop_assert_eq!(femto_from_decimal(&format!("{femto}e-15")), Ok(femto));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC*", number in "[-+]?[0-9.]{0,30}([eE][-+]?[0-9]{0,20})?") {
        let _ = femto_from_decimal(&text);
        if let (Ok(femto), Ok(float)) = (femto_from_decimal(&number), number.parse::<f64>()) {
            let expected = float * 1e15;
            prop_assert!((femto as f64 - expected).abs() <= 1.0 + expected.abs() * 1e-9);
        }
    }

    #[test]
    fn cost_is_total_and_monotone(
        input in any::<u64>(), output in any::<u64>(), cache_read in any::<Option<u64>>(),
        prompt in any::<u64>(), cached in any::<u64>(), completion in any::<u64>(),
    ) {
        let price = Price { input, output, cache_read, cache_creation: None };
        let cost = price.cost(&usage(prompt, cached, completion));
        prop_assert!(price.cost(&usage(prompt, cached, completion.saturating_add(1))) >= cost);
    }

    #[test]
    fn cost_is_exact_for_small_numbers(
        input in 0u64..1 << 40, output in 0u64..1 << 40, prompt in 0u64..1 << 20, completion in 0u64..1 << 20,
    ) {
        let price = Price { input, output, ..Price::default() };
        let femto = u128::from(input) * u128::from(prompt) + u128::from(output) * u128::from(completion);
        prop_assert_eq!(u128::from(price.cost(&usage(prompt, 0, completion))), (femto + 500_000) / 1_000_000);
    }
}
