//! What is paid for, and in which class of service.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Something that a provider counts and prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// Prompt tokens that nothing below prices apart.
    Input,
    /// Prompt tokens read from the provider's cache.
    Cached,
    /// Prompt tokens written to it (for five minutes, where there are several terms).
    Write,
    /// Prompt tokens written to it for an hour.
    WriteHour,
    AudioIn,
    /// Audio tokens read from the cache.
    AudioCached,
    /// Tokens of images in the prompt.
    ImageTokensIn,
    /// Tokens of images read from the cache.
    ImageTokensCached,
    VideoTokensIn,
    /// Completion tokens that nothing below prices apart.
    Output,
    Reasoning,
    AudioOut,
    /// Tokens of images that were made.
    ImageTokensOut,
    VideoTokensOut,
    /// Tokens of the sources that were cited.
    Citations,
    /// Web searches, by the size of their context.
    SearchLow,
    SearchMedium,
    SearchHigh,
    /// Seconds of audio that were read; counted in milliseconds.
    SecondsIn,
    /// Seconds of video that were read; counted in milliseconds.
    VideoSecondsIn,
    /// Seconds of audio or video that were made; counted in milliseconds.
    SecondsOut,
    CharactersIn,
    CharactersOut,
    ImagesIn,
    ImagesOut,
    /// Search units of a reranking.
    Queries,
    Pages,
    /// The request itself.
    Request,
}

/// Units of a quantity that cost one rate.
const MILLISECONDS: u64 = 1_000;

impl Item {
    /// All, in the order in which bills name them.
    pub const ALL: [Self; 28] = [
        Self::Input,
        Self::Cached,
        Self::Write,
        Self::WriteHour,
        Self::AudioIn,
        Self::AudioCached,
        Self::ImageTokensIn,
        Self::ImageTokensCached,
        Self::VideoTokensIn,
        Self::Output,
        Self::Reasoning,
        Self::AudioOut,
        Self::ImageTokensOut,
        Self::VideoTokensOut,
        Self::Citations,
        Self::SearchLow,
        Self::SearchMedium,
        Self::SearchHigh,
        Self::SecondsIn,
        Self::VideoSecondsIn,
        Self::SecondsOut,
        Self::CharactersIn,
        Self::CharactersOut,
        Self::ImagesIn,
        Self::ImagesOut,
        Self::Queries,
        Self::Pages,
        Self::Request,
    ];

    /// Its name in bills and in the price table.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Input => "in",
            Self::Cached => "cached",
            Self::Write => "write",
            Self::WriteHour => "write_1h",
            Self::AudioIn => "audio_in",
            Self::AudioCached => "audio_cached",
            Self::ImageTokensIn => "image_in",
            Self::ImageTokensCached => "image_cached",
            Self::VideoTokensIn => "video_in",
            Self::Output => "out",
            Self::Reasoning => "reasoning",
            Self::AudioOut => "audio_out",
            Self::ImageTokensOut => "image_out",
            Self::VideoTokensOut => "video_out",
            Self::Citations => "citations",
            Self::SearchLow => "search_low",
            Self::SearchMedium => "search",
            Self::SearchHigh => "search_high",
            Self::SecondsIn => "seconds_in",
            Self::VideoSecondsIn => "video_seconds_in",
            Self::SecondsOut => "seconds_out",
            Self::CharactersIn => "chars_in",
            Self::CharactersOut => "chars_out",
            Self::ImagesIn => "images_in",
            Self::ImagesOut => "images_out",
            Self::Queries => "queries",
            Self::Pages => "pages",
            Self::Request => "request",
        }
    }

    /// The item of a code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.code() == code)
    }

    /// What one of its rates pays for, for people.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::SearchLow | Self::SearchMedium | Self::SearchHigh => "search",
            Self::SecondsIn | Self::VideoSecondsIn | Self::SecondsOut => "second",
            Self::CharactersIn | Self::CharactersOut => "character",
            Self::ImagesIn | Self::ImagesOut => "image",
            Self::Queries => "query",
            Self::Pages => "page",
            Self::Request => "request",
            _ => "token",
        }
    }

    /// Is it counted in tokens?
    #[must_use]
    pub fn is_tokens(self) -> bool {
        self.unit() == "token"
    }

    /// Quantity that costs one rate: 1, and 1,000 where seconds are counted in milliseconds.
    #[must_use]
    pub fn per(self) -> u64 {
        if matches!(self, Self::SecondsIn | Self::VideoSecondsIn | Self::SecondsOut) {
            MILLISECONDS
        } else {
            1
        }
    }

    /// What it is priced as where a model has no rate for it.
    #[must_use]
    pub fn instead(self) -> Option<Self> {
        Some(match self {
            Self::Cached | Self::Write | Self::AudioIn | Self::ImageTokensIn | Self::VideoTokensIn => {
                Self::Input
            }
            Self::WriteHour => Self::Write,
            Self::AudioCached | Self::ImageTokensCached => Self::Cached,
            Self::Reasoning | Self::AudioOut | Self::ImageTokensOut | Self::VideoTokensOut => Self::Output,
            Self::SearchLow | Self::SearchHigh => Self::SearchMedium,
            // LiteLLM's file prices the pictures of most image models so.
            Self::ImagesOut => Self::ImagesIn,
            _ => return None,
        })
    }
}

/// Class of service that a provider says it gave: it has rates of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
    Balanced,
    Ultrafast,
}

impl Class {
    pub const ALL: [Self; 6] =
        [Self::Standard, Self::Batch, Self::Flex, Self::Priority, Self::Balanced, Self::Ultrafast];

    /// As bills, price tables and usage call it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Balanced => "balanced",
            Self::Ultrafast => "ultrafast",
        }
    }

    /// The class of a code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }

    /// What a provider's `service_tier` means for the price. `default`, `auto` and what is not known are the standard.
    #[must_use]
    pub fn of_tier(tier: &str) -> Self {
        Self::of_code(tier).unwrap_or_default()
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn is_standard(&self) -> bool {
        *self == Self::Standard
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// What is not known is the standard: a record must be read whatever a newer filter found.
impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of_tier(&String::deserialize(deserializer)?))
    }
}

/// Where a rate holds: `in`, `in@flex`, `in>200000`, `in@priority>200000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub item: Item,
    pub class: Class,
    /// Fewest prompt tokens of the request for which it holds; 0: whatever the size.
    pub from: u64,
}

impl Place {
    /// The standard rate of an item for prompts of any size.
    #[must_use]
    pub fn base(item: Item) -> Self {
        Self { item, class: Class::Standard, from: 0 }
    }

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, from) = match text.split_once('>') {
            Some((text, above)) => (text, digits(above)?.checked_add(1)?),
            None => (text, 0),
        };
        let (code, class) = match text.split_once('@') {
            Some((code, class)) => (code, Class::of_code(class)?),
            None => (text, Class::Standard),
        };
        Some(Self { item: Item::of_code(code)?, class, from })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.item.code())?;
        if self.class != Class::Standard {
            write!(f, "@{}", self.class.code())?;
        }
        match self.from.checked_sub(1) {
            Some(above) => write!(f, ">{above}"),
            None => Ok(()),
        }
    }
}

/// A whole number of digits alone: no sign, no space.
pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}
