//! object_store over the sidecar's own client: one TLS stack, one way to verify certificates.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpService,
};

use crate::server::client::{Asked, Client, ClientError, Target};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) client: Client,
    /// Longest answer, bytes.
    pub(super) limit: usize,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain =
            options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|allowed| allowed == "true");
        Ok(HttpClient::new(Service { connector: self.clone(), plain }))
    }
}

#[derive(Debug)]
struct Service {
    connector: Connector,
    /// May a server without TLS be asked?
    plain: bool,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0} is no address that can be asked")]
    Address(String),
    #[error("{0} is without TLS")]
    Plain(String),
    #[error("the answer is longer than {0} bytes")]
    Long(usize),
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let refused = |why: Refused| HttpError::new(HttpErrorKind::Unknown, why);
        let target = target(&head.uri)
            .ok_or_else(|| refused(Refused::Address(head.uri.host().unwrap_or_default().to_owned())))?;
        if !target.tls && !self.plain {
            return Err(refused(Refused::Plain(target.authority)));
        }
        let body = body.collect().await?.to_bytes();
        let mut headers = head.headers;
        if !body.is_empty() {
            headers.insert(http::header::CONTENT_LENGTH, body.len().into());
        }
        let asked = Asked { method: head.method, headers, body };
        let Connector { client, limit } = &self.connector;
        let answer = client.answer(&target, asked, *limit, PATIENCE).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        let body = body.ok_or_else(|| refused(Refused::Long(*limit)))?;
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

/// What object_store may try again depends on the kind.
fn failed(error: ClientError) -> HttpError {
    let kind = match &error {
        ClientError::Connect(_) => HttpErrorKind::Connect,
        ClientError::Tls(_) => HttpErrorKind::Unknown,
        ClientError::Http(_) => HttpErrorKind::Interrupted,
        ClientError::Timeout(_) => HttpErrorKind::Timeout,
    };
    HttpError::new(kind, error)
}

fn target(uri: &http::Uri) -> Option<Target> {
    let tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Some(Target { tls, host, port, authority: authority.as_str().to_owned(), path, socket: None })
}
