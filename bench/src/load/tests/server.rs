//! Servers for these tests, in a thread of their own.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Answers each request by a function of it; the body has been read.
pub(super) fn start(answer: impl Fn(Request<()>) -> Reply + Send + Sync + 'static) -> SocketAddr {
    start_async(move |request| std::future::ready(answer(request)))
}

/// The same, for answers that wait.
pub(super) fn start_async<F>(answer: impl Fn(Request<()>) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = Reply> + Send + 'static,
{
    serve(None, answer)
}

/// The same, with TLS if there is an acceptor.
pub(super) fn serve<F>(
    tls: Option<TlsAcceptor>,
    answer: impl Fn(Request<()>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = Reply> + Send + 'static,
{
    let answer = Arc::new(answer);
    listen(move |stream| {
        let (answer, tls) = (answer.clone(), tls.clone());
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    body.collect().await?;
                    Ok::<_, hyper::Error>(answer(Request::from_parts(parts, ())).await)
                }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            // An error here is a generator that left.
            match tls {
                None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(builder.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        }
    })
}

/// Handles connections.
pub(super) fn listen<F>(handle: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(handle(stream));
            }
        });
    });
    address
}

pub(super) fn json(status: u16) -> Reply {
    let body = Full::new(Bytes::from_static(b"{\"object\":\"chat.completion\"}")).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// A stream of these pieces, each after a pause.
pub(super) fn stream(pieces: &'static [&'static str], pause: Duration) -> Reply {
    let pieces = futures_util::stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(Bytes::from_static(piece.as_bytes())))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(StreamBody::new(pieces).boxed_unsync())
        .unwrap()
}
