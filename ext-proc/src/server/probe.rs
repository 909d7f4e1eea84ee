//! Background health probes: is the provider there, and does it take the credential?
//!
//! The question is its list of models, which costs nothing. It does not show that a model works, and is not meant to:
//! the circuit breakers learn that from real requests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attache_llm::contract::DeploymentMeta;
use attache_llm::path::Endpoint;
use attache_llm::provider::{Provider, request_path};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep};

use super::client::{Client, ClientError, Target};
use crate::credentials::Credential;
use crate::routing::{Deployment, Health, Probes, Snapshot, SnapshotHandle, now_ms};

const PATIENCE: Duration = Duration::from_secs(5);
/// Probes at the same time.
const AT_ONCE: usize = 8;
/// Enough to end the connection in peace; the list itself is not looked at.
const MAX_ANSWER: usize = 1024 * 1024;
/// How often it is looked whether there is a new configuration, whose deployments are probed at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Replicas that start together must not probe together: the first round begins within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// The client of probes. Without a readable CA bundle providers behind TLS are not probed.
pub(super) fn client(ca_file: &Path) -> Client {
    Client::new(ca_file).unwrap_or_else(|error| {
        let error = format!("{error:#}");
        tracing::warn!(error, "providers behind TLS are not probed (--ca-file)");
        Client::without_tls()
    })
}

/// Probes every deployment about every `every`, for as long as the process runs.
pub(super) async fn watch(client: Client, snapshot: SnapshotHandle, probes: Arc<Probes>, every: Duration) {
    sleep(FIRST_WITHIN.min(every).mul_f64(rand::random())).await;
    loop {
        let now = snapshot.load_full();
        round(&client, &now, &probes).await;
        let next = Instant::now() + every.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        while Instant::now() < next && snapshot.load().generation == now.generation {
            sleep(LOOK_EVERY.min(next.saturating_duration_since(Instant::now()))).await;
        }
    }
}

/// One probe of each address and credential; deployments that share them share the answer.
pub(super) async fn round(client: &Client, snapshot: &Snapshot, probes: &Probes) {
    let mut questions: HashMap<_, Vec<&Deployment>> = HashMap::new();
    for deployment in snapshot.deployments.values() {
        let Some(target) = target(deployment).filter(|_| is_plain(deployment)) else { continue };
        if client.reaches(&target) {
            let credential = secret(deployment);
            let name = (target.tls, target.authority, target.path, credential);
            questions.entry(name).or_default().push(deployment);
        }
    }
    let mut questions: Vec<Vec<&Deployment>> = questions.into_values().collect();
    questions.shuffle(&mut rand::rng());
    let asked = questions.into_iter().filter(|of| !of.is_empty()).map(|deployments| async move {
        let first = deployments.first().and_then(|first| Some((target(first)?, first)));
        let answer = match &first {
            Some((target, first)) => client.get(target, headers(first), MAX_ANSWER, PATIENCE).await,
            None => return,
        };
        let (healthy, detail) = judge(answer.map(|(status, _)| status));
        for deployment in deployments {
            keep(probes, deployment, Health { healthy, checked_ms: now_ms(), detail: detail.clone() });
        }
    });
    // Futures that are made here and not by `map` keep the borrow of the snapshot simple.
    let asked: Vec<_> = asked.collect();
    stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// Enters a result, and logs it when it is another than before.
fn keep(probes: &Probes, deployment: &Deployment, health: Health) {
    let id = &deployment.meta.id;
    let before = probes.get(id).map(|before| (before.healthy, before.detail));
    let detail = &health.detail;
    match (before, health.healthy) {
        (Some((false, _)), true) => tracing::info!(deployment = id, "health probe: healthy again"),
        (Some((false, before)), false) if before == *detail => {}
        (_, false) => tracing::warn!(deployment = id, detail, "health probe failed"),
        (_, true) => {}
    }
    probes.set(id, health);
}

/// The header that a deployment is called with, where its value is in the configuration.
fn secret(deployment: &Deployment) -> Option<(&str, &str)> {
    deployment.credential.as_ref()?.configured()
}

/// Can it be asked with what the configuration has? Of tokens and signatures the keyring says how they do.
fn is_plain(deployment: &Deployment) -> bool {
    matches!(deployment.credential, None | Some(Credential::Header(..)))
}

/// The provider's list of models; `None` where it has none at that address (Bedrock's runtime, Vertex AI).
fn target(deployment: &Deployment) -> Option<Target> {
    let Deployment { meta, tls, host, port, .. } = deployment;
    Some(Target {
        tls: *tls,
        host: host.clone(),
        port: *port,
        authority: meta.authority.clone(),
        path: models_path(meta)?,
        socket: None,
    })
}

/// `/models` where the chat endpoint is; Azure's list belongs to the resource, not to the deployment in the path.
fn models_path(meta: &DeploymentMeta) -> Option<String> {
    match meta.provider {
        Provider::Openai | Provider::Azure => {}
        Provider::Anthropic => {
            return request_path(meta, Endpoint::Messages, false)
                .strip_suffix("/messages")
                .map(|base| format!("{base}/models"));
        }
        Provider::Gemini => return Some(format!("{}/models", meta.base_path.trim_end_matches('/'))),
        Provider::Bedrock | Provider::Vertex | Provider::VertexAnthropic => return None,
    }
    let chat = Endpoint::ChatCompletions;
    let whole = request_path(meta, chat, false);
    let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
    let base = match path.find("/openai/deployments/") {
        Some(at) => path.get(..at + "/openai".len()).unwrap_or_default(),
        None => path.strip_suffix(chat.path()).unwrap_or(path),
    };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    Some(format!("{base}/models{query}"))
}

fn headers(deployment: &Deployment) -> HeaderMap {
    let credential = secret(deployment).into_iter();
    let own = deployment.meta.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in own.chain(credential) {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// Healthy, and why not.
fn judge(answer: Result<StatusCode, ClientError>) -> (bool, String) {
    match answer {
        // A server without a list of models is a server all the same, and so is one that is busy.
        Ok(status) => match status.as_u16() {
            401 | 403 => (false, format!("credential refused ({})", status.as_u16())),
            500.. => (false, format!("HTTP {}", status.as_u16())),
            _ => (true, format!("HTTP {}", status.as_u16())),
        },
        Err(error) => (false, error.to_string()),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
