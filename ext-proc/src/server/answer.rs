//! Envoy's side of a decision: the one place that writes its ext_proc messages.

use std::time::Duration;

use attache_llm::contract::{self, Note, Walk};
use attache_llm::error::ApiError;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, ImmediateResponse, ProcessingResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};

use crate::routing::{Decision, Explanation, PlanStep, Timeouts};

/// Names the cluster of the route's mirror policy. Only the sidecar sets it: the gate strips it from clients.
const MIRROR_HEADER: &str = "x-attache-mirror";

/// The plan as dynamic metadata, retries and timeouts as headers; and whether something is reserved. Hands the reservation
/// over: from here the usage record settles it.
#[must_use]
pub fn decided(decision: Decision) -> (ProcessingResponse, bool) {
    let reservation = Some(decision.reservation.hand_over()).filter(|id| !id.is_empty());
    let reserved = reservation.is_some();
    let note = Note {
        contract: contract::VERSION,
        generation: decision.generation,
        reservation,
        owner: decision.owner,
        group: decision.group,
        response_headers: decision.response_headers,
    };
    let common = CommonResponse {
        header_mutation: Some(headers(decision.plan.len(), decision.timeouts, decision.mirror)),
        // Without this, attempt 1 goes to the route's default cluster: it was resolved before the plan was there.
        clear_route_cache: true,
        ..CommonResponse::default()
    };
    let message = ProcessingResponse {
        response: Some(Response::RequestHeaders(HeadersResponse { response: Some(common) })),
        dynamic_metadata: Some(metadata(&decision.plan, &note, decision.walk.as_ref())),
        ..ProcessingResponse::default()
    };
    (message, reserved)
}

/// The decision told instead of made, as Envoy's own reply.
pub(super) fn explained(explanation: &Explanation) -> ProcessingResponse {
    match serde_json::to_vec_pretty(explanation) {
        Ok(body) => {
            let headers = vec![set("content-type", "application/json".to_owned())];
            immediate(200, headers, body, "attache_explain".to_owned())
        }
        Err(error) => refused(&ApiError::internal(error.to_string())),
    }
}

/// The error as Envoy's own reply. `details` begins with `attache_`, so that local_reply_config leaves it alone.
pub(super) fn refused(error: &ApiError) -> ProcessingResponse {
    let headers = error.headers().into_iter().map(|(name, value)| set(name, value)).collect();
    let details = format!("attache_{}", error.code.as_ref().unwrap_or(&error.kind));
    immediate(error.status, headers, error.to_json(), details)
}

fn immediate(
    status: u16,
    set_headers: Vec<HeaderValueOption>,
    body: Vec<u8>,
    details: String,
) -> ProcessingResponse {
    let immediate = ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: Some(HeaderMutation { set_headers, remove_headers: Vec::new() }),
        body,
        details,
        grpc_status: None,
    };
    ProcessingResponse {
        response: Some(Response::ImmediateResponse(immediate)),
        ..ProcessingResponse::default()
    }
}

/// What is not set is removed: the headers of an earlier pass come back with Envoy's internal redirect.
fn headers(steps: usize, timeouts: Timeouts, mirror: Option<String>) -> HeaderMutation {
    let mut remove_headers = vec![contract::ASK_HEADER.to_owned()];
    // Envoy's plan wraps around: only this stops it at the end.
    let mut set_headers = vec![set("x-envoy-max-retries", steps.saturating_sub(1).to_string())];
    set_headers.push(set("x-envoy-upstream-rq-timeout-ms", millis(timeouts.total)));
    for (name, value) in
        [("x-envoy-upstream-rq-per-try-timeout-ms", timeouts.per_try.map(millis)), (MIRROR_HEADER, mirror)]
    {
        match value {
            Some(value) => set_headers.push(set(name, value)),
            None => remove_headers.push(name.to_owned()),
        }
    }
    HeaderMutation { set_headers, remove_headers }
}

/// Rounded up, since 0 means "no limit" to Envoy.
fn millis(duration: Duration) -> String {
    duration.as_micros().div_ceil(1_000).to_string()
}

fn set(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            raw_value: value.into_bytes(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..HeaderValueOption::default()
    }
}

/// Namespace [`contract::METADATA_NAMESPACE`]: the plan in the schema of `priority_group`, the note, and the walk.
fn metadata(plan: &[PlanStep], note: &Note, walk: Option<&Walk>) -> Struct {
    // One cluster per group: Envoy picks by one random number per request, the same position in every group.
    let groups = plan.iter().enumerate().map(|(index, step)| {
        let cluster = object([("cluster_name", text(step.cluster.clone())), ("weight", number(1))]);
        object([("name", text(format!("step-{index}"))), ("clusters", list(vec![cluster]))])
    });
    // Notes and walks of plain strings and numbers always serialise.
    let note = serde_json::to_string(note).unwrap_or_default();
    let walk = walk.map(|walk| (contract::WALK_KEY, text(serde_json::to_string(walk).unwrap_or_default())));
    let own = [(contract::PLAN_KEY, list(groups.collect())), (contract::NOTE_KEY, text(note))];
    let own = object(own.into_iter().chain(walk));
    Struct { fields: [(contract::METADATA_NAMESPACE.to_owned(), own)].into() }
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

fn text(value: String) -> Value {
    Value { kind: Some(Kind::StringValue(value)) }
}

fn number(value: u32) -> Value {
    Value { kind: Some(Kind::NumberValue(f64::from(value))) }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
