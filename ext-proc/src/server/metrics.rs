//! Counters of this process as Prometheus text. What Envoy can count itself is in Envoy's own stats.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attache_llm::class::ErrorClass;
use attache_llm::contract::Ask;

use super::app::App;
use super::lease_metrics::LeaseMetrics;
use super::limit_metrics::LimitMetrics;
use super::price_metrics::PriceMetrics;
use super::{credential_metrics, ledger_metrics};
use crate::routing::{Breaker, Deployment, Verdict};

/// Upper bounds of the decision time histogram, microseconds.
const BUCKETS_US: [u64; 10] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000];
/// Values of the label `result`.
const RESULTS: [&str; 7] =
    ["allowed", "key_refused", "model_denied", "model_unknown", "limited", "unavailable", "error"];

/// [`attache_llm::error::ApiError::all_in_cooldown`].
const ALL_COOLING: &str = "all_deployments_in_cooldown";
/// Values of the label `result` of admissions, as in [`Admission`].
const ADMISSIONS: [&str; 3] = ["admitted", "full", "none"];

/// What asking for a place came to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Admission {
    Admitted,
    /// Every deployment is at its limit.
    Full,
    /// There was nothing to count.
    None,
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    streams: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    batches: AtomicU64,
    questions: AtomicU64,
    answers: AtomicU64,
    decisions: [AtomicU64; RESULTS.len()],
    usage_records: AtomicU64,
    usage_duplicates: AtomicU64,
    unsettled: AtomicU64,
    admissions: [AtomicU64; ADMISSIONS.len()],
    replans: [AtomicU64; ErrorClass::ALL.len()],
    time: Histogram,
    pub(super) leases: LeaseMetrics,
    pub(super) limits: LimitMetrics,
    pub(super) prices: PriceMetrics,
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

    /// One call with the questions of many requests.
    pub(super) fn batch(&self) {
        add(&self.batches, 1);
    }

    /// A question, whichever way it came.
    pub(super) fn question(&self) {
        add(&self.questions, 1);
    }

    pub(super) fn answer(&self) {
        add(&self.answers, 1);
    }

    pub(super) fn decided(&self, ask: &Ask, verdict: &Verdict, took: Duration) {
        if let Some(last) = ask.replan.as_ref().and_then(|replan| replan.tried.last())
            && let Some(class) = ErrorClass::ALL.iter().position(|class| *class == last.class)
        {
            add(&self.replans[class], 1);
        }
        match verdict {
            Ok(decision) => decision.alerts.iter().for_each(|alert| self.limits.alert(alert)),
            Err(error) => self.limits.refused(error),
        }
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
        // A group that is out of service is refused as 429 too, but nobody asked for a place there.
        if let Err(error) = verdict
            && error.status == 429
            && error.kind != ALL_COOLING
            && error.limit.is_none()
        {
            self.admission(Admission::Full);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_US.iter().position(|&bound| micros <= bound) {
            add(&self.time.buckets[bucket], 1);
        }
        add(&self.time.count, 1);
        add(&self.time.sum_us, micros);
    }

    pub(super) fn admission(&self, result: Admission) {
        add(&self.admissions[result as usize], 1);
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
    counter(&mut out, "questions_total", "Requests and passes asked about.", get(&m.questions));
    counter(&mut out, "answers_total", "Questions answered.", get(&m.answers));
    counter(&mut out, "decide_calls_total", "Calls with questions of many requests.", get(&m.batches));
    counter(&mut out, "ext_proc_streams_total", "ext_proc streams opened by Envoy.", get(&m.streams));
    counter(&mut out, "ext_proc_messages_received_total", "ext_proc messages from Envoy.", get(&m.received));
    counter(&mut out, "ext_proc_messages_sent_total", "ext_proc messages to Envoy.", get(&m.sent));
    head(&mut out, "decisions_total", "counter", "Decisions by result.");
    for (result, count) in RESULTS.iter().zip(&m.decisions) {
        line(&mut out, &format!("decisions_total{{result=\"{result}\"}}"), get(count));
    }
    histogram(&mut out, &m.time);
    head(&mut out, "admissions_total", "counter", "Places asked for at deployments, by result.");
    for (result, count) in ADMISSIONS.iter().zip(&m.admissions) {
        line(&mut out, &format!("admissions_total{{result=\"{result}\"}}"), get(count));
    }
    head(&mut out, "replans_total", "counter", "Further plans for a request, by the last error.");
    for (class, count) in ErrorClass::ALL.iter().zip(&m.replans) {
        line(&mut out, &format!("replans_total{{class=\"{}\"}}", class.name()), get(count));
    }
    counter(&mut out, "usage_records_total", "Usage records received.", get(&m.usage_records));
    let help = "Usage records received again.";
    counter(&mut out, "usage_duplicates_total", help, get(&m.usage_duplicates));
    let help = "Reservations left to their lease because the counters were away.";
    counter(&mut out, "reservations_unsettled_total", help, get(&m.unsettled));
    let help = "Counters of budgets moved to what the ledger says.";
    counter(&mut out, "budget_corrections_total", help, app.doubts.corrections());
    let help = "Counters of budgets that are being compared with the ledger.";
    gauge(&mut out, "budgets_in_doubt", help, app.doubts.len());
    m.leases.render(&mut out);
    m.limits.render(&mut out);
    m.prices.render(&mut out);
    ledger_metrics::render(&mut out, &app.books);
    credential_metrics::render(&mut out, &app.keyring);
    head(&mut out, "store_degraded", "gauge", "1 while a store is away and its stand-in works.");
    for (store, degraded) in
        [("database", app.stores.database_away()), ("counters", app.routing.counters.degraded())]
    {
        line(&mut out, &format!("store_degraded{{store=\"{store}\"}}"), u64::from(degraded));
    }
    keys(&mut out, app);
    deployments(&mut out, app);
    gauge(&mut out, "draining", "1 after SIGTERM.", u64::from(app.is_draining()));
    gauge(&mut out, "ready", "1 while an Envoy has acknowledged the clusters.", u64::from(app.envoy.ready()));
    gauge(&mut out, "config_generation", "Snapshot in force.", app.snapshot.load().generation);
    let help = "Configurations refused: the one in force stayed.";
    counter(&mut out, "config_reload_failures_total", help, app.reloads.failures());
    out
}

fn keys(out: &mut String, app: &App) {
    let figures = app.keys.figures();
    let help = "Reads of keys, teams, users and the like.";
    counter(out, "directory_queries_total", help, figures.queries);
    let help = "Entities asked for in these reads.";
    counter(out, "directory_lookups_total", help, figures.asked);
    head(out, "directory_entries", "gauge", "Entities in the cache, and entries about what nobody stored.");
    line(out, "directory_entries{known=\"yes\"}", figures.known);
    line(out, "directory_entries{known=\"no\"}", figures.unknown);
    gauge(out, "directory_bytes", "Memory of entities in the cache, about.", figures.known_bytes);
    gauge(out, "directory_waiting", "Entities that lookups wait for.", figures.waiting);
}

fn deployments(out: &mut String, app: &App) {
    let (snapshot, now, routing) = (app.snapshot.load(), crate::routing::now_ms(), &app.routing);
    let help = "Circuit breakers opened here or by another replica.";
    counter(out, "cooldowns_total", help, routing.breakers.opened());
    let mut all: Vec<&Deployment> = snapshot.deployments.values().map(|deployment| &**deployment).collect();
    all.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
    head(out, "deployment_state", "gauge", "Circuit breaker: 0 closed, 1 half-open, 2 open.");
    let states: Vec<_> = all.iter().map(|d| routing.breakers.state(&d.meta.id, now)).collect();
    for (deployment, state) in all.iter().zip(&states) {
        let value = match state {
            Breaker::Closed => 0,
            Breaker::HalfOpen => 1,
            Breaker::Open { .. } => 2,
        };
        let (id, group) = (escaped(&deployment.meta.id), escaped(&deployment.meta.group));
        line(out, &format!("deployment_state{{deployment=\"{id}\",model_group=\"{group}\"}}"), value);
    }
    per_deployment(
        out,
        ("deployment_cooling", "gauge", "1 while a deployment is out of service."),
        all.iter()
            .zip(&states)
            .map(|(d, state)| (&*d.meta.id, u64::from(matches!(state, Breaker::Open { .. })))),
    );
    let probes =
        all.iter().filter_map(|d| Some((&*d.meta.id, u64::from(routing.probes.get(&d.meta.id)?.healthy))));
    per_deployment(out, ("deployment_probe", "gauge", "Last background probe: 1 healthy, 0 not."), probes);
    let failures = routing.breakers.credential_failures();
    let help = "Answers 401 and 403 of a deployment's provider.";
    let failures = failures.iter().map(|(id, count)| (id.as_str(), *count));
    per_deployment(out, ("credential_failures_total", "counter", help), failures);
}

fn per_deployment<'a>(
    out: &mut String,
    (name, kind, help): (&str, &str, &str),
    values: impl Iterator<Item = (&'a str, u64)>,
) {
    head(out, name, kind, help);
    for (id, value) in values {
        line(out, &format!("{name}{{deployment=\"{}\"}}", escaped(id)), value);
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
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

pub(super) fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, "counter", help);
    line(out, name, value);
}

pub(super) fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, "gauge", help);
    line(out, name, value);
}

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP attache_{name} {help}\n# TYPE attache_{name} {kind}");
}

pub(super) fn line(out: &mut String, name: &str, value: u64) {
    let _ = writeln!(out, "attache_{name} {value}");
}
