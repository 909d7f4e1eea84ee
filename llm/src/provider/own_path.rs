//! Paths of requests that say more than their endpoint: ids of stored things, queries, versions of a path.

use super::{AZURE_API_VERSION, Provider, request_path};
use crate::contract::DeploymentMeta;
use crate::path::{Endpoint, model_of_query, percent_encode};

/// `:path` of a request to a deployment, query included. `asked`: path and query as the client sent them, for endpoints
/// that have more than one path or a query that matters.
#[must_use]
pub fn path_of(meta: &DeploymentMeta, endpoint: Endpoint, stream: bool, asked: &str) -> String {
    match endpoint {
        Endpoint::Rerank => rerank(meta),
        Endpoint::Realtime => {
            let (_, rest) = model_of_query(asked);
            match surface(meta) {
                Surface::Dated(root, version) => {
                    let own = format!("api-version={version}&deployment={}", percent_encode(&meta.model));
                    with_query(format!("{root}/realtime"), &[&own, &rest])
                }
                Surface::Plain(root, version) => {
                    let own = format!("model={}", percent_encode(&meta.model));
                    with_query(format!("{root}/realtime"), &[&own, version, &rest])
                }
            }
        }
        Endpoint::Files | Endpoint::Batches | Endpoint::StoredResponses => {
            let (_, rest) = model_of_query(asked);
            let below = Endpoint::parse(asked).map(|parsed| parsed.rest).unwrap_or_default();
            let path = format!("{}{below}", endpoint.path());
            match surface(meta) {
                Surface::Dated(root, version) => {
                    with_query(format!("{root}{path}"), &[&format!("api-version={version}"), &rest])
                }
                Surface::Plain(root, version) => with_query(format!("{root}{path}"), &[version, &rest]),
            }
        }
        _ => request_path(meta, endpoint, stream),
    }
}

/// Where a provider has what belongs to an account and not to a deployment.
enum Surface {
    /// OpenAI's own paths, below this; with what must stand in the query.
    Plain(String, &'static str),
    /// Azure's, below this, with this `api-version`, encoded.
    Dated(String, String),
}

fn surface(meta: &DeploymentMeta) -> Surface {
    let base = meta.base_path.trim_end_matches('/');
    if meta.provider != Provider::Azure {
        return Surface::Plain(base.to_owned(), "");
    }
    let version = meta.api_version.as_deref().filter(|version| !version.is_empty());
    // What stands before `/openai` belongs to whatever is in front of Azure.
    let before = base.find("/openai").and_then(|at| base.get(..at)).unwrap_or(base);
    let dateless = matches!(version, Some("v1" | "latest" | "preview"));
    if dateless || base.ends_with("/openai/v1") || base.contains("/openai/v1/") {
        let query = if version == Some("preview") { "api-version=preview" } else { "" };
        return Surface::Plain(format!("{before}/openai/v1"), query);
    }
    Surface::Dated(format!("{before}/openai"), percent_encode(version.unwrap_or(AZURE_API_VERSION)))
}

/// Azure's path of `/responses`, whose model is in the body although the path may be dated.
pub(super) fn azure_responses(meta: &DeploymentMeta) -> String {
    match surface(meta) {
        Surface::Plain(root, version) => with_query(format!("{root}/responses"), &[version]),
        Surface::Dated(root, version) => {
            with_query(format!("{root}/responses"), &[&format!("api-version={version}")])
        }
    }
}

/// Cohere has no reranking in its OpenAI-compatible part; everybody else has it beside the other endpoints.
fn rerank(meta: &DeploymentMeta) -> String {
    let base = meta.base_path.trim_end_matches('/');
    match base.strip_suffix("/compatibility/v1") {
        Some(root) => format!("{root}/v2/rerank"),
        None if base.ends_with("/rerank") => base.to_owned(),
        None => format!("{base}/rerank"),
    }
}

fn with_query(mut path: String, parts: &[&str]) -> String {
    let mut separator = '?';
    for part in parts.iter().filter(|part| !part.is_empty()) {
        path.push(separator);
        path.push_str(part);
        separator = '&';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(provider: Provider, base: &str, version: Option<&str>) -> DeploymentMeta {
        DeploymentMeta {
            provider,
            model: "my dep".into(),
            base_path: base.into(),
            api_version: version.map(str::to_owned),
            ..DeploymentMeta::default()
        }
    }

    fn path(meta: &DeploymentMeta, asked: &str) -> String {
        path_of(meta, Endpoint::parse(asked).unwrap().endpoint, false, asked)
    }

    #[test]
    fn openai_keeps_ids_and_queries_without_the_model() {
        let openai = meta(Provider::Openai, "/v1", None);
        for (asked, sent) in [
            ("/v1/files?purpose=batch&model=g&limit=2", "/v1/files?purpose=batch&limit=2"),
            ("/files/file-1/content?model=g", "/v1/files/file-1/content"),
            ("/v1/batches/batch_1/cancel", "/v1/batches/batch_1/cancel"),
            ("/v1/responses/resp_1?include=a", "/v1/responses/resp_1?include=a"),
            ("/v1/realtime?intent=x&model=g", "/v1/realtime?model=my%20dep&intent=x"),
            ("/v1/images/edits?x=1", "/v1/images/edits"),
            ("/v2/rerank", "/v1/rerank"),
        ] {
            assert_eq!(path(&openai, asked), sent, "{asked}");
        }
    }

    #[test]
    fn azure_has_files_beside_its_deployments() {
        let dated = meta(Provider::Azure, "", Some("2025-04-01-preview"));
        let v1 = meta(Provider::Azure, "/openai/v1", None);
        let preview = meta(Provider::Azure, "/openai", Some("preview"));
        let whole = meta(Provider::Azure, "/x/openai/deployments/d", None);
        for (meta, asked, sent) in [
            (&dated, "/openai/files?api-version=1", "/openai/files?api-version=2025-04-01-preview"),
            (&dated, "/v1/responses/r1", "/openai/responses/r1?api-version=2025-04-01-preview"),
            (
                &dated,
                "/openai/realtime?api-version=1&deployment=g",
                "/openai/realtime?api-version=2025-04-01-preview&deployment=my%20dep",
            ),
            (
                &dated,
                "/v1/images/generations",
                "/openai/deployments/my%20dep/images/generations?api-version=2025-04-01-preview",
            ),
            (&v1, "/v1/batches/b1", "/openai/v1/batches/b1"),
            (&v1, "/v1/realtime?model=g", "/openai/v1/realtime?model=my%20dep"),
            (&preview, "/v1/files/f1", "/openai/v1/files/f1?api-version=preview"),
            (&whole, "/v1/files/f1", "/x/openai/files/f1?api-version=2025-02-01-preview"),
        ] {
            assert_eq!(path(meta, asked), sent, "{asked}");
        }
    }

    #[test]
    fn reranking_has_paths_of_its_own() {
        let cohere = meta(Provider::Openai, "/compatibility/v1", None);
        assert_eq!(path(&cohere, "/v1/rerank"), "/v2/rerank");
        assert_eq!(path(&meta(Provider::Openai, "", None), "/rerank"), "/rerank");
        assert_eq!(path(&meta(Provider::Openai, "/v2/rerank", None), "/rerank"), "/v2/rerank");
    }
}
