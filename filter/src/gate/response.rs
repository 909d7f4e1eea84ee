//! The gate's view of the answer: its headers for the client, and an error where no provider's answer is there.

use attache_llm::contract::{
    Decisions, GENERATION_HEADER, HEADER_PREFIX, METADATA_NAMESPACE, NOTE_KEY, Note, VERSION,
};
use attache_llm::error::ErrorShape;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, MapType};

use super::Gate;
use crate::answer;
use crate::headers::Headers;
use crate::host;
use crate::redirect::STATUS_HEADER;
use crate::said::Answered;
use crate::shown::Shown;
use crate::vm;

/// What the record of a request says of it to the client.
struct Facts {
    deployment: Option<String>,
    retries: String,
    fallbacks: String,
    /// What the first pass tells of the caller's limits.
    headers: Shown,
}

impl Gate {
    /// Puts the answer right that Envoy sends on: the adapter may have changed its status so that Envoy tries again,
    /// and where no attempt is behind it, the last error of a provider says more.
    ///
    /// Did it change headers?
    pub(super) fn last_error(&mut self, headers: &Headers) -> bool {
        const MAP: MapType = MapType::HttpResponseHeaders;
        if let Some(status) = headers.find(STATUS_HEADER) {
            host::set_header(MAP, ":status", status);
            host::remove_header(MAP, "location");
            return true;
        }
        let status = headers.find(":status").and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
        let from_upstream = status < 400
            || host::text(&["response", "code_details"]).is_some_and(|details| details == "via_upstream");
        let kept =
            vm::with(|vm| vm.requests.get(&self.call_id)?.in_place_of(status, from_upstream)).flatten();
        let Some(kept) = kept else { return false };
        host::remove_header(MAP, "location");
        host::set_header(MAP, ":status", &kept.status.to_string());
        host::set_header(MAP, "content-type", "application/json");
        host::set_header(MAP, "content-length", &kept.body.len().to_string());
        match kept.retry_after_s {
            Some(seconds) => host::set_header(MAP, "retry-after", &seconds.to_string()),
            None => host::remove_header(MAP, "retry-after"),
        }
        self.swapping = true;
        self.swap = Some(kept.body);
        true
    }

    /// An error without a body gets one. Here and not in the adapter: there is no way to add a body to headers that
    /// end a response but a local reply, which in an upstream filter would end the request instead of the attempt.
    pub(super) fn give_body(&mut self) -> bool {
        let headers = host::headers(MapType::HttpResponseHeaders);
        let status = headers.find(":status").and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
        if status < 400 || self.body_given {
            return false;
        }
        self.body_given = true;
        let body = self.swap.take().unwrap_or_else(|| answer::unusable(status, self.shape));
        let own = |name: &str| name.starts_with(':') || matches!(name, "content-length" | "content-type");
        let kept = headers.iter().filter(|(name, _)| !own(name));
        let mut reply: Vec<(&str, &str)> =
            kept.filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?))).collect();
        reply.push(("content-type", "application/json"));
        // No reply marker here: the request's headers are out of reach by now, and the SDK panics on the attempt.
        let _ = hostcalls::send_http_response(u32::from(status), reply, Some(&body));
        true
    }

    /// Errors of Envoy and of the sidecar have OpenAI's shape. Must this one get another? (The path cannot tell Envoy's own
    /// table of replies: by now it is that of the last attempt.)
    pub(super) fn must_reshape(&self) -> Option<u16> {
        const MAP: MapType = MapType::HttpResponseHeaders;
        if self.shape == ErrorShape::Openai || self.swapping {
            return None;
        }
        let status = host::header(MAP, ":status")?.parse::<u16>().ok()?;
        let json = host::header(MAP, "content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if status < 400 || !json {
            return None;
        }
        host::remove_header(MAP, "content-length");
        Some(status)
    }

    /// Gives an error its shape, once it is whole. One that has it already passes as it is.
    pub(super) fn reshape(&self, status: u16, size: usize, end: bool) -> Action {
        const BODY: BufferType = BufferType::HttpResponseBody;
        /// Errors are short; what is not passes as it is.
        const MAX: usize = 256 * 1024;
        if size > MAX {
            return Action::Continue;
        }
        if !end {
            return Action::Pause;
        }
        let body = self.shape.render(status, host::body(BODY, 0, size));
        host::replace_front(BODY, size, &body);
        Action::Continue
    }

    /// What the client gets to see beside the provider's own headers: all of it in one call, since each costs a microsecond.
    pub(super) fn answer_headers(&mut self, headers: &Headers) {
        self.take_note();
        let generation = self.note.as_ref().map(|note| note.generation.to_string());
        let facts = self.facts();
        // What cannot be read must not be put back.
        if !headers.has(":status") {
            return;
        }
        let mut answer = headers.edit();
        let internal = |name: &[u8]| {
            name.starts_with(b"x-envoy-")
                || name.starts_with(HEADER_PREFIX.as_bytes())
                || name == b"set-cookie"
        };
        answer.retain(|name| !internal(name));
        // Envoy has set its own where the provider has none.
        if !headers.is_only("x-request-id", &self.request_id) {
            let theirs = headers.find("x-request-id").filter(|theirs| *theirs != self.request_id);
            if let Some(theirs) = theirs {
                answer.set("llm_provider-x-request-id", theirs);
            }
            answer.set("x-request-id", &self.request_id);
        }
        answer.set("x-litellm-call-id", &self.call_id);
        if let (Some(note), Some(generation)) = (&self.note, &generation) {
            answer.set(GENERATION_HEADER, generation);
            answer.set("x-litellm-model-group", &note.group);
            for (name, value) in &note.response_headers {
                answer.set(name, value);
            }
        }
        if let Some(facts) = &facts {
            for (name, value) in facts.headers.iter() {
                answer.set(name, value);
            }
            if let Some(deployment) = &facts.deployment {
                answer.set("x-litellm-model-id", deployment);
            }
            answer.set("x-litellm-attempted-retries", &facts.retries);
            answer.set("x-litellm-attempted-fallbacks", &facts.fallbacks);
        }
        host::set_headers(MapType::HttpResponseHeaders, answer.as_slice());
    }

    /// What the record of the request says. `None` where there is none.
    fn facts(&self) -> Option<Facts> {
        vm::with(|vm| {
            let request = vm.requests.get(&self.call_id)?;
            let (retries, fallbacks) = request.retries_and_fallbacks(request.planned(self.note.as_ref()));
            Some(Facts {
                deployment: request.last_deployment().map(str::to_owned),
                retries: retries.to_string(),
                fallbacks: fallbacks.to_string(),
                headers: request.passes.headers.clone(),
            })
        })
        .flatten()
    }

    /// Begins to keep the answer, where what is asked is kept.
    pub(super) fn answer_words(&self, headers: &Headers) -> Option<Answered> {
        let kind = headers.find("content-type").unwrap_or_default();
        let encoding = headers.find("content-encoding").unwrap_or_default();
        let encoded = !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity");
        vm::with(|vm| {
            vm.requests.get(&self.call_id)?.asked.as_ref()?;
            Answered::new(&vm.room, self.config.prompt_bytes, kind, encoded)
        })
        .flatten()
    }

    /// The decision's note, read once it is there.
    pub(super) fn take_note(&mut self) {
        if self.note.is_none() && self.config.decisions == Decisions::Batched {
            self.note = vm::with(|vm| vm.requests.get_mut(&self.call_id)?.passes.decided.take()).flatten();
        } else if self.note.is_none() {
            let text = host::property(&["metadata", "filter_metadata", METADATA_NAMESPACE, NOTE_KEY]);
            let note = text.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
            self.note = note.filter(|note| note.contract == VERSION);
            if let Some(note) = &self.note {
                vm::with(|vm| vm.stats.learn_group(&note.group));
            }
        }
    }
}
