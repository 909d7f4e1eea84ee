//! What an answer used, verbatim from the provider or estimated and marked so.

mod counting;
mod read;

use serde::{Deserialize, Serialize};

use crate::price::Class;

pub use counting::Counting;

/// What one attempt used. `prompt` includes cached, written, audio, image and video parts, `completion` includes
/// reasoning and the others (OpenAI's own counting), so that nothing is counted twice. What most answers do not have is
/// written only where it is not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub prompt: u64,
    pub completion: u64,
    /// Provider's own total; may differ from the sum.
    pub total: u64,
    /// Prompt tokens read from the provider's cache.
    pub cached: u64,
    /// Prompt tokens written to it, for however long.
    pub cache_creation: u64,
    pub reasoning: u64,
    pub audio_in: u64,
    pub audio_out: u64,
    /// Counted by us, not by the provider (no usage sent, or the client left early).
    pub estimated: bool,
    /// Those of `cache_creation` that stay for an hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_creation_1h: u64,
    /// Those of `cached` that are audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_cached: u64,
    /// Those of `cached` that are images.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_cached: u64,
    /// Tokens of images, like `audio_in` and `audio_out`.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_in: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub image_out: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub video_in: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub video_out: u64,
    /// Tokens of cited sources, beside prompt and completion.
    #[serde(skip_serializing_if = "is_zero")]
    pub citations: u64,
    /// Web searches.
    #[serde(skip_serializing_if = "is_zero")]
    pub searches: u64,
    #[serde(skip_serializing_if = "SearchSize::is_medium")]
    pub search_size: SearchSize,
    /// Milliseconds of audio that were read.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_ms: u64,
    /// Milliseconds of video that were read.
    #[serde(skip_serializing_if = "is_zero")]
    pub video_ms: u64,
    /// Milliseconds of audio or video that were made.
    #[serde(skip_serializing_if = "is_zero")]
    pub made_ms: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub chars_in: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub chars_out: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub images_in: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub images_out: u64,
    /// Search units of a reranking.
    #[serde(skip_serializing_if = "is_zero")]
    pub queries: u64,
    /// Pages that were read.
    #[serde(skip_serializing_if = "is_zero")]
    pub pages: u64,
    /// Class of service that the provider says it gave.
    #[serde(skip_serializing_if = "Class::is_standard")]
    pub class: Class,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How much context a web search was given (`search_context_size`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchSize {
    Low,
    #[default]
    Medium,
    High,
}

impl SearchSize {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_medium(&self) -> bool {
        *self == Self::Medium
    }
}

impl Usage {
    /// An estimate, marked as one.
    #[must_use]
    pub fn estimate(prompt: u64, completion: u64) -> Self {
        Self {
            prompt,
            completion,
            total: prompt.saturating_add(completion),
            estimated: true,
            ..Self::default()
        }
    }

    /// A later count of the same answer over an earlier one: Anthropic counts the prompt at the beginning of a stream and
    /// the answer at its end, and repeats the prompt there only sometimes.
    #[must_use]
    pub fn over(self, before: &Self) -> Self {
        if self.prompt > 0 || before.prompt == 0 {
            return self;
        }
        let (completion, reasoning, searches) = (self.completion, self.reasoning, self.searches);
        Self { completion, reasoning, searches, total: before.prompt.saturating_add(completion), ..*before }
    }

    /// The sum of two, as a ledger row has it for several attempts, and a session for its answers. Class and size are the
    /// first one's.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        let sum = |pick: fn(&Self) -> u64| pick(&self).saturating_add(pick(other));
        Self {
            prompt: sum(|u| u.prompt),
            completion: sum(|u| u.completion),
            total: sum(|u| u.total),
            cached: sum(|u| u.cached),
            cache_creation: sum(|u| u.cache_creation),
            reasoning: sum(|u| u.reasoning),
            audio_in: sum(|u| u.audio_in),
            audio_out: sum(|u| u.audio_out),
            estimated: self.estimated || other.estimated,
            cache_creation_1h: sum(|u| u.cache_creation_1h),
            audio_cached: sum(|u| u.audio_cached),
            image_cached: sum(|u| u.image_cached),
            image_in: sum(|u| u.image_in),
            image_out: sum(|u| u.image_out),
            video_in: sum(|u| u.video_in),
            video_out: sum(|u| u.video_out),
            citations: sum(|u| u.citations),
            searches: sum(|u| u.searches),
            search_size: self.search_size,
            audio_ms: sum(|u| u.audio_ms),
            video_ms: sum(|u| u.video_ms),
            made_ms: sum(|u| u.made_ms),
            chars_in: sum(|u| u.chars_in),
            chars_out: sum(|u| u.chars_out),
            images_in: sum(|u| u.images_in),
            images_out: sum(|u| u.images_out),
            queries: sum(|u| u.queries),
            pages: sum(|u| u.pages),
            class: self.class,
        }
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
