//! Where credentials are refreshed: Microsoft Entra, Google's token endpoint, AWS STS.
//!
//! Tokens and temporary credentials carry their end, so that every protocol here can refuse one that is over.

use base64::Engine as _;
use http::Method;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::sigv4::{base64url, secret, session_token, temporary, verify};
use super::{Answer, Checked, Planned, Refused, Wire, percent_decode, state};
use crate::script::Script;

/// Seconds that a token lives when no script says otherwise.
const LIFE: u64 = 3_599;
const PREFIX: &str = "fake-token.";

/// A token that is one of ours must not have ended; others are keys.
pub(super) fn alive(token: &str) -> Checked {
    let Some(rest) = token.strip_prefix(PREFIX) else { return Ok(()) };
    let ends = rest.rsplit_once('.').and_then(|(_, ends)| ends.parse::<u64>().ok()).unwrap_or(0);
    if ends > state::now() { Ok(()) } else { Err(Refused::new(401, "The access token expired")) }
}

fn token(wire: &Wire<'_>, life: u64) -> String {
    format!("{PREFIX}{}.{}", wire.state.number(), state::now() + life)
}

/// A form's field, decoded.
fn field(wire: &Wire<'_>, name: &str) -> Option<String> {
    let text = std::str::from_utf8(wire.body).ok()?;
    let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| percent_decode(&value.replace('+', " ")))
}

fn is_form(wire: &Wire<'_>) -> Checked {
    let form =
        wire.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if wire.method != Method::POST || !form {
        return Err(Refused::new(400, "POST of application/x-www-form-urlencoded is needed"));
    }
    Ok(())
}

/// Microsoft Entra: client credentials, by secret or by assertion.
pub(super) fn entra(wire: &Wire<'_>, script: &Script) -> Checked<Planned> {
    is_form(wire)?;
    if field(wire, "grant_type").as_deref() != Some("client_credentials") {
        return Err(Refused::new(400, "AADSTS70003: The app requested an unsupported grant type."));
    }
    let has = |name| field(wire, name).is_some_and(|value| !value.is_empty());
    let proof = has("client_secret")
        || (has("client_assertion")
            && field(wire, "client_assertion_type").is_some_and(|kind| kind.ends_with(":jwt-bearer")));
    if !has("client_id") || !proof {
        return Err(Refused::new(401, "AADSTS7000215: Invalid client secret provided."));
    }
    let scope = field(wire, "scope").unwrap_or_default();
    if !scope.ends_with("/.default") {
        return Err(Refused::new(
            400,
            format!("AADSTS70011: The provided value for 'scope' is not valid: {scope:?}"),
        ));
    }
    let life = script.expires.unwrap_or(LIFE);
    Ok(Planned::json(&json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life,
        "access_token": token(wire, life)})))
}

pub(super) fn entra_error(status: u16, refused: Option<&Refused>) -> Value {
    let message =
        refused.map_or("AADSTS90033: A transient error has occurred.", |refused| refused.message.as_str());
    let name = match status {
        401 => "invalid_client",
        400 => "invalid_request",
        _ => "temporarily_unavailable",
    };
    json!({"error": name, "error_description": message, "error_codes": [90033], "trace_id": "fake"})
}

/// Google: an assertion that the service account signed.
pub(super) fn google(wire: &Wire<'_>, script: &Script) -> Checked<Planned> {
    is_form(wire)?;
    if field(wire, "grant_type").as_deref() != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return Err(Refused::new(400, "Invalid grant_type"));
    }
    let assertion = field(wire, "assertion").unwrap_or_default();
    claims(wire, &assertion)?;
    let life = script.expires.unwrap_or(LIFE);
    Ok(Planned::json(&json!({"access_token": token(wire, life), "expires_in": life, "token_type": "Bearer"})))
}

/// Verifies header, signature and claims.
fn claims(wire: &Wire<'_>, assertion: &str) -> Checked {
    let refuse = |text: &str| Refused::new(400, format!("Invalid JWT: {text}"));
    let parts: Vec<_> = assertion.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        return Err(refuse("it has not three parts"));
    };
    let json = |text: &str| {
        base64url(text).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default()
    };
    let (head, body) = (json(header), json(claims));
    if head["alg"] != "RS256" {
        return Err(refuse("alg must be RS256"));
    }
    let issuer = body["iss"].as_str().unwrap_or_default();
    let Some(key) = wire.state.key(issuer) else {
        return Err(Refused::new(400, format!("Invalid grant: account not found: {issuer:?}")));
    };
    let signature = base64url(signature).unwrap_or_default();
    let message = format!("{header}.{claims}");
    if UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(message.as_bytes(), &signature)
        .is_err()
    {
        return Err(refuse("Signature is not valid"));
    }
    let (now, issued, ends) = (state::now(), body["iat"].as_u64(), body["exp"].as_u64());
    let (Some(issued), Some(ends)) = (issued, ends) else { return Err(refuse("iat and exp are required")) };
    if issued > now + 60 || ends <= now || ends - issued > 3_600 {
        return Err(refuse("Token must be a short-lived token (60 minutes) and in a reasonable timeframe."));
    }
    if !body["aud"].as_str().is_some_and(|audience| audience.ends_with(wire.uri)) {
        return Err(refuse("aud is not this token endpoint"));
    }
    if !body["scope"].as_str().is_some_and(|scope| scope.contains("/auth/cloud-platform")) {
        return Err(Refused::new(400, "Empty or missing scope not allowed."));
    }
    Ok(())
}

pub(super) fn google_error(status: u16, refused: Option<&Refused>) -> Value {
    let message = refused.map_or("The service is currently unavailable.", |refused| refused.message.as_str());
    let name = if status == 400 { "invalid_grant" } else { "internal_failure" };
    json!({"error": name, "error_description": message})
}

/// AWS STS: `AssumeRole` (signed) and `AssumeRoleWithWebIdentity` (a token instead).
pub(super) fn sts(wire: &Wire<'_>, script: &Script) -> Checked<Planned> {
    is_form(wire)?;
    if field(wire, "Version").as_deref() != Some("2011-06-15") {
        return Err(Refused::new(400, "NoSuchVersion: 2011-06-15 is needed"));
    }
    let action = field(wire, "Action").unwrap_or_default();
    let role = field(wire, "RoleArn").filter(|role| role.starts_with("arn:aws") && role.contains(":role/"));
    let session = field(wire, "RoleSessionName").filter(|name| name.len() >= 2);
    let (Some(role), Some(session)) = (role, session) else {
        return Err(Refused::new(400, "ValidationError: RoleArn and RoleSessionName are required"));
    };
    match action.as_str() {
        "AssumeRole" => verify(wire, "sts")?,
        "AssumeRoleWithWebIdentity" => {
            let token = field(wire, "WebIdentityToken").unwrap_or_default();
            if token.len() < 4 {
                return Err(Refused::new(400, "InvalidIdentityToken: No WebIdentityToken"));
            }
        }
        _ => return Err(Refused::new(400, format!("InvalidAction: {action}"))),
    }
    let ends = state::now() + script.expires.unwrap_or(LIFE);
    let body = sts_answer(&action, &role, &session, &temporary(wire.state.number(), ends), ends);
    let answer = Answer::Whole { content_type: "text/xml", body: body.into() };
    Ok(Planned { answer, usage: None, prompt: 0, completion: 0 })
}

fn sts_answer(action: &str, role: &str, session: &str, id: &str, ends: u64) -> String {
    let at = jiff::Timestamp::from_second(i64::try_from(ends).unwrap_or(i64::MAX)).unwrap_or_default();
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <{action}Result>\n    \
         <AssumedRoleUser>\n      <AssumedRoleId>AROAFAKE:{session}</AssumedRoleId>\n      \
         <Arn>{role}/{session}</Arn>\n    </AssumedRoleUser>\n    <Credentials>\n      \
         <AccessKeyId>{id}</AccessKeyId>\n      <SecretAccessKey>{}</SecretAccessKey>\n      \
         <SessionToken>{}</SessionToken>\n      <Expiration>{at}</Expiration>\n    </Credentials>\n  \
         </{action}Result>\n  <ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata>\n</{action}Response>\n",
        secret(id),
        session_token(id),
    )
}

pub(super) fn sts_error(status: u16, refused: Option<&Refused>) -> String {
    let message = refused.map_or("ServiceUnavailable: scripted", |refused| refused.message.as_str());
    let (code, message) = message.split_once(": ").unwrap_or(("SignatureDoesNotMatch", message));
    let (code, message) =
        if code.contains(' ') { ("SignatureDoesNotMatch", message) } else { (code, message) };
    let blame = if status < 500 { "Sender" } else { "Receiver" };
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>{blame}</Type>\n    \
         <Code>{code}</Code>\n    <Message>{}</Message>\n  </Error>\n  <RequestId>fake</RequestId>\n</ErrorResponse>\n",
        message.replace('&', "&amp;").replace('<', "&lt;"),
    )
}

/// A public key as `POST /_fake/account {"issuer", "key"}` brings it: base64 of PKCS#1 in DER.
pub(crate) fn account(body: &[u8], state: &state::State) -> Result<String, String> {
    let json: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (Some(issuer), Some(key)) = (json["issuer"].as_str(), json["key"].as_str()) else {
        return Err("issuer and key are needed".into());
    };
    let key = base64::engine::general_purpose::STANDARD.decode(key).map_err(|error| error.to_string())?;
    state.know(issuer.to_owned(), key);
    Ok(issuer.to_owned())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
