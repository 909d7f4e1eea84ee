use proptest::prelude::*;

use super::*;
use crate::limits::time_zone;

fn ms(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
}

fn rules(zone: &str, reset_minute: u32) -> Rules {
    Rules { timezone: zone.to_owned(), reset_minute, ..Rules::default() }
}

/// Bounds in the zone's own time.
fn window(duration: &str, zone: &str, reset_minute: u32, now: &str) -> [String; 2] {
    let window = Window::of(Some(duration), &rules(zone, reset_minute), ms(now), 0);
    [window.start_ms, window.end_ms.unwrap()].map(|ms| {
        let at = Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
        time_zone(zone).unwrap().to_datetime(at).strftime("%a %F %T").to_string()
    })
}

#[test]
fn calendar_windows_are_litellms() {
    let utc = |duration| window(duration, "UTC", 0, "2026-11-25T04:35:17Z");
    assert_eq!(utc("1d"), ["Wed 2026-11-25 00:00:00", "Thu 2026-11-26 00:00:00"]);
    assert_eq!(utc("24h"), utc("1d"));
    assert_eq!(utc("7d"), ["Mon 2026-11-23 00:00:00", "Mon 2026-11-30 00:00:00"]);
    assert_eq!(utc("1w"), utc("7d"));
    assert_eq!(utc("30d"), ["Sun 2026-11-01 00:00:00", "Tue 2026-12-01 00:00:00"]);
    assert_eq!(utc("1mo"), utc("30d"));
    assert_eq!(utc("3mo"), ["Thu 2026-10-01 00:00:00", "Fri 2027-01-01 00:00:00"]);
    assert_eq!(utc("12h"), ["Wed 2026-11-25 00:00:00", "Wed 2026-11-25 12:00:00"]);
    assert_eq!(utc("5h"), ["Wed 2026-11-25 00:00:00", "Wed 2026-11-25 05:00:00"]);
    assert_eq!(utc("15m"), ["Wed 2026-11-25 04:30:00", "Wed 2026-11-25 04:45:00"]);
    assert_eq!(utc("30s"), ["Wed 2026-11-25 04:35:00", "Wed 2026-11-25 04:35:30"]);
}

#[test]
fn other_numbers_of_days_are_counted_from_the_epoch() {
    let [start, end] = window("10d", "UTC", 0, "2026-11-25T04:35:17Z");
    let day = |text: &str| ms(&format!("{}T00:00:00Z", &text[4..14])) / 86_400_000;
    assert_eq!((day(&start) % 10, day(&end) - day(&start)), (0, 10));
}

#[test]
fn unreadable_durations_are_days_and_none_is_for_ever() {
    let at = |duration| Window::of(duration, &Rules::default(), ms("2026-11-25T04:35:17Z"), 0);
    assert_eq!(at(Some("soon")), at(Some("1d")));
    assert_eq!(at(None), Window { start_ms: 0, end_ms: None });
}

#[test]
fn days_begin_at_the_reset_time_of_the_zone() {
    let at = |now| window("1d", "Europe/Berlin", 6 * 60 + 30, now);
    assert_eq!(at("2026-11-25T04:35:17Z"), ["Tue 2026-11-24 06:30:00", "Wed 2026-11-25 06:30:00"]);
    assert_eq!(at("2026-11-25T05:30:00Z"), ["Wed 2026-11-25 06:30:00", "Thu 2026-11-26 06:30:00"]);
    let month = |now| window("1mo", "Europe/Berlin", 6 * 60 + 30, now);
    assert_eq!(month("2026-12-01T05:29:59Z"), ["Sun 2026-11-01 06:30:00", "Tue 2026-12-01 06:30:00"]);
    assert_eq!(month("2026-12-01T05:30:00Z")[0], "Tue 2026-12-01 06:30:00");
}

#[test]
fn days_on_which_the_clock_changes_are_23_or_25_hours_long() {
    let hours = |duration, now| {
        let window = Window::of(Some(duration), &rules("Europe/Berlin", 0), ms(now), 0);
        (window.end_ms.unwrap() - window.start_ms) / 3_600_000
    };
    assert_eq!(hours("1d", "2026-03-29T12:00:00Z"), 23);
    assert_eq!(hours("1d", "2026-10-25T12:00:00Z"), 25);
    assert_eq!(hours("1mo", "2026-10-25T12:00:00Z"), 31 * 24 + 1);
    let berlin = |now| window("12h", "Europe/Berlin", 0, now);
    assert_eq!(berlin("2026-03-29T09:59:59Z"), ["Sun 2026-03-29 00:00:00", "Sun 2026-03-29 12:00:00"]);
    assert_eq!(berlin("2026-03-29T10:00:00Z")[0], "Sun 2026-03-29 12:00:00");
    // The second 02:30 of the night.
    assert_eq!(window("1h", "Europe/Berlin", 0, "2026-10-25T01:30:00Z")[1], "Sun 2026-10-25 03:00:00");
    // Midnight that does not exist.
    let cairo = window("1d", "Africa/Cairo", 0, "2026-04-24T12:00:00Z");
    assert_eq!(cairo, ["Fri 2026-04-24 01:00:00", "Sat 2026-04-25 00:00:00"]);
}

#[test]
fn a_reset_begins_the_window_anew() {
    let (now, reset) = (ms("2026-11-25T04:35:17Z"), ms("2026-11-25T03:00:00.250Z"));
    let window = Window::of(Some("1d"), &Rules::default(), now, reset);
    assert_eq!(window, Window { start_ms: reset, end_ms: Some(ms("2026-11-26T00:00:00Z")) });
    assert_eq!(window.number(), reset, "no two resets share a window");
    let earlier = Window::of(Some("1d"), &Rules::default(), now, ms("2026-11-24T03:00:00Z"));
    assert_eq!(earlier.number(), ms("2026-11-25T00:00:00Z") / 1_000);
    assert_eq!(Window::of(None, &Rules::default(), now, reset).number(), reset);
}

#[test]
fn an_unknown_zone_is_utc() {
    let at = |zone: &str| Window::of(Some("1d"), &rules(zone, 0), ms("2026-11-25T04:35:17Z"), 0);
    assert_eq!(at("Mars/Olympus"), at("UTC"));
    assert!(time_zone("Mars/Olympus").unwrap_err().contains("Mars/Olympus"));
}

#[test]
fn the_end_of_time_is_no_end() {
    for duration in ["1s", "7m", "5h", "1d", "1w", "1mo", "36500d"] {
        let window = Window::of(Some(duration), &Rules::default(), u64::MAX, 0);
        assert!(window.end_ms.is_some(), "{duration}");
    }
}

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Africa/Cairo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
];

fn duration() -> impl Strategy<Value = String> {
    let of = |numbers: std::ops::Range<u64>, unit: &'static str| {
        numbers.prop_map(move |count| format!("{count}{unit}"))
    };
    prop_oneof![
        of(1..100_000, "s"),
        of(1..3_000, "m"),
        of(1..100, "h"),
        of(1..60, "d"),
        of(1..9, "w"),
        of(1..15, "mo")
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Windows lie side by side, and every moment is in the one that is found for it.
    #[test]
    fn windows_tile_time(
        zone in prop::sample::select(&ZONES[..]),
        duration in duration(),
        reset_minute in prop_oneof![Just(0), Just(150), 0_u32..1_440],
        // 2000 to 2060, and the hours around changes of the clock and ends of months in 2026.
        now in prop_oneof![
            946_684_800_000_u64..2_840_140_800_000,
            1_774_738_800_000_u64..1_774_753_200_000,
            1_792_886_400_000_u64..1_792_897_200_000,
            1_793_500_000_000_u64..1_793_506_000_000,
        ],
    ) {
        let rules = rules(zone, reset_minute);
        let at = |now| Window::of(Some(&duration), &rules, now, 0);
        let window = at(now);
        let end = window.end_ms.unwrap();
        prop_assert!(window.start_ms <= now && now < end, "{window:?} does not hold {now}");
        prop_assert_eq!(at(window.start_ms), window, "its first moment");
        prop_assert_eq!(at(end - 1), window, "its last moment");
        prop_assert_eq!(at(end).start_ms, end, "the next one begins where it ends");
        prop_assert_eq!(at(window.start_ms - 1).end_ms, Some(window.start_ms), "the one before ends where it begins");
        prop_assert_ne!(at(end).number(), window.number());
    }
}
