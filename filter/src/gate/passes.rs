//! The ends of a stream: it may be a later pass of a request, and another pass may follow it.

use attache_llm::path;
use proxy_wasm::types::{Action, MapType};

use super::{Gate, MAX_BETWEEN, put};
use crate::finish;
use crate::host;
use crate::intake::Key;
use crate::vm::{self, Vm};

impl Gate {
    /// A later pass of the request `call_id`. `None` when there is none to begin: then a client made it up.
    pub(super) fn next_pass(&mut self, call_id: &str) -> Option<Action> {
        const MAP: MapType = MapType::HttpRequestHeaders;
        let (ask, pass, origin, request_id, len) = vm::with(|vm| {
            let Vm { requests, stats, between, .. } = vm;
            let request = requests.get_mut(call_id)?;
            let ask = request.begin_pass()?;
            between.retain(|waiting| waiting != call_id);
            if let Some((group, class)) = request.last_failure() {
                stats.replan(group, class.name());
            }
            let (origin, request_id) = (request.origin.clone(), request.request_id.clone());
            Some((ask, request.passes.number, origin, request_id, request.scan.len))
        })
        .flatten()?;
        self.ours = true;
        self.shape = path::error_shape(&origin.path);
        self.pass = pass;
        self.call_id = call_id.to_owned();
        // Envoy made another one for the new stream.
        self.request_id = request_id;
        host::set_header(MAP, "x-request-id", &self.request_id);
        host::set_header(MAP, ":path", &origin.path);
        host::set_header(MAP, ":authority", &origin.authority);
        if !origin.scheme.is_empty() {
            host::set_header(MAP, ":scheme", &origin.scheme);
        }
        if len > 0 {
            host::set_header(MAP, "content-length", &len.to_string());
        }
        let next = put(self.context, &ask);
        vm::with(|vm| {
            if let Some(request) = vm.requests.get_mut(call_id) {
                request.passes.undecided = next.waits();
            }
        });
        Some(self.follow(next))
    }

    /// The stream is over; told once, whoever says it first.
    pub(super) fn over(&mut self) {
        if std::mem::take(&mut self.ours) {
            self.finish();
        }
    }

    /// Exactly once in every case, also when the client left.
    fn finish(&mut self) {
        let ending = finish::ending();
        let request = vm::with(|vm| {
            let intake = vm.intakes.remove(&self.context);
            if let Some(Key::Asked(asked)) = intake.map(|intake| intake.key) {
                vm.keys.leave(&asked.caller.hash, self.context);
            }
            let Some(request) = vm.requests.get(&self.call_id) else { return Ok(None) };
            if request.lives_on(self.pass, self.answered, &ending) {
                if request.passes.number == self.pass && vm.between.len() < MAX_BETWEEN {
                    vm.between.push(self.call_id.clone());
                }
                return Err(());
            }
            match vm.requests.remove(&self.call_id) {
                // The sidecar may have reserved something: the answer closes it.
                Some(request) if request.passes.undecided => {
                    vm.questions.leave(request, &ending).map_or(Err(()), |request| Ok(Some(request)))
                }
                request => Ok(request),
            }
        });
        match request {
            Some(Ok(Some(mut request))) => {
                self.note = self.note.take().or_else(|| request.passes.decided.take());
                self.take_note();
                if finish::close(request, self.note.as_ref(), &ending, self.words.take()) {
                    self.wake_root();
                }
            }
            Some(Ok(None)) => {
                vm::with(|vm| vm.stats.request("", if ending.aborted() { "aborted" } else { "refused" }));
            }
            // Another pass or a decision follows, or state is busy.
            Some(Err(())) | None => {}
        }
    }
}
