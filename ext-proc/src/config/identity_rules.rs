//! Rules of `features.identities`.

use std::collections::BTreeSet;

use attache_llm::identity::{self, MAX_VALUE};

use super::Config;
use super::identity::IdentityRule;
use super::issue::{Findings, Place};

/// Most entries: each request without a key that no gate knows yet is held against all of them.
const MAX_IDENTITIES: usize = 10_000;
const MAX_NAME: usize = 128;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let rules = &config.features.identities;
    let list = Place::at("features.identities");
    if rules.len() > MAX_IDENTITIES {
        findings.error(&list, format!("more than {MAX_IDENTITIES} entries: use patterns"));
    }
    let mut names = BTreeSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let place = list.index(at);
        if rule.name.is_empty() || rule.name.len() > MAX_NAME || rule.name.chars().any(char::is_control) {
            findings.error(
                &place.key("name"),
                format!("a name has 1 to {MAX_NAME} bytes, none of them a control character"),
            );
        } else if !names.insert(rule.name.as_str()) {
            findings.error(&place.key("name"), "another entry has the same name");
        }
        who(rule, &place, findings);
        owner(rule, &place, findings);
    }
}

/// Of whom the rule speaks.
fn who(rule: &IdentityRule, place: &Place, findings: &mut Findings) {
    match (&rule.spiffe, &rule.jwt) {
        (None, None) => findings.error(place, "names nobody: `spiffe` or `jwt` is missing"),
        (Some(_), Some(_)) => findings.error(place, "`spiffe` and `jwt` at once: make two entries of it"),
        (Some(pattern), None) => spiffe(pattern, &place.key("spiffe"), findings),
        (None, Some(jwt)) => {
            let here = place.key("jwt");
            if !identity::is_claim(&jwt.claim) {
                findings.error(
                    &here.key("claim"),
                    "not the name of a claim: visible ASCII characters without `=`",
                );
            }
            if jwt.value.is_empty() || jwt.value.len() > MAX_VALUE {
                findings.error(&here.key("value"), format!("a value has 1 to {MAX_VALUE} bytes"));
            } else if jwt.value == "*" {
                findings.warn(&here.key("value"), "takes every token with this claim");
            }
        }
    }
}

fn spiffe(pattern: &str, place: &Place, findings: &mut Findings) {
    let Some(rest) = pattern.strip_prefix("spiffe://") else {
        findings.error(place, "must start with `spiffe://`");
        return;
    };
    // A pattern in the trust domain would take the ids of any CA that somebody calls so.
    let domain = rest.split('/').next().unwrap_or_default();
    if domain.is_empty() || domain.contains('*') {
        findings.error(place, "the trust domain must be written out");
    } else if !identity::is_spiffe_pattern(pattern) {
        findings.error(place, "not a SPIFFE id: a trust domain in lower case, and segments of letters, digits, `.`, `-`, `_` and `*`");
    }
}

/// Whose rights it gets.
fn owner(rule: &IdentityRule, place: &Place, findings: &mut Findings) {
    let other = rule.team_id.is_some() || rule.user_id.is_some();
    match (&rule.key_alias, other) {
        (None, false) => {
            findings.error(place, "leads to nobody: `key_alias`, `team_id` or `user_id` is missing")
        }
        (Some(_), true) => findings.error(
            &place.key("key_alias"),
            "a key has its own team and user: leave `team_id` and `user_id` out",
        ),
        (Some(_), false) if !rule.models.is_empty() => {
            findings.error(&place.key("models"), "a key has its own models: leave them out");
        }
        _ => {}
    }
}
