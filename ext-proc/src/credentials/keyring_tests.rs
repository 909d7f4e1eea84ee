use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::credentials::{AwsSource, Entra, EntraProof, GoogleSource, Sts, WebIdentity};

/// Token endpoints of all kinds, on one port.
struct Endpoints {
    url: String,
    state: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    asked: AtomicU32,
    /// Answers 500 while above 0.
    broken: AtomicU32,
}

async fn answer(State(state): State<Arc<Counted>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let number = state.asked.fetch_add(1, Ordering::SeqCst) + 1;
    if state.broken.load(Ordering::SeqCst) > 0 {
        return (StatusCode::INTERNAL_SERVER_ERROR, "<html>geheim</html>").into_response();
    }
    let token =
        json!({"access_token": format!("token-{number}"), "expires_in": 3600, "token_type": "Bearer"});
    let has = |part: &str| body.split('&').any(|pair| pair == part);
    match uri.path() {
        "/tenant/oauth2/v2.0/token" if has("client_id=app") && has("scope=a%2F.default") => {
            if has("client_secret=wrong") {
                let error = json!({"error": "invalid_client", "error_description": "AADSTS7000215: no such secret\nTrace ID: 1"});
                return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
            }
            let proven = has("client_secret=right") || has("client_assertion=of-the-cluster");
            assert!(proven, "{body}");
            token.to_string().into_response()
        }
        "/google" => {
            let assertion = body.split('&').find_map(|pair| pair.strip_prefix("assertion=")).unwrap();
            let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["iss"], "robot@project-of-the-key.iam.gserviceaccount.com");
            assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
            token.to_string().into_response()
        }
        "/computeMetadata/v1/instance/service-accounts/default/token" => {
            assert_eq!(headers["metadata-flavor"], "Google");
            json!({"access_token": "of-the-machine", "expires_in": 1}).to_string().into_response()
        }
        "/sts/" => sts(&headers, &body),
        path => panic!("{path} {body}"),
    }
}

fn sts(headers: &HeaderMap, body: &str) -> Response {
    let web = body.contains("Action=AssumeRoleWithWebIdentity");
    let signature = headers.get("authorization").map(|value| value.to_str().unwrap());
    match signature {
        Some(signature) => {
            assert!(
                signature.contains("Credential=AKIABASE/")
                    && signature.contains("/eu-west-1/sts/aws4_request")
            );
            assert!(headers.contains_key("x-amz-date") && body.contains("ExternalId=outside"));
        }
        None => assert!(web && body.contains("WebIdentityToken=of-the-cluster"), "{body}"),
    }
    if body.contains("denied") {
        let error = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                     <Message>not authorized</Message></Error></ErrorResponse>";
        return (StatusCode::FORBIDDEN, error).into_response();
    }
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(900);
    format!(
        "<Response><Result><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>{until}</Expiration></Credentials></Result></Response>"
    )
    .into_response()
}

impl Endpoints {
    async fn start() -> Self {
        let state = Arc::<Counted>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    fn entra(&self, proof: EntraProof) -> Arc<Source> {
        let (tenant, client) = ("tenant".to_owned(), "app".to_owned());
        Arc::new(Source::Entra(Entra {
            authority: self.url.clone(),
            tenant,
            client,
            scope: "a/.default".into(),
            proof,
        }))
    }

    fn role(&self, role: &str) -> Arc<Source> {
        let keys = AwsKeys { id: "AKIABASE".into(), secret: Secret::new("base-secret"), session: None };
        Arc::new(Source::Aws(AwsSource::Role {
            role: role.to_owned(),
            session: "attache".to_owned(),
            external_id: Some("outside".to_owned()),
            sts: self.sts(),
            with: Box::new(AwsSource::Keys(keys)),
        }))
    }

    fn sts(&self) -> Sts {
        Sts { region: "eu-west-1".into(), url: format!("{}/sts", self.url) }
    }
}

async fn made(keyring: &Keyring, source: &Arc<Source>) -> Option<Issued> {
    keyring.prepare([Arc::clone(source)], Duration::from_secs(5)).await;
    keyring.current(source)
}

fn token_file(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("token");
    std::fs::write(&path, "of-the-cluster\n").unwrap();
    path
}

#[tokio::test]
async fn every_kind_of_source_makes_its_credential() {
    let (endpoints, keyring) = (Endpoints::start().await, Keyring::plain());
    let dir = tempfile::tempdir().unwrap();
    let right = endpoints.entra(EntraProof::Secret(Secret::new("right")));
    assert_eq!(made(&keyring, &right).await, Some(Issued::Token(Secret::new("token-1"))));
    let federated = endpoints.entra(EntraProof::TokenFile(token_file(dir.path())));
    assert_eq!(made(&keyring, &federated).await, Some(Issued::Token(Secret::new("token-2"))));

    let account = include_str!("testdata/service_account.json");
    let account = account.replace("http://127.0.0.1:1/token", &format!("{}/google", endpoints.url));
    let google = Arc::new(Source::Google(GoogleSource::Json(Secret::new(account))));
    assert_eq!(made(&keyring, &google).await, Some(Issued::Token(Secret::new("token-3"))));
    let host = endpoints.url.trim_start_matches("http://").to_owned();
    let machine = Arc::new(Source::Google(GoogleSource::Metadata(host)));
    assert_eq!(made(&keyring, &machine).await, Some(Issued::Token(Secret::new("of-the-machine"))));

    let role = endpoints.role("arn:aws:iam::2:role/other");
    let keys = AwsKeys { id: "ASIAROLE".into(), secret: Secret::new("s"), session: Some(Secret::new("t")) };
    assert_eq!(made(&keyring, &role).await, Some(Issued::Keys(keys.clone())), "{}", keyring.problem(&role));
    let web = Arc::new(Source::Aws(AwsSource::WebIdentity {
        role: "r".into(),
        session: "s".into(),
        token: WebIdentity::File(token_file(dir.path())),
        sts: endpoints.sts(),
    }));
    assert_eq!(made(&keyring, &web).await, Some(Issued::Keys(keys)), "{}", keyring.problem(&web));

    let standings = keyring.standings();
    assert_eq!(standings.len(), 6);
    assert!(standings.iter().all(|standing| standing.successes == 1 && standing.failures == 0));
    let role = standings.iter().find(|standing| standing.name.ends_with("role/other")).unwrap();
    assert!(role.kind == "aws" && (890..=900).contains(&role.expires_in.unwrap()));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words_without_secrets() {
    let (endpoints, keyring) = (Endpoints::start().await, Keyring::plain());
    let wrong = endpoints.entra(EntraProof::Secret(Secret::new("wrong")));
    assert_eq!(made(&keyring, &wrong).await, None);
    assert_eq!(keyring.problem(&wrong), "HTTP 401 invalid_client AADSTS7000215: no such secret");
    let denied = endpoints.role("denied");
    assert_eq!(made(&keyring, &denied).await, None);
    assert_eq!(keyring.problem(&denied), "HTTP 403 AccessDenied not authorized");
    endpoints.state.broken.store(1, Ordering::SeqCst);
    let right = endpoints.entra(EntraProof::Secret(Secret::new("right")));
    assert_eq!(made(&keyring, &right).await, None);
    assert_eq!(keyring.problem(&right), "HTTP 500");
    let gone = endpoints.entra(EntraProof::TokenFile("/nowhere/token".into()));
    assert_eq!(made(&keyring, &gone).await, None);
    assert!(keyring.problem(&gone).starts_with("/nowhere/token: "));
    assert_eq!(keyring.standings().iter().map(|standing| standing.failures).sum::<u64>(), 4);
}

#[tokio::test]
async fn what_expires_is_made_anew_in_time_and_kept_when_that_fails() {
    let (endpoints, keyring) = (Endpoints::start().await, Keyring::plain());
    let host = endpoints.url.trim_start_matches("http://").to_owned();
    let machine = Arc::new(Source::Google(GoogleSource::Metadata(host)));
    let lasting = endpoints.entra(EntraProof::Secret(Secret::new("right")));
    let all: HashSet<_> = [Arc::clone(&machine), Arc::clone(&lasting)].into();
    assert!(keyring.tend(&all).await);
    assert!(!keyring.tend(&all).await, "nothing is due");
    // A life of one second is renewed after half of it at the latest, and held until its end.
    tokio::time::sleep(Duration::from_millis(600)).await;
    endpoints.state.broken.store(1, Ordering::SeqCst);
    assert!(keyring.tend(&all).await);
    assert!(keyring.current(&machine).is_some(), "a failed renewal takes nothing away");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(keyring.current(&machine), None, "it has expired");
    assert!(keyring.current(&lasting).is_some());
    endpoints.state.broken.store(0, Ordering::SeqCst);
    while !keyring.tend(&all).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(keyring.current(&machine).is_some());
    assert_eq!(endpoints.state.asked.load(Ordering::SeqCst), 4, "two at first, two for the one that expired");
    keyring.tend(&HashSet::new()).await;
    assert!(keyring.standings().is_empty(), "what nobody uses is forgotten");
}

#[test]
fn renewal_comes_early_but_not_at_once() {
    for (life, earliest, latest) in
        [(3_600, 2_700, 2_900), (900, 560, 601), (86_400, 65_000, 69_200), (10, 4, 6)]
    {
        let at = renewal(Duration::from_secs(life)).as_secs();
        assert!((earliest..=latest).contains(&at), "{life}: {at}");
    }
}
