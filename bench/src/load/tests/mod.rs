//! The generator against servers that misbehave in known ways.

mod faults;
mod open_loop;
mod protocols;
mod server;
mod streams;

use std::net::SocketAddr;

use clap::Parser;
use serde_json::Value;

use super::{Args, run};

/// What a run with these options reports, without a warm-up.
fn load(address: SocketAddr, options: &[&str]) -> Value {
    load_warm(address, &[&["--warm-up", "0"], options].concat())
}

fn load_warm(address: SocketAddr, options: &[&str]) -> Value {
    let target = address.to_string();
    let all = [&["load", "--target", &target], options].concat();
    run(Args::try_parse_from(all).unwrap().plan().unwrap()).unwrap()
}

/// Why a command line is refused.
fn refused(options: &[&str]) -> String {
    match Args::try_parse_from([&["load"], options].concat()) {
        Ok(args) => args.plan().map(drop).expect_err("it was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let at = ["--target", "127.0.0.1:1"];
    for (options, wanted) in [
        (&[][..], "--url <URL>"),
        (&["--url", "127.0.0.1:4000"], "http(s)://"),
        (&["--url", "http://127.0.0.1:1", "--target", "127.0.0.1:1"], "cannot be used with"),
        (&["--url", "https://127.0.0.1:1", "--tls"], "--tls is for --target"),
        (&[at[0], at[1], "--cacert", "none.pem"], "--cacert needs TLS"),
        (&[at[0], at[1], "--tls", "--cacert", "/nowhere.pem"], "--cacert /nowhere.pem"),
        (&[at[0], at[1], "--tls", "--cacert", "/proc/self/stat"], "no certificate in it"),
        (&[at[0], at[1], "--http", "3"], "1..=2"),
        (&[at[0], at[1], "--rate=-5"], "--rate -5"),
        (&[at[0], at[1], "--rate", "NaN"], "--rate NaN"),
        (&[at[0], at[1], "--concurrency", "0"], "--concurrency 0: want at least 1"),
        (&[at[0], at[1], "--concurrency", "1", "--threads", "2"], "--threads 2"),
        (&[at[0], at[1], "--connections", "2"], "--connections is for --http 2"),
        (&[at[0], at[1], "--http", "2", "--connections", "33"], "--connections 33: more than"),
        (&[at[0], at[1], "--seconds", "0"], "--seconds 0: want positive seconds"),
        (&[at[0], at[1], "--warm-up", "NaN"], "--warm-up NaN"),
        (&[at[0], at[1], "--requests", "0"], "--requests 0"),
        (&[at[0], at[1], "--keys", "/nowhere"], "--keys /nowhere"),
        (&[at[0], at[1], "--keys", "/dev/null"], "no key in it"),
        (&[at[0], at[1], "--body-file", "/nowhere"], "--body-file /nowhere"),
        (&[at[0], at[1], "--script", "a\nb"], "--script"),
        (&[at[0], at[1], "--header", "host: me"], "sets `host` itself"),
        (&[at[0], at[1], "--pid", "envoy"], "NAME=PID"),
    ] {
        let told = refused(options);
        assert!(told.contains(wanted), "{options:?} was refused with {told}");
    }
    let args = Args::try_parse_from(["load", at[0], at[1], "--pid", "gone=4294967295"]).unwrap();
    assert!(run(args.plan().unwrap()).unwrap_err().contains("--pid gone"));
}

/// Keys with units; what scripts read stays.
const KEYS: [&str; 49] = [
    "requests",
    "errors",
    "rps",
    "bad",
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "mean_ms",
    "first_byte_p50_ms",
    "first_byte_p90_ms",
    "first_byte_p95_ms",
    "first_byte_p99_ms",
    "first_byte_p999_ms",
    "first_byte_max_ms",
    "first_byte_mean_ms",
    "first_event_ms",
    "gap_ms",
    "events",
    "statuses",
    "failures",
    "rate_limited",
    "mode",
    "rate",
    "due",
    "late",
    "dropped",
    "send_delay_ms",
    "url",
    "http",
    "tls",
    "stream",
    "concurrency",
    "connections",
    "connects",
    "threads",
    "body_bytes",
    "bytes_received",
    "seconds",
    "warm_up",
    "processes",
    "generator",
    "pid",
    "cpu_us_per_request",
    "cpu_seconds",
    "rss_bytes",
    "peak_rss_bytes",
];

#[test]
fn the_report_has_its_keys_and_the_readme_explains_them() {
    let address = server::start(|_| server::json(200));
    let own = format!("this={}", std::process::id());
    let report = load(address, &["--seconds", "0.3", "--pid", &own]);
    let readme = include_str!("../../../README.md");
    let process = &report["processes"]["this"];
    for key in KEYS {
        let there = report.get(key).or_else(|| process.get(key));
        assert!(there.is_some(), "{key} is not in {report}");
        let general = key.trim_start_matches("first_byte_");
        assert!(readme.contains(&format!("`{general}`")), "README.md does not explain {key}");
    }
    let known = |object: &Value| {
        object
            .as_object()
            .unwrap()
            .keys()
            .all(|key| KEYS.contains(&key.as_str()) || key == "rss_bytes_before")
    };
    assert!(known(&report) && known(process), "a key that no test knows: {report}");
    assert!(report["requests"].as_u64() > Some(10) && report["errors"] == 0, "{report}");
    assert!(
        process["cpu_us_per_request"].as_f64() > Some(0.0) && process["rss_bytes"].as_u64() > Some(100_000),
        "{report}"
    );
    let (p50, p99, max) = (report["p50_ms"].as_f64(), report["p99_ms"].as_f64(), report["max_ms"].as_f64());
    assert!(Some(0.0) < p50 && p50 <= p99 && p99 <= max, "{report}");
}
