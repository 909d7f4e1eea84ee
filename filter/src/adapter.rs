//! The adapter: the upstream half of the filter, once per attempt. It speaks the deployment's language on the way
//! out, and on the way back reads what the answer cost and whether it is one.
//!
//! Envoy's ways that shape it: the body of each attempt is the original, but the headers are those that the attempt
//! before left behind, so every header is set absolutely. In the request phase nothing can be handed back to the
//! router (a local reply would end the request), so translation never fails. In the response phase `:status` decides
//! about another attempt. `on_log` is never called here, so the shared record is kept current on every event.

use attache_llm::contract::{AttemptRecord, DEPLOYMENT_KEY, HEADER_PREFIX, METADATA_NAMESPACE, VERSION};
use attache_llm::edit::BodyEdits;
use attache_llm::error::ApiError;
use attache_llm::provider;
use attache_llm::response::RewriteOptions;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::answer::{Answer, Flow, Head, Opening, Release};
use crate::auth::KEY_HEADERS;
use crate::gate::CALL_PROPERTY;
use crate::host;
use crate::requests::Request;
use crate::vm;

/// Edits within this many bytes are made in one piece; beyond it the body is turned over slice by slice.
const SLICE: usize = 64 * 1024;

/// Request headers that a provider has no business with, beside the prefixes below. The credentials of an earlier
/// attempt are among them: Envoy injects this attempt's after the adapter.
const PRIVATE: [&str; 8] = [
    "cookie",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-forwarded-host",
    "openai-organization",
    "openai-project",
    "transfer-encoding",
];
const PRIVATE_PREFIXES: [&str; 3] = [HEADER_PREFIX, "x-envoy-", "x-litellm-"];
/// Response headers that speak of the provider's account, or would move the client to another host.
const NOT_FOR_CLIENTS: [&str; 6] = [
    "openai-organization",
    "openai-project",
    "alt-svc",
    "strict-transport-security",
    "location",
    "www-authenticate",
];

/// Context of one attempt.
#[derive(Default)]
pub struct Adapter {
    call_id: String,
    /// Place of this attempt in the record.
    attempt: usize,
    edits: BodyEdits,
    /// Bytes of the original body seen.
    offset: usize,
    options: RewriteOptions,
    answer: Option<Answer>,
    /// Response bytes held, for an end that comes as trailers.
    held: usize,
    holding: bool,
}

/// What an attempt sends, worked out from the shared record.
struct Outgoing {
    attempt: usize,
    path: String,
    authority: String,
    headers: Vec<(String, String)>,
    /// Headers that an earlier attempt set for its own deployment.
    stale: Vec<String>,
    edits: BodyEdits,
    options: RewriteOptions,
}

impl Adapter {
    fn outgoing(&self) -> Result<Outgoing, String> {
        let cluster = host::text(&["xds", "cluster_name"]).unwrap_or_default();
        let path = ["xds", "cluster_metadata", "filter_metadata", METADATA_NAMESPACE, DEPLOYMENT_KEY];
        let text =
            host::property(&path).ok_or_else(|| format!("cluster {cluster} has no deployment metadata"))?;
        vm::with(|vm| {
            let meta =
                vm.deployment(&cluster, text).map_err(|error| format!("cluster {cluster}: {error}"))?;
            if meta.contract != VERSION {
                let theirs = meta.contract;
                return Err(format!(
                    "cluster {cluster} has contract version {theirs}, this filter {VERSION}"
                ));
            }
            let request = vm.requests.get_mut(&self.call_id).ok_or("no record of the request")?;
            let edits = BodyEdits::plan(&request.scan, &meta, &meta.model);
            let stale = std::mem::replace(
                &mut request.headers_set,
                meta.headers.iter().map(|(name, _)| name.clone()).collect(),
            );
            Ok(Outgoing {
                attempt: request.begin_attempt(&meta.id, &meta.group, &cluster, meta.price),
                path: provider::request_path(&meta, request.endpoint),
                authority: meta.authority.clone(),
                headers: meta.headers.clone(),
                stale,
                options: rewrite_options(request, &edits),
                edits,
            })
        })
        .unwrap_or_else(|| Err("state is busy".into()))
    }

    /// Runs `act` on this attempt's entry in the record. Not there when the client left already.
    fn record(&self, act: impl FnOnce(&mut AttemptRecord)) {
        vm::with(|vm| {
            let request = vm.requests.get_mut(&self.call_id)?;
            request.attempts.get_mut(self.attempt).map(|attempt| act(&mut attempt.record))
        });
    }

    fn first_event_seen(&self) {
        let now_us = host::now_us();
        vm::with(|vm| {
            if let Some(request) = vm.requests.get_mut(&self.call_id) {
                request.first_event_us = Some(now_us.saturating_sub(request.start_us));
            }
        });
    }

    fn request_body(&mut self, size: usize) {
        const BODY: BufferType = BufferType::HttpRequestBody;
        let left = self.edits.prefix_len().saturating_sub(self.offset);
        if !self.edits.is_empty() && size > 0 && left > 0 {
            let mut out = Vec::new();
            if left.min(size) <= SLICE {
                let prefix = host::body(BODY, 0, left.min(size));
                self.edits.apply(self.offset, &prefix, &mut out);
                host::replace_front(BODY, prefix.len(), &out);
            } else {
                self.turn_over(size, &mut out);
            }
        }
        self.offset = self.offset.saturating_add(size);
    }

    /// Takes slices off the front and puts their edited form at the back, until all of it went round: a body of any
    /// size is edited with two slices of memory.
    fn turn_over(&self, size: usize, out: &mut Vec<u8>) {
        const BODY: BufferType = BufferType::HttpRequestBody;
        let (mut seen, mut buffered) = (0_usize, size);
        while seen < size {
            let slice = host::body(BODY, 0, SLICE.min(size.saturating_sub(seen)));
            if slice.is_empty() {
                break;
            }
            out.clear();
            self.edits.apply(self.offset.saturating_add(seen), &slice, out);
            host::replace_front(BODY, slice.len(), &[]);
            buffered = buffered.saturating_sub(slice.len());
            host::append(BODY, buffered, out);
            buffered = buffered.saturating_add(out.len());
            seen = seen.saturating_add(slice.len());
        }
    }

    fn response_body(&mut self, size: usize, end: bool) -> Action {
        const BODY: BufferType = BufferType::HttpResponseBody;
        let Some(answer) = &mut self.answer else { return Action::Continue };
        let data = if answer.wants(size, end) { host::body(BODY, 0, size) } else { Vec::new() };
        let flow = answer.body(&data, end);
        let (outcome, usage) = (answer.outcome(), answer.usage());
        self.record(|record| {
            record.outcome = outcome;
            if usage.is_some() {
                record.usage = usage;
            }
        });
        match flow {
            Flow::Hold => {
                self.held = size;
                Action::Pause
            }
            Flow::Pass => Action::Continue,
            Flow::Send(body) => {
                host::replace_front(BODY, size, &body);
                Action::Continue
            }
            Flow::Release(release) => {
                host::replace_front(BODY, size, &release.body);
                self.release(&release);
                Action::Continue
            }
        }
    }

    fn release(&mut self, release: &Release) {
        const MAP: MapType = MapType::HttpResponseHeaders;
        self.holding = false;
        match release.status {
            Some(status) => host::set_header(MAP, ":status", &status.to_string()),
            None => self.first_event_seen(),
        }
        if release.json {
            host::set_header(MAP, "content-type", "application/json");
        }
        if let Some(length) = release.length {
            host::set_header(MAP, "content-length", &length.to_string());
        }
    }
}

fn rewrite_options(request: &Request, edits: &BodyEdits) -> RewriteOptions {
    RewriteOptions {
        client_model: request.model.clone(),
        want_usage: request.scan.include_usage,
        injected_usage: edits.injected_usage(),
        input_estimate: request.scan.input_tokens(),
    }
}

/// Seconds to wait as an upstream says it. A date is ignored: the two clocks may differ.
fn retry_after(headers: &host::Headers) -> Option<u64> {
    let number = |name: &str| host::find(headers, name).and_then(|value| value.trim().parse::<u64>().ok());
    number("retry-after").or_else(|| number("retry-after-ms").map(|ms| ms.div_ceil(1_000)))
}

impl Context for Adapter {}

impl HttpContext for Adapter {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        const MAP: MapType = MapType::HttpRequestHeaders;
        self.call_id = host::text(&[CALL_PROPERTY]).unwrap_or_default();
        let outgoing = match self.outgoing() {
            Ok(outgoing) => outgoing,
            Err(why) => {
                // The gateway itself is broken. Sending the request on as it is could leak it to the wrong place.
                host::error(&format!("attache: request {} cannot be sent: {why}", self.call_id));
                host::send_error(&ApiError::internal(why), &self.call_id);
                return Action::Pause;
            }
        };
        for (name, _) in host::headers(MAP) {
            let private = PRIVATE.contains(&name.as_str()) || KEY_HEADERS.contains(&name.as_str());
            if private
                || PRIVATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || outgoing.stale.iter().any(|stale| stale.eq_ignore_ascii_case(&name))
            {
                host::remove_header(MAP, &name);
            }
        }
        host::set_header(MAP, ":path", &outgoing.path);
        host::set_header(MAP, ":authority", &outgoing.authority);
        // Answers must be readable here.
        host::set_header(MAP, "accept-encoding", "identity");
        host::set_header(MAP, "content-type", "application/json");
        host::set_header(MAP, "content-length", &outgoing.edits.new_len().to_string());
        for (name, value) in &outgoing.headers {
            host::set_header(MAP, &name.to_ascii_lowercase(), value);
        }
        self.attempt = outgoing.attempt;
        self.edits = outgoing.edits;
        self.options = outgoing.options;
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        self.request_body(size);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        const MAP: MapType = MapType::HttpResponseHeaders;
        let headers = host::headers(MAP);
        let status =
            host::find(&headers, ":status").and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
        let encoding = host::find(&headers, "content-encoding").unwrap_or_default();
        let head = Head {
            status,
            content_type: host::find(&headers, "content-type").unwrap_or_default(),
            encoded: !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"),
            end: end_of_stream,
        };
        let (answer, Opening { hold, status: new_status, json, drop_length }) =
            Answer::open(&head, std::mem::take(&mut self.options));
        let retry_after_s = retry_after(&headers);
        let outcome = answer.outcome();
        self.answer = Some(answer);
        self.record(|record| {
            record.status = status;
            record.retry_after_s = retry_after_s;
            record.outcome = outcome;
        });
        for name in NOT_FOR_CLIENTS {
            if headers.iter().any(|(header, _)| header == name) {
                host::remove_header(MAP, name);
            }
        }
        if let Some(status) = new_status {
            host::set_header(MAP, ":status", &status.to_string());
        } else if !hold && status < 400 {
            self.first_event_seen();
        }
        if json {
            host::set_header(MAP, "content-type", "application/json");
        }
        if drop_length {
            host::remove_header(MAP, "content-length");
        }
        self.holding = hold;
        if hold { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.response_body(size, end_of_stream)
    }

    /// A body may end with trailers instead of an end of its own.
    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.response_body(self.held, true);
        Action::Continue
    }
}
