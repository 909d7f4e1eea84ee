//! Decisions ahead: which kinds of requests come so often that the sidecar should decide about some before they come, and
//! what it decided. No host calls here.
//!
//! A kind is everything that a decision depends on: caller, model, endpoint, wishes, and how long the prompt is, in steps. A
//! busy one has a stock of decisions for the next twentieth of a second or so, a few per [`Lease`]; a request that finds one
//! goes on at once, under the call id that the decision was made for. What is not used in time is given back.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

use attache_llm::contract::{Ask, Go, Lease, LeaseAsk, LeaseUse, Leased, MAX_LEASE_CALLS, Note, Walk};
use attache_llm::path::Endpoint;
use foldhash::fast::FixedState;
use serde_json::value::{RawValue, to_raw_value};

use crate::shown::Shown;
use crate::vm::Map;

/// Requests are counted for so long, milliseconds.
const WINDOW_MS: u64 = 100;
/// A kind with fewer of them in a window asks for itself.
const BUSY: u32 = 16;
/// Counters of requests. Kinds that share one look busier than they are, which costs a decision that nobody uses.
const RATES: usize = 1_024;
/// Kinds with a stock.
const MAX_KINDS: usize = 256;
/// Decisions that one kind has at most.
const MAX_STOCK: usize = 64;
/// Leases that one kind asks for at once: the uses of one go the same way, so they are few.
const MAX_ASKS: usize = 8;
/// A kind that was refused asks again after so long: its limits are near, or it is not to be leased at all.
const QUIET_MS: u64 = 1_000;
/// A kind that does not come any more is forgotten.
const IDLE_MS: u64 = 5_000;
/// Reservations that wait to be given back. What is beyond ends with its own lease.
const MAX_RETURNED: usize = 4_096;

/// A decision for one request that was not there yet.
#[derive(Debug)]
pub struct Held {
    /// The id of the request that uses it.
    pub call_id: String,
    lease: Rc<Granted>,
    part: LeaseUse,
    until_ms: u64,
}

/// What the requests of a lease have in common.
#[derive(Debug)]
struct Granted {
    /// Without headers for the answer and walk.
    go: Go,
    headers: Rc<[(String, String)]>,
    walk: Option<Rc<Walk>>,
}

impl Held {
    /// What goes with the request.
    #[must_use]
    pub fn go(&self) -> &Go {
        &self.lease.go
    }

    #[must_use]
    pub fn walk(&self) -> Option<Rc<Walk>> {
        self.lease.walk.clone()
    }

    /// What it says to the gate, as a decision for this request alone would, but for [`Self::shown`].
    pub fn note(&mut self) -> Note {
        Note { reservation: self.part.reservation.take(), ..self.lease.go.note.clone() }
    }

    /// Headers for the client's answer.
    pub fn shown(&mut self) -> Shown {
        Shown::of_lease(&self.lease.headers, std::mem::take(&mut self.part.headers))
    }
}

/// What a kind asked for: to be told what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    kind: u64,
    calls: Vec<String>,
}

/// How often a kind comes.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    window: u64,
    now: u32,
    before: u32,
}

impl Rate {
    /// One more. Returns how many come in a window.
    fn count(&mut self, now_ms: u64) -> u32 {
        let window = now_ms.checked_div(WINDOW_MS).unwrap_or(0);
        if window != self.window {
            self.before = if window == self.window.saturating_add(1) { self.now } else { 0 };
            (self.window, self.now) = (window, 0);
        }
        self.now = self.now.saturating_add(1);
        self.now.max(self.before)
    }
}

/// The decisions that one kind has.
#[derive(Debug)]
struct Stock {
    /// Without a call id, its prompt as long as the longest of the kind.
    ask: Ask,
    held: VecDeque<Held>,
    /// How many are asked for.
    asked: usize,
    /// How many there should be.
    target: usize,
    /// It waits for the next call.
    wants: bool,
    quiet_until_ms: u64,
    seen_ms: u64,
}

impl Stock {
    fn drop_old(&mut self, now_ms: u64, returned: &mut Vec<String>) {
        while self.held.front().is_some_and(|held| held.until_ms <= now_ms) {
            let old = self.held.pop_front().and_then(|held| held.part.reservation);
            if returned.len() < MAX_RETURNED {
                returned.extend(old);
            }
        }
    }

    fn is_short(&self, now_ms: u64) -> bool {
        let there = self.held.len().saturating_add(self.asked);
        !self.wants && now_ms >= self.quiet_until_ms && there <= self.target / 2
    }
}

/// What a request found.
#[derive(Debug)]
pub struct Found {
    pub held: Option<Held>,
    /// Somebody must be woken to ask for more.
    pub wake: bool,
}

/// Decisions ahead of one worker.
#[derive(Debug)]
pub struct Stocks {
    rates: Vec<Rate>,
    kinds: Map<u64, Stock>,
    /// Kinds that want more.
    wanting: Vec<u64>,
    returned: Vec<String>,
}

impl Default for Stocks {
    fn default() -> Self {
        let rates = vec![Rate::default(); RATES];
        Self { rates, kinds: Map::default(), wanting: Vec::new(), returned: Vec::new() }
    }
}

impl Stocks {
    /// A request is ready to ask this. Is it decided already?
    pub fn find(&mut self, ask: &mut Ask, now_ms: u64) -> Found {
        let nothing = Found { held: None, wake: false };
        if ask.replan.is_some() || ask.explain || ask.endpoint == Endpoint::Realtime {
            return nothing;
        }
        let exact = ask.input_tokens;
        ask.input_tokens = step(exact);
        let call_id = std::mem::take(&mut ask.call_id);
        let found = self.look(ask, now_ms);
        (ask.input_tokens, ask.call_id) = (exact, call_id);
        found.unwrap_or(nothing)
    }

    fn look(&mut self, ask: &Ask, now_ms: u64) -> Option<Found> {
        let kind = hash(ask);
        let place = usize::try_from(kind).unwrap_or(0).checked_rem(RATES)?;
        let rate = self.rates.get_mut(place)?.count(now_ms);
        let busy = rate >= BUSY;
        if !self.kinds.contains_key(&kind) {
            if !busy || (self.kinds.len() >= MAX_KINDS && !self.forget_one()) {
                return None;
            }
            self.kinds.insert(kind, Stock::new(ask));
        }
        let stock = self.kinds.get_mut(&kind).filter(|stock| stock.ask == *ask)?;
        stock.seen_ms = now_ms;
        stock.target = usize::try_from(rate / 2).unwrap_or(0).min(MAX_STOCK);
        stock.drop_old(now_ms, &mut self.returned);
        let held = stock.held.pop_front();
        let short = busy && stock.is_short(now_ms);
        let wake = short && self.wanting.is_empty();
        if short {
            stock.wants = true;
            self.wanting.push(kind);
        }
        Some(Found { held, wake })
    }

    /// Makes room for another kind.
    fn forget_one(&mut self) -> bool {
        let idle =
            self.kinds.iter().filter(|(_, stock)| stock.held.is_empty() && stock.asked == 0 && !stock.wants);
        let Some(kind) = idle.min_by_key(|(_, stock)| stock.seen_ms).map(|(kind, _)| *kind) else {
            return false;
        };
        self.kinds.remove(&kind).is_some()
    }

    /// What is to be asked for with the next call. Each must end in [`Self::answered`].
    pub fn asks(&mut self, mut call_id: impl FnMut() -> String) -> Vec<(LeaseAsk, Wanted)> {
        let mut asks = Vec::new();
        for kind in std::mem::take(&mut self.wanting) {
            let Some(stock) = self.kinds.get_mut(&kind) else { continue };
            stock.wants = false;
            let Ok(ask) = to_raw_value(&stock.ask) else { continue };
            let there = stock.held.len().saturating_add(stock.asked);
            for uses in shares(stock.target.saturating_sub(there)) {
                let calls: Vec<String> = std::iter::repeat_with(&mut call_id).take(uses).collect();
                stock.asked = stock.asked.saturating_add(uses);
                asks.push((lease_ask(&ask, &calls), Wanted { kind, calls }));
            }
        }
        asks
    }

    /// What became of what was asked for at `sent_ms`. A sidecar that does not answer has granted nothing.
    pub fn answered(&mut self, wanted: Vec<Wanted>, mut answers: Vec<Leased>, sent_ms: u64, now_ms: u64) {
        if answers.len() != wanted.len() {
            self.give_back(std::mem::take(&mut answers));
        }
        let mut answers = answers.into_iter();
        for Wanted { kind, calls } in wanted {
            let stock = self.kinds.get_mut(&kind);
            let answer = answers.next().unwrap_or(Leased::Refused);
            let Some(stock) = stock else {
                self.give_back(vec![answer]);
                continue;
            };
            stock.asked = stock.asked.saturating_sub(calls.len());
            match answer {
                Leased::Granted(lease) if lease.uses.len() == calls.len() => {
                    let Lease { mut go, uses, for_ms } = *lease;
                    let headers = std::mem::take(&mut go.note.response_headers).into();
                    let walk = go.walk.take().map(Rc::new);
                    let lease = Rc::new(Granted { go, headers, walk });
                    let until_ms = sent_ms.saturating_add(for_ms);
                    let held = calls.into_iter().zip(uses);
                    stock.held.extend(held.map(|(call_id, part)| Held {
                        call_id,
                        part,
                        lease: Rc::clone(&lease),
                        until_ms,
                    }));
                }
                answer => {
                    stock.quiet_until_ms = now_ms.saturating_add(QUIET_MS);
                    self.give_back(vec![answer]);
                }
            }
        }
    }

    /// Nobody will use these.
    pub fn give_back(&mut self, leases: Vec<Leased>) {
        for lease in leases {
            let Leased::Granted(lease) = lease else { continue };
            let room = MAX_RETURNED.saturating_sub(self.returned.len());
            self.returned.extend(lease.uses.into_iter().filter_map(|part| part.reservation).take(room));
        }
    }

    /// Drops what is too old, and hands out what is to be given back.
    pub fn expire(&mut self, now_ms: u64) -> Vec<String> {
        for stock in self.kinds.values_mut() {
            stock.drop_old(now_ms, &mut self.returned);
        }
        let lives = |stock: &Stock| {
            let used = !stock.held.is_empty() || stock.asked > 0 || stock.wants;
            used || now_ms.saturating_sub(stock.seen_ms) < IDLE_MS
        };
        self.kinds.retain(|_, stock| lives(stock));
        std::mem::take(&mut self.returned)
    }

    /// Is there nothing that grows old?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.kinds.values().all(|stock| stock.held.is_empty())
    }
}

impl Stock {
    fn new(ask: &Ask) -> Self {
        Self {
            ask: ask.clone(),
            held: VecDeque::new(),
            asked: 0,
            target: 0,
            wants: false,
            quiet_until_ms: 0,
            seen_ms: 0,
        }
    }
}

fn lease_ask(ask: &RawValue, calls: &[String]) -> LeaseAsk {
    LeaseAsk { ask: ask.to_owned(), calls: calls.to_vec() }
}

/// Uses of each lease that make up `missing`: each goes another way, so that a few go the same one.
fn shares(missing: usize) -> impl Iterator<Item = usize> {
    let each = missing.div_ceil(MAX_ASKS).clamp(2, MAX_LEASE_CALLS);
    let count = missing.checked_div(each).unwrap_or(0).min(MAX_ASKS);
    std::iter::repeat_n(each, count)
}

/// The longest prompt that counts as being as long as this one: an eighth longer at most.
fn step(tokens: u64) -> u64 {
    let width = 1_u64.checked_shl(tokens.checked_ilog2().unwrap_or(0).saturating_sub(3)).unwrap_or(1);
    tokens.div_ceil(width).saturating_mul(width)
}

/// Of what tells most kinds apart; the rest is compared.
fn hash(ask: &Ask) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    (&ask.key, &ask.model, ask.endpoint, ask.stream, ask.input_tokens, ask.max_tokens, &ask.user)
        .hash(&mut hasher);
    (&ask.wishes.session, &ask.wishes.tags, ask.wishes.timeout_ms, &ask.needs).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
