//! Verifies AWS signatures by signing the same request once more, with AWS's own library.
//!
//! Whoever signs as access key `X` must know the secret `secret-of-X`. Temporary credentials (`ASIA...`, given out by
//! [`super::tokens`]) carry their end in the id and need their token, `token-of-X`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use bytes::Bytes;

use super::{Checked, Refused, Wire, state};

/// How far the clock of a signature may be off, seconds.
const SKEW: u64 = 300;

/// The secret of an access key.
#[must_use]
pub fn secret(access_key: &str) -> String {
    format!("secret-of-{access_key}")
}

/// The token of temporary credentials.
#[must_use]
pub fn session_token(access_key: &str) -> String {
    format!("token-of-{access_key}")
}

/// Id of temporary credentials that end at a time (Unix seconds).
#[must_use]
pub fn temporary(number: u64, ends: u64) -> String {
    format!("ASIA{number:06}X{ends}")
}

/// The parts of an `Authorization` header.
struct Signed<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Signed<'a> {
    fn read(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix("AWS4-HMAC-SHA256")?.trim_start();
        let part =
            |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let mut scope = part("Credential")?.split('/');
        let signed = Self {
            access_key: scope.next()?,
            date: scope.next()?,
            region: scope.next()?,
            service: scope.next()?,
            headers: part("SignedHeaders")?.split(';').collect(),
            signature: part("Signature")?,
        };
        (scope.next() == Some("aws4_request")).then_some(signed)
    }
}

fn refuse(message: impl Into<String>) -> Refused {
    Refused::new(403, message)
}

/// Checks the signature of a request to one of AWS's services.
///
/// # Errors
/// A 403 with what is wrong.
pub(super) fn verify(wire: &Wire<'_>, service: &str) -> Checked {
    let header = wire.header("authorization").unwrap_or_default();
    let Some(signed) = Signed::read(header) else {
        return Err(refuse("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'."));
    };
    if signed.service != service {
        return Err(refuse(format!("Credential should be scoped to correct service: '{service}'.")));
    }
    let date = wire.header("x-amz-date").unwrap_or_default();
    let Some(time) = parse_date(date).filter(|_| date.starts_with(signed.date)) else {
        return Err(refuse(format!("Date in Credential scope does not match x-amz-date: {date:?}")));
    };
    let now = state::now();
    if now.abs_diff(time) > SKEW {
        return Err(refuse(format!("Signature expired: {date} is more than {SKEW} seconds from now")));
    }
    alive(wire, &signed, now)?;
    for needed in ["host", "x-amz-date"] {
        if !signed.headers.contains(&needed) {
            return Err(refuse(format!("'{needed}' must be a 'SignedHeader'")));
        }
    }
    let hash = wire.header("x-amz-content-sha256");
    if let Some(hash) = hash.filter(|hash| *hash != sha256(wire.body)) {
        return Err(refuse(format!(
            "The x-amz-content-sha256 that was sent, {hash}, is not that of the body."
        )));
    }
    let again = signature(wire, &signed, UNIX_EPOCH + Duration::from_secs(time))?;
    if again == signed.signature {
        return Ok(());
    }
    Err(refuse(format!(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method (path {}, signed headers {}).",
        wire.uri,
        signed.headers.join(";")
    )))
}

/// Temporary credentials have a token and an end.
fn alive(wire: &Wire<'_>, signed: &Signed<'_>, now: u64) -> Checked {
    let Some(rest) = signed.access_key.strip_prefix("ASIA") else { return Ok(()) };
    let token = wire.header("x-amz-security-token").unwrap_or_default();
    if token != session_token(signed.access_key) {
        return Err(refuse("The security token included in the request is invalid."));
    }
    let ends = rest.split_once('X').and_then(|(_, ends)| ends.parse::<u64>().ok()).unwrap_or(0);
    if ends <= now {
        return Err(refuse("The security token included in the request is expired"));
    }
    Ok(())
}

/// The signature that the request should have.
fn signature(wire: &Wire<'_>, signed: &Signed<'_>, time: SystemTime) -> Checked<String> {
    let internal = |error: String| Refused::new(500, format!("cannot sign: {error}"));
    let has = |name: &str| signed.headers.contains(&name);
    let token = has("x-amz-security-token").then(|| wire.header("x-amz-security-token").unwrap_or_default());
    let identity = Credentials::new(
        signed.access_key,
        secret(signed.access_key),
        token.map(str::to_owned),
        None,
        "fake provider",
    )
    .into();
    let mut settings = SigningSettings::default();
    settings.excluded_headers = None;
    if has("x-amz-content-sha256") {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signed.region)
        .name(signed.service)
        .time(time)
        .settings(settings)
        .build()
        .map_err(|e| internal(e.to_string()))?;
    let made = ["x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];
    let headers: Vec<_> = signed
        .headers
        .iter()
        .filter(|name| !made.contains(*name))
        .map(|name| (*name, value(wire, name)))
        .collect();
    let uri = format!("http://{}{}", value(wire, "host"), wire.uri);
    let request = SignableRequest::new(
        wire.method.as_str(),
        uri,
        headers.iter().map(|(name, value)| (*name, value.as_str())),
        SignableBody::Bytes(wire.body),
    )
    .map_err(|e| internal(e.to_string()))?;
    let output = sign(request, &params.into()).map_err(|e| internal(e.to_string()))?;
    Ok(output.signature().to_owned())
}

/// A header's value; HTTP/2 has the host elsewhere.
fn value(wire: &Wire<'_>, name: &str) -> String {
    let values = wire.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.map(str::trim).collect::<Vec<_>>().join(",")
}

/// SHA-256 as hexadecimal.
#[must_use]
pub fn sha256(body: &Bytes) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Unix seconds of `20250101T120000Z`.
fn parse_date(text: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    u64::try_from(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second()).ok()
}

/// Base64url without padding, as in JSON web tokens.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
mod tests;
