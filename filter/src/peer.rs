//! What Envoy says of the caller of the current request.

use crate::headers::Headers;
use crate::host;
use crate::identity::Facts;

/// Header by which proxies tell of their client's certificate.
const XFCC: &str = "x-forwarded-client-cert";

/// The caller, with the headers of the request.
pub struct Peer<'a> {
    pub headers: &'a Headers,
}

impl Facts for Peer<'_> {
    fn certificate(&self) -> Option<String> {
        // Envoy has a certificate to show even where it checked none: only mutual TLS counts.
        let verified = host::property(&["connection", "mtls"]).is_some_and(|value| value.first() == Some(&1));
        verified.then(|| host::text(&["connection", "uri_san_peer_certificate"])).flatten()
    }

    fn forwarded(&self) -> Option<String> {
        // Several headers of the name are one list.
        let texts: Option<Vec<_>> =
            self.headers.values(XFCC).map(|value| std::str::from_utf8(value).ok()).collect();
        texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join(","))
    }

    fn claim(&self, metadata: &str, name: &str) -> Option<String> {
        host::text(&["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", metadata, name])
    }
}
