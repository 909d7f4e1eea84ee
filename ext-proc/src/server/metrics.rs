//! Counters of this process as Prometheus text. What Envoy can count itself is in Envoy's own stats.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::app::App;
use crate::routing::{Breaker, Verdict};

/// Upper bounds of the decision time histogram, microseconds.
const BUCKETS_US: [u64; 10] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000];
/// Values of the label `result`.
const RESULTS: [&str; 7] =
    ["allowed", "key_refused", "model_denied", "model_unknown", "limited", "unavailable", "error"];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    streams: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    decisions: [AtomicU64; RESULTS.len()],
    usage_records: AtomicU64,
    usage_duplicates: AtomicU64,
    unsettled: AtomicU64,
    time: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Metrics {
    pub(super) fn stream(&self) {
        add(&self.streams, 1);
    }

    pub(super) fn received(&self) {
        add(&self.received, 1);
    }

    pub(super) fn sent(&self) {
        add(&self.sent, 1);
    }

    pub(super) fn decided(&self, verdict: &Verdict, took: Duration) {
        let result = match verdict {
            Ok(_) => 0,
            Err(error) => match error.status {
                401 => 1,
                403 => 2,
                404 => 3,
                429 => 4,
                503 => 5,
                _ => 6,
            },
        };
        add(&self.decisions[result], 1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_US.iter().position(|&bound| micros <= bound) {
            add(&self.time.buckets[bucket], 1);
        }
        add(&self.time.count, 1);
        add(&self.time.sum_us, micros);
    }

    pub(super) fn usage(&self, records: usize, duplicates: usize) {
        add(&self.usage_records, records as u64);
        add(&self.usage_duplicates, duplicates as u64);
    }

    pub(super) fn unsettled(&self) {
        add(&self.unsettled, 1);
    }
}

/// Everything as Prometheus text.
pub(super) fn render(app: &App) -> String {
    let mut out = String::with_capacity(4 * 1024);
    let m = &app.metrics;
    counter(&mut out, "ext_proc_streams_total", "ext_proc streams opened by Envoy.", get(&m.streams));
    counter(&mut out, "ext_proc_messages_received_total", "ext_proc messages from Envoy.", get(&m.received));
    counter(&mut out, "ext_proc_messages_sent_total", "ext_proc messages to Envoy.", get(&m.sent));
    head(&mut out, "decisions_total", "counter", "Decisions by result.");
    for (result, count) in RESULTS.iter().zip(&m.decisions) {
        line(&mut out, &format!("decisions_total{{result=\"{result}\"}}"), get(count));
    }
    histogram(&mut out, &m.time);
    counter(&mut out, "usage_records_total", "Usage records received.", get(&m.usage_records));
    let help = "Usage records received again.";
    counter(&mut out, "usage_duplicates_total", help, get(&m.usage_duplicates));
    let help = "Reservations left to their lease because the counters were away.";
    counter(&mut out, "reservations_unsettled_total", help, get(&m.unsettled));
    let books = app.books.status();
    gauge(&mut out, "spool_pending", "Usage rows not in the database yet.", books.pending);
    let age = books.oldest_age.unwrap_or_default().as_secs();
    gauge(&mut out, "spool_oldest_seconds", "Age of the oldest of them.", age);
    head(&mut out, "store_degraded", "gauge", "1 while a store is away and its stand-in works.");
    for (store, degraded) in [("database", app.stores.database_away()), ("counters", app.counters.degraded())]
    {
        line(&mut out, &format!("store_degraded{{store=\"{store}\"}}"), u64::from(degraded));
    }
    cooldowns(&mut out, app);
    gauge(&mut out, "draining", "1 after SIGTERM.", u64::from(app.is_draining()));
    gauge(&mut out, "ready", "1 while an Envoy has acknowledged the clusters.", u64::from(app.envoy.ready()));
    gauge(&mut out, "config_generation", "Snapshot in force.", app.snapshot.load().generation);
    let help = "Configurations refused: the one in force stayed.";
    counter(&mut out, "config_reload_failures_total", help, app.reloads.failures());
    out
}

fn cooldowns(out: &mut String, app: &App) {
    let help = "Cooldowns begun or learnt from other replicas.";
    counter(out, "cooldowns_total", help, app.breakers.opened());
    head(out, "deployment_cooling", "gauge", "1 while a deployment cools down.");
    let (snapshot, now) = (app.snapshot.load(), crate::routing::now_ms());
    let mut ids: Vec<&String> = snapshot.deployments.keys().collect();
    ids.sort();
    for id in ids {
        let cooling = u64::from(matches!(app.breakers.state(id, now), Breaker::Open { .. }));
        line(out, &format!("deployment_cooling{{deployment=\"{}\"}}", escaped(id)), cooling);
    }
}

fn histogram(out: &mut String, time: &Histogram) {
    head(out, "decision_seconds", "histogram", "Time to decide.");
    let mut below = 0;
    for (bound, bucket) in BUCKETS_US.iter().zip(&time.buckets) {
        below += get(bucket);
        line(out, &format!("decision_seconds_bucket{{le=\"{}\"}}", seconds(*bound)), below);
    }
    let count = get(&time.count);
    line(out, "decision_seconds_bucket{le=\"+Inf\"}", count);
    let _ = writeln!(out, "attache_decision_seconds_sum {}", seconds(get(&time.sum_us)));
    line(out, "decision_seconds_count", count);
}

#[expect(clippy::cast_precision_loss, reason = "seconds for a graph")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, "counter", help);
    line(out, name, value);
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, "gauge", help);
    line(out, name, value);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP attache_{name} {help}\n# TYPE attache_{name} {kind}");
}

fn line(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "attache_{name} {value}");
}
