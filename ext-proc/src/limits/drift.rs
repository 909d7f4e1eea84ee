//! Which sum of the ledger a budget's counter stands for, so that the two can be compared.

use super::bill::QUARTER_S;
use super::order::Dimension;
use crate::entity::{EntityKind, EntityRef};
use crate::store::Counter;

/// Numbers of windows from here on are Unix milliseconds (1973), smaller ones seconds: see [`super::Window::number`].
const MILLISECONDS: u64 = 100_000_000_000;

/// A counter of a budget, and what the ledger says instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tally {
    pub counter: Counter,
    pub of: EntityRef,
    pub since: Since,
}

/// From when on a budget is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Since {
    /// The last reset of the stored spend, Unix milliseconds; 0: there was none. Another reset makes another counter.
    Reset(u64),
    /// This Unix second, the begin of a quarter of an hour.
    Second(u64),
}

impl Tally {
    /// Reads a counter's name. `None`: it is no budget of a caller, or the ledger cannot say what is on it.
    #[must_use]
    pub fn read(counter: &Counter) -> Option<Self> {
        let suffix = Dimension::Budget.name();
        let (kind, rest) = counter.base.split_once(':')?;
        let id = rest.strip_suffix(suffix)?.strip_suffix(':')?;
        let of = EntityRef::new(EntityKind::of_name(kind)?, id);
        Self::new(counter.clone(), of)
    }

    /// The counter of an entity.
    pub(super) fn new(counter: Counter, of: EntityRef) -> Option<Self> {
        let since = match counter.window {
            number @ (0 | MILLISECONDS..) => Since::Reset(number),
            number if number % QUARTER_S == 0 => Since::Second(number),
            _ => return None,
        };
        Some(Self { counter, of, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(base: &str, window: u64) -> Option<(EntityRef, Since)> {
        Tally::read(&Counter::new(base, window)).map(|tally| (tally.of, tally.since))
    }

    #[test]
    fn a_counter_tells_what_it_stands_for() {
        let team = || EntityRef::new(EntityKind::Team, "a:b");
        assert_eq!(read("team:a:b:budget", 0), Some((team(), Since::Reset(0))));
        let reset = 1_764_376_800_123;
        assert_eq!(read("team:a:b:budget", reset), Some((team(), Since::Reset(reset))));
        assert_eq!(read("team:a:b:budget", 1_764_374_400), Some((team(), Since::Second(1_764_374_400))));
        let model = EntityRef::new(EntityKind::KeyModel, "k|m");
        assert_eq!(read("key_model:k|m:budget", 1_764_374_400), Some((model, Since::Second(1_764_374_400))));
    }

    #[test]
    fn other_counters_stand_for_nothing() {
        for base in ["team:a:rpm", "dep:one:budget", "provider:openai:budget", "key_tag:k|t:budget", "budget"]
        {
            assert_eq!(read(base, 0), None, "{base}");
        }
        assert_eq!(
            read("team:a:budget", 1_764_374_405),
            None,
            "the ledger knows use by the quarter of an hour"
        );
    }
}
