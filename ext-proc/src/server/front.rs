//! Where a request goes: the question of every request to its own code, all else through the router.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::app::App;
use super::ext_proc::{self, Outgoing};

/// The service of a connection.
#[derive(Clone)]
pub(super) struct Front {
    app: Option<Arc<App>>,
    router: Router,
}

impl Front {
    /// Answers ext_proc, too.
    pub(super) fn deciding(app: Arc<App>, router: Router) -> Self {
        Self { app: Some(app), router }
    }
}

impl From<Router> for Front {
    fn from(router: Router) -> Self {
        Self { app: None, router }
    }
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if let Some(app) = self.app.as_ref().filter(|_| request.uri().path() == ext_proc::PATH) {
            let app = Arc::clone(app);
            return Box::pin(async move {
                Ok(ext_proc::serve(app, request.into_body()).await.map(Reply::Answer))
            });
        }
        let answer = self.router.clone().oneshot(request.map(axum::body::Body::new));
        // In a task of its own: none of these may hold up a decision. It ends with its stream.
        let answer = AbortOnDropHandle::new(tokio::spawn(answer));
        Box::pin(async move {
            Ok(match answer.await {
                Ok(Ok(response)) => response.map(Reply::Other),
                Ok(Err(never)) => match never {},
                Err(_) => {
                    let mut failed = Response::new(Reply::Other(axum::body::Body::empty()));
                    *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    failed
                }
            })
        })
    }
}

/// The body of an answer.
pub(super) enum Reply {
    Answer(Outgoing),
    Other(axum::body::Body),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Answer(body) => Pin::new(body).poll_frame(cx).map_err(axum::Error::new),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Answer(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Answer(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// The streams of one connection, in the connection's own task: polled as soon as they are there, which for a decision by
/// counters in memory is all, and again when what they wait for is there.
///
/// A task for each would cost more than the decision: it is given to another thread, which has to be woken for it, and
/// wakes this one in turn. Nothing long may be done here, since it would hold up the others: [`Front`] sees to that.
#[derive(Clone, Default)]
pub(super) struct Streams {
    /// Begun since the connection was looked at.
    begun: Arc<Mutex<Vec<Stream>>>,
}

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut stream: Stream = Box::pin(caught(stream));
        // Without a waker: whoever is not done is polled again before the connection waits.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.begun.lock().push(stream);
        }
    }
}

impl Streams {
    /// Goes on with all streams as far as they get.
    pub(super) fn run(&self, running: &mut FuturesUnordered<Stream>, cx: &mut Context<'_>) {
        running.extend(self.begun.lock().drain(..));
        // With nobody in it, it would ask to be polled when somebody comes.
        while !running.is_empty()
            && let Poll::Ready(Some(())) = running.poll_next_unpin(cx)
        {}
    }
}

/// As in a task: what panics takes its own stream with it, not the connection.
async fn caught(stream: impl Future) {
    if AssertUnwindSafe(stream).catch_unwind().await.is_err() {
        tracing::error!("a stream panicked");
    }
}
