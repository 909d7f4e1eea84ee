//! Fallback chains: which groups follow a group that failed.

use std::collections::BTreeMap;

use attache_llm::class::ErrorClass;

use super::names::{Target, find};
use super::request::Request;

/// Groups looked at per chain, whatever the lists say.
const MAX_CHAIN: usize = 32;
/// Key of the default fallbacks.
const DEFAULTS: &str = "*";

/// Which lists a failure follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    General,
    ContextWindow,
    ContentPolicy,
}

impl Way {
    /// `None`: a class for which no list is made.
    pub(super) fn of(class: ErrorClass) -> Option<Self> {
        match class {
            ErrorClass::ContextWindow => Some(Self::ContextWindow),
            ErrorClass::ContentPolicy => Some(Self::ContentPolicy),
            class => class.is_retriable().then_some(Self::General),
        }
    }
}

/// The groups after `starts`, in order: each start's list, every entry followed depth-first by its own list, then the
/// default fallbacks; each once, none of `seen`, and none that the key may not use (nor what would follow it).
///
/// The request's own `fallbacks` stand in for all lists, and `disable_fallbacks` for empty ones.
pub(super) fn chain<'a>(
    request: &Request<'a>,
    way: Way,
    starts: &[Target<'a>],
    seen: impl IntoIterator<Item = &'a str>,
) -> Vec<Target<'a>> {
    chain_of(request, way, starts, seen, MAX_CHAIN)
}

/// Is there a group after `starts`? The first one is not gone beyond.
pub(super) fn leads_on<'a>(
    request: &Request<'a>,
    way: Way,
    starts: &[Target<'a>],
    seen: impl IntoIterator<Item = &'a str>,
) -> bool {
    !chain_of(request, way, starts, seen, 1).is_empty()
}

/// Do both ways follow the same lists?
pub(super) fn are_one(request: &Request<'_>, way: Way, other: Way) -> bool {
    match (lists(request, way), lists(request, other)) {
        (Some(lists), Some(others)) => std::ptr::eq(lists, others),
        (None, None) => true,
        _ => false,
    }
}

fn chain_of<'a>(
    request: &Request<'a>,
    way: Way,
    starts: &[Target<'a>],
    seen: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Vec<Target<'a>> {
    let wishes = &request.ask.wishes;
    // An id means nothing to another account.
    if request.ask.endpoint.is_stored() {
        return Vec::new();
    }
    let lists = lists(request, way);
    if wishes.disable_fallbacks || (lists.is_none() && wishes.fallbacks.is_none()) {
        return Vec::new();
    }
    let mut walk = Walk { request, seen: seen.into_iter().collect(), out: Vec::new(), most };
    walk.seen.extend(starts.iter().map(Target::identity));
    if let Some(own) = &wishes.fallbacks {
        walk.visit_all(own, None);
        return walk.out;
    }
    let Some(lists) = lists else { return walk.out };
    for start in starts {
        walk.visit_all(list(lists, start), Some(lists));
    }
    let defaults = lists.get(DEFAULTS).map_or(&[][..], Vec::as_slice);
    walk.visit_all(defaults, Some(lists));
    walk.out
}

type Lists = BTreeMap<String, Vec<String>>;

fn lists<'a>(request: &Request<'a>, way: Way) -> Option<&'a Lists> {
    let snapshot = request.snapshot;
    let own = match way {
        Way::General => None,
        Way::ContextWindow => snapshot.context_window_fallbacks.as_ref(),
        Way::ContentPolicy => snapshot.content_policy_fallbacks.as_ref(),
    };
    // A list that is configured but says nothing of the group means the error; one that is not, the general way.
    Some(own.unwrap_or(&snapshot.fallbacks)).filter(|lists| !lists.is_empty())
}

/// By the name asked for, or by the group behind it (wildcards).
fn list<'a>(lists: &'a Lists, of: &Target<'_>) -> &'a [String] {
    lists.get(of.name).or_else(|| lists.get(&of.group.name)).map_or(&[], Vec::as_slice)
}

struct Walk<'r, 'a> {
    request: &'r Request<'a>,
    seen: Vec<&'a str>,
    out: Vec<Target<'a>>,
    /// Groups looked for.
    most: usize,
}

impl<'a> Walk<'_, 'a> {
    /// Depth is bounded by `most`, as each level adds to `out`.
    fn visit_all(&mut self, names: &'a [String], nested: Option<&'a Lists>) {
        for name in names {
            if self.out.len() >= self.most {
                return;
            }
            let Some(target) = find(self.request.snapshot, name) else { continue };
            if self.seen.contains(&target.identity()) {
                continue;
            }
            self.seen.push(target.identity());
            if !self.request.access.grants(name, &target).any() {
                continue;
            }
            self.out.push(target);
            if let Some(lists) = nested {
                self.visit_all(list(lists, &target), nested);
            }
        }
    }
}
