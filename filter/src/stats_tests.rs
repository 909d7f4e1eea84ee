use std::cell::RefCell;

use super::*;

/// Names and values of metrics; an id is an index.
#[derive(Default)]
struct Recorder(RefCell<Vec<(String, i64)>>);

impl Recorder {
    fn define(&self, name: &str) -> Option<u32> {
        let mut metrics = self.0.borrow_mut();
        assert!(metrics.iter().all(|(known, _)| known != name), "{name} defined twice");
        metrics.push((name.to_owned(), 0));
        u32::try_from(metrics.len() - 1).ok()
    }
}

impl Meter for &Recorder {
    fn counter(&self, name: &str) -> Option<u32> {
        self.define(name)
    }

    fn gauge(&self, name: &str) -> Option<u32> {
        self.define(name)
    }

    fn histogram(&self, name: &str) -> Option<u32> {
        self.define(name)
    }

    fn add(&self, id: u32, amount: i64) {
        self.0.borrow_mut()[id as usize].1 += amount;
    }

    fn record(&self, id: u32, value: u64) {
        self.0.borrow_mut()[id as usize].1 = i64::try_from(value).unwrap();
    }
}

impl Recorder {
    fn value(&self, name: &str) -> Option<i64> {
        self.0.borrow().iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

#[test]
fn names_are_as_documented_and_defined_once() {
    let recorder = Recorder::default();
    let mut stats = Stats::new(&recorder);
    stats.learn_group("gpt-4.1");
    stats.request("gpt-4.1", "success");
    stats.request("gpt-4.1", "success");
    stats.attempt("gpt-4.1", "d1", "complete");
    stats.count_deployment("tokens_input", "gpt-4.1", "d1", 7);
    stats.count_group("fallbacks", "gpt-4.1", 1);
    stats.observe_group("ttft_ms", "gpt-4.1", 12);
    stats.error_class("gpt-4.1", "d1", "rate_limit");
    stats.replan("gpt-4.1", "context_window");
    stats.auth("ok");
    stats.count("key_lookups", 1);
    for (name, value) in [
        ("attache.requests.group.gpt-4_1.outcome.success", 2),
        ("attache.attempts.group.gpt-4_1.deployment.d1.outcome.complete", 1),
        ("attache.tokens_input.group.gpt-4_1.deployment.d1", 7),
        ("attache.fallbacks.group.gpt-4_1", 1),
        ("attache.ttft_ms.group.gpt-4_1", 12),
        ("attache.error_class.group.gpt-4_1.deployment.d1.class.rate_limit", 1),
        ("attache.replans.group.gpt-4_1.class.context_window", 1),
        ("attache.auth.result.ok", 1),
        ("attache.key_lookups", 1),
    ] {
        assert_eq!(recorder.value(name), Some(value), "{name}");
    }
}

#[test]
fn model_names_that_clients_make_up_share_one_label() {
    let recorder = Recorder::default();
    let mut stats = Stats::new(&recorder);
    for n in 0..50 {
        stats.request(&format!("made-up-{n}"), "refused");
    }
    assert_eq!(recorder.value("attache.requests.group.other.outcome.refused"), Some(50));
    assert_eq!(recorder.0.borrow().len(), 1);
}

#[test]
fn labels_are_bounded() {
    let recorder = Recorder::default();
    let mut stats = Stats::new(&recorder);
    for n in 0..MAX_LABELS + 5 {
        stats.attempt("g", &format!("d{n}"), "complete");
    }
    assert_eq!(recorder.value("attache.attempts.group.g.deployment.other.outcome.complete"), Some(5));
}

#[test]
fn nothing_counted_defines_nothing() {
    let recorder = Recorder::default();
    let mut stats = Stats::new(&recorder);
    stats.count_group("retries", "g", 0);
    stats.count("usage_dumped", 0);
    assert!(recorder.0.borrow().is_empty());
}

#[test]
fn workers_share_the_pending_gauge() {
    let recorder = Recorder::default();
    let mut stats = Stats::new(&recorder);
    stats.usage_pending(5);
    stats.usage_pending(2);
    assert_eq!(recorder.value("attache.usage_pending"), Some(2));
    stats.usage_pending(0);
    assert_eq!(recorder.value("attache.usage_pending"), Some(0));
}
