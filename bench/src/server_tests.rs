use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::net::TcpStream;

use super::*;

async fn start() -> (std::net::SocketAddr, Arc<Journal>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Provider::default();
    tokio::spawn(serve(listener, shared.clone()));
    (address, shared.journal)
}

fn chat(path: &str, script: &str, stream: bool) -> Request<Full<Bytes>> {
    let body =
        json!({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    Request::post(path)
        .header("host", "fake")
        .header("authorization", "Bearer sk-upstream-9876")
        .header("x-fake-script", script)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

async fn send(
    address: std::net::SocketAddr,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(StatusCode, Bytes)> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection);
    let reply = sender.send_request(request).await?;
    let status = reply.status();
    Ok((status, reply.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn answers_and_remembers() {
    let (address, journal) = start().await;
    let (status, body) = send(address, chat("/one/v1/chat/completions?x=1", "", false)).await.unwrap();
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["object"], "chat.completion");
    let entries = journal.entries(Some("one"), None);
    assert_eq!(entries[0].path, "/one/v1/chat/completions?x=1");
    assert_eq!(entries[0].headers["authorization"], "...9876");
    assert_eq!(entries[0].usage.as_ref().unwrap(), &answer["usage"]);
    assert!(journal.entries(Some("two"), None).is_empty());
    let shown =
        send(address, Request::get("/_fake/requests").body(Full::default()).unwrap()).await.unwrap().1;
    assert!(!String::from_utf8_lossy(&shown).contains("sk-upstream"));
}

#[tokio::test]
async fn a_request_without_credential_is_refused() {
    let (address, _) = start().await;
    let mut request = chat("/one/v1/chat/completions", "", false);
    request.headers_mut().remove("authorization");
    assert_eq!(send(address, request).await.unwrap().0, 401);
    let mut request = chat("/one/v1/chat/completions", "", false);
    request.headers_mut().remove("authorization");
    request.headers_mut().insert("api-key", "abc".parse().unwrap());
    assert_eq!(send(address, request).await.unwrap().0, 200);
}

#[tokio::test]
async fn scripts_are_played() {
    let (address, journal) = start().await;
    let path = "/one/v1/chat/completions";
    let (status, body) =
        send(address, chat(path, "two=cut;one=status:429,retry-after:7", false)).await.unwrap();
    assert_eq!(status, 429);
    assert!(String::from_utf8_lossy(&body).contains("rate_limit_exceeded"));
    let (status, body) = send(address, chat(path, "one=error-at:0", true)).await.unwrap();
    assert_eq!(status, 200);
    assert!(body.starts_with(b"data: {\"error\""));
    assert!(send(address, chat(path, "*=cut", true)).await.is_err());
    assert!(send(address, chat(path, "*=cut-at:2", true)).await.is_err());
    assert_eq!(send(address, chat(path, "one=nonsense", true)).await.unwrap().0, 400);
    let (_, whole) = send(address, chat(path, "", true)).await.unwrap();
    let (_, pieces) = send(address, chat(path, "*=split:3", true)).await.unwrap();
    assert_eq!(whole, pieces);
    assert!(whole.ends_with(b"data: [DONE]\n\n"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(journal.counts().cancelled, 0);
    assert_eq!(journal.counts().active, 0);
}

#[tokio::test]
async fn a_peer_that_leaves_is_counted() {
    let (address, journal) = start().await;
    let left = tokio::time::timeout(
        Duration::from_millis(100),
        send(address, chat("/one/v1/chat/completions", "*=stall-at:1", true)),
    );
    assert!(left.await.is_err());
    // The connection task of `send` ends with its sender.
    let left = tokio::time::timeout(
        Duration::from_millis(100),
        send(address, chat("/one/v1/completions", "*=delay:60000", true)),
    );
    assert!(left.await.is_err());
    for _ in 0..50 {
        if journal.counts().cancelled == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not seen: {:?}", journal.counts());
}

#[tokio::test]
async fn http2_works_without_tls() {
    let (address, journal) = start().await;
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = chat("/one/v1/chat/completions", "", true);
    *request.uri_mut() = format!("http://{address}/one/v1/chat/completions").parse().unwrap();
    request.headers_mut().remove("host");
    let reply = sender.send_request(request).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.into_body().collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    assert_eq!(journal.entries(None, None)[0].version, "HTTP/2.0");
}

#[tokio::test]
async fn standing_scripts_and_counts() {
    let (address, journal) = start().await;
    let order = r#"{"name": "one", "script": "error:context", "times": 1}"#;
    let set = Request::post("/_fake/script").body(Full::new(Bytes::from(order))).unwrap();
    assert_eq!(send(address, set).await.unwrap().0, 200);
    let path = "/one/v1/chat/completions";
    let (status, body) = send(address, chat(path, "", false)).await.unwrap();
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&body).contains("context_length_exceeded"));
    assert_eq!(send(address, chat(path, "*=usage:70/30", false)).await.unwrap().0, 200);
    let minutes = &journal.by_upstream()["one"].minutes;
    assert_eq!(minutes.values().map(|minute| minute.requests).sum::<u64>(), 2);
    assert_eq!(minutes.values().map(|minute| minute.tokens).sum::<u64>(), 100);

    let models = || {
        Request::get("/one/v1/models")
            .header("authorization", "Bearer sk-probe-1234")
            .body(Full::default())
            .unwrap()
    };
    assert_eq!(send(address, models()).await.unwrap().0, 200);
    let set = Request::post("/_fake/models?name=one&status=401").body(Full::default()).unwrap();
    assert_eq!(send(address, set).await.unwrap().0, 200);
    assert_eq!(send(address, models()).await.unwrap().0, 401);
    assert_eq!(send(address, chat(path, "", false)).await.unwrap().0, 200);
    let removed = Request::delete("/_fake/script").body(Full::default()).unwrap();
    assert_eq!(send(address, removed).await.unwrap().0, 200);
    assert_eq!(send(address, models()).await.unwrap().0, 200);
}

#[tokio::test]
async fn every_protocol_answers_in_its_own_words() {
    let (address, journal) = start().await;
    let post = |path: &str, body: &str, headers: &[(&str, &str)]| {
        let mut request =
            Request::post(path).header("host", "fake").header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
    };
    let (status, body) =
        send(address, post("/a/v1/messages", "{}", &[("authorization", "Bearer sk-client")])).await.unwrap();
    assert_eq!((status.as_u16(), body.starts_with(b"{\"type\":\"error\"")), (401, true));
    assert!(journal.entries(Some("a"), None)[0].refused.as_ref().unwrap().contains("x-api-key"));
    let key = [("x-goog-api-key", "k"), ("x-fake-script", "g=status:503")];
    let hello = r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#;
    let path = "/g/v1beta/models/gemini-2.5-flash:generateContent";
    let (status, body) = send(address, post(path, hello, &key)).await.unwrap();
    assert_eq!(status, 503);
    assert!(String::from_utf8_lossy(&body).contains("UNAVAILABLE"));
    let converse = r#"{"messages":[{"role":"user","content":[{"text":"hello"}]}]}"#;
    let path = "/b/model/anthropic.claude-v1%3A0/converse-stream";
    let bearer = [("authorization", "Bearer bedrock-key"), ("x-fake-script", "b=error-at:0")];
    let (status, body) = send(address, post(path, converse, &bearer)).await.unwrap();
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains("modelStreamErrorException"));
}

/// A form with a file, as a client of multipart writes it.
fn form(path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut body = String::new();
    for (name, value) in fields {
        let file =
            if *name == "file" { "; filename=\"a.jsonl\"\r\nContent-Type: application/jsonl" } else { "" };
        body += &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n");
    }
    body += "--b--\r\n";
    Request::post(path)
        .header("host", "fake")
        .header("authorization", "Bearer sk-x")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

#[tokio::test]
async fn forms_files_and_batches() {
    let (address, journal) = start().await;
    let json = |reply: (StatusCode, Bytes)| serde_json::from_slice::<Value>(&reply.1).unwrap();
    let heard =
        send(address, form("/w/v1/audio/transcriptions", &[("model", "whisper-1"), ("file", "sound")])).await;
    let heard = json(heard.unwrap());
    assert_eq!(
        (&heard["text"], &heard["usage"]["type"]),
        (&json!("The envoy carries letters."), &json!("duration"))
    );
    assert_eq!(journal.entries(Some("w"), None)[0].body.as_ref().unwrap()[0]["text"], "whisper-1");
    let silent = send(address, form("/w/v1/audio/transcriptions", &[("model", "whisper-1")])).await.unwrap();
    assert_eq!(silent.0, 400);
    let file = json(
        send(address, form("/w/v1/files", &[("purpose", "batch"), ("file", "{}\n{}\n")])).await.unwrap(),
    );
    let get = |path: String| {
        Request::get(path).header("authorization", "Bearer sk-x").body(Full::<Bytes>::default()).unwrap()
    };
    let path = format!("/w/v1/files/{}", file["id"].as_str().unwrap());
    assert_eq!(send(address, get(format!("{path}/content"))).await.unwrap().1, "{}\n{}\n");
    assert_eq!(send(address, get(path.replace("/w/", "/other/"))).await.unwrap().0, 404);
    let order =
        json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let create = Request::post("/w/v1/batches")
        .header("authorization", "Bearer sk-x")
        .body(Full::new(Bytes::from(order.to_string())))
        .unwrap();
    let batch = json(send(address, create).await.unwrap());
    assert_eq!((&batch["status"], &batch["request_counts"]["total"]), (&json!("completed"), &json!(2)));
    let listed = json(send(address, get("/w/v1/batches".into())).await.unwrap());
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn realtime_is_a_websocket() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
    let (address, journal) = start().await;
    let mut request =
        format!("ws://{address}/rt/v1/realtime?model=gpt-realtime").into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer sk-x".parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let first = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(first.contains("session.created") && first.contains("gpt-realtime"), "{first}");
    socket.send(Message::text(r#"{"type":"response.create"}"#)).await.unwrap();
    loop {
        let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
        if text.contains("response.done") {
            assert!(text.contains("total_tokens"), "{text}");
            break;
        }
    }
    assert_eq!(journal.entries(Some("rt"), None)[0].path, "/rt/v1/realtime?model=gpt-realtime");
}
