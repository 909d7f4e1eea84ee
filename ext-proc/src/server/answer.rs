//! What Envoy is told, as ext_proc messages: the one place that writes them.

use attache_llm::contract;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, ImmediateResponse, ProcessingResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;

use super::told::{Going, Reply, Told, going, metadata};
use crate::routing::Decision;

pub(super) fn message(told: Told) -> ProcessingResponse {
    match told {
        Told::Go(going) => go(*going),
        Told::Reply(reply) => immediate(reply),
    }
}

/// The decision for Envoy, and whether something is reserved. Hands the reservation over: from here the usage record
/// settles it.
#[must_use]
pub fn decided(decision: Decision) -> (ProcessingResponse, bool) {
    let (going, reserved) = going(decision, false);
    (go(going), reserved)
}

/// The plan as dynamic metadata, retries and timeouts as headers.
fn go(going: Going) -> ProcessingResponse {
    let dynamic_metadata = Some(metadata(&going));
    let removed = [contract::ASK_HEADER].into_iter().chain(going.remove);
    let mutation = HeaderMutation {
        set_headers: going.set.into_iter().map(|(name, value)| set(name, value)).collect(),
        remove_headers: removed.map(str::to_owned).collect(),
    };
    let common = CommonResponse {
        header_mutation: Some(mutation),
        // Without this, attempt 1 goes to the route's default cluster: it was resolved before the plan was there.
        clear_route_cache: true,
        ..CommonResponse::default()
    };
    ProcessingResponse {
        response: Some(Response::RequestHeaders(HeadersResponse { response: Some(common) })),
        dynamic_metadata,
        ..ProcessingResponse::default()
    }
}

fn immediate(reply: Reply) -> ProcessingResponse {
    let set_headers = reply.headers.into_iter().map(|(name, value)| set(name, value)).collect();
    let immediate = ImmediateResponse {
        status: Some(HttpStatus { code: i32::from(reply.status) }),
        headers: Some(HeaderMutation { set_headers, remove_headers: Vec::new() }),
        body: reply.body,
        details: reply.details,
        grpc_status: None,
    };
    ProcessingResponse {
        response: Some(Response::ImmediateResponse(immediate)),
        ..ProcessingResponse::default()
    }
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

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
