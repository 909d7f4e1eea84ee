//! Where the requests go: a base URL, or an address and a path.

use std::net::{SocketAddr, ToSocketAddrs};

use http::Uri;

/// The server asked, resolved once.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub tls: bool,
    /// Name for TLS: without port and brackets.
    pub host: String,
    /// Host and port as in the `host` header.
    pub authority: String,
    /// Every address of the host, tried in order.
    pub addresses: Vec<SocketAddr>,
    /// Path of the request, with its query.
    pub path: String,
}

/// Path below a base URL.
const BELOW_BASE: &str = "/chat/completions";
/// Path at an address.
const AT_ADDRESS: &str = "/v1/chat/completions";

impl Target {
    /// From a base URL such as `https://host:port/v1`; `path` is below it.
    pub(super) fn of_url(url: &str, path: Option<&str>) -> Result<Self, String> {
        let wrong = |why: &str| format!("--url {url}: {why}, want http(s)://host[:port][/base/path]");
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("credentials do not belong in it"));
        }
        if uri.query().is_some() {
            return Err(wrong("a query belongs in --path"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = format!("{}{}", uri.path().trim_end_matches('/'), slashed(path.unwrap_or(BELOW_BASE)));
        Self::new(tls, authority.host(), port, authority.as_str().to_owned(), path)
    }

    /// From `host:port`.
    pub(super) fn of_address(address: &str, tls: bool, path: Option<&str>) -> Result<Self, String> {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| format!("--target {address}: want host:port"))?;
        Self::new(tls, host, port, address.to_owned(), slashed(path.unwrap_or(AT_ADDRESS)))
    }

    fn new(tls: bool, host: &str, port: u16, authority: String, path: String) -> Result<Self, String> {
        path.parse::<Uri>().map_err(|error| format!("path {path}: {error}"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let addresses: Vec<_> = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| format!("{host} cannot be resolved: {error}"))?
            .collect();
        if addresses.is_empty() {
            return Err(format!("{host} has no address"));
        }
        Ok(Self { tls, host, authority, addresses, path })
    }

    /// The whole URL.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }
}

fn slashed(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(url: &str, path: Option<&str>) -> String {
        Target::of_url(url, path).map_or_else(|error| error, |target| target.url())
    }

    #[test]
    fn a_path_is_below_the_base() {
        assert_eq!(url("http://127.0.0.1:4000/v1", None), "http://127.0.0.1:4000/v1/chat/completions");
        assert_eq!(
            url("http://127.0.0.1:4000/v1/", Some("embeddings")),
            "http://127.0.0.1:4000/v1/embeddings"
        );
        assert_eq!(url("https://127.0.0.1", Some("/a?b=c")), "https://127.0.0.1/a?b=c");
        let target = Target::of_url("https://[::1]/v1", None).unwrap();
        assert_eq!((target.host.as_str(), target.addresses[0].port()), ("::1", 443));
        let target = Target::of_address("127.0.0.1:80", true, None).unwrap();
        assert_eq!(target.url(), "https://127.0.0.1:80/v1/chat/completions");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(url("127.0.0.1:4000", None).contains("want http(s)://"));
        assert!(url("ftp://127.0.0.1/", None).contains("no scheme"));
        assert!(url("http://me@127.0.0.1/", None).contains("credentials"));
        assert!(url("http://127.0.0.1/?a=b", None).contains("--path"));
        assert!(Target::of_address("localhost", false, None).unwrap_err().contains("want host:port"));
    }
}
