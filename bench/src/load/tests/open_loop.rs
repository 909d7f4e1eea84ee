//! The open loop hides nothing: neither that the server stood still nor what could not be sent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::{load, load_warm, server};

const QUIET: Duration = Duration::from_millis(400);
const STALL: Duration = Duration::from_millis(300);

/// Answers at once, but stands still for 300 ms, once, 400 ms after its first request.
fn stalling() -> SocketAddr {
    let first = Arc::new(OnceLock::new());
    server::start_async(move |_| {
        let begin = *first.get_or_init(Instant::now) + QUIET;
        async move {
            let now = Instant::now();
            if now >= begin && now < begin + STALL {
                tokio::time::sleep_until((begin + STALL).into()).await;
            }
            server::json(200)
        }
    })
}

#[test]
fn a_stall_is_in_the_percentiles() {
    // 300 ms of 1500 are a fifth of all requests: those due in them waited for 150 ms in the middle.
    let options = ["--seconds", "1.5", "--rate", "200", "--concurrency", "4"];
    let open = load(stalling(), &options);
    assert_eq!(
        (&open["mode"], &open["due"], &open["requests"]),
        (&"open".into(), &300.into(), &300.into()),
        "{open}"
    );
    assert!(open["p99_ms"].as_f64() > Some(270.0), "the stall is not seen: {open}");
    assert!(open["p90_ms"].as_f64() > Some(100.0), "those that waited behind it are not seen: {open}");
    assert!(open["p50_ms"].as_f64() < Some(100.0), "{open}");
    // With four at a time, all others of the stall were sent after it.
    assert!(open["late"].as_u64() > Some(40), "{open}");
    assert!(open["send_delay_ms"]["max"].as_f64() > Some(250.0), "{open}");
}

#[test]
fn a_closed_loop_asks_seldom_while_the_server_stands_still() {
    let closed = load(stalling(), &["--seconds", "1.5", "--concurrency", "4"]);
    assert_eq!((&closed["mode"], &closed["due"]), (&"closed".into(), &().into()));
    assert!(closed["max_ms"].as_f64() > Some(270.0), "{closed}");
    assert!(
        closed["p99_ms"].as_f64() < Some(100.0),
        "four of thousands cannot be one of a hundred: {closed}"
    );
}

#[test]
fn what_was_not_sent_is_told() {
    let slow = server::start_async(|_| async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        server::json(200)
    });
    let report = load(slow, &["--seconds", "0.5", "--rate", "100", "--concurrency", "1"]);
    let of = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(of("due"), 50, "{report}");
    assert!((2..=3).contains(&of("requests")), "{report}");
    assert_eq!(of("requests") + of("errors") + of("dropped"), of("due"), "{report}");
    let wide = load(slow, &["--seconds", "0.5", "--rate", "100", "--concurrency", "60"]);
    let of = |key: &str| wide[key].as_u64().unwrap();
    assert_eq!((of("due"), of("errors"), of("requests") + of("dropped")), (50, 0, 50), "{wide}");
    assert!(of("requests") > 45, "a busy machine may drop the last ones: {wide}");
}

#[test]
fn a_window_begins_without_the_backlog_of_its_warm_up() {
    let slow = server::start_async(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server::json(200)
    });
    let options = ["--warm-up", "1", "--seconds", "0.5", "--rate", "100", "--concurrency", "1"];
    let report = load_warm(slow, &options);
    let of = |value: &serde_json::Value| value.as_u64().unwrap();
    assert_eq!(of(&report["due"]), 50, "{report}");
    assert!((3..=6).contains(&of(&report["requests"])), "the window was spent on the backlog: {report}");
    assert_eq!(of(&report["requests"]) + of(&report["dropped"]), 50, "{report}");
    let warm_up = &report["warm_up"];
    assert_eq!(of(&warm_up["requests"]) + of(&warm_up["dropped"]), 100, "{report}");
    assert!(of(&warm_up["dropped"]) > 80, "{report}");
}

#[test]
fn the_rate_is_that_of_all_threads() {
    let address = server::start(|_| server::json(200));
    let options = ["--warm-up", "0.25", "--seconds", "0.5", "--rate", "333", "--threads", "3"];
    let report = load_warm(address, &options);
    // Those of 0.75 seconds from the first moment, without those of the first quarter. A busy machine may drop the last one
    // of either.
    let of =
        |part: &serde_json::Value| part["requests"].as_u64().unwrap() + part["dropped"].as_u64().unwrap();
    assert_eq!((&report["due"], of(&report)), (&166.into(), 166), "{report}");
    assert_eq!(of(&report["warm_up"]), 84, "{report}");
    assert!(report["requests"].as_u64().unwrap() > 150, "{report}");
}

/// The keys that a server saw, and how often.
fn keys_seen(options: &[&str]) -> (serde_json::Value, usize, BTreeSet<String>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server_seen = seen.clone();
    let address = server::start(move |request| {
        server_seen.lock().unwrap().push(request.headers()["authorization"].to_str().unwrap().to_owned());
        server::json(200)
    });
    let report = load(address, options);
    let seen = seen.lock().unwrap();
    (report, seen.len(), seen.iter().cloned().collect())
}

#[test]
fn every_key_of_a_file_is_used_once() {
    let path = std::env::temp_dir().join(format!("load-keys-{}", std::process::id()));
    let keys: Vec<String> = (0..100).map(|number| format!("sk-{number}")).collect();
    std::fs::write(&path, keys.join("\n") + "\n").unwrap();
    let file = path.to_str().unwrap();
    let wanted: BTreeSet<_> = keys.iter().map(|key| format!("Bearer {key}")).collect();
    for more in [
        &[][..],
        &["--rate", "500"],
        &["--threads", "3"],
        &["--threads", "3", "--rate", "500", "--http", "2"],
    ] {
        let began = Instant::now();
        let (report, sent, seen) =
            keys_seen(&[&["--keys", file, "--seconds", "60", "--concurrency", "8"], more].concat());
        assert_eq!((&report["requests"], sent, &seen), (&100.into(), 100, &wanted), "{more:?}: {report}");
        assert!(began.elapsed() < Duration::from_secs(20), "{more:?}: it did not end after the last key");
    }
    std::fs::remove_file(path).unwrap();
    let (_, sent, seen) = keys_seen(&["--random-keys", "--requests", "50"]);
    assert_eq!((sent, seen.len()), (50, 50));
}
