use proptest::prelude::*;

use super::*;

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
}
