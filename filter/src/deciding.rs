//! Decisions that the gate asks for itself: what the root asks, and what follows for each request that waits.

use std::rc::Rc;

use attache_llm::contract::{DecideAnswer, Decided, Go, PLAN_HEADER, Refuse};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

use crate::finish;
use crate::host;
use crate::questions::{Flight, Waiter};
use crate::requests::{Ending, Request};
use crate::vm::{self, Vm};

/// As ext_proc's `message_timeout`: a decision takes milliseconds.
pub const TIMEOUT_MS: u64 = 1_000;
/// How much longer a request waits before it is refused even without an answer.
const OVERDUE_GRACE_MS: u64 = 500;

/// The next call that is to be made: its number and its body. It must end in [`answered`].
pub fn next() -> Option<(u64, Vec<u8>)> {
    let (now_ms, now_us) = (host::now_ms(), host::now_us());
    vm::with(|vm| {
        let Vm { questions, stocks, ids, .. } = vm;
        let ahead = stocks.asks(|| ids.next(now_us, b""));
        questions.next_call(ahead, now_ms)
    })
    .flatten()
}

/// A call ended: with decisions, or with the status that its requests are refused with.
pub fn answered(flight: u64, answer: Result<DecideAnswer, u16>) {
    let now_ms = host::now_ms();
    vm::with(|vm| {
        let (decisions, leases) = match answer {
            Ok(answer) => (Ok(answer.decisions), answer.leases),
            Err(status) => (Err(status), Vec::new()),
        };
        match vm.questions.answered(flight) {
            Some(Flight { waiters, wanted, sent_ms }) => {
                vm.due.decided(waiters, decisions);
                vm.stocks.answered(wanted, leases, sent_ms, now_ms);
            }
            None => vm.stocks.give_back(leases),
        }
    });
}

/// Refuses requests whose call should have ended long ago.
pub fn give_up() {
    // A question may be asked twice.
    let limit_ms = TIMEOUT_MS.saturating_mul(2).saturating_add(OVERDUE_GRACE_MS);
    let now_ms = host::now_ms();
    vm::with(|vm| {
        for Flight { waiters, wanted, sent_ms } in vm.questions.overdue(limit_ms, now_ms) {
            vm.due.decided(waiters, Err(503));
            vm.stocks.answered(wanted, Vec::new(), sent_ms, now_ms);
        }
    });
}

/// What a request is told that still waits.
enum Word {
    Go(Box<Go>),
    Refuse(Refuse),
    /// Nobody decided.
    Away(u16),
}

/// Tells one request. Is it resumed, or answered?
pub fn conclude(own: u32, waiter: &Waiter, answer: Result<Decided, u16>) -> bool {
    let word = vm::with(|vm| match vm.questions.take_left(&waiter.call_id) {
        Some(left) => Err((left, answer)),
        None => Ok(take_over(vm, waiter, answer)),
    });
    match word {
        Some(Ok(Some(word))) => {
            host::on_behalf_of(waiter.context, own, || tell(word));
            true
        }
        Some(Err((left, answer))) => {
            let (request, ending) = *left;
            close(request, &ending, answer);
            false
        }
        // It ended before its question was sent, or state is busy.
        Some(Ok(None)) | None => false,
    }
}

/// Notes the decision in the shared record. `None` when nobody waits for it.
fn take_over(vm: &mut Vm, waiter: &Waiter, answer: Result<Decided, u16>) -> Option<Word> {
    let Vm { requests, stats, .. } = vm;
    let request = requests.get_mut(&waiter.call_id).filter(|request| request.passes.undecided)?;
    request.passes.undecided = false;
    Some(match answer {
        Ok(Decided::Go(mut go)) => {
            stats.learn_group(&go.note.group);
            request.decided(std::mem::take(&mut go.note), go.walk.take().map(Rc::new));
            Word::Go(go)
        }
        Ok(Decided::Refuse(refuse)) => Word::Refuse(refuse),
        Ok(Decided::Late) => Word::Away(504),
        Err(status) => Word::Away(status),
    })
}

/// With the request's context as the effective one: the plan and what goes with it, for Envoy.
pub fn set(go: &Go) {
    const MAP: MapType = MapType::HttpRequestHeaders;
    for name in &go.remove {
        host::remove_header(MAP, name);
    }
    for (name, value) in &go.headers {
        host::set_header(MAP, name, value);
    }
    host::set_header(MAP, PLAN_HEADER, &go.plan);
}

/// With the request's context as the effective one: lets it go on, or answers it.
fn tell(word: Word) {
    match word {
        Word::Go(go) => {
            set(&go);
            let _ = hostcalls::resume_http_request();
        }
        Word::Refuse(Refuse { status, headers, body, details }) => {
            host::send_reply(status, &headers, body.as_bytes(), &details);
        }
        Word::Away(status) => host::send_unanswered(status),
    }
}

/// The request is over, and what was decided for it is settled by its record.
fn close(mut request: Request, ending: &Ending, answer: Result<Decided, u16>) {
    request.passes.undecided = false;
    let note = match answer {
        Ok(Decided::Go(go)) => Some(go.note),
        Ok(Decided::Refuse(_) | Decided::Late) | Err(_) => None,
    };
    // A whole batch of usage, if that is one, goes with the next tick.
    finish::close(request, note.as_ref(), ending, None);
}
