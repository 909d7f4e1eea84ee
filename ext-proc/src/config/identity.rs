//! Identities without keys (`features.identities`): which rule holds for what Envoy has verified of a caller.
//!
//! The gate asks for an identity as it asks for a key, in one string: `spiffe:<uri>` or `jwt:<claim>=<value>`
//! ([`attache_llm::identity`]). Neither can be taken for a key's hash, which is 64 hexadecimal digits.

use attache_llm::identity::Identity;
use serde::Deserialize;

/// `features.identities[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IdentityRule {
    /// Shown in place of a key's name.
    pub name: String,
    /// Pattern of a SPIFFE id. This or `jwt`.
    pub spiffe: Option<String>,
    pub jwt: Option<Claim>,
    /// Alias of the key in whose name requests are made. This, or a team and/or a user.
    pub key_alias: Option<String>,
    pub team_id: Option<String>,
    pub user_id: Option<String>,
    /// Empty: whatever team and user may use. Only without `key_alias`.
    pub models: Vec<String>,
}

/// A claim of a token and the pattern of its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claim {
    pub claim: String,
    pub value: String,
}

impl IdentityRule {
    /// Does the rule hold for this identity?
    #[must_use]
    pub fn matches(&self, identity: &Identity<'_>) -> bool {
        match (identity, &self.spiffe, &self.jwt) {
            (Identity::Spiffe(_), Some(pattern), _) => identity.matches(pattern),
            (Identity::Jwt { claim, .. }, None, Some(wanted)) => {
                wanted.claim == *claim && identity.matches(&wanted.value)
            }
            _ => false,
        }
    }
}

/// The first rule that holds for an identity as the gate names it; `None` when none does, or when it is no identity
/// (a key's hash).
#[must_use]
pub fn find<'a>(rules: &'a [IdentityRule], id: &str) -> Option<&'a IdentityRule> {
    let identity = Identity::parse(id)?;
    rules.iter().find(|rule| rule.matches(&identity))
}
