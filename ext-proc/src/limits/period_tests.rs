use super::*;

fn period(text: &str) -> Option<(u64, Unit)> {
    parse_duration(text).ok().map(|period| (period.count, period.unit))
}

#[test]
fn litellms_durations_are_read() {
    assert_eq!(period("30s"), Some((30, Unit::Second)));
    assert_eq!(period("15m"), Some((15, Unit::Minute)));
    assert_eq!(period("12h"), Some((12, Unit::Hour)));
    assert_eq!(period("7d"), Some((7, Unit::Day)));
    assert_eq!(period("2w"), Some((2, Unit::Week)));
    assert_eq!(period(" 1mo "), Some((1, Unit::Month)));
    assert_eq!(parse_duration("2w").unwrap().seconds(), 14 * 86_400);
}

#[test]
fn what_is_no_duration_says_why() {
    for (text, why) in [
        ("", "begin with a number"),
        ("d", "begin with a number"),
        ("-1d", "begin with a number"),
        ("30", "no unit"),
        ("30x", "nobody knows its unit"),
        ("1.5h", "nobody knows its unit"),
        ("0d", "no length"),
        ("99999999999999999999s", "too large"),
        ("101000d", "hundred years"),
        ("18446744073709551615mo", "hundred years"),
    ] {
        let error = parse_duration(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
        assert!(error.contains("`1mo`"), "{error}");
    }
}

#[test]
fn months_of_an_expiry_are_the_calendars() {
    let at = |text: &str| u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap();
    let month = parse_duration("1mo").unwrap();
    assert_eq!(month.after(at("2026-01-31T10:00:00Z")), at("2026-02-28T10:00:00Z"));
    assert_eq!(parse_duration("14mo").unwrap().after(at("2026-11-30T00:00:00Z")), at("2028-01-30T00:00:00Z"));
    assert_eq!(parse_duration("36h").unwrap().after(at("2026-03-28T12:00:00Z")), at("2026-03-30T00:00:00Z"));
}
