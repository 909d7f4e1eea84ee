//! What is counted in an answer that is not one of words: pictures, sounds, rankings.

use super::Usage;
use super::read::{count, milliseconds};
use crate::json::{self, Member};
use crate::path::Endpoint;
use crate::scan::{Form, Scanned};

/// How the usage of an answer is found, beside its `usage` object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Counting {
    /// Tokens; where there is no usage, they are estimated.
    #[default]
    Tokens,
    /// It costs nothing.
    Free,
    /// It costs nothing and passes untouched: bytes that the provider keeps.
    Stored,
    /// Pictures, so many of them asked for.
    Images(u64),
    /// Speech of so many characters.
    Speech(u64),
    /// Words of an audio file that plays for so many milliseconds, as far as its header tells.
    Transcription(Option<u64>),
    /// Search units or tokens.
    Rerank,
    /// A session over a WebSocket: each of its answers says what it used.
    Session,
}

impl Counting {
    /// For the answer to this request.
    #[must_use]
    pub fn of(endpoint: Endpoint, scanned: &Scanned) -> Self {
        match endpoint {
            _ if endpoint.is_stored() => Self::Stored,
            Endpoint::CountTokens | Endpoint::Moderations => Self::Free,
            Endpoint::ImagesGenerations | Endpoint::ImagesEdits | Endpoint::ImagesVariations => {
                Self::Images(scanned.n.unwrap_or(1).max(1))
            }
            Endpoint::AudioSpeech => Self::Speech(scanned.prompt_chars),
            Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => {
                Self::Transcription(match &scanned.form {
                    Form::Multipart(form) => form.audio_ms,
                    Form::Json | Form::Opaque => None,
                })
            }
            Endpoint::Rerank => Self::Rerank,
            Endpoint::Realtime => Self::Session,
            _ => Self::Tokens,
        }
    }

    /// What a whole JSON answer used, `usage` being what its usage object says. `None`: it does not tell.
    #[must_use]
    pub fn document(self, document: &[u8], usage: Option<Usage>) -> Option<Usage> {
        match self {
            Self::Tokens | Self::Free | Self::Stored | Self::Speech(_) | Self::Session => usage,
            Self::Images(_) => {
                let made = member(document, "data").and_then(json::elements).map(|images| images.len());
                let images_out = made.and_then(|made| u64::try_from(made).ok()).unwrap_or(0);
                match usage {
                    Some(usage) => Some(Usage { images_out, ..usage }),
                    None => (images_out > 0).then(|| Usage { images_out, ..Usage::default() }),
                }
            }
            Self::Transcription(_) => usage.or_else(|| {
                let audio_ms = milliseconds(member(document, "duration"))?;
                Some(Usage { audio_ms, ..Usage::default() })
            }),
            Self::Rerank => {
                let billed = member(document, "meta").and_then(|meta| member(meta, "billed_units"));
                match count(billed.and_then(|billed| member(billed, "search_units"))) {
                    Some(queries) => Some(Usage { queries, ..usage.unwrap_or_default() }),
                    None => usage,
                }
            }
        }
    }

    /// What the answer used: `found` in it, or what the request tells of it. `estimate` makes one of tokens.
    #[must_use]
    pub fn settle(self, found: Option<Usage>, estimate: impl FnOnce() -> Usage) -> Option<Usage> {
        let Some(usage) = found else {
            return match self {
                Self::Tokens | Self::Rerank => Some(estimate()),
                _ => self.unread(),
            };
        };
        let made = usage.completion.saturating_sub(usage.reasoning);
        Some(match self {
            Self::Free | Self::Stored => Usage::default(),
            // Pictures and speech have rates of their own, but not every provider counts them apart.
            Self::Images(_) if usage.image_out == 0 => Usage { image_out: made, ..usage },
            Self::Speech(_) if usage.audio_out == 0 => Usage { audio_out: made, ..usage },
            _ => usage,
        })
    }

    /// What an answer used of which nothing was read. `None`: nobody knows.
    #[must_use]
    pub fn unread(self) -> Option<Usage> {
        match self {
            Self::Tokens | Self::Rerank => None,
            Self::Free | Self::Stored | Self::Session => Some(Usage::default()),
            Self::Images(images_out) => Some(Usage { images_out, ..Usage::default() }),
            Self::Speech(chars_in) => Some(Usage { chars_in, ..Usage::default() }),
            Self::Transcription(audio_ms) => audio_ms.map(|audio_ms| Usage { audio_ms, ..Usage::default() }),
        }
    }
}

/// Value of a member of the object that `document` is.
fn member<'a>(document: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let members = json::members(document)?;
    let Member { value, .. } = members.into_iter().find(|member| member.key == name)?;
    document.get(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(counting: Counting, document: &str) -> Option<Usage> {
        let usage = member(document.as_bytes(), "usage").and_then(Usage::parse);
        counting.settle(counting.document(document.as_bytes(), usage), || Usage::estimate(7, 0))
    }

    #[test]
    fn pictures_by_token_or_by_number() {
        let with_usage = r#"{"created":1,"data":[{"b64_json":"x"}],"usage":{"input_tokens":50,
            "input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":1056,"total_tokens":1106}}"#;
        let usage = found(Counting::Images(1), with_usage).unwrap();
        assert_eq!((usage.prompt, usage.image_in, usage.completion), (50, 40, 1_056));
        assert_eq!((usage.image_out, usage.images_out), (1_056, 1));
        let urls = r#"{"created":1,"data":[{"url":"a"},{"url":"b"}]}"#;
        let usage = found(Counting::Images(3), urls).unwrap();
        assert_eq!(usage, Usage { images_out: 2, ..Usage::default() });
        assert_eq!(found(Counting::Images(3), "{}").unwrap().images_out, 3);
    }

    #[test]
    fn speech_by_token_or_by_character() {
        let usage = found(Counting::Speech(9), r#"{"usage":{"input_tokens":4,"output_tokens":80}}"#).unwrap();
        assert_eq!((usage.prompt, usage.audio_out, usage.chars_in), (4, 80, 0));
        assert_eq!(Counting::Speech(9).unread(), Some(Usage { chars_in: 9, ..Usage::default() }));
    }

    #[test]
    fn transcriptions_by_token_or_by_second() {
        let of = |known, document| found(Counting::Transcription(known), document);
        let tokens = r#"{"text":"a","usage":{"type":"tokens","input_tokens":14,
            "input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#;
        let usage = of(Some(2_000), tokens).unwrap();
        assert_eq!((usage.prompt, usage.audio_in, usage.completion, usage.audio_ms), (14, 14, 45, 0));
        let seconds = r#"{"text":"a","usage":{"type":"duration","seconds":27}}"#;
        assert_eq!(of(None, seconds).unwrap().audio_ms, 27_000);
        let verbose = r#"{"task":"transcribe","duration":8.47,"text":"a"}"#;
        assert_eq!(of(None, verbose).unwrap().audio_ms, 8_470);
        assert_eq!(of(Some(2_000), r#"{"text":"a"}"#).unwrap().audio_ms, 2_000);
        assert_eq!(of(None, r#"{"text":"a"}"#), None);
    }

    #[test]
    fn rankings_by_search_unit_or_token() {
        let of = |document| found(Counting::Rerank, document).unwrap();
        let cohere = r#"{"results":[],"meta":{"billed_units":{"search_units":2}}}"#;
        assert_eq!(of(cohere), Usage { queries: 2, ..Usage::default() });
        let jina = r#"{"usage":{"total_tokens":815},"results":[]}"#;
        assert_eq!((of(jina).prompt, of(jina).estimated), (815, false));
        assert_eq!((of("{}").prompt, of("{}").estimated), (7, true));
    }

    #[test]
    fn what_is_free_costs_nothing_whatever_it_says() {
        let document = r#"{"usage":{"input_tokens":14}}"#;
        assert_eq!(found(Counting::Free, document), Some(Usage::default()));
        assert_eq!(found(Counting::Free, "{}"), Some(Usage::default()));
        assert_eq!(Counting::Stored.unread(), Some(Usage::default()));
        assert_eq!(Counting::Tokens.unread(), None);
    }
}
