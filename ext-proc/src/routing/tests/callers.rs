//! Limits and budgets of callers: asked with the deployments' in one admission, settled by what was used, told.

use attache_llm::price::Price;
use attache_llm::usage::Usage;

use super::*;
use crate::entity::{ModelBudget, Settings};
use crate::limits::{Owner, Rules};

const KEY: &str = "ab12";

/// One deployment with a limit of its own, at 1 nano-dollar a prompt token and 10 a completion token.
fn priced() -> Snapshot {
    let mut s = snapshot(vec![
        with_strategy(
            Strategy::UsageBased,
            "gpt",
            vec![change(deployment("a", "gpt"), |d| (d.rpm, d.meta.price) = (Some(3), Some(price())))],
        ),
        group("mini", vec![change(deployment("m", "mini"), |d| d.meta.price = Some(price()))]),
    ]);
    s.limits = Arc::new(Rules { budget_status: 429, ..Rules::default() });
    s
}

fn price() -> Price {
    Price::per_token(1_000_000, 10_000_000)
}

fn world(settings: Settings) -> World {
    World::new(priced()).with_key(KEY, |key| key.settings = settings)
}

fn of_call(call: &str) -> Ask {
    Ask { call_id: call.into(), ..ask(KEY, "gpt") }
}

async fn admitted(world: &World, call: &str) -> Decision {
    world.decide(&of_call(call)).await.unwrap()
}

fn used(prompt: u64, completion: u64) -> Option<Usage> {
    Some(Usage { prompt, completion, total: prompt + completion, ..Usage::default() })
}

/// The usage record of a decision that one deployment answered.
fn answered(decision: Decision, call: &str, usage: Option<Usage>) -> UsageRecord {
    let owner = decision.owner.clone();
    let attempts = vec![AttemptRecord { usage, ..attempt("a", AttemptOutcome::Complete, 200) }];
    let id = decision.reservation.hand_over();
    UsageRecord { call_id: call.into(), key: KEY.into(), owner, ..record(Some(id), attempts) }
}

/// Values of the counters of the first admission's required limits.
async fn counters(world: &World) -> Vec<u64> {
    let admission = world.fake.admitted.lock()[0].clone();
    let names: Vec<Counter> = admission.required.iter().map(|limited| limited.counter.clone()).collect();
    world.fake.values(&names).await.unwrap()
}

fn header<'a>(decision: &'a Decision, name: &str) -> Option<&'a str> {
    decision.response_headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn one_admission_charges_caller_and_deployment_or_neither() {
    let world = world(Settings { rpm_limit: Some(2), tpm_limit: Some(1_000), ..Settings::default() });
    for (call, left) in [("c1", "1"), ("c2", "0")] {
        let decision = admitted(&world, call).await;
        assert_eq!(header(&decision, "x-ratelimit-remaining-requests"), Some(left));
        let _ = decision.reservation.hand_over();
    }
    let error = world.decide(&of_call("c3")).await.unwrap_err();
    assert_eq!((error.status, &*error.kind), (429, "throttling_error"));
    let admissions = world.fake.admitted.lock().len();
    assert_eq!(admissions, 3, "one question per request");
    let minute = now_ms() / 60_000;
    let deployment = world.fake.values(&[Counter::new("dep:a:rpm", minute)]).await.unwrap();
    assert_eq!(deployment, [2], "what the key refuses costs the deployment nothing");
}

#[tokio::test]
async fn a_full_deployment_costs_the_caller_nothing() {
    let world = world(Settings { rpm_limit: Some(9), ..Settings::default() });
    for call in ["c1", "c2", "c3"] {
        let _ = admitted(&world, call).await.reservation.hand_over();
    }
    let error = world.decide(&of_call("c4")).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("all_deployments_at_limit"));
    assert_eq!(counters(&world).await, [3]);
}

#[tokio::test]
async fn settling_replaces_the_estimate_once() {
    let settings = Settings {
        rpm_limit: Some(9),
        tpm_limit: Some(1_000),
        max_budget_nanos: Some(5_000),
        ..Settings::default()
    };
    let world = world(settings);
    let decision = admitted(&world, "c1").await;
    assert_eq!(counters(&world).await, [640, 1, 100], "money, a request, tokens");
    let record = answered(decision, "c1", used(7, 3));
    assert_eq!(world.settle(&record).await, Settled::Done);
    assert_eq!(world.settle(&record).await, Settled::Before);
    assert_eq!(counters(&world).await, [37, 1, 10]);
}

#[tokio::test]
async fn dropping_a_decision_gives_everything_back() {
    let world = world(Settings { max_parallel_requests: Some(1), rpm_limit: Some(9), ..Settings::default() });
    drop(admitted(&world, "c1").await);
    tokio::task::yield_now().await;
    assert_eq!(counters(&world).await, [0, 0]);
}

#[tokio::test]
async fn a_budget_begins_with_what_the_ledger_says() {
    let mut world = world(Settings { max_budget_nanos: Some(5_000), ..Settings::default() });
    let stored = UsageSum { nanos: 4_999, ..UsageSum::default() };
    world.keys.used.insert(EntityRef::new(EntityKind::Key, KEY), stored);
    let decision = admitted(&world, "c1").await;
    assert_eq!(counters(&world).await, [5_000], "what is left is reserved");
    let _ = decision.reservation.hand_over();
    let error = world.decide(&of_call("c2")).await.unwrap_err();
    assert_eq!((error.status, &*error.kind), (429, "budget_exceeded"));
}

#[tokio::test]
async fn a_ledger_that_is_away_begins_with_nothing_or_refuses() {
    for closed in [false, true] {
        let mut world = world(Settings { max_budget_nanos: Some(5_000), ..Settings::default() });
        let rules = Rules { fail_closed_budgets: closed, ..Rules::default() };
        Arc::get_mut(&mut world.snapshot).unwrap().limits = Arc::new(rules);
        let key = world.keys.rows.get(KEY).unwrap().clone();
        // The key is known, its spend is not.
        world.keys =
            FakeKeys { rows: HashMap::from([(KEY.into(), key)]), no_usage: true, ..FakeKeys::default() };
        match world.decide(&of_call("c1")).await {
            Ok(_) => assert!(!closed),
            Err(error) => assert_eq!((error.status, closed), (503, true)),
        }
    }
}

#[tokio::test]
async fn counters_that_are_away_count_nothing_or_refuse() {
    for closed in [false, true] {
        let mut world = world(Settings { rpm_limit: Some(1), ..Settings::default() });
        let rules = Rules { fail_closed_limits: closed, ..Rules::default() };
        Arc::get_mut(&mut world.snapshot).unwrap().limits = Arc::new(rules);
        world.fake = Arc::new(FakeCounters { away: true, ..FakeCounters::default() });
        match world.decide(&of_call("c1")).await {
            Ok(decision) => {
                assert!(!closed && decision.response_headers.is_empty());
                let owner = decision.owner.as_deref().and_then(|owner| Owner::decode(owner, KEY));
                assert!(owner.is_none_or(|owner| !owner.counts_something()), "nothing is settled");
            }
            Err(error) => assert_eq!((error.status, closed), (503, true)),
        }
    }
}

#[tokio::test]
async fn a_later_pass_reserves_nothing_of_the_callers_and_the_end_settles_all() {
    let settings = Settings {
        rpm_limit: Some(1),
        max_parallel_requests: Some(1),
        max_budget_nanos: Some(5_000),
        ..Settings::default()
    };
    let world = world(settings);
    let first = admitted(&world, "c1").await;
    let (owner, reservation) = (first.owner.clone(), first.reservation.hand_over());
    let tried =
        Tried { deployment: "a".into(), group: "gpt".into(), class: ErrorClass::InternalServer, pass: 0 };
    let replan = Replan { pass: 1, reservation: Some(reservation), owner: owner.clone(), tried: vec![tried] };
    let second = world.decide(&Ask { replan: Some(replan), ..of_call("c1") }).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(second.owner, owner, "it travels on");
    assert_eq!(counters(&world).await, [640, 1, 1], "still held");
    let failed = attempt("a", AttemptOutcome::ErrorStatus, 500);
    let mut record = answered(second, "c1", used(7, 3));
    record.replans = 1;
    record.attempts[0].pass = 1;
    record.attempts.insert(0, failed);
    assert_eq!(world.settle(&record).await, Settled::Done);
    assert_eq!(counters(&world).await, [37, 0, 1], "money, no place, one request");
}

#[tokio::test]
async fn a_cheaper_model_answers_when_the_budget_is_used_up() {
    let settings = Settings {
        model_max_budget: [("gpt".into(), ModelBudget { limit_nanos: 0, duration: None })].into(),
        budget_fallbacks: [("gpt".into(), vec!["gpt".into(), "mini".into()])].into(),
        ..Settings::default()
    };
    let world = world(settings);
    let decision = admitted(&world, "c1").await;
    assert_eq!((decision.group.as_str(), deployments(&decision)), ("mini", vec!["m", "m", "m"]));
    let told = world.explain(&of_call("c2")).await.unwrap();
    assert_eq!((told.model.as_str(), told.group.as_str(), told.refusal), ("gpt", "mini", None));
}

#[tokio::test]
async fn audit_mode_and_soft_budgets_tell_and_refuse_nothing() {
    let audited = Settings { max_budget_nanos: Some(0), budget_audit: true, ..Settings::default() };
    let decision = admitted(&world(audited), "c1").await;
    assert_eq!(decision.alerts.iter().map(|a| (a.audit, a.limit)).collect::<Vec<_>>(), [(true, 0)]);
    let soft = world(Settings { soft_budget_nanos: Some(600), ..Settings::default() });
    let first = admitted(&soft, "c1").await;
    assert!(first.alerts.is_empty(), "what this request costs is not spent yet");
    let _ = first.reservation.hand_over();
    let second = admitted(&soft, "c2").await;
    assert_eq!(second.alerts.iter().map(|a| (a.audit, a.limit)).collect::<Vec<_>>(), [(false, 600)]);
}

#[tokio::test]
async fn explanations_tell_the_limits_and_charge_nothing() {
    let settings = Settings { rpm_limit: Some(1), max_budget_nanos: Some(5_000), ..Settings::default() };
    let mut world = world(settings);
    let stored = UsageSum { nanos: 77, ..UsageSum::default() };
    world.keys.used.insert(EntityRef::new(EntityKind::Key, KEY), stored);
    let told = world.explain(&of_call("c1")).await.unwrap();
    let limits: Vec<_> =
        told.limits.iter().map(|l| (l.limit_type.as_str(), l.used, l.reserves, l.limit, l.room)).collect();
    assert_eq!(
        limits,
        [("max_budget", Some(77), 640, Some(5_000), true), ("rpm_limit", Some(0), 1, Some(1), true)]
    );
    assert!(told.refusal.is_none() && world.fake.admitted.lock().is_empty());
    let _ = admitted(&world, "c1").await.reservation.hand_over();
    let told = world.explain(&of_call("c2")).await.unwrap();
    assert_eq!(told.refusal.as_ref().map(|refusal| refusal.status), Some(429));
    let text = told.to_string();
    assert!(
        text.contains("rpm_limit  1 of 1 + 1  minute  FULL") && text.contains("refused     429"),
        "{text}"
    );
}
