//! Decisions ahead of their requests.

use attache_llm::contract::MAX_LEASE_CALLS;

use super::*;
use crate::entity::Settings;
use crate::limits::Rules;
use crate::store::MORE_ROOM;

const KEY: &str = "ab12";

fn leasing(mut snapshot: Snapshot) -> Snapshot {
    snapshot.leases = true;
    snapshot.limits = Arc::new(Rules { budget_status: 429, ..Rules::default() });
    snapshot
}

fn limited(settings: Settings) -> World {
    let a = change(deployment("a", "gpt"), |d| d.rpm = Some(10_000));
    let groups = vec![with_strategy(Strategy::UsageBased, "gpt", vec![a])];
    World::new(leasing(snapshot(groups))).with_key(KEY, |key| key.settings = settings)
}

fn of_key() -> Ask {
    Ask { call_id: String::new(), ..ask(KEY, "gpt") }
}

#[tokio::test]
async fn each_use_has_its_own_reservation_and_says_what_is_left_when_it_is_used() {
    let world = limited(Settings { rpm_limit: Some(10_000), ..Settings::default() });
    let (decision, for_ms) = world.lease(&of_key(), &["c1", "c2", "c3"]).await.unwrap();
    assert!((1..=100).contains(&for_ms));
    let left = |headers: &[(String, String)]| {
        let found = headers.iter().find(|(name, _)| name == "x-ratelimit-remaining-requests");
        found.unwrap().1.parse::<u64>().unwrap()
    };
    assert_eq!(left(&decision.response_headers), 9_999);
    let more: Vec<u64> = decision.more.iter().map(|one| left(&one.response_headers)).collect();
    assert_eq!(more, [9_998, 9_997]);
    let mut ids = vec![decision.reservation.hand_over()];
    ids.extend(decision.more.into_iter().map(|one| one.reservation.hand_over()));
    for (id, call) in ids.iter().zip(["c1", "c2", "c3"]) {
        assert!(id.ends_with(&format!("/{call}/0")), "{id}");
    }
    let admission = world.fake.admitted.lock()[0].clone();
    let counter = admission.required[0].counter.clone();
    assert_eq!(world.fake.inner.values(&[counter]).await.unwrap(), [3]);
}

#[tokio::test]
async fn a_lease_that_is_dropped_refunds_all_of_it() {
    let world = limited(Settings { rpm_limit: Some(10_000), ..Settings::default() });
    drop(world.lease(&of_key(), &["c1", "c2", "c3"]).await.unwrap());
    let counter = world.fake.admitted.lock()[0].required[0].counter.clone();
    for _ in 0..100 {
        if world.fake.inner.values(std::slice::from_ref(&counter)).await.unwrap() == [0] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not refunded");
}

#[tokio::test]
async fn near_a_limit_everyone_asks() {
    let world = limited(Settings { rpm_limit: Some(2 * MORE_ROOM - 1), ..Settings::default() });
    assert!(world.lease(&of_key(), &["c1", "c2"]).await.is_none());
    let world = limited(Settings { rpm_limit: Some(2 * MORE_ROOM), ..Settings::default() });
    assert!(world.lease(&of_key(), &["c1", "c2"]).await.is_some());
}

#[tokio::test]
async fn who_may_not_is_not_decided_ahead() {
    let world = limited(Settings { models: vec!["other".into()], ..Settings::default() });
    assert!(world.lease(&of_key(), &["c1", "c2"]).await.is_none());
    let world = limited(Settings::default());
    assert!(world.lease(&Ask { key: "nobody".into(), ..of_key() }, &["c1", "c2"]).await.is_none());
    assert!(world.lease(&of_key(), &["c1", "c2"]).await.is_some());
}

#[tokio::test]
async fn what_depends_on_the_single_request_is_not_leased() {
    let world = limited(Settings::default());
    let tried = Tried { deployment: "a".into(), group: "gpt".into(), class: ErrorClass::Timeout, pass: 0 };
    let replan = Some(Replan { pass: 1, reservation: None, owner: None, tried: vec![tried] });
    for ask in [
        Ask { replan, ..of_key() },
        Ask { explain: true, ..of_key() },
        Ask { endpoint: Endpoint::Realtime, ..of_key() },
        Ask { endpoint: Endpoint::Files, ..of_key() },
        Ask { contract: 99, ..of_key() },
    ] {
        assert!(world.lease(&ask, &["c1", "c2"]).await.is_none(), "{ask:?}");
    }
    let calls: Vec<String> = (0..=MAX_LEASE_CALLS).map(|n| n.to_string()).collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    for calls in [&calls[..], &["c1"], &[]] {
        assert!(world.lease(&of_key(), calls).await.is_none(), "{}", calls.len());
    }
    assert!(world.fake.admitted.lock().is_empty(), "nothing is even asked for");
    assert!(world.lease(&of_key(), &["c1", "c2"]).await.is_some());
}

#[tokio::test]
async fn some_configurations_lease_nothing() {
    let member = || vec![deployment("a", "gpt")];
    let calls = ["c1", "c2"];
    let busy = World::new(leasing(snapshot(vec![with_strategy(Strategy::LeastBusy, "gpt", member())])));
    let asked = Ask { call_id: String::new(), ..ask(MASTER_KEY_HASH, "gpt") };
    assert!(busy.lease(&asked, &calls).await.is_none(), "what is in flight now decides");
    let mut off = leasing(snapshot(vec![group("gpt", member())]));
    off.leases = false;
    let off = World::new(off);
    assert!(off.lease(&asked, &calls).await.is_none());
    let mirrored = vec![change(deployment("a", "gpt"), |d| d.mirror = Some("copy".into()))];
    let mirror =
        leasing(snapshot(vec![group("gpt", mirrored), group("copy", vec![deployment("c", "copy")])]));
    let mirror = World::new(mirror);
    assert!(mirror.lease(&asked, &calls).await.is_none(), "each has its own copy");
    let probe = World::new(leasing(snapshot(vec![group("gpt", member())])));
    probe.open("a", -1_000);
    assert!(probe.lease(&asked, &calls).await.is_none(), "one request probes, not two");
    let plain = World::new(leasing(snapshot(vec![group("gpt", member())])));
    let (decision, _) = plain.lease(&asked, &calls).await.unwrap();
    assert_eq!(decision.plan[0].deployment, "a");
    assert_eq!(decision.more.len(), 1);
}
