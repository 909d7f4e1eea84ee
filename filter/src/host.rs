//! Envoy's host calls, without the SDK's ways to panic.
//!
//! The SDK unwraps: a header value that is not UTF-8 or a property that Envoy cannot serialise would kill the VM, and
//! with it the worker's key table and unsent usage. Everything here reads bytes and treats failure as absence. Calls
//! whose map or buffer does not exist in the current phase still trap inside the SDK, so call them in their phase only.

use std::time::{Duration, UNIX_EPOCH};

use attache_llm::contract::CONTROL_CLUSTER;
use attache_llm::error::{ApiError, ErrorShape};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType};

use crate::abi;
use crate::headers::Headers;
use crate::ids::SharedCounter;
use crate::reply;
use crate::stats::Meter;

/// Unix time, nanoseconds. (`std::time` panics on wasm32-unknown-unknown.)
#[must_use]
pub fn now_ns() -> u64 {
    hostcalls::get_current_time()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// Unix time, microseconds.
#[must_use]
pub fn now_us() -> u64 {
    now_ns() / 1_000
}

/// Unix time, milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

pub fn warn(message: &str) {
    let _ = hostcalls::log(LogLevel::Warn, message);
}

pub fn error(message: &str) {
    let _ = hostcalls::log(LogLevel::Error, message);
}

#[must_use]
pub fn headers(map: MapType) -> Headers {
    abi::headers(map)
}

/// One header as text; `None` when absent or not UTF-8.
#[must_use]
pub fn header(map: MapType, name: &str) -> Option<String> {
    hostcalls::get_map_value_bytes(map, name).ok().flatten().and_then(|value| String::from_utf8(value).ok())
}

pub fn set_header(map: MapType, name: &str, value: &str) {
    let _ = hostcalls::set_map_value_bytes(map, name, Some(value.as_bytes()));
}

/// Puts these in place of all headers of a map.
pub fn set_headers(map: MapType, headers: &[(&[u8], &[u8])]) {
    abi::set_headers(map, headers);
}

pub fn remove_header(map: MapType, name: &str) {
    let _ = hostcalls::remove_map_value(map, name);
}

/// As [`remove_header`]. Envoy takes no name that is no text.
pub fn remove_named(map: MapType, name: &[u8]) {
    if let Ok(name) = std::str::from_utf8(name) {
        remove_header(map, name);
    }
}

/// A leaf property as bytes.
#[must_use]
pub fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// A text property.
#[must_use]
pub fn text(path: &[&str]) -> Option<String> {
    property(path).and_then(|value| String::from_utf8(value).ok())
}

/// An integer property: Envoy gives 8 bytes, little-endian.
#[must_use]
pub fn integer(path: &[&str]) -> Option<i64> {
    property(path).and_then(|value| value.try_into().ok()).map(i64::from_le_bytes)
}

pub fn set_property(name: &str, value: &str) {
    let _ = hostcalls::set_property(vec![name], Some(value.as_bytes()));
}

/// A slice of a body. Empty at its end.
#[must_use]
pub fn body(buffer: BufferType, start: usize, len: usize) -> Vec<u8> {
    if len == 0 {
        return Vec::new();
    }
    hostcalls::get_buffer(buffer, start, len).ok().flatten().unwrap_or_default()
}

/// Replaces the first `len` bytes of a body. (Envoy drains `len` bytes and prepends `data`.)
pub fn replace_front(buffer: BufferType, len: usize, data: &[u8]) {
    let _ = hostcalls::set_buffer(buffer, 0, len, data);
}

/// Appends to a body. (Envoy appends when the start is at or beyond the end.)
pub fn append(buffer: BufferType, len: usize, data: &[u8]) {
    let _ = hostcalls::set_buffer(buffer, len, 0, data);
}

/// Reply of the filter's own, in the caller's error shape. The marker on the *request* tells Envoy's local_reply_config
/// to leave the body alone.
pub fn send_error(error: &ApiError, call_id: &str, shape: ErrorShape) {
    set_header(MapType::HttpRequestHeaders, attache_llm::contract::REPLY_HEADER, "1");
    let headers = reply::headers(error, call_id);
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let _ = hostcalls::send_http_response(u32::from(error.status), headers, Some(&shape.of_error(error)));
}

/// The sidecar's reply in place of an answer. Its `details` are for the access log and the usage record.
pub fn send_reply(status: u16, headers: &[(String, String)], body: &[u8], details: &str) {
    set_header(MapType::HttpRequestHeaders, attache_llm::contract::REPLY_HEADER, "1");
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    abi::send_reply(u32::from(status), &headers, body, details);
}

/// Nobody decided: Envoy's local_reply_config has the words, as for an ext_proc that does not answer.
pub fn send_unanswered(status: u16) {
    let _ = hostcalls::send_http_response(u32::from(status), Vec::new(), None);
}

/// An answer of the filter's own.
pub fn send_json(body: &[u8], call_id: &str) {
    set_header(MapType::HttpRequestHeaders, attache_llm::contract::REPLY_HEADER, "1");
    let headers = vec![("content-type", "application/json"), ("x-litellm-call-id", call_id)];
    let _ = hostcalls::send_http_response(200, headers, Some(body));
}

/// Posts JSON to the sidecar. `None` when Envoy would not even try.
#[must_use]
pub fn post(path: &str, body: &[u8], timeout_ms: u64) -> Option<u32> {
    let headers = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", "attache"),
        (":scheme", "http"),
        ("content-type", "application/json"),
    ];
    let timeout = Duration::from_millis(timeout_ms);
    hostcalls::dispatch_http_call(CONTROL_CLUSTER, headers, Some(body), Vec::new(), timeout).ok()
}

/// Status and body of the call-out that was just answered; status 0 when there are no headers.
#[must_use]
pub fn answer(headers: usize, body_size: usize) -> (u16, Vec<u8>) {
    if headers == 0 {
        return (0, Vec::new());
    }
    let status = header(MapType::HttpCallResponseHeaders, ":status").and_then(|status| status.parse().ok());
    (status.unwrap_or(0), body(BufferType::HttpCallResponseBody, 0, body_size))
}

/// Runs `act` as if Envoy had called the context `other`, then returns to `own`. Skipped when `other` is gone.
pub fn on_behalf_of(other: u32, own: u32, act: impl FnOnce()) {
    if hostcalls::set_effective_context(other).is_ok() {
        act();
    }
    let _ = hostcalls::set_effective_context(own);
}

/// Envoy's shared data as the counter behind [`crate::ids::claim`].
#[derive(Debug, Clone, Copy)]
pub struct VmCounter;

const VM_COUNTER: &str = "attache.vm";

impl SharedCounter for VmCounter {
    fn read(&self) -> (Option<u64>, Option<u32>) {
        let (value, version) = hostcalls::get_shared_data(VM_COUNTER).unwrap_or((None, None));
        (value.and_then(|value| value.try_into().ok()).map(u64::from_le_bytes), version)
    }

    fn write(&self, value: u64, version: Option<u32>) -> bool {
        hostcalls::set_shared_data(VM_COUNTER, Some(&value.to_le_bytes()), version).is_ok()
    }
}

/// Envoy's metrics behind [`crate::stats::Stats`].
#[derive(Debug, Clone, Copy)]
pub struct EnvoyMeter;

impl Meter for EnvoyMeter {
    fn counter(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Counter, name).ok()
    }

    fn gauge(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Gauge, name).ok()
    }

    fn histogram(&self, name: &str) -> Option<u32> {
        hostcalls::define_metric(MetricType::Histogram, name).ok()
    }

    fn add(&self, id: u32, amount: i64) {
        let _ = hostcalls::increment_metric(id, amount);
    }

    fn record(&self, id: u32, value: u64) {
        let _ = hostcalls::record_metric(id, value);
    }
}
