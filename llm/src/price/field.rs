//! LiteLLM's names of prices: `input_cost_per_token_above_200k_tokens_priority`.

use super::item::{Class, Item, Place};

/// Names without class and threshold. Where an item has several, the first is its own.
const FIELDS: [(&str, Item); 32] = [
    ("input_cost_per_token", Item::Input),
    ("output_cost_per_token", Item::Output),
    ("cache_read_input_token_cost", Item::Cached),
    ("input_cost_per_token_cache_hit", Item::Cached),
    ("cache_creation_input_token_cost", Item::Write),
    ("cache_creation_input_token_cost_above_1hr", Item::WriteHour),
    ("input_cost_per_audio_token", Item::AudioIn),
    ("output_cost_per_audio_token", Item::AudioOut),
    ("cache_read_input_audio_token_cost", Item::AudioCached),
    ("input_cost_per_image_token", Item::ImageTokensIn),
    ("output_cost_per_image_token", Item::ImageTokensOut),
    ("cache_read_input_image_token_cost", Item::ImageTokensCached),
    ("input_cost_per_video_token", Item::VideoTokensIn),
    ("output_cost_per_video_token", Item::VideoTokensOut),
    ("output_cost_per_reasoning_token", Item::Reasoning),
    ("citation_cost_per_token", Item::Citations),
    ("search_context_size_low", Item::SearchLow),
    ("search_context_size_medium", Item::SearchMedium),
    ("search_context_size_high", Item::SearchHigh),
    ("input_cost_per_second", Item::SecondsIn),
    ("input_cost_per_audio_per_second", Item::SecondsIn),
    ("input_cost_per_video_per_second", Item::VideoSecondsIn),
    ("output_cost_per_second", Item::SecondsOut),
    ("output_cost_per_video_per_second", Item::SecondsOut),
    ("input_cost_per_character", Item::CharactersIn),
    ("output_cost_per_character", Item::CharactersOut),
    ("input_cost_per_image", Item::ImagesIn),
    ("output_cost_per_image", Item::ImagesOut),
    ("input_cost_per_query", Item::Queries),
    ("ocr_cost_per_page", Item::Pages),
    ("input_cost_per_page", Item::Pages),
    ("input_cost_per_request", Item::Request),
];

const CLASSES: [(&str, Class); 5] = [
    ("_batches", Class::Batch),
    ("_flex", Class::Flex),
    ("_priority", Class::Priority),
    ("_balanced", Class::Balanced),
    ("_ultrafast", Class::Ultrafast),
];

/// The rate that a field of LiteLLM's sets. `reached`: does its threshold count as crossed when it is reached (xAI), not
/// only when it is exceeded?
#[must_use]
pub fn place_of_field(name: &str, reached: bool) -> Option<Place> {
    let of_class = CLASSES.iter().find_map(|(suffix, class)| Some((name.strip_suffix(suffix)?, *class)));
    let (name, class) = of_class.unwrap_or((name, Class::Standard));
    let above = name.strip_suffix("_tokens").and_then(|name| name.rsplit_once("_above_"));
    let (name, from) = match above {
        Some((name, above)) => (name, threshold(above)?.checked_add(u64::from(!reached))?),
        None => (name, 0),
    };
    let (_, item) = FIELDS.iter().find(|(field, _)| *field == name)?;
    Some(Place { item: *item, class, from })
}

/// Tokens of `200k`, `1m` or `512`.
fn threshold(text: &str) -> Option<u64> {
    let (number, unit) = match (text.strip_suffix('k'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1_000),
        (_, Some(number)) => (number, 1_000_000),
        _ => (text, 1),
    };
    super::item::digits(number)?.checked_mul(unit)
}

/// LiteLLM's name of a rate.
#[must_use]
pub fn field_name(place: Place) -> String {
    let field = FIELDS.iter().find(|(_, item)| *item == place.item).map_or("", |(field, _)| field);
    let class = CLASSES.iter().find(|(_, class)| *class == place.class).map_or("", |(suffix, _)| suffix);
    match place.from.checked_sub(1) {
        None => format!("{field}{class}"),
        Some(above) if above.wrapping_rem(1_000) == 0 => {
            format!("{field}_above_{}k_tokens{class}", above.wrapping_div(1_000))
        }
        Some(above) => format!("{field}_above_{above}_tokens{class}"),
    }
}

/// Every name without class and threshold, for suggestions.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(field, _)| *field).filter(|field| !field.starts_with("search_context_size_"))
}
