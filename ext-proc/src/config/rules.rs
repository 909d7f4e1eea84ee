//! What the types cannot say: values that must agree with each other.

use super::issue::{Findings, Place};
use super::{Config, Secret};

/// Master keys that the whole world knows from documentation.
const WEAK_KEYS: [&str; 14] = [
    "sk-1234",
    "sk-12345",
    "sk-123456",
    "sk-12345678",
    "sk-123456789",
    "sk-1234567890",
    "sk-master",
    "sk-master-key",
    "sk-test",
    "sk-key",
    "sk-litellm",
    "sk-admin",
    "sk-password",
    "sk-secret",
];
/// A shorter one can be guessed (LiteLLM's bound for keys that somebody chose).
const SHORTEST_MASTER_KEY: usize = 16;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    master_key(config, findings);
    database(config, findings);
    buffer(config, findings);
    header_name(config, findings);
    if config.model_list.is_empty() {
        findings.warn(&Place::at("model_list"), "there is no deployment: every request is refused");
    }
    model_names(config, findings);
}

pub(super) fn model_names(config: &Config, findings: &mut Findings) {
    for (at, entry) in config.model_list.iter().enumerate() {
        if entry.model_name.len() > 256 || entry.model_name.chars().any(char::is_control) {
            let place = Place::at("model_list").index(at).key("model_name");
            findings
                .error(&place, "a model name has at most 256 characters, none of them a control character");
        }
    }
}

fn master_key(config: &Config, findings: &mut Findings) {
    let place = Place::at("general_settings.master_key");
    let general = &config.general_settings;
    let permit = general.dangerously_permit_weak_or_unset_master_key;
    let Some(key) = general.master_key.as_ref().map(Secret::expose) else {
        let message = "not set, and neither is LITELLM_MASTER_KEY";
        if permit {
            findings.warn(&place, format!("{message}: the admin API cannot be used"));
        } else {
            findings.error(&place, message);
        }
        return;
    };
    if !key.starts_with("sk-") {
        findings.error(&place, "must start with `sk-`");
        return;
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        findings.error(&place, "has characters that no header can carry");
    } else if WEAK_KEYS.contains(&key) || key.len() < SHORTEST_MASTER_KEY {
        let message =
            "publicly known or too short (16 characters); make one with `echo sk-$(openssl rand -hex 16)`";
        if permit {
            findings.warn(&place, message);
        } else {
            findings.error(&place, message);
        }
    }
}

fn database(config: &Config, findings: &mut Findings) {
    let Some(url) = &config.general_settings.database_url else { return };
    let place = Place::at("general_settings.database_url");
    let url = url.expose();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        findings.error(
            &place,
            "must start with postgres:// or postgresql:// (without it: SQLite in the data folder)",
        );
    }
}

fn buffer(config: &Config, findings: &mut Findings) {
    if config.general_settings.use_redis_transaction_buffer && config.redis.is_none() {
        let place = Place::at("general_settings.use_redis_transaction_buffer");
        findings.error(&place, "needs a Redis: name it in `router_settings.redis_*`");
    }
}

fn header_name(config: &Config, findings: &mut Findings) {
    let Some(name) = &config.general_settings.litellm_key_header_name else { return };
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        findings.error(&Place::at("general_settings.litellm_key_header_name"), "not a header name");
    }
}
