//! Which credential a deployment is called with, in LiteLLM's order: what the deployment says, then the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use attache_llm::provider::{Provider, ProviderInfo};
use serde_json::Value;

use super::{Env, LitellmParams, Secret};
use crate::credentials::{
    AwsKeys, AwsSource, Credential, Entra, EntraProof, GoogleSource, Source, Sts, WebIdentity, google_account,
};

const ENTRA_AUTHORITY: &str = "https://login.microsoftonline.com";
const ENTRA_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const METADATA_HOST: &str = "metadata.google.internal";
/// Session name where none is given; it shows in CloudTrail.
const SESSION: &str = "attache";

/// A credential, or `None` where there is none; the error says what is wrong.
pub(super) type Found = Result<Option<Credential>, String>;

/// The credential of a deployment. `region`: where its provider signs for.
pub(super) fn credential(
    info: &ProviderInfo,
    params: &LitellmParams,
    region: Option<&str>,
    env: &Env,
) -> Found {
    if let Some(key) = &params.api_key {
        return Ok(Some(header(info, key.expose())?));
    }
    let found = match info.provider {
        Provider::Azure => entra_of_params(params, env)?,
        Provider::Vertex | Provider::VertexAnthropic => return google(params, env).map(Some),
        Provider::Bedrock => aws_of_params(params, region.unwrap_or_default(), env)?,
        _ => None,
    };
    if found.is_some() {
        return Ok(found);
    }
    if let Some((_, key)) = env.first(info.key_env) {
        return Ok(Some(header(info, key)?));
    }
    match info.provider {
        Provider::Azure => entra_of_env(params, env),
        Provider::Bedrock => {
            let region = region.unwrap_or_default();
            let source = aws_of_env(region, params, env).map(|source| Arc::new(Source::Aws(source)));
            Ok(Some(Credential::Signed { region: region.to_owned(), source }))
        }
        _ => Ok(None),
    }
}

fn header(info: &ProviderInfo, key: &str) -> Result<Credential, String> {
    let value = format!("{}{}", info.credential_prefix, key.trim());
    if http::HeaderValue::from_str(&value).is_err() {
        return Err("`api_key` cannot be sent in a header: control characters or not ASCII".to_owned());
    }
    Ok(Credential::Header(info.credential_header.to_owned(), Secret::new(value)))
}

fn bearer(token: &str) -> Result<Credential, String> {
    let value = format!("Bearer {}", token.trim());
    if http::HeaderValue::from_str(&value).is_err() {
        return Err("the token cannot be sent in a header: control characters or not ASCII".to_owned());
    }
    Ok(Credential::Header("authorization".to_owned(), Secret::new(value)))
}

/// A token, or what the deployment says of an application.
fn entra_of_params(params: &LitellmParams, env: &Env) -> Found {
    let cloud = &params.cloud;
    if let Some(token) = &cloud.azure_ad_token {
        return bearer(token.expose()).map(Some);
    }
    if cloud.tenant_id.is_none() && cloud.client_id.is_none() && cloud.client_secret.is_none() {
        return Ok(None);
    }
    entra(params, env)?.map(Some).ok_or_else(|| {
        "an Entra application needs `tenant_id` and `client_id`, and `client_secret` or AZURE_FEDERATED_TOKEN_FILE"
            .to_owned()
    })
}

fn entra_of_env(params: &LitellmParams, env: &Env) -> Found {
    if let Some((_, token)) = env.first(&["AZURE_AD_TOKEN"]) {
        return bearer(token).map(Some);
    }
    entra(params, env)
}

/// `None` when something is missing.
fn entra(params: &LitellmParams, env: &Env) -> Found {
    let cloud = &params.cloud;
    let either = |given: &Option<String>, name: &str| {
        given.clone().or_else(|| env.first(&[name]).map(|(_, value)| value.to_owned()))
    };
    let (Some(tenant), Some(client)) =
        (either(&cloud.tenant_id, "AZURE_TENANT_ID"), either(&cloud.client_id, "AZURE_CLIENT_ID"))
    else {
        return Ok(None);
    };
    let secret = cloud.client_secret.clone();
    let secret = secret.or_else(|| env.first(&["AZURE_CLIENT_SECRET"]).map(|(_, value)| Secret::new(value)));
    let file = || env.first(&["AZURE_FEDERATED_TOKEN_FILE"]).map(|(_, path)| PathBuf::from(path));
    let proof = match (secret, file()) {
        (Some(secret), _) => EntraProof::Secret(secret),
        (None, Some(file)) => EntraProof::TokenFile(file),
        (None, None) => return Ok(None),
    };
    let authority = either(&None, "AZURE_AUTHORITY_HOST").unwrap_or_else(|| ENTRA_AUTHORITY.to_owned());
    // Azure's own libraries take the host with and without a scheme.
    let authority = if authority.contains("://") { authority } else { format!("https://{authority}") };
    if attache_llm::provider::ApiBase::parse(&authority).is_none() {
        return Err("AZURE_AUTHORITY_HOST is no URL".to_owned());
    }
    let scope = either(&cloud.azure_scope, "AZURE_SCOPE").unwrap_or_else(|| ENTRA_SCOPE.to_owned());
    let authority = authority.trim_end_matches('/').to_owned();
    Ok(Some(Credential::Token(Arc::new(Source::Entra(Entra { authority, tenant, client, scope, proof })))))
}

/// Whose account calls Google, with what is known of it now.
fn google_source(params: &LitellmParams, env: &Env) -> GoogleSource {
    let text = params.cloud.vertex_credentials.as_ref().map(super::cloud::SecretValue::text);
    let text = text.or_else(|| {
        let names = ["VERTEXAI_CREDENTIALS", "VERTEX_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"];
        env.first(&names).map(|(_, value)| value.to_owned())
    });
    match text {
        Some(json) if json.trim_start().starts_with('{') => GoogleSource::Json(Secret::new(json)),
        Some(path) => GoogleSource::File(PathBuf::from(path)),
        None => {
            let host = env.first(&["GCE_METADATA_HOST"]).map_or(METADATA_HOST, |(_, host)| host);
            GoogleSource::Metadata(host.to_owned())
        }
    }
}

fn google(params: &LitellmParams, env: &Env) -> Result<Credential, String> {
    let source = google_source(params, env);
    if let Some(json) = google_json(&source)? {
        google_account(&json).map_err(|error| format!("`vertex_credentials`: {error}"))?;
    }
    Ok(Credential::Token(Arc::new(Source::Google(source))))
}

/// The account's JSON; `None` for the metadata server.
fn google_json(source: &GoogleSource) -> Result<Option<String>, String> {
    match source {
        GoogleSource::Json(json) => Ok(Some(json.expose().to_owned())),
        GoogleSource::File(path) => match std::fs::read_to_string(path) {
            Ok(json) => Ok(Some(json)),
            Err(error) => Err(format!(
                "`vertex_credentials` is no JSON, and the file {} cannot be read: {error}",
                path.display()
            )),
        },
        GoogleSource::Metadata(_) => Ok(None),
    }
}

/// The project that Google's credentials belong to.
pub(super) fn google_project(params: &LitellmParams, env: &Env) -> Option<String> {
    let json = google_json(&google_source(params, env)).ok()??;
    let account: Value = serde_json::from_str(&json).ok()?;
    let named = account.get("project_id").or_else(|| account.get("quota_project_id"));
    named.and_then(Value::as_str).map(str::to_owned)
}

/// What the deployment itself says: keys, a profile, a role.
fn aws_of_params(params: &LitellmParams, region: &str, env: &Env) -> Found {
    let cloud = &params.cloud;
    let keys = match (&cloud.aws_access_key_id, &cloud.aws_secret_access_key) {
        (Some(id), Some(secret)) => Some(AwsSource::Keys(AwsKeys {
            id: id.expose().trim().to_owned(),
            secret: secret.clone(),
            session: cloud.aws_session_token.clone(),
        })),
        (None, None) => None,
        _ => return Err("`aws_access_key_id` and `aws_secret_access_key` go together".to_owned()),
    };
    let profile = || {
        let name = cloud.aws_profile_name.clone()?;
        Some(AwsSource::Profile { file: credentials_file(env), name })
    };
    let own = keys.or_else(profile);
    let source = match &cloud.aws_role_name {
        Some(role) => Some(assumed(role, own, params, region, env)?),
        None if cloud.aws_web_identity_token.is_some() => {
            return Err("`aws_web_identity_token` needs `aws_role_name`".to_owned());
        }
        None => own,
    };
    Ok(source.map(|source| Credential::Signed {
        region: region.to_owned(),
        source: Some(Arc::new(Source::Aws(source))),
    }))
}

/// A role, by a token of an identity provider or with other keys.
fn assumed(
    role: &str,
    own: Option<AwsSource>,
    params: &LitellmParams,
    region: &str,
    env: &Env,
) -> Result<AwsSource, String> {
    let cloud = &params.cloud;
    let (role, sts) = (role.to_owned(), sts(params, region, env)?);
    let session = cloud.aws_session_name.clone().unwrap_or_else(|| SESSION.to_owned());
    if let Some(token) = &cloud.aws_web_identity_token {
        let path = Path::new(token.expose());
        let token = match path.is_absolute() {
            true => WebIdentity::File(path.to_path_buf()),
            false => WebIdentity::Token(token.clone()),
        };
        return Ok(AwsSource::WebIdentity { role, session, token, sts });
    }
    let Some(with) = own.or_else(|| aws_of_env(region, params, env)) else {
        return Err(
            "`aws_role_name` needs keys to ask for it: `aws_access_key_id` and `aws_secret_access_key`, AWS_ACCESS_KEY_ID \
             and AWS_SECRET_ACCESS_KEY, a profile, or AWS_WEB_IDENTITY_TOKEN_FILE"
                .to_owned(),
        );
    };
    // The workload's own role needs no second step.
    if matches!(&with, AwsSource::WebIdentity { role: own, .. } if *own == role) {
        return Ok(with);
    }
    let external_id = cloud.aws_external_id.clone();
    Ok(AwsSource::Role { role, session, external_id, sts, with: Box::new(with) })
}

/// What the sidecar's environment says; `None`: Envoy looks in its own.
fn aws_of_env(region: &str, params: &LitellmParams, env: &Env) -> Option<AwsSource> {
    let get = |name: &str| env.first(&[name]).map(|(_, value)| value.to_owned());
    if let (Some(id), Some(secret)) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
        let session = get("AWS_SESSION_TOKEN").map(Secret::new);
        return Some(AwsSource::Keys(AwsKeys { id, secret: Secret::new(secret), session }));
    }
    if let (Some(file), Some(role)) = (get("AWS_WEB_IDENTITY_TOKEN_FILE"), get("AWS_ROLE_ARN")) {
        let session = get("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned());
        let sts = sts(params, region, env).ok()?;
        return Some(AwsSource::WebIdentity { role, session, token: WebIdentity::File(file.into()), sts });
    }
    Some(AwsSource::Profile { file: credentials_file(env), name: get("AWS_PROFILE")? })
}

/// The shared credentials file.
fn credentials_file(env: &Env) -> PathBuf {
    let given = env.first(&["AWS_SHARED_CREDENTIALS_FILE"]).map(|(_, path)| PathBuf::from(path));
    let home = || env.first(&["HOME"]).map_or_else(PathBuf::new, |(_, home)| PathBuf::from(home));
    given.unwrap_or_else(|| home().join(".aws/credentials"))
}

fn sts(params: &LitellmParams, region: &str, env: &Env) -> Result<Sts, String> {
    let given = params.cloud.aws_sts_endpoint.clone();
    let of_env = || env.first(&["AWS_ENDPOINT_URL_STS", "AWS_STS_ENDPOINT"]).map(|(_, url)| url.to_owned());
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = given.or_else(of_env).unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
    match attache_llm::provider::ApiBase::parse(&url) {
        Some(_) => Ok(Sts { region: region.to_owned(), url: url.trim_end_matches('/').to_owned() }),
        None => Err("`aws_sts_endpoint` is no URL".to_owned()),
    }
}
