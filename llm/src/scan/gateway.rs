//! Members that speak to the gateway: what they say, and that they may stand in a body only once.

use crate::contract::Wishes;
use crate::wishes::{CONTROL, MAX_FALLBACKS, add_tag, milliseconds};

use super::ScanError;
use super::found::{integer, invalid};
use super::lexer::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Fallbacks,
    DisableFallbacks,
    NumRetries,
    MaxRetries,
    Timeout,
    StreamTimeout,
    Tags,
    MetadataTags,
    Session,
    MetadataSession,
    Region,
    NoLog,
    MetadataNoLog,
    /// The provider's own (OpenAI): a hint here, and it stays in the body.
    CacheKey,
    /// The provider's own (OpenAI's name for the end user).
    SafetyId,
    /// The client's own: Anthropic's name for the end user.
    MetadataUser,
    /// Means nothing to this gateway (LiteLLM's own machinery) and less to a provider.
    Ignored(&'static str),
}

impl Member {
    fn top_level(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"fallbacks" => Self::Fallbacks,
            b"disable_fallbacks" => Self::DisableFallbacks,
            b"num_retries" => Self::NumRetries,
            b"max_retries" => Self::MaxRetries,
            b"timeout" => Self::Timeout,
            b"stream_timeout" => Self::StreamTimeout,
            b"tags" => Self::Tags,
            b"litellm_session_id" => Self::Session,
            b"allowed_model_region" => Self::Region,
            b"no-log" => Self::NoLog,
            b"prompt_cache_key" => Self::CacheKey,
            b"safety_identifier" => Self::SafetyId,
            b"litellm_trace_id" => Self::Ignored("litellm_trace_id"),
            b"litellm_metadata" => Self::Ignored("litellm_metadata"),
            b"context_window_fallback_dict" => Self::Ignored("context_window_fallback_dict"),
            b"cooldown_time" => Self::Ignored("cooldown_time"),
            b"model_info" => Self::Ignored("model_info"),
            b"caching" => Self::Ignored("caching"),
            b"cache" => Self::Ignored("cache"),
            b"mock_testing_fallbacks" => Self::Ignored("mock_testing_fallbacks"),
            b"mock_testing_context_fallbacks" => Self::Ignored("mock_testing_context_fallbacks"),
            b"mock_testing_content_policy_fallbacks" => {
                Self::Ignored("mock_testing_content_policy_fallbacks")
            }
            b"mock_testing_rate_limit_error" => Self::Ignored("mock_testing_rate_limit_error"),
            _ => return None,
        })
    }

    fn in_metadata(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"tags" => Self::MetadataTags,
            b"session_id" => Self::MetadataSession,
            b"no-log" => Self::MetadataNoLog,
            b"user_id" => Self::MetadataUser,
            b"spend_logs_metadata" => Self::Ignored("metadata.spend_logs_metadata"),
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fallbacks => "fallbacks",
            Self::DisableFallbacks => "disable_fallbacks",
            Self::NumRetries => "num_retries",
            Self::MaxRetries => "max_retries",
            Self::Timeout => "timeout",
            Self::StreamTimeout => "stream_timeout",
            Self::Tags => "tags",
            Self::MetadataTags => "metadata.tags",
            Self::Session => "litellm_session_id",
            Self::MetadataSession => "metadata.session_id",
            Self::Region => "allowed_model_region",
            Self::NoLog => "no-log",
            Self::MetadataNoLog => "metadata.no-log",
            Self::CacheKey => "prompt_cache_key",
            Self::SafetyId => "safety_identifier",
            Self::MetadataUser => "metadata.user_id",
            Self::Ignored(name) => name,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Fallbacks => "an array of model names, or of objects with a 'model' and nothing else",
            Self::DisableFallbacks | Self::NoLog | Self::MetadataNoLog => "a boolean",
            Self::NumRetries | Self::MaxRetries => "an integer",
            Self::Timeout | Self::StreamTimeout => "a number of seconds",
            Self::Tags | Self::MetadataTags => "an array of strings",
            Self::Session
            | Self::MetadataSession
            | Self::Region
            | Self::CacheKey
            | Self::SafetyId
            | Self::MetadataUser => "a string",
            Self::Ignored(_) => "anything",
        }
    }
}

/// Is a member of the body the gateway's own, so that no provider may see it?
pub(crate) fn is_for_gateway(name: &str) -> bool {
    name.starts_with("litellm_")
        || Member::top_level(name.as_bytes())
            .is_some_and(|member| !matches!(member, Member::CacheKey | Member::SafetyId))
}

/// The same of a member of `metadata`.
pub(crate) fn is_metadata_for_gateway(name: &str) -> bool {
    Member::in_metadata(name.as_bytes()).is_some_and(|member| member != Member::MetadataUser)
}

/// What to do with the text of the value that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    /// An end user's name.
    User,
    Number,
    Other,
}

/// Reader of those members.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// Member in progress, and the depth of its object.
    current: Option<(Member, usize)>,
    /// The member in progress is one to read, not only to cut.
    reading: bool,
    seen: Vec<Member>,
    /// The object in `fallbacks` in progress has its `model`.
    has_model: bool,
    wishes: Wishes,
    max_retries: Option<u32>,
    metadata_session: Option<String>,
    cache_key: Option<String>,
    safety_id: Option<String>,
    metadata_user: Option<String>,
    no_log: bool,
}

impl Gateway {
    /// Do the values that come belong to a member that is read?
    pub(super) fn is_reading(&self) -> bool {
        self.reading
    }

    /// Name of the member that is read.
    pub(super) fn name(&self) -> Option<&'static str> {
        self.current.filter(|_| self.reading).map(|(member, _)| member.name())
    }

    /// A key of the body's object (`depth` 1) or of `metadata` (2) is whole.
    pub(super) fn key(&mut self, depth: usize, key: &[u8], start: usize) -> Result<(), ScanError> {
        let member = if depth == 1 { Member::top_level(key) } else { Member::in_metadata(key) };
        let Some(member) = member else { return Ok(()) };
        // Two of one would be read as one and sent as the other; this also bounds the cuts.
        if self.seen.contains(&member) {
            let name = member.name();
            let message = format!("Duplicate member '{name}' in the request body.");
            return Err(ScanError { param: Some(name), offset: start, message });
        }
        self.seen.push(member);
        self.reading = !matches!(member, Member::Ignored(_));
        self.current = Some((member, depth));
        Ok(())
    }

    /// A key within the member that is read: only `fallbacks` has objects.
    pub(super) fn nested_key(&mut self, key: &[u8], start: usize) -> Result<(), ScanError> {
        if key == b"model" && !std::mem::replace(&mut self.has_model, true) {
            return Ok(());
        }
        Err(self.unexpected(start))
    }

    /// A value begins in an object or array at `depth`.
    pub(super) fn value(&mut self, depth: usize, kind: Kind, start: usize) -> Result<Shape, ScanError> {
        let Some((member, own)) = self.current else { return Ok(Shape::Other) };
        match (member, depth.saturating_sub(own), kind) {
            (_, 0, Kind::Null)
            | (Member::Fallbacks | Member::Tags | Member::MetadataTags, 0, Kind::Array)
            | (
                Member::DisableFallbacks | Member::NoLog | Member::MetadataNoLog,
                0,
                Kind::True | Kind::False,
            ) => Ok(Shape::Other),
            (
                Member::NumRetries | Member::MaxRetries | Member::Timeout | Member::StreamTimeout,
                0,
                Kind::Number,
            ) => Ok(Shape::Number),
            (
                Member::Session | Member::MetadataSession | Member::Region | Member::CacheKey,
                0,
                Kind::String,
            )
            | (Member::Fallbacks | Member::Tags | Member::MetadataTags, 1, Kind::String)
            | (Member::Fallbacks, 2, Kind::String) => Ok(Shape::Text),
            (Member::SafetyId | Member::MetadataUser, 0, Kind::String) => Ok(Shape::User),
            // Not ours to refuse: the provider may know what it means.
            (Member::SafetyId | Member::MetadataUser, ..) => {
                self.reading = false;
                Ok(Shape::Other)
            }
            (Member::Fallbacks, 1, Kind::Object) => {
                self.has_model = false;
                Ok(Shape::Other)
            }
            _ => Err(self.unexpected(start)),
        }
    }

    /// A value ends; `text` is its own if it had [`Shape::Text`] or [`Shape::Number`], `start` where it began.
    pub(super) fn value_end(
        &mut self,
        depth: usize,
        kind: Kind,
        text: String,
        start: usize,
    ) -> Result<(), ScanError> {
        let Some((member, own)) = self.current else { return Ok(()) };
        let fail = |what: &str| invalid(member.name(), start, what);
        if text.chars().any(char::is_control) {
            return Err(fail(CONTROL));
        }
        match (member, depth.saturating_sub(own), kind) {
            (Member::Fallbacks, 1 | 2, Kind::String) => self.add_fallback(text).map_err(|what| fail(&what)),
            (Member::Fallbacks, 1, Kind::Object) if !self.has_model => Err(self.unexpected(start)),
            (Member::Fallbacks, 0, Kind::Array) => {
                self.wishes.fallbacks.get_or_insert_default();
                Ok(())
            }
            (_, 1, Kind::String) => add_tag(&mut self.wishes.tags, &text).map_err(|what| fail(&what)),
            (_, 0, Kind::Null | Kind::Array) | (Member::Fallbacks, _, _) => Ok(()),
            _ => self.scalar(member, kind, text).map_err(fail),
        }
    }

    fn scalar(&mut self, member: Member, kind: Kind, text: String) -> Result<(), &'static str> {
        let count = |text: &str| u32::try_from(integer(text)?).map_err(|_| "too large");
        let text_of = |text: String| Some(text).filter(|text| !text.is_empty());
        match member {
            Member::DisableFallbacks => self.wishes.disable_fallbacks = kind == Kind::True,
            Member::NoLog | Member::MetadataNoLog => self.no_log |= kind == Kind::True,
            Member::NumRetries => self.wishes.num_retries = Some(count(&text)?),
            Member::MaxRetries => self.max_retries = Some(count(&text)?),
            Member::Timeout => self.wishes.timeout_ms = Some(milliseconds(&text)?),
            Member::StreamTimeout => self.wishes.stream_timeout_ms = Some(milliseconds(&text)?),
            Member::Session => self.wishes.session = text_of(text),
            Member::MetadataSession => self.metadata_session = text_of(text),
            Member::CacheKey => self.cache_key = text_of(text),
            Member::SafetyId => self.safety_id = text_of(text),
            Member::MetadataUser => self.metadata_user = text_of(text),
            Member::Region => self.wishes.region = text_of(text),
            Member::Fallbacks | Member::Tags | Member::MetadataTags | Member::Ignored(_) => {}
        }
        Ok(())
    }

    fn add_fallback(&mut self, name: String) -> Result<(), String> {
        if name.is_empty() {
            return Err("a model name must not be empty".to_owned());
        }
        let fallbacks = self.wishes.fallbacks.get_or_insert_default();
        if fallbacks.len() >= MAX_FALLBACKS {
            return Err(format!("more than {MAX_FALLBACKS} models"));
        }
        fallbacks.push(name);
        Ok(())
    }

    /// A member of an object at `depth` ends. Must the provider not see it?
    pub(super) fn member_end(&mut self, depth: usize) -> bool {
        match self.current {
            Some((member, own)) if own == depth => {
                self.current = None;
                self.reading = false;
                !matches!(member, Member::CacheKey | Member::SafetyId | Member::MetadataUser)
            }
            _ => false,
        }
    }

    fn unexpected(&self, start: usize) -> ScanError {
        let member = self.current.map_or(Member::Fallbacks, |(member, _)| member);
        let (name, expected) = (member.name(), member.expected());
        let message = format!("Invalid type for '{name}': expected {expected}.");
        ScanError { param: Some(name), offset: start, message }
    }

    /// Is nothing said to be kept?
    pub(super) fn no_log(&self) -> bool {
        self.no_log
    }

    /// Whom the request is made for, where the body has no `user`.
    pub(super) fn end_user(&mut self) -> Option<String> {
        self.safety_id.take().or_else(|| self.metadata_user.take())
    }

    /// `num_retries` wins over `max_retries`; a session's own name over the hint for the provider's cache.
    pub(super) fn finish(&mut self) -> Wishes {
        let mut wishes = std::mem::take(&mut self.wishes);
        wishes.num_retries = wishes.num_retries.or(self.max_retries);
        wishes.session =
            wishes.session.or_else(|| self.metadata_session.take()).or_else(|| self.cache_key.take());
        wishes
    }
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
