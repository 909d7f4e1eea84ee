//! Asking for tokens and keys. Errors never quote what was sent, and of what came only the fields that name an error.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attache_llm::error::mask_secrets;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::google;
use super::keyring::{Issued, Made};
use super::source::{AwsSource, Entra, EntraProof, GoogleSource, Source};
use crate::config::Secret;
use crate::server::{Asked, Client, Target};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// Longest part of a server's own words in an error, characters.
const MAX_WORDS: usize = 200;
/// Life of a token whose server does not say.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);

/// Asks a source.
pub(super) async fn make(client: &Client, source: &Source) -> Result<Made, String> {
    match source {
        Source::Entra(entra) => self::entra(client, entra).await,
        Source::Google(google) => self::google(client, google).await,
        Source::Aws(aws) => {
            let (keys, life) = super::aws::keys(client, aws).await?;
            Ok(Made { issued: Issued::Keys(keys), life })
        }
    }
}

impl Source {
    /// Kind and name, for people: nothing secret.
    pub(crate) fn named(&self) -> (&'static str, String) {
        match self {
            Self::Entra(entra) => ("entra", format!("{}/{}", entra.tenant, entra.client)),
            Self::Google(GoogleSource::Json(json)) => {
                let name = match google::account(json.expose()) {
                    Ok(google::Account::ServiceAccount { client_email, .. }) => client_email,
                    Ok(google::Account::AuthorizedUser { client_id, .. }) => client_id,
                    Err(_) => "unreadable".to_owned(),
                };
                ("google", name)
            }
            Self::Google(GoogleSource::File(path)) => ("google", path.display().to_string()),
            Self::Google(GoogleSource::Metadata(host)) => ("google", host.clone()),
            Self::Aws(aws) => ("aws", aws.name()),
        }
    }
}

impl AwsSource {
    fn name(&self) -> String {
        match self {
            Self::Keys(keys) => keys.id.clone(),
            Self::Profile { name, .. } => name.clone(),
            Self::Role { role, .. } | Self::WebIdentity { role, .. } => role.clone(),
        }
    }
}

/// A token endpoint's answer, by RFC 6749.
#[derive(Deserialize)]
struct Token {
    access_token: Secret,
    #[serde(default)]
    expires_in: Option<Value>,
}

impl Token {
    fn read(body: &[u8]) -> Result<Made, String> {
        let token: Self =
            serde_json::from_slice(body).map_err(|_| "an answer without `access_token`".to_owned())?;
        let value = format!("Bearer {}", token.access_token.expose());
        if HeaderValue::from_str(&value).is_err() || token.access_token.expose().is_empty() {
            return Err("a token that cannot be sent in a header".to_owned());
        }
        // Azure's older endpoints write text.
        let life = token.expires_in.and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
        let life = life.map_or(UNKNOWN_LIFE, Duration::from_secs);
        Ok(Made { issued: Issued::Token(token.access_token), life: Some(life) })
    }
}

async fn entra(client: &Client, entra: &Entra) -> Result<Made, String> {
    let Entra { authority, tenant, client: id, scope, proof } = entra;
    let tenant = attache_llm::path::percent_encode(tenant);
    let target = target(&format!("{authority}/{tenant}/oauth2/v2.0/token"))?;
    let mut form = vec![
        ("grant_type", "client_credentials".to_owned()),
        ("client_id", id.clone()),
        ("scope", scope.clone()),
    ];
    match proof {
        EntraProof::Secret(secret) => form.push(("client_secret", secret.expose().to_owned())),
        EntraProof::TokenFile(path) => {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned();
            form.push(("client_assertion_type", kind));
            form.push(("client_assertion", read(path)?));
        }
    }
    Token::read(&post(client, &target, &form).await?)
}

async fn google(client: &Client, source: &GoogleSource) -> Result<Made, String> {
    let json = match source {
        GoogleSource::Json(json) => json.expose().to_owned(),
        GoogleSource::File(path) => read(path)?,
        GoogleSource::Metadata(host) => return metadata(client, host).await,
    };
    let account = google::account(&json)?;
    let (uri, form) = account.grant(now())?;
    Token::read(&post(client, &target(uri)?, &form).await?)
}

/// The account of the machine or of the Kubernetes workload.
async fn metadata(client: &Client, host: &str) -> Result<Made, String> {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let target = target(&format!("http://{host}{path}"))?;
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
    let answer = client.get(&target, headers, MAX_ANSWER, PATIENCE).await;
    Token::read(&taken(answer.map_err(|error| format!("metadata server: {error}"))?)?)
}

fn target(url: &str) -> Result<Target, String> {
    let target =
        Target::below(url, "").ok_or_else(|| "the address of the token endpoint is no URL".to_owned())?;
    let path = if target.path.is_empty() { "/".to_owned() } else { target.path };
    Ok(Target { path, ..target })
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A form as `application/x-www-form-urlencoded`.
pub(super) fn form_body(form: &[(&str, String)]) -> String {
    let pairs: Vec<_> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", attache_llm::path::percent_encode(value)))
        .collect();
    pairs.join("&")
}

async fn post(client: &Client, target: &Target, form: &[(&str, String)]) -> Result<Bytes, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    send(client, target, headers, form_body(form)).await
}

pub(super) async fn send(
    client: &Client,
    target: &Target,
    mut headers: HeaderMap,
    body: String,
) -> Result<Bytes, String> {
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let asked = Asked { method: Method::POST, headers, body: Bytes::from(body) };
    let answer = client.send(target, asked, MAX_ANSWER, PATIENCE).await;
    taken(answer.map_err(|error| format!("{}: {error}", target.host))?)
}

fn taken((status, body): (StatusCode, Option<Bytes>)) -> Result<Bytes, String> {
    let body = body.ok_or_else(|| "the answer is too long".to_owned())?;
    if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
}

/// The error's own words, as far as they are known to be such.
fn refused(status: StatusCode, body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let xml = String::from_utf8_lossy(body);
    // OAuth's error, or AWS's.
    let of = |oauth: &str, aws: &str| {
        let text = answer.get(oauth).and_then(Value::as_str).or_else(|| super::aws::element(&xml, aws));
        text.unwrap_or("").to_owned()
    };
    let (code, words) = (of("error", "Code"), of("error_description", "Message"));
    // Entra goes on with traces and times after the first line.
    let words: String = words.lines().next().unwrap_or("").chars().take(MAX_WORDS).collect();
    mask_secrets(format!("HTTP {} {code} {words}", status.as_u16()).trim_end())
}
