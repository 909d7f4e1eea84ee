//! Which call ids were taken lately: two sets, of which the older one is forgotten whole. A cache that ages every entry
//! costs several times as much for each.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Ids in a set at most: between one and two of them are remembered.
const MOST: usize = 100_000;
/// How long a set is added to, and kept after that.
const AGE: Duration = Duration::from_secs(300);

/// An id as two hashes with keys of this process: a quarter of the memory of its text. Of the ids that are remembered two are
/// alike by chance once in 10^28.
type Mark = u128;
type Set = HashSet<Mark, foldhash::fast::RandomState>;

/// Tells what Envoy sends again. What is older than this remembers, or was taken by another process, is told by the
/// database.
#[derive(Debug)]
pub(super) struct Recent {
    state: Mutex<State>,
    keys: [foldhash::quality::RandomState; 2],
}

#[derive(Debug)]
struct State {
    young: Set,
    old: Set,
    begun: Instant,
}

impl Default for Recent {
    fn default() -> Self {
        let state = State { young: Set::default(), old: Set::default(), begun: Instant::now() };
        Self { state: Mutex::new(state), keys: Default::default() }
    }
}

impl Recent {
    fn mark(&self, id: &str) -> Mark {
        let [high, low] = self.keys.each_ref().map(|key| Mark::from(key.hash_one(id)));
        high << 64 | low
    }

    /// Removes those whose id is remembered.
    pub(super) fn retain_new<T>(&self, all: &mut Vec<T>, id: impl Fn(&T) -> &str) {
        let state = self.state.lock();
        all.retain(|one| {
            let mark = self.mark(id(one));
            !state.young.contains(&mark) && !state.old.contains(&mark)
        });
    }

    pub(super) fn remember<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        self.remember_at(Instant::now(), ids);
    }

    fn remember_at<'a>(&self, now: Instant, ids: impl Iterator<Item = &'a str>) {
        let mut forgotten = Set::default();
        let mut state = self.state.lock();
        for id in ids {
            if state.young.len() >= MOST || now.saturating_duration_since(state.begun) >= AGE {
                let young = std::mem::take(&mut state.young);
                forgotten = std::mem::replace(&mut state.old, young);
                state.begun = now;
            }
            state.young.insert(self.mark(id));
        }
        drop(state);
        // Freed by nobody who holds the lock.
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new<'a>(recent: &Recent, ids: &[&'a str]) -> Vec<&'a str> {
        let mut ids = ids.to_vec();
        recent.retain_new(&mut ids, |id| id);
        ids
    }

    #[test]
    fn an_id_is_known_for_one_age_at_least_and_two_at_most() {
        let (recent, begun) = (Recent::default(), Instant::now());
        assert_eq!(new(&recent, &["a", "b"]), ["a", "b"]);
        recent.remember_at(begun, ["a"].into_iter());
        recent.remember_at(begun + AGE, ["b"].into_iter());
        assert_eq!(new(&recent, &["a", "b", "c"]), ["c"]);
        recent.remember_at(begun + 2 * AGE, ["c"].into_iter());
        assert_eq!(new(&recent, &["a", "b", "c"]), ["a"]);
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::default();
        let ids: Vec<String> = (0..3 * MOST).map(|n| n.to_string()).collect();
        recent.remember(ids.iter().map(String::as_str));
        let state = recent.state.lock();
        assert_eq!((state.young.len(), state.old.len()), (MOST, MOST));
        assert!(state.young.contains(&recent.mark(ids.last().unwrap())));
    }
}
