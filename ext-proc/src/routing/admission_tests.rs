use super::*;
use crate::routing::tests::{deployment, snapshot};

#[test]
fn an_id_is_read_back_for_its_own_call() {
    for call_id in ["call-1", "a/b:c", ""] {
        for again in [0, 2] {
            let slot = Slot { minute: 29_384_756, call_id, pass: 3, again };
            assert_eq!(Slot::parse(&slot.id(), call_id), Some(slot));
        }
    }
    for id in ["1/call-2/0", "x/call-1/0", "1/call-1", "1/call-1/d", "call-1"] {
        assert_eq!(Slot::parse(id, "call-1"), None, "{id}");
    }
}

fn limited() -> Deployment {
    let mut d = deployment("d", "g");
    (d.rpm, d.tpm, d.max_parallel) = (Some(5), Some(700), Some(2));
    d.budget = Some(Budget { limit: 9_000, period: Duration::from_secs(86_400) });
    d.meta.price = Some(Price::per_token(2_000_000, 3_000_000));
    d
}

#[test]
fn charges_name_deployment_and_window_and_the_strategy_ranks_by_the_first() {
    let (s, d) = (snapshot(vec![]), limited());
    let meter = Meter::new(&s, 2_880);
    let lease = Duration::from_secs(100);
    let estimate = Estimate { input: 40, completion: 60 };
    let charges = |strategy| {
        let charges = meter.reserve(&d, &kinds(&s, &strategy, &d), estimate, d.meta.price.as_ref(), lease);
        charges.into_iter().map(|c| (c.counter.to_string(), c.amount, c.limit)).collect::<Vec<_>>()
    };
    let all = charges(Strategy::UsageBased);
    assert_eq!(all[0], ("dep:d:tpm:2880".into(), 100, Some(700)));
    assert_eq!(all[1], ("dep:d:rpm:2880".into(), 1, Some(5)));
    assert_eq!(all[2], ("dep:d:in_flight:0".into(), 1, Some(2)));
    assert_eq!(all[3], ("dep:d:budget:2".into(), 260, Some(9_000)), "the third day, nano-dollars");
    assert_eq!(charges(Strategy::LeastBusy)[0].0, "dep:d:in_flight:0");
    let shuffled = charges(Strategy::SimpleShuffle);
    assert_eq!(shuffled.len(), 2, "rpm and tpm are weights: {shuffled:?}");
}

#[test]
fn shuffle_enforces_limits_when_told_to() {
    let mut s = snapshot(vec![]);
    let mut d = deployment("d", "g");
    d.rpm = Some(5);
    assert!(!is_limited(&s, &Strategy::SimpleShuffle, &d));
    s.enforce_limits = true;
    assert!(is_limited(&s, &Strategy::SimpleShuffle, &d));
    d.rpm = None;
    assert!(!is_limited(&s, &Strategy::UsageBased, &d), "counted, but never full");
}

#[test]
fn places_in_flight_are_given_back_and_the_rest_is_what_it_came_to() {
    let (s, d) = (snapshot(vec![]), limited());
    let meter = Meter::new(&s, 2_880);
    let used = Used { requests: 1, tokens: 33, nanos: 7 };
    let actual = meter.actual(&d, &kinds(&s, &Strategy::LeastBusy, &d), used);
    let actual: Vec<_> = actual.into_iter().map(|c| (c.counter.to_string(), c.amount)).collect();
    let want = [("dep:d:rpm:2880", 1), ("dep:d:tpm:2880", 33), ("dep:d:budget:2", 7)];
    assert_eq!(actual, want.map(|(name, amount)| (name.to_owned(), amount)));
}

#[test]
fn the_wait_is_until_the_window_ends() {
    let (s, d) = (snapshot(vec![]), limited());
    let meter = Meter::new(&s, 2_880);
    let now = 2_880 * 60_000 + 17_500;
    assert_eq!(meter.wait(&d, Kind::Rpm, now), 43);
    assert_eq!(meter.wait(&d, Kind::InFlight, now), 1);
    assert_eq!(meter.wait(&d, Kind::Budget, now), 86_400 - 17);
}

#[test]
fn a_provider_has_one_counter_for_all_its_deployments() {
    let (a, b) = (deployment("a", "g"), deployment("b", "g"));
    let mut s = snapshot(vec![crate::routing::tests::group("g", vec![a, b])]);
    let budget = Budget { limit: 1, period: Duration::from_secs(3_600) };
    s.provider_budgets.insert("openai".into(), budget);
    let meter = Meter::new(&s, 60);
    for id in ["a", "b"] {
        let d = &s.deployments[id];
        let kinds = kinds(&s, &Strategy::SimpleShuffle, d);
        let charges = meter.reserve(d, &kinds, Estimate::default(), None, Duration::ZERO);
        assert_eq!(charges[0].counter.to_string(), "provider:openai:budget:1");
    }
}
