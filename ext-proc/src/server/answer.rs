//! Envoy's side of a decision: the one place that writes its ext_proc messages.

use std::time::Duration;

use attache_llm::contract::{self, Note, Walk};
use attache_llm::error::ApiError;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{HeaderMutation, ImmediateResponse, ProcessingResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use prost::Message;

use super::wire::{Wire, field};
use crate::routing::{Decision, Explanation, PlanStep, Timeouts};

/// Names the cluster of the route's mirror policy. Only the sidecar sets it: the gate strips it from clients.
const MIRROR_HEADER: &str = "x-attache-mirror";

/// Bytes of the usual answer, about.
const USUAL_SIZE: usize = 1_024;

/// The plan as dynamic metadata, retries and timeouts as headers; and whether something is reserved. Hands the reservation
/// over: from here the usage record settles it.
#[must_use]
pub fn decided(decision: Decision) -> (Vec<u8>, bool) {
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
    let mut message = Wire::with_capacity(USUAL_SIZE);
    message.nested(field::RESPONSE_HEADERS, |response| {
        response.nested(field::HEADERS_COMMON, |common| {
            common.nested(field::COMMON_MUTATION, |mutation| {
                headers(mutation, decision.plan.len(), decision.timeouts, decision.mirror.as_deref());
            });
            // Without this, attempt 1 goes to the route's default cluster: it was resolved before the plan was there.
            common.number(field::COMMON_CLEAR_ROUTE, 1);
        });
    });
    message.nested(field::RESPONSE_METADATA, |namespaces| {
        namespaces.entry(contract::METADATA_NAMESPACE, |own| {
            own.nested(field::VALUE_STRUCT, |own| {
                metadata(own, &decision.plan, &note, decision.walk.as_ref())
            });
        });
    });
    (message.into_bytes(), reserved)
}

/// The decision told instead of made, as Envoy's own reply.
pub(super) fn explained(explanation: &Explanation) -> Vec<u8> {
    match serde_json::to_vec_pretty(explanation) {
        Ok(body) => {
            let headers = vec![set("content-type", "application/json".to_owned())];
            immediate(200, headers, body, "attache_explain".to_owned())
        }
        Err(error) => refused(&ApiError::internal(error.to_string())),
    }
}

/// The error as Envoy's own reply. `details` begins with `attache_`, so that local_reply_config leaves it alone.
pub(super) fn refused(error: &ApiError) -> Vec<u8> {
    let headers = error.headers().into_iter().map(|(name, value)| set(name, value)).collect();
    let details = format!("attache_{}", error.code.as_ref().unwrap_or(&error.kind));
    immediate(error.status, headers, error.to_json(), details)
}

fn immediate(status: u16, set_headers: Vec<HeaderValueOption>, body: Vec<u8>, details: String) -> Vec<u8> {
    let immediate = ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: Some(HeaderMutation { set_headers, remove_headers: Vec::new() }),
        body,
        details,
        grpc_status: None,
    };
    let message = ProcessingResponse {
        response: Some(Response::ImmediateResponse(immediate)),
        ..ProcessingResponse::default()
    };
    message.encode_to_vec()
}

/// What is not set is removed: the headers of an earlier pass come back with Envoy's internal redirect.
fn headers(mutation: &mut Wire, steps: usize, timeouts: Timeouts, mirror: Option<&str>) {
    // Envoy's plan wraps around: only this stops it at the end.
    overwrite(mutation, "x-envoy-max-retries", &steps.saturating_sub(1).to_string());
    overwrite(mutation, "x-envoy-upstream-rq-timeout-ms", &millis(timeouts.total));
    let per_try = timeouts.per_try.map(millis);
    let optional = [("x-envoy-upstream-rq-per-try-timeout-ms", per_try.as_deref()), (MIRROR_HEADER, mirror)];
    for (name, value) in optional {
        match value {
            Some(value) => overwrite(mutation, name, value),
            None => mutation.text(field::MUTATION_REMOVE, name),
        }
    }
    mutation.text(field::MUTATION_REMOVE, contract::ASK_HEADER);
}

fn overwrite(mutation: &mut Wire, name: &str, value: &str) {
    mutation.nested(field::MUTATION_SET, |option| {
        option.nested(field::OPTION_HEADER, |header| {
            header.text(field::HEADER_KEY, name);
            header.text(field::HEADER_RAW, value);
        });
        option.number(field::OPTION_APPEND, HeaderAppendAction::OverwriteIfExistsOrAdd as u64);
    });
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
fn metadata(own: &mut Wire, plan: &[PlanStep], note: &Note, walk: Option<&Walk>) {
    own.entry(contract::PLAN_KEY, |value| {
        value.nested(field::VALUE_LIST, |groups| {
            for (index, step) in plan.iter().enumerate() {
                groups.nested(field::LIST_VALUES, |value| {
                    value.nested(field::VALUE_STRUCT, |group| step_group(group, index, step));
                });
            }
        });
    });
    own.entry_json(contract::NOTE_KEY, note);
    if let Some(walk) = walk {
        own.entry_json(contract::WALK_KEY, walk);
    }
}

/// One cluster per group: Envoy picks by one random number per request, the same position in every group.
fn step_group(group: &mut Wire, index: usize, step: &PlanStep) {
    group.entry_text("name", &format!("step-{index}"));
    group.entry("clusters", |value| {
        value.nested(field::VALUE_LIST, |clusters| {
            clusters.nested(field::LIST_VALUES, |value| {
                value.nested(field::VALUE_STRUCT, |cluster| {
                    cluster.entry_text("cluster_name", &step.cluster);
                    cluster.entry("weight", |value| value.double(field::VALUE_NUMBER, 1.0));
                });
            });
        });
    });
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
