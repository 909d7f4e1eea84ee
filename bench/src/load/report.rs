//! The result as JSON. bench/README.md explains every key; they stay as they are.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::args::Plan;
use super::procs::Sample;
use super::seen::{Seen, Times};

const MICROS_PER_MILLI: f64 = 1000.0;

/// A process at both ends of the window.
pub(super) struct Used {
    pub name: String,
    pub pid: u32,
    pub before: Sample,
    /// `None`: it was gone.
    pub after: Option<Sample>,
}

/// What a run came to.
pub(super) struct Outcome {
    pub seen: Seen,
    /// Of the window, which ends early when there are no more requests.
    pub window: Duration,
    pub connects: u64,
    pub processes: Vec<Used>,
    /// The generator itself.
    pub own: Used,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
pub(super) fn json(plan: &Plan, outcome: &Outcome) -> Value {
    let seen = &outcome.seen;
    let seconds = outcome.window.as_secs_f64();
    let processes: Map<_, _> =
        outcome.processes.iter().map(|used| (used.name.clone(), process(used, seen.ended))).collect();
    let mut report = json!({
        "requests": seen.good, "errors": seen.errors, "rps": rounded(seen.good_ended as f64 / seconds, 10.0),
        "bad": seen.bad,
    });
    flat(&mut report, "", &seen.total);
    flat(&mut report, "first_byte_", &seen.first_byte);
    let more = json!({
        "first_event_ms": nested(&seen.first_event), "gap_ms": nested(&seen.gap), "events": seen.events,
        "statuses": seen.statuses, "failures": seen.failures,
        "rate_limited": {"count": seen.limited, "with_retry_after": seen.limited_with_retry_after},
        "mode": if plan.rate.is_some() { "open" } else { "closed" }, "rate": plan.rate,
        "due": plan.rate.map(|_| seen.due), "late": seen.late, "dropped": seen.dropped, "send_delay_ms": nested(&seen.delay),
        "url": plan.target.url(), "http": plan.http, "tls": plan.target.tls, "stream": plan.end_mark.is_some(),
        "concurrency": plan.concurrency, "connections": plan.connections, "connects": outcome.connects,
        "threads": plan.threads, "body_bytes": plan.template.body.len(), "bytes_received": seen.bytes,
        "seconds": rounded(seconds, 1000.0),
        "warm_up": {"requests": seen.warm_up.requests, "errors": seen.warm_up.errors, "dropped": seen.warm_up.dropped},
        "processes": processes, "generator": process(&outcome.own, seen.ended),
    });
    merge(&mut report, more);
    report
}

/// Percentiles as keys of their own: `p50_ms` and so on, `null` when nothing was seen.
fn flat(report: &mut Value, prefix: &str, times: &Times) {
    for (name, value) in figures(times) {
        report[format!("{prefix}{name}_ms")] = json!(value);
    }
}

fn nested(times: &Times) -> Value {
    figures(times)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// Milliseconds.
fn figures(times: &Times) -> [(&'static str, Option<f64>); 7] {
    let times = &times.0;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of at most an hour")]
    let at =
        |quantile| (!times.is_empty()).then(|| times.value_at_quantile(quantile) as f64 / MICROS_PER_MILLI);
    let mean = (!times.is_empty()).then(|| rounded(times.mean() / MICROS_PER_MILLI, 1000.0));
    [
        ("p50", at(0.5)),
        ("p90", at(0.9)),
        ("p95", at(0.95)),
        ("p99", at(0.99)),
        ("p999", at(0.999)),
        ("max", at(1.0)),
        ("mean", mean),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
fn process(used: &Used, ended: u64) -> Value {
    let cpu = used.after.map(|after| after.cpu.saturating_sub(used.before.cpu).as_secs_f64());
    let per_request = cpu.filter(|_| ended > 0).map(|cpu| rounded(cpu * 1e6 / ended as f64, 10.0));
    json!({
        "pid": used.pid, "cpu_us_per_request": per_request, "cpu_seconds": cpu.map(|cpu| rounded(cpu, 1000.0)),
        "rss_bytes": used.after.map(|after| after.rss), "rss_bytes_before": used.before.rss,
        "peak_rss_bytes": used.after.map(|after| after.peak_rss),
    })
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

fn merge(report: &mut Value, more: Value) {
    if let (Value::Object(report), Value::Object(more)) = (report, more) {
        report.extend(more);
    }
}
