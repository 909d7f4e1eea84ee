//! From a request that is ready to its decision: one that was made ahead, or a question.

use attache_llm::contract::{ASK_HEADER, Ask, Decisions};
use attache_llm::error::ApiError;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

use super::{CALL_HEADER, CALL_PROPERTY, Next};
use crate::deciding;
use crate::host;
use crate::intake::{self, Intake, Key, Looked, Step};
use crate::questions::{Pushed, Waiter};
use crate::requests::Request;
use crate::stock::{Found, Held};
use crate::vm;

/// Takes a request as far as it can go. On [`Next::Go`] the question is set and the facts are stored for the adapter.
/// `own`: its own context runs, so that it can take another call id.
pub(super) fn advance(context: u32, own: bool) -> Next {
    let step = vm::with(|vm| {
        let step = vm.intakes.get_mut(&context).map_or(Step::Wait, Intake::step);
        if !matches!(step, Step::Wait) {
            vm.intakes.remove(&context);
        }
        step
    });
    match step {
        None | Some(Step::Wait) => Next::Wait,
        Some(Step::Refuse(error)) => Next::Refuse(error),
        Some(Step::Forward(mut request, mut ask)) => {
            if own && let Some((held, wake)) = ahead(&mut ask) {
                return take(*request, held, wake);
            }
            let next = put(context, &ask);
            if !matches!(next, Next::Refuse(_)) {
                request.passes.undecided = next.waits();
                host::set_header(MapType::HttpRequestHeaders, CALL_HEADER, &ask.call_id);
                vm::with(|vm| vm.requests.insert(request.call_id.clone(), *request));
            }
            next
        }
    }
}

/// The decision that was made ahead for a request like this, and whether the root must be woken to ask for more.
fn ahead(ask: &mut Ask) -> Option<(Held, bool)> {
    let now_ms = host::now_ms();
    vm::with(|vm| {
        if vm.config.decisions == Decisions::ExtProc {
            return None;
        }
        // Without one the request asks for itself, which wakes the root.
        let Found { held, wake } = vm.stocks.find(ask, now_ms);
        held.map(|held| (held, wake))
    })
    .flatten()
}

/// Goes on with a decision that was made ahead.
fn take(mut request: Request, mut held: Held, wake: bool) -> Next {
    let call_id = std::mem::take(&mut held.call_id);
    host::set_property(CALL_PROPERTY, &call_id);
    host::set_header(MapType::HttpRequestHeaders, CALL_HEADER, &call_id);
    deciding::set(held.go());
    request.call_id.clone_from(&call_id);
    request.decided(held.note(), held.walk());
    request.passes.headers = held.shown();
    vm::with(|vm| {
        vm.stats.learn_group(&held.go().note.group);
        vm.stats.count("leased", 1);
        vm.requests.insert(call_id.clone(), request);
    });
    Next::Leased(call_id, wake)
}

/// Sets the question for the sidecar or queues it, and sets the id by which the adapter finds the request.
pub(super) fn put(context: u32, ask: &Ask) -> Next {
    host::set_property(CALL_PROPERTY, &ask.call_id);
    if vm::with(|vm| vm.config.decisions) == Some(Decisions::ExtProc) {
        return match intake::ask_header(ask) {
            Ok(text) => {
                host::set_header(MapType::HttpRequestHeaders, ASK_HEADER, &text);
                Next::Go
            }
            Err(error) => Next::Refuse(error),
        };
    }
    let question = match intake::question(ask) {
        Ok(question) => question,
        Err(error) => return Next::Refuse(error),
    };
    let waiter = Waiter { context, call_id: ask.call_id.clone() };
    match vm::with(|vm| vm.questions.push(waiter, question)) {
        Some(Pushed::First) => Next::Ask(true),
        Some(Pushed::More) => Next::Ask(false),
        Some(Pushed::Full) | None => {
            let error = ApiError::decisions_unavailable();
            Next::Refuse(error.with_internal("too many requests wait for a decision"))
        }
    }
}

/// Goes on with a request that waited for a lookup. Called by the root, with `context` as the effective one: this is
/// why a waiting request lives in [`Vm::intakes`] and not in its context, which the SDK does not let another reach.
///
/// Is the request resumed, or answered?
pub fn key_decided(context: u32, looked: &Looked) -> bool {
    let now_ms = host::now_ms();
    let call_id = vm::with(|vm| {
        let intake = vm.intakes.get_mut(&context)?;
        // Refused meanwhile for another reason.
        let Key::Asked(asked) = &intake.key else { return None };
        let verdict = asked.clone().looked(looked, &mut vm.keys, context, now_ms);
        let result = verdict.as_ref().err().map_or("ok", |(_, result)| *result);
        let shape = intake.endpoint.errors();
        intake.key = verdict.unwrap_or_else(|(error, _)| Key::Refused(error));
        if !matches!(intake.key, Key::Asked(_)) {
            vm.stats.auth(result);
        }
        Some((intake.call_id.clone(), shape))
    });
    match advance(context, false) {
        // The root, which is here, sends questions when it is done with keys.
        Next::Wait | Next::Ask(_) | Next::Leased(..) => return false,
        Next::Refuse(error) => {
            let (call_id, shape) = call_id.flatten().unwrap_or_default();
            host::send_error(&error, &call_id, shape);
        }
        Next::Go => {
            let _ = hostcalls::resume_http_request();
        }
    }
    true
}
