//! From the question to the plan: the decision, and what of it limits and counters take.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attache::entity::Principal;
use attache::ledger::row;
use attache::limits::{Bill, Demand, Used, bill};
use attache::routing::{Decision, Settled};
use attache::server::{decided, read_ask};
use attache::store::{Admission, Admitted, Candidate, Counter, Limited, Pick, Seed, Settlement};
use attache_llm::contract::{ASK_HEADER, Ask, METADATA_NAMESPACE, NOTE_KEY, Note, PLAN_KEY};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::{HttpHeaders, ProcessingRequest, ProcessingResponse};
use envoy_types::pb::google::protobuf::{Value, value::Kind};
use prost::Message;

use super::world::{Planned, World, record};
use crate::case::{Case, Size};

/// As a decision's, of a request that may take ten minutes.
const LEASE: Duration = Duration::from_secs(630);

/// Kept between a step and the next.
type Kept<T> = Rc<RefCell<Option<T>>>;

/// Settles one request, as its usage record does.
fn settle(world: &World, ask: &Ask, planned: Planned) {
    let record = record(ask, planned);
    let row = row(&record, &world.snapshot);
    assert_eq!(world.settle(&[record], &[row]), [Settled::Done], "a reservation is settled once");
}

/// The decision for a key with limits, in a group of ten.
fn deciding(world: &Rc<World>) -> Case {
    let (next, made): (Kept<Ask>, Kept<Decision>) = Default::default();
    let (w, asks, decisions) = (Rc::clone(world), Rc::clone(&next), Rc::clone(&made));
    let between = move || {
        if let Some((ask, decision)) = asks.take().zip(decisions.take()) {
            settle(&w, &ask, Planned::of(decision));
        }
        asks.replace(Some(w.ask()));
    };
    let w = Rc::clone(world);
    let step = move || {
        let decision = w.decide(black_box(next.borrow().as_ref().expect("a question")));
        let facts = (decision.plan.len(), decision.owner.is_some(), decision.response_headers.len());
        made.replace(Some(decision));
        facts
    };
    Case::made(
        "decide/key with limits, group of 10",
        Size::ONE,
        Some(Box::new(between)),
        step,
        |(steps, owned, headers)| {
            assert!(*steps >= 1 && *owned && *headers > 0, "{steps} steps, {headers} headers");
        },
    )
}

/// What Envoy sends: the caller's headers, the gate's question among them.
fn message(ask: &Ask) -> Vec<u8> {
    let ask = serde_json::to_string(ask).expect("a question");
    let header = |(key, value): (&str, &str)| HeaderValue {
        key: key.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let headers = [
        (":authority", "gateway.corp.example"),
        (":path", "/v1/chat/completions"),
        (":method", "POST"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("content-length", "1063"),
        ("accept-encoding", "gzip, deflate"),
        ("user-agent", "OpenAI/Python 2.8.1"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "2.8.1"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-runtime-version", "3.12.3"),
        ("x-stainless-async", "false"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-read-timeout", "600"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "10.20.30.40"),
        ("x-request-id", "5f0c9a52-7a1e-4c38-8d1b-000000000001"),
        (ASK_HEADER, &ask),
    ];
    let headers = HeaderMap { headers: headers.into_iter().map(header).collect() };
    let phase = Phase::RequestHeaders(HttpHeaders { headers: Some(headers), ..HttpHeaders::default() });
    ProcessingRequest { request: Some(phase), ..ProcessingRequest::default() }.encode_to_vec()
}

/// What the plan in an answer says.
fn planned(answer: &[u8]) -> Planned {
    let answer = ProcessingResponse::decode(answer).expect("an answer");
    let mut metadata = answer.dynamic_metadata.expect("a plan");
    let Some(Kind::StructValue(mut own)) =
        metadata.fields.remove(METADATA_NAMESPACE).and_then(|own| own.kind)
    else {
        panic!("no namespace");
    };
    let mut field = |name: &str| own.fields.remove(name).expect("a field");
    let note: Note = serde_json::from_str(text(&field(NOTE_KEY))).expect("a note");
    let plan = field(PLAN_KEY);
    let cluster = text(inside(first(inside(first(&plan), "clusters")), "cluster_name"));
    let deployment = cluster.rsplit('/').next().expect("a deployment").to_owned();
    Planned { deployment, reservation: note.reservation.expect("a reservation"), owner: note.owner }
}

fn text(value: &Value) -> &str {
    let Some(Kind::StringValue(text)) = &value.kind else { panic!("{value:?} is no text") };
    text
}

fn first(value: &Value) -> &Value {
    let Some(Kind::ListValue(list)) = &value.kind else { panic!("{value:?} is no list") };
    &list.values[0]
}

fn inside<'a>(value: &'a Value, name: &str) -> &'a Value {
    let Some(Kind::StructValue(inner)) = &value.kind else { panic!("{value:?} has no fields") };
    &inner.fields[name]
}

/// All of ext_proc but HTTP/2: Envoy's message read, the question found in its headers, decided, the answer written.
fn exchanging(world: &Rc<World>) -> Case {
    let next: Kept<(Ask, Vec<u8>)> = Rc::default();
    let answered: Kept<Vec<u8>> = Rc::default();
    let (w, asks, answers) = (Rc::clone(world), Rc::clone(&next), Rc::clone(&answered));
    let between = move || {
        if let Some(((ask, _), answer)) = asks.take().zip(answers.take()) {
            settle(&w, &ask, planned(&answer));
        }
        let ask = w.ask();
        let message = message(&ask);
        asks.replace(Some((ask, message)));
    };
    let w = Rc::clone(world);
    let step = move || {
        let asked = next.borrow();
        let (_, message) = asked.as_ref().expect("a question");
        let message = ProcessingRequest::decode(black_box(message.as_slice())).expect("a message");
        let Some(Phase::RequestHeaders(headers)) = message.request else { panic!("headers were sent") };
        let ask = read_ask(&headers).expect("a question");
        let (answer, reserved) = decided(w.decide(&ask));
        answered.replace(Some(answer.encode_to_vec()));
        reserved
    };
    Case::made("ext_proc/ask to plan", Size::ONE, Some(Box::new(between)), step, |reserved| {
        assert!(*reserved)
    })
}

/// Every limit of the caller, as the decision lists them.
fn limits(world: &World, principal: &Principal) -> Bill {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let demand = Demand {
        model: "gpt-4o-0",
        group: "gpt-4o-0",
        input: 250,
        completion: 512,
        nanos: 5_745_000,
        now_ms: u64::try_from(now.as_millis()).expect("before the year 500 million"),
        again: 0,
        lease: LEASE,
    };
    bill(&world.snapshot.limits, black_box(principal), black_box(&demand))
}

/// Everyone behind the key, from the cache.
fn finding(world: &Rc<World>) -> Case {
    let world = Rc::clone(world);
    Case::new(
        "keys/key, team, user",
        Size::ONE,
        move || world.principal(),
        |found| {
            assert!(
                found.key.is_some() && found.team.is_some() && found.user.is_some() && found.member.is_some()
            );
        },
    )
}

fn listing(world: &Rc<World>) -> Case {
    let (world, principal) = (Rc::clone(world), world.principal());
    // Requests and tokens of all three, budgets of key and team (its owner's own is for keys without one), and the key's
    // requests in flight.
    Case::new(
        "limits/list",
        Size::ONE,
        move || limits(&world, &principal),
        |bill| assert_eq!(bill.required.len(), 9),
    )
}

/// What one request reserves: the caller's limits, and a deployment of ten.
struct Till {
    bill: Bill,
    candidates: Vec<Candidate>,
    /// Of the last reservation.
    call_id: String,
}

impl Till {
    fn new(world: &World) -> Self {
        let mut bill = limits(world, &world.principal());
        for limited in bill.required.iter_mut().filter(|limited| limited.seed == Seed::Ask) {
            limited.seed = Seed::Known(0);
        }
        let group = &world.snapshot.groups["gpt-4o-0"];
        let window = bill.lines.iter().map(|line| line.starts_ms).max().unwrap_or(0) / 60_000;
        let charge = |base: &std::sync::Arc<str>, amount, limit| {
            Limited::new(
                Counter::new(std::sync::Arc::clone(base), window),
                amount,
                Duration::from_secs(120),
                limit,
            )
        };
        let candidate = |deployment: &std::sync::Arc<attache::routing::Deployment>| {
            let names = &deployment.counters;
            let charges =
                vec![charge(&names.tpm, 762, deployment.tpm), charge(&names.rpm, 1, deployment.rpm)];
            Candidate { tier: 0, charges, probe: None }
        };
        Self { candidates: group.deployments.iter().map(candidate).collect(), bill, call_id: String::new() }
    }

    /// The next reservation, under the id by which the owner settles it.
    fn admission(&mut self, call_id: String) -> Admission {
        self.call_id = call_id;
        Admission {
            id: self.bill.owner.reservation(&self.call_id),
            lease: LEASE,
            required: self.bill.required.clone(),
            candidates: self.candidates.clone(),
            pick: Pick::Lowest(0),
            renew: None,
        }
    }

    fn settlement(&self) -> Settlement {
        let used = Used { requests: 1, input: 260, output: 100, nanos: 1_490_000 };
        self.bill.owner.settlement(&self.call_id, &used)
    }
}

fn reserving(world: &Rc<World>) -> Case {
    let till = Rc::new(RefCell::new(Till::new(world)));
    let next: Kept<Admission> = Rc::default();
    let (w, asks) = (Rc::clone(world), Rc::clone(&next));
    let between = move || {
        let mut till = till.borrow_mut();
        if asks.take().is_some() {
            assert_eq!(w.wait(w.counters.settle_all(&[till.settlement()])).expect("counters"), [true]);
        }
        asks.replace(Some(till.admission(w.call_id())));
    };
    let w = Rc::clone(world);
    let step = move || {
        let admission = next.borrow();
        w.wait(w.counters.place(black_box(admission.as_ref().expect("a question")))).expect("counters")
    };
    Case::made("reserve/9 limits, 10 deployments", Size::ONE, Some(Box::new(between)), step, |place| {
        assert!(matches!(place.admitted, Admitted::Candidate(_)), "{place:?}");
        assert_eq!(place.values.len(), 11);
    })
}

fn settling(world: &Rc<World>) -> Case {
    let mut till = Till::new(world);
    let next: Kept<Settlement> = Rc::default();
    let (w, settlements) = (Rc::clone(world), Rc::clone(&next));
    let between = move || {
        let place = w.wait(w.counters.place(&till.admission(w.call_id()))).expect("counters");
        assert!(matches!(place.admitted, Admitted::Candidate(_)), "{place:?}");
        settlements.replace(Some(till.settlement()));
    };
    let w = Rc::clone(world);
    let step = move || {
        let settlement = next.take().expect("a settlement");
        w.wait(w.counters.settle_all(black_box(&[settlement]))).expect("counters")
    };
    Case::made("settle/counters", Size::ONE, Some(Box::new(between)), step, |known| {
        assert_eq!(known, &[true])
    })
}

pub(crate) fn cases(world: &Rc<World>) -> Vec<Case> {
    vec![
        deciding(world),
        exchanging(world),
        finding(world),
        listing(world),
        reserving(world),
        settling(world),
    ]
}
