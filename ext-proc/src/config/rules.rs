//! What the types cannot say: values that must agree with each other.

use super::issue::{Findings, Place};
use super::{Config, Env, Secret};

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
/// Shorter than this after `sk-` can be guessed.
const SHORTEST_MASTER_KEY: usize = 8;

pub(super) fn check(config: &Config, env: &Env, findings: &mut Findings) {
    master_key(config, findings);
    database(config, findings);
    header_name(config, findings);
    redis(config, findings);
    if config.model_list.is_empty() {
        findings.warn(&Place::at("model_list"), "there is no deployment: every request is refused");
    }
    for (at, entry) in config.model_list.iter().enumerate() {
        if entry.model_name.len() > 256 || entry.model_name.chars().any(char::is_control) {
            let place = Place::at("model_list").index(at).key("model_name");
            findings
                .error(&place, "a model name has at most 256 characters, none of them a control character");
        }
    }
    if env.get("LITELLM_CONFIG_BUCKET_NAME").is_some_and(|name| !name.is_empty()) {
        findings.warn(
            &Place::default(),
            "LITELLM_CONFIG_BUCKET_NAME is set; configuration in buckets is not read",
        );
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
    let Some(rest) = key.strip_prefix("sk-") else {
        findings.error(&place, "must start with `sk-`");
        return;
    };
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        findings.error(&place, "has characters that no header can carry");
    } else if WEAK_KEYS.contains(&key) || rest.len() < SHORTEST_MASTER_KEY {
        let message = "publicly known or too short; make one with `echo sk-$(openssl rand -hex 16)`";
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

fn header_name(config: &Config, findings: &mut Findings) {
    let Some(name) = &config.general_settings.litellm_key_header_name else { return };
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        findings.error(&Place::at("general_settings.litellm_key_header_name"), "not a header name");
    }
}

fn redis(config: &Config, findings: &mut Findings) {
    let router = &config.router_settings;
    if let Some(url) = &router.redis_url {
        let known = ["redis://", "rediss://", "unix://", "redis+unix://"];
        if !known.iter().any(|scheme| url.expose().starts_with(scheme)) {
            findings.error(&Place::at("router_settings.redis_url"), "must start with redis:// or rediss://");
        }
        if router.redis_host.is_some() {
            findings.warn(&Place::at("router_settings.redis_host"), "`redis_url` is set too, and wins");
        }
    } else if router.redis_host.is_none() {
        for (name, set) in [
            ("redis_port", router.redis_port.is_some()),
            ("redis_username", router.redis_username.is_some()),
            ("redis_password", router.redis_password.is_some()),
            ("redis_db", router.redis_db.is_some()),
        ] {
            if set {
                let place = Place::at("router_settings").key(name);
                findings.error(&place, "set without `redis_host`: counters would stay in this process");
            }
        }
    }
    if let Some(host) = &router.redis_host
        && (host.contains(['/', '@', ' ']) || host.contains("://"))
    {
        findings.error(
            &Place::at("router_settings.redis_host"),
            "must be a host name alone; a URL goes to `redis_url`",
        );
    }
}
