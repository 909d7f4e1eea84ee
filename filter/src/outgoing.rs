//! What an attempt sends: path, headers and body edits for its deployment, worked out from the shared record, and the
//! headers that no upstream may see.

use attache_llm::contract::{DeploymentMeta, HEADER_PREFIX, REPLAN_PATH, Step, VERSION};
use attache_llm::edit::BodyEdits;
use attache_llm::provider;
use attache_llm::response::RewriteOptions;
use attache_llm::wildcard;
use proxy_wasm::types::MapType;

use crate::auth::KEY_HEADERS;
use crate::host;
use crate::requests::{Request, Target};

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
}

impl Outgoing {
    /// Sets the headers that differ from deployment to deployment.
    pub fn set_headers(&self) {
        const MAP: MapType = MapType::HttpRequestHeaders;
        keep_routable();
        host::set_header(MAP, ":path", &self.path);
        host::set_header(MAP, ":authority", &self.authority);
        // Answers must be readable here.
        host::set_header(MAP, "accept-encoding", "identity");
        host::set_header(MAP, "content-type", "application/json");
        host::set_header(MAP, "content-length", &self.edits.new_len().to_string());
        for (name, value) in &self.headers {
            host::set_header(MAP, &name.to_ascii_lowercase(), value);
        }
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
        price: meta.price,
    };
    let attempt = request.begin_attempt(&target, host::now_us());
    Ok(sent(request, meta, attempt, stale))
}

/// A copy of the request for this deployment: no attempt of it.
///
/// # Errors
/// The cluster speaks another contract, or the deployment's model is a pattern.
pub fn copy(request: &Request, cluster: &str, meta: &DeploymentMeta) -> Result<Outgoing, String> {
    check(cluster, meta)?;
    resolve(None, meta)?;
    Ok(sent(request, meta, 0, Vec::new()))
}

/// What goes to a deployment.
fn sent(request: &Request, meta: &DeploymentMeta, attempt: usize, stale: Vec<String>) -> Outgoing {
    let edits = BodyEdits::plan(&request.scan, meta, &meta.model);
    Outgoing {
        attempt,
        path: provider::request_path(meta, request.endpoint),
        authority: meta.authority.clone(),
        headers: meta.headers.clone(),
        stale,
        options: rewrite_options(request, &edits),
        edits,
    }
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
    }
}

/// Takes off what no upstream may see. The router looks for the name of the cluster that gets a copy only after this
/// filter saw the headers of the first attempt, so that one stays until the body comes: returns whether it is there.
#[must_use]
pub fn strip(stale: &[String], copy: bool) -> bool {
    let mut copied = false;
    for (name, _) in host::headers(MapType::HttpRequestHeaders) {
        if name == MIRROR_HEADER && !copy {
            copied = true;
            continue;
        }
        let private = PRIVATE.contains(&name.as_str()) || KEY_HEADERS.contains(&name.as_str());
        if private
            || PRIVATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || stale.iter().any(|stale| stale.eq_ignore_ascii_case(&name))
        {
            host::remove_header(MapType::HttpRequestHeaders, &name);
        }
    }
    copied
}

/// Envoy finds no route for a request without this header, and follows no redirect without a route. The map of headers
/// is one for all attempts and for the redirect, so that providers see it too: hence a constant, which says nothing of
/// the caller.
fn keep_routable() {
    host::set_header(MapType::HttpRequestHeaders, "x-forwarded-proto", "https");
}

/// Makes the caller's request the question for another plan.
pub fn ask_for_plan() {
    const MAP: MapType = MapType::HttpRequestHeaders;
    keep_routable();
    host::set_header(MAP, ":path", REPLAN_PATH);
    host::set_header(MAP, ":authority", "attache");
    host::set_header(MAP, "content-length", "0");
}
