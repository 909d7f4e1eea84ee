//! Credentials at rest: LiteLLM's encrypted values are read, in all of its formats, and one of them is written.
//!
//! | form | algorithm | key |
//! |---|---|---|
//! | `v2:gcm:` + base64url(nonce 12, ciphertext, tag 16) | AES-256-GCM | SHA-256 of the salt key (written here) |
//! | `v3:gcm:` + the same | AES-256-GCM | HKDF-SHA256 of the salt key, info `litellm-at-rest-v3` |
//! | base64url or base64(nonce 24, tag 16, ciphertext) | XSalsa20-Poly1305 (NaCl) | SHA-256 of the salt key |

mod cipher;
mod guard;
mod sealed;

pub use cipher::{DecryptError, SaltKey, looks_encrypted};
pub use guard::{CANARY, CheckError, Rotated, check, prepare, rotate, unreadable};
pub use sealed::{OpenError, open, reseal, seal};

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config::{Config, Env, Secret};

/// Parts of a credential's and of a model's settings whose values are encrypted one by one.
pub(crate) const CREDENTIAL_VALUES: &str = "credential_values";
pub(crate) const LITELLM_PARAMS: &str = "litellm_params";

/// Variable that holds the salt key.
pub const SALT_KEY: &str = "LITELLM_SALT_KEY";

/// The salt key with where it comes from.
#[derive(Debug, Clone)]
pub struct Salt {
    pub key: SaltKey,
    /// Whoever changes the master key makes the stored credentials unreadable, and should be told.
    pub is_master_key: bool,
}

impl Salt {
    /// `LITELLM_SALT_KEY`, else the master key, as LiteLLM does it.
    #[must_use]
    pub fn find(env: &Env, master_key: Option<&Secret>) -> Option<Self> {
        if let Some((_, value)) = env.first(&[SALT_KEY]) {
            return Some(Self { key: SaltKey::new(&Secret::new(value)), is_master_key: false });
        }
        let master = master_key.filter(|key| !key.expose().is_empty())?;
        Some(Self { key: SaltKey::new(master), is_master_key: true })
    }

    /// As [`Self::find`], of a configuration, whose `environment_variables` win.
    #[must_use]
    pub fn of(config: &Config, env: &Env) -> Option<Self> {
        let more = config.environment_variables.iter();
        let env = env.with(more.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        Self::find(&env, config.general_settings.master_key.as_ref())
    }

    /// What to tell the operator, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.is_master_key.then_some(
            "LITELLM_SALT_KEY is not set: stored credentials are encrypted with the master key, and unreadable \
             when it changes",
        )
    }
}

/// Puts the values of the credential that a model names into its parameters, which win. Returns the name if there is
/// no such credential.
pub(crate) fn put_credential(
    params: &mut Map<String, Value>,
    credentials: &BTreeMap<String, Map<String, Value>>,
) -> Option<String> {
    const NAME: &str = "litellm_credential_name";
    let Some(Value::String(name)) = params.remove(NAME) else { return None };
    let Some(values) = credentials.get(&name) else {
        params.insert(NAME.to_owned(), name.clone().into());
        return Some(name);
    };
    for (name, value) in values {
        params.entry(name.clone()).or_insert_with(|| value.clone());
    }
    None
}

#[cfg(test)]
mod tests;
