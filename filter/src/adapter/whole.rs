//! Attempts whose body is rewritten whole: translated, or with parameters left out or added.

use attache_llm::class::ErrorClass;
use attache_llm::contract::AttemptOutcome;
use attache_llm::dialect::Route;
use attache_llm::dialect::attempt;
use attache_llm::error::ApiError;
use attache_llm::usage::Usage;
use proxy_wasm::types::{Action, BufferType, MapType};

use super::Adapter;
use crate::host;
use crate::outgoing::{self, BETA_HEADER, Whole};

impl Adapter {
    /// The body is whole: what goes out takes its place.
    pub(super) fn whole_body(&mut self, size: usize) -> Action {
        const MAP: MapType = MapType::HttpRequestHeaders;
        const BODY: BufferType = BufferType::HttpRequestBody;
        let Some(whole) = self.whole.take() else { return Action::Continue };
        if whole.route == Route::Estimate {
            return self.estimate(&whole);
        }
        let body = host::body(BODY, 0, size);
        match whole.outward(&body, &self.call_id) {
            Ok(outward) => {
                drop(body);
                for (name, value) in &outward.headers {
                    let value = if name == BETA_HEADER {
                        let known = host::header(MAP, BETA_HEADER).unwrap_or_default();
                        outgoing::joined(&known, std::iter::once(value.as_str()))
                    } else {
                        value.clone()
                    };
                    host::set_header(MAP, name, &value);
                    if !self.mirrored {
                        self.request(|request| request.headers_set.push(name.clone()));
                    }
                }
                host::set_header(MAP, "content-length", &outward.body.len().to_string());
                host::replace_front(BODY, size, &outward.body);
                self.back = outward.back;
                Action::Continue
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// The request cannot be said in the deployment's words: it ends here, and the deployment is not to blame.
    fn refuse(&self, error: &ApiError) -> Action {
        if let Some(internal) = &error.internal {
            host::warn(&format!(
                "attache: request {} refused with {}: {internal}",
                self.call_id, error.status
            ));
        }
        let (class, now_us) = (ErrorClass::of_status(error.status), host::now_us());
        self.record(|attempt| {
            attempt.record.outcome = AttemptOutcome::ErrorStatus;
            attempt.record.status = error.status;
            attempt.fail(class, now_us);
        });
        host::send_error(error, &self.call_id, self.options.shape);
        Action::Pause
    }

    /// The provider cannot count tokens; the gateway's estimate is the answer.
    fn estimate(&self, whole: &Whole) -> Action {
        let now_us = host::now_us();
        self.record(|attempt| {
            attempt.record.usage = Some(Usage::default());
            attempt.update(AttemptOutcome::Complete, now_us);
        });
        host::send_json(&attempt::counted(&whole.scan), &self.call_id);
        Action::Pause
    }
}
