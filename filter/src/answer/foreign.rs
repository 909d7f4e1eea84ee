//! Answers that are translated, or whose vectors are.

use attache_llm::class::ErrorClass;
use attache_llm::contract::AttemptOutcome;
use attache_llm::dialect::Translator;
use attache_llm::dialect::attempt::{Back, Translation};
use attache_llm::dialect::embeddings;
use attache_llm::error::{envelope, kind_of_status};
use attache_llm::response::{UpstreamError, classify};
use attache_llm::usage::Usage;

use super::{Answer, EVENTS, Flow, Head, JSON, Mode, Opening, Release};

/// Largest document that is translated: pictures come as base64.
const MAX_TRANSLATED: usize = 32 * 1024 * 1024;
/// What Bedrock sends.
const AWS_EVENTS: &str = "application/vnd.amazon.eventstream";

/// A translated document: its bytes, its content type, what it used.
type Document = (Vec<u8>, &'static str, Option<Usage>);

/// A translated stream before its beginning.
#[derive(Debug)]
pub(super) struct Begun {
    translator: Translator,
    /// What the client shall see first.
    out: Vec<u8>,
    /// Bytes that were read.
    taken: usize,
}

impl Answer {
    /// A good status with an answer to translate.
    pub(super) fn judge_foreign(&mut self, head: &Head<'_>, kind: &str) -> Opening {
        if head.encoded {
            self.outcome = AttemptOutcome::FailedFirstEvent;
            self.class = Some(ErrorClass::ServiceUnavailable);
            self.mode = Mode::Redirect;
            return Opening {
                status: Some(502),
                kind: Some(JSON),
                drop_length: true,
                failed: true,
                hold: false,
            };
        }
        self.outcome = AttemptOutcome::NoAnswer;
        let events = kind.starts_with(EVENTS) || kind.starts_with(AWS_EVENTS);
        self.mode = if events { Mode::HeldTranslation(None) } else { Mode::Document(Vec::new()) };
        Opening { hold: true, drop_length: true, ..Opening::default() }
    }

    fn translator(&self) -> Option<Translator> {
        let Back::Translate(translation) = &self.back else { return None };
        let Translation { upstream, reading, caller } = translation.as_ref().clone();
        Translator::new(upstream, reading, caller, self.options.input_estimate).ok()
    }

    /// The next piece of a stream before its beginning: the first event may be a whole picture.
    pub(super) fn begin_translation(&mut self, held: Option<Box<Begun>>, data: &[u8], end: bool) -> Flow {
        let fresh = || Some(Box::new(Begun { translator: self.translator()?, out: Vec::new(), taken: 0 }));
        let Some(mut begun) = held.or_else(fresh) else { return self.fail_empty() };
        let Begun { translator, out, taken } = begun.as_mut();
        translator.push(data, end, out);
        *taken = taken.saturating_add(data.len());
        if !translator.began() {
            if let Some(error) = translator.error() {
                return self.fail(error.status, error.body.clone());
            }
            if end || *taken > MAX_TRANSLATED {
                return self.fail_empty();
            }
            self.mode = Mode::HeldTranslation(Some(begun));
            return Flow::Taken;
        }
        let Begun { translator, out: body, .. } = *begun;
        self.mode = Mode::Translation(Box::new(translator));
        self.note_translation(end);
        Flow::Release(Release { body, kind: Some(EVENTS), ..Release::default() })
    }

    pub(super) fn translate(&mut self, data: &[u8], end: bool) -> Flow {
        let Mode::Translation(translator) = &mut self.mode else { return Flow::Pass };
        let mut out = Vec::with_capacity(data.len());
        translator.push(data, end, &mut out);
        self.note_translation(end);
        Flow::Send(out)
    }

    fn note_translation(&mut self, end: bool) {
        let Mode::Translation(translator) = &self.mode else { return };
        self.usage = translator.usage();
        self.outcome = if let Some(error) = translator.error() {
            self.class = Some(classify(error.status, &error.body));
            AttemptOutcome::ErrorInStream
        } else if end || translator.done() {
            AttemptOutcome::Complete
        } else {
            AttemptOutcome::Answered
        };
    }

    /// The next piece of a document.
    pub(super) fn foreign_document(&mut self, data: &[u8], end: bool) -> Flow {
        let Mode::Document(held) = &mut self.mode else { return Flow::Pass };
        if held.len().saturating_add(data.len()) > MAX_TRANSLATED {
            let message = "The upstream's answer is too large to be translated.";
            return self.fail(502, envelope(message, kind_of_status(502), None, Some("502")));
        }
        held.extend_from_slice(data);
        if !end {
            return Flow::Taken;
        }
        let document = std::mem::take(held);
        if document.is_empty() {
            return self.fail_empty();
        }
        match self.whole(&document) {
            Ok((body, kind, usage)) => {
                (self.usage, self.outcome) = (usage, AttemptOutcome::Complete);
                self.mode = Mode::Swallow;
                Flow::Release(Release {
                    length: Some(body.len()),
                    body,
                    kind: Some(kind),
                    ..Release::default()
                })
            }
            Err(error) => self.fail(error.status, error.body),
        }
    }

    fn whole(&self, document: &[u8]) -> Result<Document, UpstreamError> {
        if let Back::Embeddings(asked) = &self.back {
            let (body, usage) = embeddings::read(document, asked)?;
            return Ok((body, JSON, Some(usage)));
        }
        let Some(mut translator) = self.translator() else { return Err(attache_llm::dialect::empty()) };
        let streamed = matches!(&self.back, Back::Translate(translation) if translation.caller.stream);
        // A provider may answer with a document where a stream was asked for.
        let body =
            if streamed { translator.document_as_stream(document) } else { translator.document(document) };
        Ok((body?, if streamed { EVENTS } else { JSON }, translator.usage()))
    }
}
