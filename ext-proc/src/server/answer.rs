//! Envoy's side of a decision: the one place that writes its ext_proc messages.

use std::time::Duration;

use attache_llm::contract::{self, Note};
use attache_llm::error::ApiError;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, ImmediateResponse, ProcessingResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};

use crate::routing::{Decision, PlanStep, Timeouts};

/// The plan as dynamic metadata, retries and timeouts as headers. Hands the reservation over: from here the usage
/// record settles it.
pub(super) fn decided(decision: Decision) -> ProcessingResponse {
    let reservation = Some(decision.reservation.hand_over()).filter(|id| !id.is_empty());
    let note = Note {
        contract: contract::VERSION,
        generation: decision.generation,
        reservation,
        group: decision.group,
        response_headers: decision.response_headers,
    };
    let common = CommonResponse {
        header_mutation: Some(HeaderMutation {
            set_headers: limits(decision.plan.len(), decision.timeouts),
            remove_headers: vec![contract::ASK_HEADER.to_owned()],
        }),
        // Without this, attempt 1 goes to the route's default cluster: it was resolved before the plan was there.
        clear_route_cache: true,
        ..CommonResponse::default()
    };
    ProcessingResponse {
        response: Some(Response::RequestHeaders(HeadersResponse { response: Some(common) })),
        dynamic_metadata: Some(metadata(&decision.plan, &note)),
        ..ProcessingResponse::default()
    }
}

/// The error as Envoy's own reply. `details` begins with `attache_`, so that local_reply_config leaves it alone.
pub(super) fn refused(error: &ApiError) -> ProcessingResponse {
    let headers = error.headers().into_iter().map(|(name, value)| set(name, value)).collect();
    let immediate = ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(error.status) }),
        headers: Some(HeaderMutation { set_headers: headers, remove_headers: Vec::new() }),
        body: error.to_json(),
        details: format!("attache_{}", error.code.as_ref().unwrap_or(&error.kind)),
        grpc_status: None,
    };
    ProcessingResponse {
        response: Some(Response::ImmediateResponse(immediate)),
        ..ProcessingResponse::default()
    }
}

fn limits(steps: usize, timeouts: Timeouts) -> Vec<HeaderValueOption> {
    // Envoy's plan wraps around: only this stops it at the end.
    let mut headers = vec![set("x-envoy-max-retries", steps.saturating_sub(1).to_string())];
    headers.push(set("x-envoy-upstream-rq-timeout-ms", millis(timeouts.total)));
    if let Some(per_try) = timeouts.per_try {
        headers.push(set("x-envoy-upstream-rq-per-try-timeout-ms", millis(per_try)));
    }
    headers
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

/// Namespace [`contract::METADATA_NAMESPACE`]: the plan in the schema of `priority_group`, and the note.
fn metadata(plan: &[PlanStep], note: &Note) -> Struct {
    // One cluster per group: Envoy picks by one random number per request, the same position in every group.
    let groups = plan.iter().enumerate().map(|(index, step)| {
        let cluster = object([("cluster_name", text(step.cluster.clone())), ("weight", number(1))]);
        object([("name", text(format!("step-{index}"))), ("clusters", list(vec![cluster]))])
    });
    // A note of plain strings and numbers always serialises.
    let note = serde_json::to_string(note).unwrap_or_default();
    let own = object([(contract::PLAN_KEY, list(groups.collect())), (contract::NOTE_KEY, text(note))]);
    Struct { fields: [(contract::METADATA_NAMESPACE.to_owned(), own)].into() }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
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
