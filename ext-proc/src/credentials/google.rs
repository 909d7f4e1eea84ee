//! Google: what a credentials file is, and the grant that turns it into a token.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Where tokens are made when the file does not say.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Longest life that Google gives a token that is asked for so, seconds.
const LIFE: u64 = 3_600;

/// An account that can ask for tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Account {
    ServiceAccount {
        client_email: String,
        private_key: Secret,
        #[serde(default)]
        private_key_id: Option<String>,
        #[serde(default)]
        token_uri: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: Secret,
        refresh_token: Secret,
        #[serde(default)]
        token_uri: Option<String>,
    },
}

/// Names and values of a form.
pub(super) type Form = Vec<(&'static str, String)>;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// Reads the JSON of a credentials file, and checks its key.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub(crate) fn account(json: &str) -> Result<Account, String> {
    let kind = serde_json::from_str::<serde_json::Value>(json)
        .ok()
        .and_then(|value| value.get("type").and_then(|kind| kind.as_str().map(str::to_owned)));
    match kind.as_deref() {
        Some("service_account" | "authorized_user") => {}
        Some(_) => return Err("its type is neither service_account nor authorized_user".to_owned()),
        None => return Err("no JSON object with a `type`".to_owned()),
    }
    let account: Account = serde_json::from_str(json)
        .map_err(|_| format!("a member of {} is missing", kind.unwrap_or_default()))?;
    if let Account::ServiceAccount { private_key, .. } = &account {
        key(private_key)?;
    }
    Ok(account)
}

fn key(pem: &Secret) -> Result<EncodingKey, String> {
    EncodingKey::from_rsa_pem(pem.expose().as_bytes())
        .map_err(|_| "private_key is no RSA key in PEM".to_owned())
}

impl Account {
    /// Where to ask, and the form to send. `now`: Unix seconds.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(super) fn grant(&self, now: u64) -> Result<(&str, Form), String> {
        match self {
            Self::ServiceAccount { client_email, private_key, private_key_id, token_uri } => {
                let uri = token_uri.as_deref().unwrap_or(TOKEN_URI);
                let claims = Claims {
                    iss: client_email,
                    scope: SCOPE,
                    aud: uri,
                    iat: now,
                    exp: now.saturating_add(LIFE),
                };
                let header = Header { kid: private_key_id.clone(), ..Header::new(Algorithm::RS256) };
                let assertion = jsonwebtoken::encode(&header, &claims, &key(private_key)?)
                    .map_err(|_| "private_key cannot sign".to_owned())?;
                let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned();
                Ok((uri, vec![("grant_type", grant), ("assertion", assertion)]))
            }
            Self::AuthorizedUser { client_id, client_secret, refresh_token, token_uri } => Ok((
                token_uri.as_deref().unwrap_or(TOKEN_URI),
                vec![
                    ("grant_type", "refresh_token".to_owned()),
                    ("client_id", client_id.clone()),
                    ("client_secret", client_secret.expose().to_owned()),
                    ("refresh_token", refresh_token.expose().to_owned()),
                ],
            )),
        }
    }
}
