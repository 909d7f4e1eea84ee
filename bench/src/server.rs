//! The server: HTTP/1.1 and HTTP/2 (prior knowledge) on one port.

use std::collections::VecDeque;
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

use crate::journal::{Entry, Guard, Journal, headers_json, shown_body};
use crate::play::{self, Played};
use crate::protocols::state::State;
use crate::protocols::{Answer, Planned, Protocol, Refused, Wire, multipart, openai, realtime, tokens};
use crate::script::{Script, split_model};
use crate::served::{Log, Served};
use crate::standing::{Order, Standing};

type Reply = Response<BoxBody<Bytes, io::Error>>;

/// What all connections share.
#[derive(Debug, Clone, Default)]
pub struct Provider {
    pub journal: Arc<Journal>,
    pub standing: Arc<Standing>,
    pub state: Arc<State>,
    /// Gets a line per attempt that was served.
    pub log: Option<Arc<Log>>,
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
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
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
        (&Method::POST, "account") => match tokens::account(&body, &shared.state) {
            Ok(issuer) => json_reply(StatusCode::OK, &json!({"known": issuer})),
            Err(error) => refuse(400, &error),
        },
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
    let error = openai::error(status, None, Some(&Refused::new(status, message)), false);
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
        _ => refuse(404, "no such control"),
    }
}

async fn provider(mut request: Request<Incoming>, shared: Provider) -> Result<Reply, Cut> {
    let started = Instant::now();
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return Err(Cut) };
    let form = multipart::read(&parts.headers, &body).await;
    let json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (name, rest) = split_path(parts.uri.path());
    let uri = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let wire = Wire {
        name,
        rest,
        uri,
        query: parts.uri.query().unwrap_or_default(),
        method: &parts.method,
        headers: &parts.headers,
        body: &body,
        json: &json,
        parts: form.as_ref().and_then(|form| form.as_deref().ok()),
        state: &shared.state,
    };
    let protocol = Protocol::of(rest, &parts.headers);
    let malformed = form.as_ref().and_then(|form| form.as_ref().err()).cloned();
    let outcome = match malformed {
        Some(error) => Err(Refused::new(400, format!("the multipart body cannot be read: {error}"))),
        None => plan(protocol, &wire, &shared.standing),
    };
    let mut guard = Guard::new(shared.journal.clone(), name);
    record(&wire, &parts.version, &outcome, &shared, &mut guard);
    let plan = match outcome {
        Ok(plan) => plan,
        Err(refused) => {
            guard.finish();
            return Ok(error_reply(protocol, refused.status, &Script::default(), Some(&refused)));
        }
    };
    if !plan.script.delay.is_zero() {
        tokio::time::sleep(plan.script.delay).await;
    }
    if plan.script.cut {
        guard.finish();
        return Err(Cut);
    }
    if plan.planned.answer == Answer::Upgrade && plan.script.status.is_none() {
        tokio::spawn(realtime::talk(upgrade, plan.model, plan.script, guard));
        return Ok(switching(&parts.headers));
    }
    Ok(reply(protocol, &plan, guard, started))
}

/// Name of the upstream, and the path behind it.
fn split_path(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

/// Remembers what arrived and what is answered; opens the attempt's line in the log.
fn record(
    wire: &Wire<'_>,
    version: &http::Version,
    outcome: &Result<Plan, Refused>,
    shared: &Provider,
    guard: &mut Guard,
) {
    let status = match outcome {
        Ok(plan) if plan.script.cut => None,
        Ok(plan) => Some(plan.script.status.unwrap_or(200)),
        Err(refused) => Some(refused.status),
    };
    let entry = Entry {
        id: 0,
        name: wire.name.to_owned(),
        method: wire.method.to_string(),
        path: wire.uri.to_owned(),
        version: format!("{version:?}"),
        headers: headers_json(wire.headers),
        body_length: wire.body.len(),
        body: shown_body(wire),
        status,
        refused: outcome.as_ref().err().map(|refused| refused.message.clone()),
        usage: outcome.as_ref().ok().and_then(|plan| plan.planned.usage.clone()),
    };
    let planned = outcome.as_ref().ok().map(|plan| (&plan.script, &plan.planned));
    if let Some(log) = shared.log.clone().filter(|_| wire.method == Method::POST) {
        guard.keep_books(log, Served::new(wire.name, wire.headers, status, planned));
    }
    let good = planned.filter(|_| status == Some(200));
    shared.journal.record(entry, good.map_or(0, |(_, planned)| planned.prompt + planned.completion));
}

/// What to answer.
struct Plan {
    script: Script,
    model: String,
    planned: Planned,
}

fn plan(protocol: Protocol, wire: &Wire<'_>, standing: &Standing) -> Result<Plan, Refused> {
    protocol.authenticate(wire)?;
    let refuse = |error| Refused::new(400, error);
    let told =
        Script::from_header(wire.header("x-fake-script").unwrap_or_default(), wire.name).map_err(refuse)?;
    let models = openai::is_models(wire.rest, wire.method);
    let mut script = told.or_else(|| standing.take(wire.name, models)).unwrap_or_default();
    let full = protocol
        .model_in_path(wire.rest)
        .or_else(|| wire.json["model"].as_str().map(str::to_owned))
        .or_else(|| wire.field("model").map(str::to_owned))
        .or_else(|| wire.param("model").map(str::to_owned))
        .unwrap_or_default();
    let (model, directives) = split_model(&full);
    if let Some(directives) = directives {
        script = script.with(directives).map_err(refuse)?;
    }
    let planned = protocol.plan(wire, model, &script)?;
    Ok(Plan { model: model.to_owned(), script, planned })
}

fn switching(headers: &HeaderMap) -> Reply {
    let mut reply = Response::new(Full::default().map_err(|never: Infallible| match never {}).boxed());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = reply.headers_mut();
    out.insert("connection", HeaderValue::from_static("Upgrade"));
    out.insert("upgrade", HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(&realtime::accept_key(headers)) {
        out.insert("sec-websocket-accept", key);
    }
    // The newest of the subprotocols that OpenAI's browser clients offer.
    if headers.get("sec-websocket-protocol").is_some_and(|p| p.as_bytes().starts_with(b"realtime")) {
        out.insert("sec-websocket-protocol", HeaderValue::from_static("realtime"));
    }
    reply
}

fn error_reply(protocol: Protocol, status: u16, script: &Script, refused: Option<&Refused>) -> Reply {
    let body = Full::new(protocol.error(status, script.refusal, refused))
        .map_err(|never: Infallible| match never {});
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut reply = body_reply(code, protocol.error_type(), body.boxed());
    add_headers(&mut reply, protocol, status, script);
    reply
}

fn add_headers(reply: &mut Reply, protocol: Protocol, status: u16, script: &Script) {
    let headers = reply.headers_mut();
    if let Some(seconds) = script.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    for (name, value) in protocol.headers(status, script.refusal) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn reply(protocol: Protocol, plan: &Plan, mut guard: Guard, started: Instant) -> Reply {
    let script = &plan.script;
    let status = script.status.unwrap_or(200);
    if !(200..300).contains(&status) {
        guard.finish();
        return error_reply(protocol, status, script, None);
    }
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let (content_type, steps) = match &plan.planned.answer {
        Answer::Stream(flow) => (flow.content_type, play::stream(flow, script)),
        Answer::Whole { content_type, body } => {
            (*content_type, play::whole(body, protocol.error(500, None, None), script))
        }
        Answer::Upgrade => ("application/json", VecDeque::new()),
    };
    let mut reply = body_reply(code, content_type, Played::new(steps, guard).boxed());
    add_headers(&mut reply, protocol, status, script);
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    reply.headers_mut().insert("openai-processing-ms", millis.into());
    reply
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

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
