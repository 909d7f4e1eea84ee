//! Who a caller without a key is: what Envoy verified of it, in the order in which the sidecar is asked.
//!
//! ```text
//! 1. SPIFFE id of the client's certificate, if Envoy verified one
//! 2. the same in x-forwarded-client-cert, if the bootstrap says that it can be trusted
//! 3. claims of a token that Envoy's jwt_authn verified, in the order of the configuration
//! ```

use attache_llm::contract::GateConfig;
use attache_llm::identity::Identity;
use attache_llm::xfcc;

/// Most claims looked at: each may cost a question to the sidecar.
const MAX_CLAIMS: usize = 16;

/// What Envoy knows of a caller.
pub trait Facts {
    /// URI in the certificate of the client, if it was verified.
    fn certificate(&self) -> Option<String>;
    /// `x-forwarded-client-cert`.
    fn forwarded(&self) -> Option<String>;
    /// A claim whose value is text.
    fn claim(&self, metadata: &str, name: &str) -> Option<String>;
}

/// Texts of the identities to ask for, each once.
#[must_use]
pub fn candidates(config: &GateConfig, facts: &impl Facts) -> Vec<String> {
    let certificate = facts.certificate().and_then(|uri| Some(Identity::spiffe(&uri)?.to_string()));
    let forwarded = config.trust_xfcc.then(|| facts.forwarded()).flatten();
    let forwarded = forwarded
        .and_then(|header| xfcc::spiffe_of(&header))
        .and_then(|uri| Some(Identity::spiffe(&uri)?.to_string()));
    let claims = config.jwt_claims.iter().take(MAX_CLAIMS).filter_map(|name| {
        let value = facts.claim(&config.jwt_metadata, name)?;
        Some(Identity::jwt(name, &value)?.to_string())
    });
    let mut found: Vec<String> = Vec::new();
    for text in certificate.into_iter().chain(forwarded).chain(claims) {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// How an identity is shown to its own caller and in logs. What a claim says may be personal: only its name.
#[must_use]
pub fn shown(text: &str) -> String {
    match Identity::parse(text) {
        Some(Identity::Spiffe(uri)) => uri.to_owned(),
        Some(Identity::Jwt { claim, .. }) => format!("claim {claim}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Peer {
        certificate: Option<&'static str>,
        forwarded: Option<&'static str>,
        claims: Vec<(&'static str, &'static str)>,
    }

    impl Facts for Peer {
        fn certificate(&self) -> Option<String> {
            self.certificate.map(str::to_owned)
        }

        fn forwarded(&self) -> Option<String> {
            self.forwarded.map(str::to_owned)
        }

        fn claim(&self, metadata: &str, name: &str) -> Option<String> {
            assert_eq!(metadata, "jwt");
            self.claims.iter().find(|(claim, _)| *claim == name).map(|(_, value)| (*value).to_owned())
        }
    }

    fn config(trust_xfcc: bool) -> GateConfig {
        let jwt_claims = vec!["azp".to_owned(), "sub".to_owned()];
        GateConfig { trust_xfcc, jwt_claims, ..GateConfig::default() }
    }

    #[test]
    fn the_certificate_comes_before_the_header_and_both_before_claims() {
        let peer = Peer {
            certificate: Some("spiffe://a/ingress"),
            forwarded: Some("By=spiffe://a/ingress;URI=spiffe://a/client"),
            claims: vec![("sub", "alice"), ("azp", "batch-1"), ("other", "x")],
        };
        let all =
            ["spiffe:spiffe://a/ingress", "spiffe:spiffe://a/client", "jwt:azp=batch-1", "jwt:sub=alice"];
        assert_eq!(candidates(&config(true), &peer), all);
    }

    #[test]
    fn a_header_that_is_not_trusted_says_nothing() {
        let peer = Peer { forwarded: Some("URI=spiffe://a/client"), ..Peer::default() };
        assert!(candidates(&config(false), &peer).is_empty());
        assert_eq!(candidates(&config(true), &peer), ["spiffe:spiffe://a/client"]);
    }

    #[test]
    fn what_is_no_identity_is_nobody() {
        let peer = Peer {
            certificate: Some("https://a/client"),
            forwarded: Some("URI=client"),
            claims: vec![("azp", ""), ("sub", "a\u{0}b")],
        };
        assert!(candidates(&config(true), &peer).is_empty());
        let same = Peer {
            certificate: Some("spiffe://a/client"),
            forwarded: Some("URI=spiffe://a/client"),
            ..Peer::default()
        };
        assert_eq!(candidates(&config(true), &same).len(), 1, "asked for once");
    }

    #[test]
    fn a_claim_is_shown_by_its_name_alone() {
        assert_eq!(shown("spiffe:spiffe://a/client"), "spiffe://a/client");
        assert_eq!(shown("jwt:email=alice@corp.example"), "claim email");
    }
}
