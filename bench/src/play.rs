//! Sends a body as its script says: pauses, pieces of any size, errors, cuts and stalls.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

use crate::journal::Guard;
use crate::protocols::Flow;
use crate::script::Script;

/// One step of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Send(Bytes),
    Pause(Duration),
    /// Close the connection (HTTP/2: reset the stream).
    Cut,
    /// Say nothing more.
    Stall,
}

/// Pause between the pieces of a split body, so that a reader gets them one by one.
const PIECE_PAUSE: Duration = Duration::from_millis(1);
/// Pieces that get a pause of their own; the rest of a long body follows at once.
const PAUSED_PIECES: usize = 400;

/// Steps of an event stream.
#[must_use]
pub fn stream(flow: &Flow, script: &Script) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    if script.empty {
        return steps;
    }
    for (index, frame) in flow.frames.iter().enumerate() {
        if index > 0 && !script.chunk_delay.is_zero() {
            steps.push_back(Step::Pause(script.chunk_delay));
        }
        if let Some(end) = ending(index, flow, script) {
            steps.extend(end);
            return split(steps, script);
        }
        steps.push_back(Step::Send(frame.clone()));
    }
    // A position behind the last event is the end of the stream, before its mark.
    if let Some(end) = ending(usize::MAX, flow, script) {
        steps.extend(end);
        return split(steps, script);
    }
    steps.extend(flow.end.clone().map(Step::Send));
    split(steps, script)
}

/// How the stream ends before event `index`, if the script says so; `usize::MAX` for any position.
fn ending(index: usize, flow: &Flow, script: &Script) -> Option<Vec<Step>> {
    let now = |at: Option<usize>| at.is_some_and(|at| at <= index);
    if now(script.error_at) {
        return Some(vec![Step::Send(flow.error.clone())]);
    }
    if now(script.cut_at) {
        // The pause lets what was sent before reach the peer.
        return Some(vec![Step::Pause(PIECE_PAUSE), Step::Cut]);
    }
    now(script.stall_at).then(|| vec![Step::Stall])
}

/// Steps of a whole body; `error` takes its place if the script wants an error in HTTP 200.
#[must_use]
pub fn whole(bytes: &Bytes, error: Bytes, script: &Script) -> VecDeque<Step> {
    if script.empty {
        return VecDeque::new();
    }
    if script.error_at.is_some() {
        return split(VecDeque::from([Step::Send(error)]), script);
    }
    let half = bytes.len() / 2;
    if script.cut_at.is_some() {
        return VecDeque::from([Step::Send(bytes.slice(..half)), Step::Pause(PIECE_PAUSE), Step::Cut]);
    }
    if script.stall_at.is_some() {
        return VecDeque::from([Step::Send(bytes.slice(..half)), Step::Stall]);
    }
    split(VecDeque::from([Step::Send(bytes.clone())]), script)
}

fn split(steps: VecDeque<Step>, script: &Script) -> VecDeque<Step> {
    let Some(size) = script.split else { return steps };
    let mut out = VecDeque::new();
    let mut pieces = 0_usize;
    for step in steps {
        let Step::Send(mut bytes) = step else {
            out.push_back(step);
            continue;
        };
        while !bytes.is_empty() {
            let piece = bytes.split_to(size.min(bytes.len()));
            out.push_back(Step::Send(piece));
            pieces += 1;
            if pieces <= PAUSED_PIECES {
                out.push_back(Step::Pause(PIECE_PAUSE));
            }
        }
    }
    out
}

/// A body that plays its steps.
#[derive(Debug)]
pub struct Played {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    guard: Guard,
}

impl Played {
    /// The guard counts the answer as in progress until the body ends or is dropped.
    #[must_use]
    pub fn new(steps: VecDeque<Step>, mut guard: Guard) -> Self {
        if steps.is_empty() {
            guard.finish();
        }
        Self { steps, pause: None, guard }
    }

    /// As the body of an answer.
    #[must_use]
    pub fn boxed(self) -> http_body_util::combinators::BoxBody<Bytes, io::Error> {
        BodyExt::boxed(self)
    }
}

impl Body for Played {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.steps.front() {
                None => {
                    self.guard.finish();
                    return Poll::Ready(None);
                }
                // Nobody wakes this up: only the peer's leaving ends it.
                Some(Step::Stall) => return Poll::Pending,
                _ => {}
            }
            match self.steps.pop_front() {
                Some(Step::Send(bytes)) => {
                    self.guard.sent(&bytes);
                    if self.steps.is_empty() {
                        self.guard.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Pause(time)) => self.pause = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Cut) => {
                    self.guard.finish();
                    return Poll::Ready(Some(Err(io::Error::other("cut by the script"))));
                }
                Some(Step::Stall) | None => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(events: &[&str]) -> Flow {
        let frame = |text: &&str| Bytes::from(format!("data: {text}\n\n"));
        Flow {
            content_type: "text/event-stream",
            frames: events.iter().map(frame).collect(),
            error: "data: {\"error\"}\n\n".into(),
            end: Some("data: [DONE]\n\n".into()),
        }
    }

    fn sent(steps: &VecDeque<Step>) -> String {
        let bytes: Vec<u8> = steps
            .iter()
            .filter_map(|step| if let Step::Send(b) = step { Some(b.to_vec()) } else { None })
            .flatten()
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    fn script(directives: &str) -> Script {
        Script::default().with(directives).unwrap()
    }

    #[test]
    fn pieces_join_to_the_same_bytes() {
        let events = flow(&["{\"a\":\"é\"}", "{\"b\":2}"]);
        let whole = stream(&events, &script(""));
        let split = stream(&events, &script("split:1"));
        assert_eq!(sent(&whole), "data: {\"a\":\"é\"}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n");
        let bytes: Vec<u8> = split
            .iter()
            .filter_map(|s| if let Step::Send(b) = s { (b.len() == 1).then(|| b[0]) } else { None })
            .collect();
        assert_eq!(bytes, sent(&whole).into_bytes());
    }

    #[test]
    fn error_comes_before_the_event_it_names() {
        let events = flow(&["1", "2"]);
        assert!(sent(&stream(&events, &script("error-at:0"))).starts_with("data: {\"error\""));
        let second = sent(&stream(&events, &script("error-at:1")));
        assert!(second.starts_with("data: 1\n\ndata: {\"error\""), "{second}");
        assert!(!second.contains("DONE"));
        let behind = sent(&stream(&events, &script("error-at:9")));
        assert!(behind.starts_with("data: 1\n\ndata: 2\n\ndata: {\"error\""), "{behind}");
    }

    #[test]
    fn cut_and_stall_end_the_steps() {
        let events = flow(&["1", "2"]);
        assert_eq!(stream(&events, &script("cut-at:1")).back(), Some(&Step::Cut));
        assert_eq!(stream(&events, &script("stall-at:0")), VecDeque::from([Step::Stall]));
        assert!(stream(&events, &script("empty")).is_empty());
        let steps = stream(&events, &script("chunk-delay:7"));
        assert_eq!(steps[1], Step::Pause(Duration::from_millis(7)));
    }
}
