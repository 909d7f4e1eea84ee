//! AWS keys: as they are, of a profile, or of a role by STS.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::make::{form_body, read, send};
use super::source::{AwsKeys, AwsSource, Sts, WebIdentity};
use crate::config::Secret;
use crate::server::{Client, Target};

/// Life that a session is asked for, seconds: what every role allows.
const SESSION_LIFE: u64 = 3_600;
/// How often a profile is read anew: other programs change that file.
const PROFILE_LIFE: Duration = Duration::from_secs(300);
const VERSION: &str = "2011-06-15";

type Keys = Result<(AwsKeys, Option<Duration>), String>;

/// The keys of a source, and how long they are good for.
pub(super) async fn keys(client: &Client, source: &AwsSource) -> Keys {
    match source {
        AwsSource::Keys(keys) => Ok((keys.clone(), None)),
        AwsSource::Profile { file, name } => {
            let keys = profile(&read(file)?, name);
            let keys = keys.ok_or_else(|| format!("{} has no keys of profile {name}", file.display()))?;
            Ok((keys, Some(PROFILE_LIFE)))
        }
        AwsSource::Role { role, session, external_id, sts, with } => {
            // Chains are short: a role, and what it is asked for with.
            let (keys, _) = Box::pin(keys(client, with)).await?;
            let mut form = form("AssumeRole", role, session);
            form.extend(external_id.clone().map(|id| ("ExternalId", id)));
            ask(client, sts, &form, Some(&keys)).await
        }
        AwsSource::WebIdentity { role, session, token, sts } => {
            let token = match token {
                WebIdentity::Token(token) => token.expose().to_owned(),
                WebIdentity::File(path) => read(path)?,
            };
            let mut form = form("AssumeRoleWithWebIdentity", role, session);
            form.push(("WebIdentityToken", token));
            ask(client, sts, &form, None).await
        }
    }
}

fn form(action: &str, role: &str, session: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Action", action.to_owned()),
        ("Version", VERSION.to_owned()),
        ("RoleArn", role.to_owned()),
        ("RoleSessionName", session.to_owned()),
        ("DurationSeconds", SESSION_LIFE.to_string()),
    ]
}

async fn ask(client: &Client, sts: &Sts, form: &[(&str, String)], with: Option<&AwsKeys>) -> Keys {
    let url = format!("{}/", sts.url);
    let target = Target::below(&sts.url, "/").ok_or_else(|| "the address of STS is no URL".to_owned())?;
    let body = form_body(form);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/xml"));
    if let Some(keys) = with {
        signed(&mut headers, &url, &target.authority, &body, keys, &sts.region)?;
    }
    let answer = send(client, &target, headers, body).await?;
    answered(&answer)
}

/// Adds the headers of a signature, version 4.
fn signed(
    headers: &mut HeaderMap,
    url: &str,
    authority: &str,
    body: &str,
    keys: &AwsKeys,
    region: &str,
) -> Result<(), String> {
    let session = keys.session.as_ref().map(|session| session.expose().to_owned());
    let identity = Credentials::new(&keys.id, keys.secret.expose(), session, None, "attache").into();
    let failed = |_| "the request to STS cannot be signed".to_owned();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| "the request to STS cannot be signed".to_owned())?;
    let signed_headers = [("host", authority), ("content-type", "application/x-www-form-urlencoded")];
    let request =
        SignableRequest::new("POST", url, signed_headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
            .map_err(failed)?;
    let (instructions, _) = sign(request, &params.into()).map_err(failed)?.into_parts();
    for (name, value) in instructions.headers() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// Reads STS's answer, which is XML without attributes where it matters.
fn answered(body: &[u8]) -> Keys {
    let text = String::from_utf8_lossy(body);
    let of = |name: &str| element(&text, name).map(str::to_owned);
    let none = || "STS answered without credentials".to_owned();
    let (id, secret) = (of("AccessKeyId").ok_or_else(none)?, of("SecretAccessKey").ok_or_else(none)?);
    let session = of("SessionToken").ok_or_else(none)?;
    let until: jiff::Timestamp = of("Expiration").and_then(|at| at.parse().ok()).ok_or_else(none)?;
    let left = until.as_second() - jiff::Timestamp::now().as_second();
    let left = u64::try_from(left).ok().filter(|left| *left > 0);
    let life = Duration::from_secs(left.ok_or_else(|| "STS gave a session that is over".to_owned())?);
    Ok((AwsKeys { id, secret: Secret::new(secret), session: Some(Secret::new(session)) }, Some(life)))
}

/// Text of the first element of this name.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty() && !text.contains('<'))
}

/// A section of a shared credentials file.
pub(crate) fn profile(text: &str, wanted: &str) -> Option<AwsKeys> {
    let mut inside = false;
    let (mut id, mut secret, mut session) = (None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            inside = name.strip_prefix("profile ").unwrap_or(name).trim() == wanted;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Secret::new(value)),
                "aws_session_token" => session = Some(Secret::new(value)),
                _ => {}
            }
        }
    }
    Some(AwsKeys { id: id?, secret: secret?, session })
}

impl AwsKeys {
    /// As a shared credentials file, which Envoy reads. `None`: something in them would break its lines.
    pub(crate) fn file(&self) -> Option<String> {
        let session = self.session.as_ref().map(Secret::expose);
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if ![Some(self.id.as_str()), Some(self.secret.expose()), session].into_iter().flatten().all(plain) {
            return None;
        }
        let mut text = format!(
            "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
            self.id,
            self.secret.expose()
        );
        if let Some(session) = session {
            text.push_str(&format!("aws_session_token={session}\n"));
        }
        Some(text)
    }
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
