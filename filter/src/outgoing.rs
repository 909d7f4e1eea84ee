//! What an attempt sends: path, headers and body edits for its deployment, worked out from the shared record, and the
//! headers that no upstream may see.

use attache_llm::contract::{ATTEMPT_HEADER, DeploymentMeta, HEADER_PREFIX, REPLAN_PATH, Step, VERSION};
use attache_llm::dialect::attempt::{self, Facts, Outward};
use attache_llm::dialect::{Route, route};
use attache_llm::edit::BodyEdits;
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;
use attache_llm::provider::{self, Provider};
use attache_llm::response::RewriteOptions;
use attache_llm::scan::{Form, Scanned};
use attache_llm::usage::Counting;
use attache_llm::wildcard;
use proxy_wasm::types::MapType;

use crate::auth::KEY_HEADERS;
use crate::headers::Headers;
use crate::host;
use crate::requests::{Request, Target};

/// Request headers that a provider has no business with, beside the prefixes below. The credentials of an earlier
/// attempt are among them: Envoy injects this attempt's after the adapter.
const PRIVATE: [&str; 9] = [
    // Set anew for providers that know it.
    BETA_HEADER,
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
/// Envoy finds no route for a request without this header, and follows no redirect without a route. The map of headers
/// is one for all attempts and for the redirect, so that providers see it too: hence a constant, which says nothing of
/// the caller.
const PROTO_HEADER: &str = "x-forwarded-proto";
/// Features of Anthropic's API that a request asks for.
pub const BETA_HEADER: &str = "anthropic-beta";
/// Names the cluster that gets a copy of the request (the route's mirror policy). The sidecar sets it.
pub const MIRROR_HEADER: &str = "x-attache-mirror";

/// What an attempt sends, worked out from the shared record.
pub struct Outgoing {
    /// Its place in the record.
    pub attempt: usize,
    path: String,
    authority: String,
    headers: Vec<(String, String)>,
    /// Headers that an earlier attempt set for its own deployment.
    pub stale: Vec<String>,
    pub edits: BodyEdits,
    pub options: RewriteOptions,
    /// The body is JSON; else it is what the client says.
    json: bool,
    /// The body must be whole before any of it goes out.
    pub whole: Option<Box<Whole>>,
}

/// What the translation of a whole body needs.
pub struct Whole {
    pub route: Route,
    pub meta: DeploymentMeta,
    pub endpoint: Endpoint,
    pub client_model: String,
    pub scan: Scanned,
    /// `anthropic-beta` as the client sent it.
    pub beta: Option<String>,
}

impl Outgoing {
    /// Puts the attempt's headers in place of the request's as they are `now`, in one call: without what no upstream may see,
    /// and with what differs from deployment to deployment. Returns whether a copy is to be made (see [`strip`]).
    #[must_use]
    pub fn set_headers(&self, now: &Headers, copy: bool) -> bool {
        let mut headers = now.edit();
        let copied = !copy && now.has(MIRROR_HEADER);
        headers.retain(|name| !is_private(name, &self.stale, copy));
        headers.set(PROTO_HEADER, "https");
        headers.set(":path", &self.path);
        headers.set(":authority", &self.authority);
        // Answers must be readable here.
        headers.set("accept-encoding", "identity");
        if self.json {
            headers.set("content-type", "application/json");
        }
        // Without a body there may be no length, and a WebSocket must have none.
        let length = self.edits.new_len().to_string();
        if self.whole.is_none() && self.edits.old_len() > 0 {
            headers.set("content-length", &length);
        }
        let names: Vec<String> = self.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        for (name, (_, value)) in names.iter().zip(&self.headers) {
            headers.set(name, value);
        }
        host::set_headers(MapType::HttpRequestHeaders, headers.as_slice());
        copied
    }
}

impl Whole {
    /// What goes out in place of the client's body.
    ///
    /// # Errors
    /// The client's fault (400), or there is no way from its dialect to the deployment's.
    pub fn outward(&self, body: &[u8], call_id: &str) -> Result<Outward, ApiError> {
        let now_s = host::now_ms() / 1_000;
        let (endpoint, client_model) = (self.endpoint, self.client_model.as_str());
        let facts = Facts { endpoint, client_model, call_id, now_s, scan: &self.scan };
        attempt::outward(self.route, &facts, &self.meta, body)
    }
}

/// Does the deployment's cluster speak this filter's contract?
fn check(cluster: &str, meta: &DeploymentMeta) -> Result<(), String> {
    if meta.contract == VERSION {
        return Ok(());
    }
    let theirs = meta.contract;
    Err(format!("cluster {cluster} has contract version {theirs}, this filter {VERSION}"))
}

/// Notes an attempt and works out what it sends.
///
/// # Errors
/// The cluster speaks another contract, or the plan names no model for a pattern.
pub fn outgoing(
    request: &mut Request,
    cluster: &str,
    meta: &DeploymentMeta,
    step: usize,
) -> Result<Outgoing, String> {
    check(cluster, meta)?;
    let resolved = resolve(request.walk().and_then(|walk| walk.steps.get(step)), meta)?;
    let meta = resolved.as_ref().unwrap_or(meta);
    let stale = std::mem::replace(
        &mut request.headers_set,
        meta.headers.iter().map(|(name, _)| name.clone()).collect(),
    );
    let target = Target {
        deployment: &meta.id,
        group: &meta.group,
        cluster,
        model: resolved.as_ref().map(|meta| meta.model.as_str()),
        price: meta.price.as_ref(),
    };
    let attempt = request.begin_attempt(&target, host::now_us());
    sent(request, meta, attempt, stale)
}

/// A copy of the request for this deployment: no attempt of it.
///
/// # Errors
/// The cluster speaks another contract, or the deployment's model is a pattern.
pub fn copy(request: &Request, cluster: &str, meta: &DeploymentMeta) -> Result<Outgoing, String> {
    check(cluster, meta)?;
    resolve(None, meta)?;
    sent(request, meta, 0, Vec::new())
}

/// What goes to a deployment.
fn sent(
    request: &Request,
    meta: &DeploymentMeta,
    attempt: usize,
    stale: Vec<String>,
) -> Result<Outgoing, String> {
    let endpoint = request.endpoint;
    let route = route(meta, endpoint).ok_or_else(|| format!("{} does not serve {endpoint:?}", meta.id))?;
    let json = request.scan.form == Form::Json;
    let rewritten = json && !endpoint.is_stored() && attempt::needs_whole_body(route, meta);
    let whole = rewritten.then(|| {
        Box::new(Whole {
            route,
            meta: meta.clone(),
            endpoint,
            client_model: request.model.clone(),
            scan: request.scan.clone(),
            beta: request.origin.beta.clone(),
        })
    });
    let edits = match whole {
        Some(_) => BodyEdits::default(),
        None => BodyEdits::plan(&request.scan, meta, &meta.model, endpoint),
    };
    let mut headers = meta.headers.clone();
    let anthropic = matches!(meta.provider, Provider::Anthropic | Provider::VertexAnthropic);
    if let Some(beta) = request.origin.beta.as_ref().filter(|_| anthropic) {
        headers.push((BETA_HEADER.to_owned(), joined(beta, own_betas(meta))));
    }
    Ok(Outgoing {
        attempt,
        path: provider::path_of(meta, endpoint, request.scan.stream, &request.origin.path),
        authority: meta.authority.clone(),
        headers,
        stale,
        options: rewrite_options(request, &edits),
        edits,
        json,
        whole,
    })
}

/// Betas that the deployment's configuration asks for.
fn own_betas(meta: &DeploymentMeta) -> impl Iterator<Item = &str> {
    let own = meta.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(BETA_HEADER));
    own.map(|(_, value)| value.as_str())
}

/// Lists of betas as one, each once.
pub fn joined<'a>(first: &'a str, more: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = Vec::new();
    for name in std::iter::once(first).chain(more).flat_map(|list| list.split(',')).map(str::trim) {
        if !name.is_empty() && !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(",")
}

/// The deployment with the model that its pattern stands for in this step. `None` when its model is no pattern.
fn resolve(step: Option<&Step>, meta: &DeploymentMeta) -> Result<Option<DeploymentMeta>, String> {
    if !wildcard::is_pattern(&meta.model) {
        return Ok(None);
    }
    let model = step.and_then(|step| step.model.clone());
    let model = model.ok_or_else(|| format!("the plan names no model for {}", meta.model))?;
    Ok(Some(DeploymentMeta { model, ..meta.clone() }))
}

fn rewrite_options(request: &Request, edits: &BodyEdits) -> RewriteOptions {
    RewriteOptions {
        client_model: request.model.clone(),
        want_usage: request.scan.include_usage,
        injected_usage: edits.injected_usage(),
        input_estimate: request.scan.input_tokens(),
        shape: request.endpoint.errors(),
        counting: Counting::of(request.endpoint, &request.scan),
        done_mark: matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions),
    }
}

/// May no upstream see this header? The router looks for the name of the cluster that gets a copy only after this filter saw
/// the headers of the first attempt, so that one stays until the body comes.
fn is_private(name: &[u8], stale: &[String], copy: bool) -> bool {
    // By the second one an Envoy before 1.40 finds the next step of the plan. It says nothing that a provider must not know.
    if (name == MIRROR_HEADER.as_bytes() && !copy) || name == ATTEMPT_HEADER.as_bytes() {
        return false;
    }
    let mut private = PRIVATE.iter().chain(&KEY_HEADERS);
    private.any(|private| private.as_bytes() == name)
        || PRIVATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        || stale.iter().any(|stale| stale.as_bytes().eq_ignore_ascii_case(name))
}

/// Takes off what no upstream may see. Returns whether a copy is to be made.
#[must_use]
pub fn strip(headers: &Headers) -> bool {
    for name in headers.names().filter(|name| is_private(name, &[], false)) {
        host::remove_named(MapType::HttpRequestHeaders, name);
    }
    headers.has(MIRROR_HEADER)
}

/// Makes the caller's request the question for another plan.
pub fn ask_for_plan() {
    const MAP: MapType = MapType::HttpRequestHeaders;
    host::set_header(MAP, PROTO_HEADER, "https");
    host::set_header(MAP, ":path", REPLAN_PATH);
    host::set_header(MAP, ":authority", "attache");
    host::set_header(MAP, "content-length", "0");
}
