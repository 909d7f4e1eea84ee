//! What a usage counts, apart by what is priced apart, so that nothing is counted twice.

use super::item::Item;
use crate::usage::{SearchSize, Usage};

/// Takes as much of `wanted` as is left.
fn take(left: &mut u64, wanted: u64) -> u64 {
    let taken = wanted.min(*left);
    *left = left.saturating_sub(taken);
    taken
}

/// Tells every quantity that is not 0, in the order of bills, and the request itself.
pub(super) fn each(usage: &Usage, mut tell: impl FnMut(Item, u64)) {
    let mut say = |item, quantity| {
        if quantity > 0 {
            tell(item, quantity);
        }
    };
    prompt(usage, &mut say);
    completion(usage, &mut say);
    say(Item::Citations, usage.citations);
    let searches = match usage.search_size {
        SearchSize::Low => Item::SearchLow,
        SearchSize::Medium => Item::SearchMedium,
        SearchSize::High => Item::SearchHigh,
    };
    say(searches, usage.searches);
    // What was counted in tokens is paid for by token, not by second or picture, too.
    let unless = |tokens: u64, quantity: u64| if tokens == 0 { quantity } else { 0 };
    say(Item::SecondsIn, unless(usage.audio_in, usage.audio_ms));
    say(Item::VideoSecondsIn, unless(usage.video_in, usage.video_ms));
    say(Item::SecondsOut, unless(usage.audio_out.max(usage.video_out), usage.made_ms));
    say(Item::CharactersIn, usage.chars_in);
    say(Item::CharactersOut, usage.chars_out);
    say(Item::ImagesIn, unless(usage.image_in, usage.images_in));
    say(Item::ImagesOut, unless(usage.image_out, usage.images_out));
    say(Item::Queries, usage.queries);
    say(Item::Pages, usage.pages);
    say(Item::Request, 1);
}

/// Cached and written tokens win; what else is a part of the prompt gets what they leave.
fn prompt(usage: &Usage, say: &mut impl FnMut(Item, u64)) {
    let mut left = usage.prompt;
    let cached = take(&mut left, usage.cached);
    let written = take(&mut left, usage.cache_creation);
    let hour = usage.cache_creation_1h.min(written);

    let mut text_cached = cached;
    let audio_cached = take(&mut text_cached, usage.audio_cached);
    let image_cached = take(&mut text_cached, usage.image_cached);
    // The parts of a kind include its cached ones.
    let audio = take(&mut left, usage.audio_in.saturating_sub(audio_cached));
    let image = take(&mut left, usage.image_in.saturating_sub(image_cached));
    let video = take(&mut left, usage.video_in);

    say(Item::Input, left);
    say(Item::Cached, text_cached);
    say(Item::Write, written.saturating_sub(hour));
    say(Item::WriteHour, hour);
    say(Item::AudioIn, audio);
    say(Item::AudioCached, audio_cached);
    say(Item::ImageTokensIn, image);
    say(Item::ImageTokensCached, image_cached);
    say(Item::VideoTokensIn, video);
}

fn completion(usage: &Usage, say: &mut impl FnMut(Item, u64)) {
    let mut left = usage.completion;
    let audio = take(&mut left, usage.audio_out);
    let image = take(&mut left, usage.image_out);
    let video = take(&mut left, usage.video_out);
    let reasoning = take(&mut left, usage.reasoning);
    say(Item::Output, left);
    say(Item::Reasoning, reasoning);
    say(Item::AudioOut, audio);
    say(Item::ImageTokensOut, image);
    say(Item::VideoTokensOut, video);
}

/// Does the usage count nothing at all?
pub(super) fn is_nothing(usage: &Usage) -> bool {
    let mut nothing = true;
    each(usage, |item, _| nothing &= item == Item::Request);
    nothing
}
