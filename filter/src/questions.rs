//! Requests that wait for the sidecar's decision: those whose question is queued, and those that were asked for.
//!
//! One call takes all that are queued at that moment, and several calls may be on their way. No host calls here; the gate
//! queues, [`crate::deciding`] sends and answers.
//!
//! A client may leave meanwhile. Was its question sent, the request stays here until the answer comes: the sidecar may
//! have reserved something for it, and only a usage record settles that.

use std::collections::{HashMap, VecDeque};

use attache_llm::contract::{DecideAsk, LeaseAsk, VERSION};
use serde_json::value::RawValue;

use crate::requests::{Ending, Request};
use crate::stock::Wanted;

/// Requests that may wait, per worker.
const MAX_WAITING: usize = 10_000;
/// Questions of one call.
const MAX_CALL: usize = 256;
/// Bytes of one call, about. The sidecar takes 32 MiB.
const MAX_BYTES: usize = 1024 * 1024;

/// Whose question it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    pub context: u32,
    pub call_id: String,
}

#[derive(Debug)]
struct Queued {
    waiter: Waiter,
    ask: Box<RawValue>,
}

/// A call that was not answered yet: who waits for it, in the order of its questions, and what was asked for ahead.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flight {
    pub waiters: Vec<Waiter>,
    pub wanted: Vec<Wanted>,
    pub sent_ms: u64,
}

/// What became of a new question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Somebody must be woken to send it.
    First,
    More,
    /// Too many wait.
    Full,
}

/// Questions of one worker.
#[derive(Debug, Default)]
pub struct Questions {
    queue: VecDeque<Queued>,
    flights: HashMap<u64, Flight>,
    last_flight: u64,
    /// Waiters of all flights.
    asked: usize,
    /// Requests that ended while they were asked for, by call id.
    left: HashMap<String, Box<(Request, Ending)>>,
}

impl Questions {
    pub fn push(&mut self, waiter: Waiter, ask: Box<RawValue>) -> Pushed {
        let first = self.queue.is_empty();
        if self.queue.len().saturating_add(self.asked) >= MAX_WAITING {
            return Pushed::Full;
        }
        self.queue.push_back(Queued { waiter, ask });
        if first { Pushed::First } else { Pushed::More }
    }

    /// The next call: its number and its body, with what is asked for ahead. It must end in [`Self::answered`]. `None` when
    /// there is nothing to ask.
    pub fn next_call(&mut self, ahead: Vec<(LeaseAsk, Wanted)>, now_ms: u64) -> Option<(u64, Vec<u8>)> {
        let mut bytes = 0_usize;
        let fits = self.queue.iter().take(MAX_CALL).take_while(|queued| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(queued.ask.get().len().max(1));
            first || bytes <= MAX_BYTES
        });
        let count = fits.count();
        if count == 0 && ahead.is_empty() {
            return None;
        }
        let (waiters, asks) = self.queue.drain(..count).map(|queued| (queued.waiter, queued.ask)).unzip();
        let (leases, wanted) = ahead.into_iter().unzip();
        // Texts and numbers: this does not fail.
        let body = serde_json::to_vec(&DecideAsk { contract: VERSION, again: 0, asks, leases });
        self.last_flight = self.last_flight.wrapping_add(1);
        self.asked = self.asked.saturating_add(count);
        self.flights.insert(self.last_flight, Flight { waiters, wanted, sent_ms: now_ms });
        Some((self.last_flight, body.unwrap_or_default()))
    }

    /// The call ended, in whichever way. `None` when it was given up before.
    pub fn answered(&mut self, flight: u64) -> Option<Flight> {
        let flight = self.flights.remove(&flight)?;
        self.asked = self.asked.saturating_sub(flight.waiters.len());
        Some(flight)
    }

    /// Gives up calls that should have ended long ago: the root that made them is gone.
    pub fn overdue(&mut self, limit_ms: u64, now_ms: u64) -> Vec<Flight> {
        if self.flights.is_empty() {
            return Vec::new();
        }
        let late = |flight: &Flight| now_ms.saturating_sub(flight.sent_ms) > limit_ms;
        let late: Vec<u64> =
            self.flights.iter().filter(|(_, f)| late(f)).map(|(number, _)| *number).collect();
        late.into_iter().filter_map(|number| self.answered(number)).collect()
    }

    /// A request ended before its decision was there. Handed back when its question was not sent; else it stays until the
    /// answer comes.
    pub fn leave(&mut self, request: Request, ending: &Ending) -> Option<Request> {
        let place = self.queue.iter().position(|queued| queued.waiter.call_id == request.call_id);
        if let Some(place) = place {
            self.queue.remove(place);
            return Some(request);
        }
        self.left.insert(request.call_id.clone(), Box::new((request, ending.clone())));
        None
    }

    /// The request with this id, if it ended before its answer came.
    pub fn take_left(&mut self, call_id: &str) -> Option<Box<(Request, Ending)>> {
        if self.left.is_empty() { None } else { self.left.remove(call_id) }
    }
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;
