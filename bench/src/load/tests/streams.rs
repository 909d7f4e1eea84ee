//! Streams: what is measured of them, and what makes one bad.

use std::time::Duration;

use super::{load, server};

const PAUSE: Duration = Duration::from_millis(30);

#[test]
fn first_event_and_gaps_are_measured() {
    for http in ["1", "2"] {
        let address = server::start(|_| {
            server::stream(&["data: 1\n\n", "data: 2\n\ndata: 3\n\n", "data: [DONE]\n\n"], PAUSE)
        });
        let report = load(address, &["--stream", "--http", http, "--requests", "4", "--concurrency", "2"]);
        assert_eq!((&report["requests"], &report["events"]), (&4.into(), &16.into()), "{report}");
        let first = report["first_event_ms"]["p50"].as_f64().unwrap();
        assert!((30.0..80.0).contains(&first), "{report}");
        assert!(report["p50_ms"].as_f64() > Some(85.0), "{report}");
        // 2 and 3 came together; the others after a pause.
        assert!(report["gap_ms"]["max"].as_f64() >= Some(29.0), "{report}");
        assert!(
            report["gap_ms"]["p50"].as_f64() >= Some(25.0) && report["gap_ms"]["mean"].as_f64() < Some(50.0),
            "{report}"
        );
    }
}

#[test]
fn a_stream_without_its_end_is_an_error() {
    for (pieces, failure) in [
        (&["data: 1\n\n"][..], "no_end_mark"),
        (&["data: {\"error\":{\"message\":\"no\"}}\n\n", "data: [DONE]\n\n"], "error_event"),
        (&[], "empty"),
    ] {
        let address = server::start(move |_| server::stream(pieces, Duration::ZERO));
        let report = load(address, &["--stream", "--requests", "6"]);
        assert_eq!((&report["requests"], &report["errors"]), (&0.into(), &6.into()), "{failure}: {report}");
        assert_eq!((&report["failures"][failure], &report["bad"]["200"]), (&6.into(), &6.into()), "{report}");
    }
    let address = server::start(|_| server::json(200));
    let report = load(address, &["--stream", "--requests", "6"]);
    assert_eq!(report["failures"]["not_a_stream"], 6, "{report}");
}

#[test]
fn other_dialects_end_otherwise() {
    let address = server::start(|_| server::stream(&["event: message_stop\ndata: {}\n\n"], Duration::ZERO));
    let report = load(address, &["--stream", "--done", "message_stop", "--requests", "3"]);
    assert_eq!((&report["requests"], &report["errors"]), (&3.into(), &0.into()), "{report}");
}
