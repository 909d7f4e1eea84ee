//! Where a deployment is: provider, model, base URL, region.

use attache_llm::provider::{ApiBase, Provider, ProviderInfo};

use super::{Env, LitellmParams};

/// LiteLLM's defaults.
const AWS_REGION: &str = "us-west-2";
const VERTEX_LOCATION: &str = "us-central1";

/// A provider's model and where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Locality {
    pub(super) provider: Provider,
    /// As the provider calls it, without LiteLLM's marks.
    pub(super) model: String,
    /// AWS region or Google location.
    pub(super) region: Option<String>,
    /// Base URL, where the region or the project makes it.
    pub(super) url: Option<String>,
    /// Path below the host, where the project makes it.
    pub(super) path: Option<String>,
}

/// Takes a model's name apart.
///
/// # Errors
/// What is wrong with it, or missing.
pub(super) fn locality(
    info: &ProviderInfo,
    model: &str,
    params: &LitellmParams,
    env: &Env,
    project: impl FnOnce() -> Option<String>,
) -> Result<Locality, String> {
    match info.provider {
        Provider::Bedrock => bedrock(model, params, env),
        Provider::Vertex | Provider::VertexAnthropic => vertex(model, params, env, project),
        Provider::Gemini => Ok(plain(info, model.strip_prefix("models/").unwrap_or(model))),
        _ => Ok(plain(info, model)),
    }
}

fn plain(info: &ProviderInfo, model: &str) -> Locality {
    Locality { provider: info.provider, model: model.to_owned(), region: None, url: None, path: None }
}

/// Ways of LiteLLM's that lead to other services than Converse.
const OTHER_WAYS: [&str; 8] = [
    "agent",
    "agentcore",
    "async_invoke",
    "openai",
    "mantle",
    "chat_completions",
    "claude_platform",
    "nova_sonic",
];

/// `[converse/|invoke/][<region>/]<model id or ARN>`.
fn bedrock(model: &str, params: &LitellmParams, env: &Env) -> Result<Locality, String> {
    let mut rest = model;
    let mut of_path = None;
    while let Some((first, after)) = rest.split_once('/').filter(|_| !rest.starts_with("arn:")) {
        if matches!(first, "converse" | "converse_like" | "invoke") {
            rest = after;
        } else if OTHER_WAYS.contains(&first) {
            return Err(format!("`bedrock/{first}/` is not served: models are called by Converse"));
        } else if is_aws_region(first) && of_path.is_none() {
            of_path = Some(first.to_owned());
            rest = after;
        } else {
            break;
        }
    }
    let of_arn = rest
        .strip_prefix("arn:")
        .and_then(|arn| arn.split(':').nth(2))
        .filter(|region| is_aws_region(region));
    let of_env = || {
        env.first(&["AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"])
            .map(|(_, region)| region.to_owned())
    };
    let given = params.cloud.aws_region_name.clone().or(of_path).or_else(|| of_arn.map(str::to_owned));
    let region = given.or_else(of_env).unwrap_or_else(|| AWS_REGION.to_owned());
    if !is_aws_region(&region) {
        return Err("`aws_region_name` is no region, such as `us-east-1`".to_owned());
    }
    let url = params.cloud.aws_bedrock_runtime_endpoint.clone();
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = url.or_else(|| {
        let of_env = env.first(&["AWS_BEDROCK_RUNTIME_ENDPOINT"]).map(|(_, url)| url.to_owned());
        Some(of_env.unwrap_or_else(|| format!("https://bedrock-runtime.{region}.{domain}")))
    });
    Ok(Locality {
        provider: Provider::Bedrock,
        model: rest.to_owned(),
        region: Some(region),
        url,
        path: None,
    })
}

/// `us-east-1`, `ap-southeast-2`, `us-gov-west-1`.
pub(super) fn is_aws_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let words = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    (3..=4).contains(&parts.len())
        && (2..=3).contains(&first.len())
        && parts.iter().rev().skip(1).all(words)
        && !last.is_empty()
        && last.len() <= 2
        && last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Host and path of Vertex AI: Google's models, an endpoint of the customer's own (all digits), Claude.
fn vertex(
    model: &str,
    params: &LitellmParams,
    env: &Env,
    of_credentials: impl FnOnce() -> Option<String>,
) -> Result<Locality, String> {
    let from = |names: &[&str]| env.first(names).map(|(_, value)| value.to_owned());
    let location = params.cloud.vertex_location.clone();
    let location = location
        .or_else(|| from(&["VERTEXAI_LOCATION", "VERTEX_LOCATION"]))
        .unwrap_or_else(|| VERTEX_LOCATION.to_owned());
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    if location.is_empty() || !word(&location) {
        return Err("`vertex_location` is no location, such as `us-central1` or `global`".to_owned());
    }
    let project = params.cloud.vertex_project.clone();
    let project = project.or_else(|| from(&["VERTEXAI_PROJECT", "VERTEX_PROJECT"]));
    let project = project.or_else(of_credentials);
    let project = project.or_else(|| from(&["GOOGLE_CLOUD_PROJECT"])).filter(|project| !project.is_empty());
    let Some(project) = project else {
        return Err(
            "no `vertex_project`, VERTEXAI_PROJECT is not set, and the credentials name none".to_owned()
        );
    };
    if !word(&project) {
        return Err("`vertex_project` is no project id".to_owned());
    }
    let host = match location.as_str() {
        "global" => "aiplatform.googleapis.com".to_owned(),
        geo @ ("us" | "eu") => format!("aiplatform.{geo}.rep.googleapis.com"),
        location => format!("{location}-aiplatform.googleapis.com"),
    };
    let (provider, below) = match model {
        model if model.bytes().all(|byte| byte.is_ascii_digit()) => (Provider::Vertex, ""),
        model if model.starts_with("claude") => (Provider::VertexAnthropic, "/publishers/anthropic"),
        model if model.contains('/') => {
            return Err(
                "of Vertex AI, Google's models, Claude and endpoints (by number) are served; for another publisher's \
                 write `openai/<model>` with `api_base: https://.../endpoints/openapi` and a token as `api_key`"
                    .to_owned(),
            );
        }
        _ => (Provider::Vertex, "/publishers/google"),
    };
    Ok(Locality {
        provider,
        model: model.to_owned(),
        url: Some(format!("https://{host}")),
        path: Some(format!("/projects/{project}/locations/{location}{below}")),
        region: Some(location),
    })
}

impl Locality {
    /// Path prefix at this base: the base's own, or the provider's, with the project's below it.
    pub(super) fn base_path(&self, info: &ProviderInfo, base: &ApiBase) -> String {
        match &self.path {
            None if base.path.is_empty() => info.default_path.to_owned(),
            None => base.path.clone(),
            // Somebody configured the whole path.
            Some(_) if base.path.contains("/projects/") => base.path.clone(),
            Some(path) if base.path.is_empty() => format!("/v1{path}"),
            Some(path) => format!("{}{path}", base.path),
        }
    }
}
