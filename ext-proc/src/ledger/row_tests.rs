use std::sync::Arc;

use attache_llm::contract::{AttemptOutcome, AttemptRecord, DeploymentMeta, UsageRecord};
use attache_llm::path::Endpoint;
use attache_llm::price::Price;
use attache_llm::usage::Usage;

use super::row;
use crate::prices::PriceTable;

use crate::config::Secret;
use crate::credentials::Credential;
use crate::routing::{Deployment, Group, Snapshot};

/// A record of one whole answer by deployment `a` (in group `chat`).
pub(crate) fn record(call_id: &str) -> UsageRecord {
    UsageRecord {
        call_id: call_id.to_owned(),
        key: "key".to_owned(),
        endpoint: Endpoint::ChatCompletions,
        model: "chat".to_owned(),
        group: "chat".to_owned(),
        reservation: None,
        owner: None,
        replans: 0,
        stream: false,
        user: None,
        start_us: 1_769_860_800_000_000,
        duration_us: 2_500_000,
        first_event_us: Some(500_000),
        status: 200,
        details: "via_upstream".to_owned(),
        aborted: false,
        input_estimate: 0,
        request_id: "x-1".to_owned(),
        attempts: vec![attempt("a", "chat", AttemptOutcome::Complete, Some(usage(10, 5)))],
        prompt: None,
        answer: None,
    }
}

fn usage(prompt: u64, completion: u64) -> Usage {
    Usage { prompt, completion, total: prompt + completion, ..Usage::default() }
}

fn attempt(id: &str, group: &str, outcome: AttemptOutcome, usage: Option<Usage>) -> AttemptRecord {
    AttemptRecord {
        deployment: id.to_owned(),
        cluster: format!("{group}/openai/{id}"),
        group: group.to_owned(),
        outcome,
        status: 200,
        retry_after_s: None,
        usage,
        ..AttemptRecord::default()
    }
}

fn deployment(id: &str, group: &str, price: Option<Price>) -> Arc<Deployment> {
    let mut meta: DeploymentMeta = serde_json::from_value(serde_json::json!({
        "contract": 1, "id": id, "group": group, "provider": "openai", "model": "gpt-4o-2024",
        "authority": "upstream.test", "base_path": "/v1",
    }))
    .unwrap();
    meta.price = price;
    Arc::new(Deployment {
        credential: Some(Credential::Header(
            "authorization".to_owned(),
            Secret::new("Bearer provider-secret"),
        )),
        rpm: Some(60),
        mode: Some("chat".to_owned()),
        ..Deployment::new(meta)
    })
}

/// Deployment `a` of `chat` (1 and 2 nano-dollars per token), `b` of `backup` (10 and 20), `free` without a price.
pub(crate) fn config() -> Snapshot {
    let price = |nano: u64| Some(Price::per_token(nano * 1_000_000, 2 * nano * 1_000_000));
    let all = [
        deployment("a", "chat", price(1)),
        deployment("free", "chat", None),
        deployment("b", "backup", price(10)),
    ];
    let mut snapshot = Snapshot::default();
    for name in ["chat", "backup"] {
        let deployments = all.iter().filter(|d| d.meta.group == name).cloned().collect();
        snapshot.groups.insert(
            name.to_owned(),
            Arc::new(Group { name: name.to_owned(), deployments, ..Group::default() }),
        );
    }
    snapshot.deployments = all.into_iter().map(|d| (d.meta.id.clone(), d)).collect();
    snapshot.aliases.insert("fast".to_owned(), "chat".to_owned());
    snapshot
}

#[test]
fn a_plain_answer_is_priced_and_named() {
    let config = config();
    let made = row(&record("1"), &config);
    assert_eq!(made.cost_nanos, Some(10 + 2 * 5));
    assert_eq!((made.prompt_tokens, made.completion_tokens, made.total_tokens), (10, 5, 15));
    assert_eq!(
        (made.outcome.as_str(), made.attempts, made.fallbacks, made.estimated),
        ("success", 1, 0, false)
    );
    let meta = &config.deployments["a"].meta;
    assert_eq!((made.deployment.as_str(), &made.provider_model), ("a", &meta.model));
    assert_eq!(made.provider, "openai");
    assert_eq!((made.endpoint.as_str(), made.request_id.as_str()), ("chat/completions", "x-1"));
}

#[test]
fn failed_attempts_that_produced_tokens_are_paid_for() {
    let mut record = record("1");
    record.group = "backup".to_owned();
    record.attempts = vec![
        attempt(
            "b",
            "backup",
            AttemptOutcome::FailedFirstEvent,
            Some(Usage { estimated: true, ..usage(3, 1) }),
        ),
        attempt("b", "backup", AttemptOutcome::ErrorStatus, None),
        attempt("a", "chat", AttemptOutcome::Complete, Some(usage(10, 5))),
    ];
    let made = row(&record, &config());
    assert_eq!(made.cost_nanos, Some(3 * 10 + 20 + 20));
    assert_eq!((made.prompt_tokens, made.completion_tokens, made.estimated), (13, 6, true));
    assert_eq!((made.group.as_str(), made.attempts, made.fallbacks), ("chat", 3, 1));
}

#[test]
fn a_group_passed_over_because_it_cools_is_a_fallback() {
    let mut record = record("1");
    record.group = "chat".into();
    record.attempts = vec![attempt("b", "backup", AttemptOutcome::Complete, Some(usage(3, 1)))];
    assert_eq!(row(&record, &config()).fallbacks, 1);
    record.group = "backup".into();
    assert_eq!(row(&record, &config()).fallbacks, 0);
}

#[test]
fn an_unknown_price_is_null_and_nothing_produced_is_free() {
    let cost = |attempts: Vec<AttemptRecord>| {
        let mut record = record("1");
        record.attempts = attempts;
        row(&record, &config()).cost_nanos
    };
    use AttemptOutcome::{Complete, ErrorStatus, NoAnswer};
    assert_eq!(cost(vec![]), Some(0), "refused");
    assert_eq!(
        cost(vec![attempt("a", "chat", ErrorStatus, None), attempt("gone", "chat", NoAnswer, None)]),
        Some(0)
    );
    assert_eq!(cost(vec![attempt("free", "chat", Complete, Some(usage(1, 1)))]), None);
    assert_eq!(cost(vec![attempt("a", "chat", Complete, None)]), None, "whole, but nobody counted");
    let both = vec![
        attempt("free", "chat", ErrorStatus, Some(usage(1, 1))),
        attempt("a", "chat", Complete, Some(usage(1, 1))),
    ];
    assert_eq!(cost(both), None, "a sum with an unknown part is unknown");
}

#[test]
fn a_deployment_of_an_older_configuration_keeps_its_id() {
    let mut record = record("1");
    record.attempts = vec![attempt("gone", "old", AttemptOutcome::Complete, Some(usage(1, 1)))];
    let made = row(&record, &config());
    assert_eq!((made.deployment.as_str(), made.group.as_str()), ("gone", "old"));
    assert_eq!((made.provider.as_str(), made.provider_model.as_str(), made.cost_nanos), ("", "", None));
    assert_eq!(made.total_tokens, 2);
}

#[test]
fn outcomes() {
    let outcome = |edit: fn(&mut UsageRecord)| {
        let mut record = record("1");
        edit(&mut record);
        row(&record, &config()).outcome
    };
    use AttemptOutcome::{Answered, ErrorInStream, ErrorStatus};
    assert_eq!(outcome(|_| {}), "success");
    assert_eq!(outcome(|r| r.aborted = true), "aborted");
    assert_eq!(outcome(|r| r.status = 429), "failure");
    assert_eq!(outcome(|r| r.status = 0), "failure");
    assert_eq!(outcome(|r| r.attempts[0].outcome = ErrorInStream), "failure");
    assert_eq!(outcome(|r| (r.attempts[0].outcome, r.status) = (ErrorStatus, 500)), "failure");
    assert_eq!(outcome(|r| r.attempts[0].outcome = Answered), "success");
    let cut = |r: &mut UsageRecord| {
        r.attempts[0].outcome = Answered;
        r.details = "upstream_reset_after_response_started{connection_termination}".to_owned();
    };
    assert_eq!(outcome(cut), "failure", "status 200, but cut");
}

#[test]
fn huge_numbers_saturate() {
    let mut record = record("1");
    record.attempts =
        vec![attempt("b", "backup", AttemptOutcome::Complete, Some(usage(u64::MAX / 2, u64::MAX / 4))); 3];
    let made = row(&record, &config());
    assert_eq!((made.cost_nanos, made.prompt_tokens), (Some(i64::MAX), u64::MAX));
}

#[test]
fn a_record_without_an_id_gets_a_stable_one() {
    let (one, same) = (row(&record(""), &config()), row(&record(""), &config()));
    let mut other = record("");
    other.duration_us += 1;
    assert_eq!(one.call_id, same.call_id);
    assert_ne!(one.call_id, row(&other, &config()).call_id);
    let config = Arc::new(config());
    assert!(!row(&record(""), &config).call_id.is_empty());
}

#[test]
fn a_wildcards_model_is_priced_by_the_table_and_a_listed_price_wins() {
    let mut snapshot = config();
    let mut meta = snapshot.deployments["a"].meta.clone();
    (meta.model, meta.price) = ("*".to_owned(), None);
    snapshot.prices = Some(Arc::new(PriceTable::embedded()));
    let wildcard = |meta: &DeploymentMeta| Arc::new(Deployment::new(meta.clone()));
    snapshot.deployments.insert("a".to_owned(), wildcard(&meta));
    let mut record = record("1");
    assert_eq!(row(&record, &snapshot).cost_nanos, None, "no model, no price");
    record.attempts[0].model = Some("gpt-4o".to_owned());
    let price = PriceTable::embedded().lookup_for("openai", "gpt-4o").unwrap().price.clone().unwrap();
    let made = row(&record, &snapshot);
    assert_eq!(made.cost_nanos, i64::try_from(price.cost(&usage(10, 5))).ok());
    assert_eq!(made.provider_model, "gpt-4o");
    record.attempts[0].model = Some("nobody-has-listed-this".to_owned());
    assert_eq!(row(&record, &snapshot).cost_nanos, None);
    meta.price = Some(Price::per_token(1_000_000, 0));
    snapshot.deployments.insert("a".to_owned(), wildcard(&meta));
    assert_eq!(row(&record, &snapshot).cost_nanos, Some(10));
}

#[test]
fn what_is_free_costs_nothing_also_where_nobody_knows_a_price() {
    for endpoint in [Endpoint::Moderations, Endpoint::Files, Endpoint::Batches, Endpoint::StoredResponses] {
        let free = UsageRecord {
            endpoint,
            model: String::new(),
            attempts: vec![attempt("free", "chat", AttemptOutcome::Complete, Some(usage(10, 5)))],
            ..record("1")
        };
        let made = row(&free, &config());
        assert_eq!((made.cost_nanos, made.model.as_str()), (Some(0), "chat"), "{endpoint:?}");
    }
}

#[test]
fn pictures_and_sounds_are_priced_by_what_they_are_counted_in() {
    let mut config = config();
    let price: Price =
        "chars_in 15000000000;images_in 40000000000000;seconds_in 100000000000;queries 2000000000000"
            .parse()
            .unwrap();
    config.deployments.insert("a".to_owned(), deployment("a", "chat", Some(price)));
    let cost = |usage: Usage| {
        let attempts = vec![attempt("a", "chat", AttemptOutcome::Complete, Some(usage))];
        row(&UsageRecord { attempts, ..record("1") }, &config).cost_nanos
    };
    assert_eq!(cost(Usage { chars_in: 100, ..Usage::default() }), Some(1_500_000));
    assert_eq!(cost(Usage { images_out: 2, ..Usage::default() }), Some(80_000_000));
    assert_eq!(cost(Usage { audio_ms: 1_500, ..Usage::default() }), Some(150_000));
    assert_eq!(cost(Usage { queries: 1, ..Usage::default() }), Some(2_000_000));
    // Tokens without a rate: nobody knows.
    assert_eq!(cost(usage(1, 1)), None);
}
