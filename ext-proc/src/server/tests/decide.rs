//! Many questions in one call: each gets its own answer.

use attache_llm::contract::{DecideAnswer, Decided, Go, Lease, Leased, USAGE_PATH};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use super::*;

fn asks(asks: &[Json]) -> Bytes {
    serde_json::to_vec(&json!({"contract": VERSION, "asks": asks})).unwrap().into()
}

fn wire(key: &str, model: &str) -> Json {
    serde_json::to_value(ask(key, model)).unwrap()
}

impl Server {
    async fn decide(&self, body: Bytes) -> Vec<Decided> {
        self.answer(body).await.decisions
    }

    async fn answer(&self, body: Bytes) -> DecideAnswer {
        let (status, answer) = self.post(DECIDE_PATH, body).await;
        assert_eq!(status, 200, "{answer}");
        let answer: DecideAnswer = serde_json::from_value(answer).unwrap();
        assert_eq!(answer.contract, VERSION);
        answer
    }
}

fn go(decided: &Decided) -> &Go {
    match decided {
        Decided::Go(go) => go,
        other => panic!("{other:?}"),
    }
}

fn refused(decided: &Decided) -> (u16, &str) {
    match decided {
        Decided::Refuse(refuse) => (refuse.status, &refuse.details),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_question_gets_its_own_answer_in_order() {
    let server = Server::start().await;
    let explain = Json::Object(
        wire(MASTER_KEY_HASH, "gpt")
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .chain([("explain".into(), true.into())])
            .collect(),
    );
    let mut future = wire(MASTER_KEY_HASH, "gpt");
    future["contract"] = 99.into();
    let answers = server
        .decide(asks(&[
            json!("not an ask"),
            wire(MASTER_KEY_HASH, "gpt"),
            wire(MASTER_KEY_HASH, "nonsense"),
            wire("nobody", "gpt"),
            explain,
            future,
            wire(MASTER_KEY_HASH, "claude"),
        ]))
        .await;
    assert_eq!(answers.len(), 7);
    assert_eq!(refused(&answers[0]).0, 500);
    assert_eq!((go(&answers[1]).note.group.as_str(), go(&answers[1]).note.generation), ("gpt", 3));
    assert_eq!(refused(&answers[2]), (404, "attache_model_not_found"));
    assert_eq!(refused(&answers[3]).0, 401);
    assert_eq!(refused(&answers[4]), (200, "attache_explain"));
    assert_eq!(refused(&answers[5]).0, 503);
    assert_eq!(go(&answers[6]).note.group, "claude");
}

#[tokio::test]
async fn the_answer_is_the_one_that_ext_proc_gives() {
    let server = Server::start().await;
    let own = server.decide(asks(&[wire(MASTER_KEY_HASH, "gpt")])).await;
    let go = go(&own[0]);
    let streamed = server.process(question(&ask(MASTER_KEY_HASH, "gpt"))).await.unwrap();
    let metadata = object(streamed[0].dynamic_metadata.as_ref().unwrap());
    let plan = Value::decode(STANDARD.decode(&go.plan).unwrap().as_slice()).unwrap();
    assert_eq!(plain(&plan), metadata["attache"]["priority_groups"]);
    let note: Note = serde_json::from_str(metadata["attache"]["note"].as_str().unwrap()).unwrap();
    assert_eq!(go.note, note, "one call id, one reservation");
    let walk =
        metadata["attache"].get("walk").map(|walk| serde_json::from_str(walk.as_str().unwrap()).unwrap());
    assert_eq!(go.walk, walk);
    let Some(Answer::RequestHeaders(headers)) = &streamed[0].response else { panic!("{streamed:?}") };
    let mutation = headers.response.as_ref().unwrap().header_mutation.as_ref().unwrap();
    let set: Vec<_> = mutation.set_headers.iter().map(|header| header.header.as_ref().unwrap()).collect();
    let set: Vec<_> =
        set.iter().map(|h| (h.key.clone(), String::from_utf8(h.raw_value.clone()).unwrap())).collect();
    assert_eq!(go.headers, set);
    let removed: Vec<_> = mutation.remove_headers.iter().filter(|name| *name != ASK_HEADER).collect();
    assert_eq!(go.remove.iter().collect::<Vec<_>>(), removed);
}

#[tokio::test]
async fn reservations_are_handed_over_and_counted() {
    let server = Server::start().await;
    let mut second = wire(MASTER_KEY_HASH, "gpt");
    second["call_id"] = "call-2".into();
    let answers = server.decide(asks(&[wire(MASTER_KEY_HASH, "gpt"), second])).await;
    let ids: Vec<_> = answers.iter().map(|answer| go(answer).note.reservation.clone().unwrap()).collect();
    assert_eq!(*server.counters.admitted.lock(), ids);
    assert_eq!(server.counters.settled.load(Ordering::Relaxed), 0);
    let (_, text) = server.health("/metrics").await;
    for line in [
        "attache_questions_total 2",
        "attache_answers_total 2",
        "attache_decide_calls_total 1",
        "attache_ext_proc_streams_total 0",
        "attache_decisions_total{result=\"allowed\"} 2",
    ] {
        assert!(text.as_str().unwrap().lines().any(|l| l == line), "{line} in {text}");
    }
}

/// Else the one who was asked first, and could not answer, would give back what the second one holds.
#[tokio::test]
async fn what_is_asked_again_has_a_reservation_of_its_own() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for again in 0..3 {
        let body = json!({"contract": VERSION, "again": again, "asks": [wire(MASTER_KEY_HASH, "gpt")]});
        let answers = server.decide(serde_json::to_vec(&body).unwrap().into()).await;
        ids.push(go(&answers[0]).note.reservation.clone().unwrap());
    }
    assert_eq!(*server.counters.admitted.lock(), ids);
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn one_that_takes_too_long_costs_the_others_nothing_but_time() {
    let server = Server::start().await;
    server.counters.slow_from(1);
    let mut second = wire(MASTER_KEY_HASH, "gpt");
    second["call_id"] = "call-2".into();
    let answers =
        server.decide(asks(&[wire(MASTER_KEY_HASH, "gpt"), second, wire(MASTER_KEY_HASH, "claude")])).await;
    go(&answers[0]);
    assert_eq!(answers[1], Decided::Late);
    go(&answers[2]);
}

#[tokio::test]
async fn who_no_longer_waits_gets_a_refund() {
    let server = Server::start().await;
    // The first is decided at once, the second when the counters answer.
    server.counters.slow_from(1);
    let mut second = wire(MASTER_KEY_HASH, "gpt");
    second["call_id"] = "call-2".into();
    let post = server.post(DECIDE_PATH, asks(&[wire(MASTER_KEY_HASH, "gpt"), second]));
    assert!(tokio::time::timeout(Duration::from_millis(200), post).await.is_err());
    for _ in 0..200 {
        if server.counters.settled.load(Ordering::Relaxed) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not refunded");
}

fn leases(leases: &[(Json, &[&str])]) -> Bytes {
    let leases: Vec<_> = leases.iter().map(|(ask, calls)| json!({"ask": ask, "calls": calls})).collect();
    let body = json!({"contract": VERSION, "asks": [wire(MASTER_KEY_HASH, "claude")], "leases": leases});
    serde_json::to_vec(&body).unwrap().into()
}

fn granted(leased: &Leased) -> &Lease {
    match leased {
        Leased::Granted(lease) => lease,
        Leased::Refused => panic!("refused"),
    }
}

#[tokio::test]
async fn decisions_ahead_have_a_reservation_each_and_come_beside_those_that_are_waited_for() {
    let server = Server::start().await;
    let answer = server
        .answer(leases(&[
            (wire(MASTER_KEY_HASH, "gpt"), &["c1", "c2", "c3"]),
            (wire("nobody", "gpt"), &["c4", "c5"]),
            (json!({"no": "ask"}), &["c6", "c7"]),
            (wire(MASTER_KEY_HASH, "claude"), &["c8", "c9"]),
            (wire(MASTER_KEY_HASH, "gpt"), &["c10"]),
        ]))
        .await;
    assert_eq!(go(&answer.decisions[0]).note.group, "claude");
    assert_eq!(answer.leases.len(), 5);
    let lease = granted(&answer.leases[0]);
    assert_eq!((lease.go.note.group.as_str(), lease.go.note.reservation.as_ref()), ("gpt", None));
    assert!((1..=100).contains(&lease.for_ms));
    let ids: Vec<_> = lease.uses.iter().map(|part| part.reservation.clone().unwrap()).collect();
    assert_eq!(*server.counters.admitted.lock(), ids);
    assert!(
        ids.iter().zip(["c1", "c2", "c3"]).all(|(id, call)| id.ends_with(&format!("/{call}/0"))),
        "{ids:?}"
    );
    assert_eq!(answer.leases[1], Leased::Refused);
    assert_eq!(answer.leases[2], Leased::Refused);
    let free = granted(&answer.leases[3]);
    assert!(free.uses.len() == 2 && free.uses.iter().all(|part| part.reservation.is_none()), "{free:?}");
    assert_eq!(answer.leases[4], Leased::Refused, "for one, asking is as good");
    assert_eq!(server.counters.settled.load(Ordering::Relaxed), 0);
    let (_, text) = server.health("/metrics").await;
    for line in [
        "attache_leases_total{result=\"granted\"} 2",
        "attache_leases_total{result=\"refused\"} 3",
        "attache_lease_uses_total 5",
        "attache_questions_total 1",
    ] {
        assert!(text.as_str().unwrap().lines().any(|l| l == line), "{line} in {text}");
    }
    // What is not used is given back, once.
    for settled in [2, 2] {
        let returned = json!({"contract": VERSION, "records": [], "returned": [ids[1], ids[2], "nobody's"]});
        let (status, _) = server.post(USAGE_PATH, serde_json::to_vec(&returned).unwrap()).await;
        assert_eq!(status, 200);
        for _ in 0..200 {
            if server.counters.settled.load(Ordering::Relaxed) == settled {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.counters.settled.load(Ordering::Relaxed), settled);
    }
}

#[tokio::test]
async fn a_call_that_is_made_again_asks_for_nothing_ahead() {
    let server = Server::start().await;
    let ask = json!({"ask": wire(MASTER_KEY_HASH, "gpt"), "calls": ["c1", "c2"]});
    let body = json!({"contract": VERSION, "again": 1, "asks": [], "leases": [ask]});
    let answer = server.answer(serde_json::to_vec(&body).unwrap().into()).await;
    assert!(answer.leases.is_empty() && server.counters.admitted.lock().is_empty());
}
