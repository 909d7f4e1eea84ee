//! The server: HTTP/1.1 and HTTP/2 (prior knowledge) on one port.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::answer::{self, Asked, Kind};
use crate::journal::{Entry, Guard, Journal, headers_json, small_body};
use crate::play::{self, Played};
use crate::script::{Script, split_model};
use crate::standing::{Order, Standing};

type Reply = Response<BoxBody<Bytes, io::Error>>;

/// What all connections share.
#[derive(Debug, Clone, Default)]
pub struct Provider {
    pub journal: Arc<Journal>,
    pub standing: Arc<Standing>,
}

/// Serves until the listener fails.
///
/// # Errors
/// When no connection can be accepted any more.
pub async fn serve(listener: TcpListener, shared: Provider) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // Pieces must leave as they are written, or `split` would test nothing.
        stream.set_nodelay(true)?;
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(request, shared.clone()));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).half_close(false);
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(10_000);
            // An error here is a peer that left or a cut that the script wanted.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(request: Request<Incoming>, shared: Provider) -> Result<Reply, Cut> {
    if !request.uri().path().starts_with("/_fake/") {
        return provider(request, shared).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return Err(Cut) };
    let what = parts.uri.path().trim_start_matches("/_fake/");
    let query = |wanted: &str| {
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    Ok(match (&parts.method, what) {
        (&Method::POST, "script") => match serde_json::from_slice(&body) {
            Ok(order) => order_reply(&order, &shared.standing),
            Err(error) => refuse(400, &error.to_string()),
        },
        (&Method::POST, "models") => {
            let name = format!("{}/models", query("name").unwrap_or_default());
            let script = format!("status:{}", query("status").unwrap_or_default());
            order_reply(&Order { name, script, times: None }, &shared.standing)
        }
        (&Method::DELETE, "script") => {
            shared.standing.remove(query("name"));
            json_reply(StatusCode::OK, &json!({"removed": true}))
        }
        (&Method::GET, "requests") => {
            json_reply(StatusCode::OK, &json!(shared.journal.entries(query("name"), query("test"))))
        }
        (method, what) => control_reply(method, what, &shared.journal),
    })
}

fn order_reply(order: &Order, standing: &Standing) -> Reply {
    match standing.set(order) {
        Ok(()) => json_reply(StatusCode::OK, &json!({"set": order.name})),
        Err(error) => refuse(400, &error),
    }
}

/// An error of the fake provider itself.
fn refuse(status: u16, message: &str) -> Reply {
    let mut error = answer::error(status);
    error["error"]["message"] = json!(message);
    json_reply(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), &error)
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by the script")
    }
}

impl std::error::Error for Cut {}

fn control_reply(method: &Method, what: &str, journal: &Journal) -> Reply {
    match (method, what) {
        (&Method::GET, "counts") => json_reply(StatusCode::OK, &json!(journal.by_upstream())),
        (&Method::DELETE, "requests") => {
            journal.clear();
            json_reply(StatusCode::OK, &json!({"cleared": true}))
        }
        (&Method::GET, "active") => json_reply(StatusCode::OK, &json!(journal.counts())),
        _ => json_reply(StatusCode::NOT_FOUND, &answer::error(404)),
    }
}

async fn provider(request: Request<Incoming>, shared: Provider) -> Result<Reply, Cut> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return Err(Cut) };
    let route = Route::parse(parts.uri.path());
    let mut guard = Guard::new(shared.journal.clone(), route.name);
    let json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut entry = Entry {
        id: 0,
        name: route.name.to_owned(),
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        version: format!("{:?}", parts.version),
        headers: headers_json(&parts.headers),
        body_length: body.len(),
        body: small_body(&body, &json),
        status: None,
        usage: None,
    };
    let outcome = plan(&route, &parts.method, &parts.headers, &json, &shared.standing);
    let mut tokens = 0;
    if let Ok(plan) = &outcome {
        entry.usage = plan.asked.as_ref().map(Asked::usage);
    }
    if let Ok(Plan { script, asked: Some(asked) }) = &outcome
        && script.status.unwrap_or(200) == 200
    {
        tokens = asked.tokens().prompt + asked.tokens().completion;
    }
    entry.status = match &outcome {
        Ok(plan) if plan.script.cut => None,
        Ok(plan) => Some(plan.script.status.unwrap_or(200)),
        Err(refusal) => Some(refusal.status().as_u16()),
    };
    shared.journal.record(entry, tokens);
    let plan = match outcome {
        Ok(plan) => plan,
        Err(refusal) => {
            guard.finish();
            return Ok(*refusal);
        }
    };
    if !plan.script.delay.is_zero() {
        tokio::time::sleep(plan.script.delay).await;
    }
    if plan.script.cut {
        guard.finish();
        return Err(Cut);
    }
    Ok(reply(&plan, guard, started))
}

/// What to answer.
struct Plan {
    script: Script,
    /// `None` for a list of models.
    asked: Option<Asked>,
}

fn plan(
    route: &Route<'_>,
    method: &Method,
    headers: &HeaderMap,
    body: &Value,
    standing: &Standing,
) -> Result<Plan, Box<Reply>> {
    let refuse = |status, message: &str| Box::new(refuse(status, message));
    if !has_credential(headers) {
        return Err(refuse(401, "You didn't provide an API key."));
    }
    let header = headers.get("x-fake-script").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let told = Script::from_header(header, route.name).map_err(|e| refuse(400, &e))?;
    let mut script = told.or_else(|| standing.take(route.name, route.models)).unwrap_or_default();
    let Some(kind) = route.kind else {
        if route.models && method == Method::GET {
            return Ok(Plan { script, asked: None });
        }
        return Err(refuse(404, "Unknown request URL."));
    };
    if method != Method::POST {
        return Err(refuse(405, "Not allowed to do that on this URL."));
    }
    if !body.is_object() {
        return Err(refuse(400, "We could not parse the JSON body of your request."));
    }
    let Some(full) = route.deployment.or_else(|| body["model"].as_str()) else {
        return Err(refuse(400, "you must provide a model parameter"));
    };
    let (model, directives) = split_model(full);
    if let Some(directives) = directives {
        script = script.with(directives).map_err(|e| refuse(400, &e))?;
    }
    let asked = Asked::read(kind, model, route.deployment.is_some(), body, &script);
    Ok(Plan { script, asked: Some(asked) })
}

fn has_credential(headers: &HeaderMap) -> bool {
    let bearer =
        headers.get("authorization").and_then(|v| v.to_str().ok()).is_some_and(|v| v.len() > "Bearer ".len());
    bearer || headers.get("api-key").is_some_and(|v| !v.is_empty())
}

fn reply(plan: &Plan, mut guard: Guard, started: Instant) -> Reply {
    let script = &plan.script;
    let status = StatusCode::from_u16(script.status.unwrap_or(200)).unwrap_or(StatusCode::OK);
    let mut reply = if status.is_success() {
        match &plan.asked {
            None => {
                guard.finish();
                json_reply(status, &models())
            }
            Some(asked) if asked.stream => {
                let steps = play::stream(&asked.events(script), script);
                body_reply(status, "text/event-stream; charset=utf-8", Played::new(steps, guard).boxed())
            }
            Some(asked) => {
                let steps = play::whole(&asked.json(script), script);
                body_reply(status, "application/json", Played::new(steps, guard).boxed())
            }
        }
    } else {
        guard.finish();
        let azure = plan.asked.as_ref().is_some_and(|asked| asked.azure);
        let body = script
            .refusal
            .map_or_else(|| answer::error(status.as_u16()), |kind| answer::refusal(kind, azure));
        json_reply(status, &body)
    };
    let headers = reply.headers_mut();
    if let Some(seconds) = script.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert("openai-processing-ms", millis.into());
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert("x-ratelimit-limit-requests", HeaderValue::from_static("10000"));
    headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("9999"));
    reply
}

fn models() -> Value {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system"});
    json!({"object": "list", "data": [model("gpt-4o"), model("gpt-4o-mini")]})
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let bytes = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {});
    body_reply(status, "application/json", bytes.boxed())
}

fn body_reply(status: StatusCode, content_type: &'static str, body: BoxBody<Bytes, io::Error>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A path, taken apart: `/NAME/v1/chat/completions`, `/NAME/openai/deployments/MODEL/embeddings`.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    name: &'a str,
    kind: Option<Kind>,
    models: bool,
    /// Azure's deployment, from the path.
    deployment: Option<&'a str>,
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Self {
        let mut segments = path.trim_start_matches('/').splitn(2, '/');
        let name = segments.next().unwrap_or_default();
        let rest = segments.next().unwrap_or_default();
        let (deployment, rest) =
            match rest.strip_prefix("openai/deployments/").and_then(|r| r.split_once('/')) {
                Some((deployment, rest)) => (Some(deployment), rest),
                None => (None, rest),
            };
        let kind = if rest.ends_with("chat/completions") {
            Some(Kind::Chat)
        } else if rest.ends_with("completions") {
            Some(Kind::Completion)
        } else if rest.ends_with("embeddings") {
            Some(Kind::Embeddings)
        } else {
            None
        };
        Self { name, kind, models: rest.ends_with("models"), deployment }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
