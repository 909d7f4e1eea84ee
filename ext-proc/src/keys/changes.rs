//! The feed of changed keys: a bounded log, read by every Envoy worker twice a second.

use std::collections::{BTreeSet, VecDeque};

use attache_llm::contract::{KeyChanges, KeyChangesAsk, VERSION};

/// Longest feed kept; a reader that is further behind forgets everything instead (and revalidates on use).
const LOG: usize = 2_000;

/// Changes of this process. The epoch is random per process, so that a reader notices a restart.
pub(super) struct ChangeLog {
    epoch: String,
    generation: u64,
    log: VecDeque<(u64, String)>,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self { epoch: hex::encode(rand::random::<[u8; 8]>()), generation: 0, log: VecDeque::new() }
    }

    /// Every reader is flushed: it is not known what changed.
    pub(super) fn flush(&mut self) {
        *self = Self::new();
    }

    pub(super) fn push(&mut self, hash: &str) {
        self.generation += 1;
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((self.generation, hash.to_owned()));
    }

    pub(super) fn since(&self, ask: &KeyChangesAsk) -> KeyChanges {
        // A first ask has an empty epoch and is flushed too: keys may have been looked up before it.
        let oldest_known = self.log.front().map_or(self.generation, |(generation, _)| generation - 1);
        let flush =
            ask.epoch != self.epoch || ask.generation > self.generation || ask.generation < oldest_known;
        let hashes = if flush {
            BTreeSet::new()
        } else {
            self.log
                .iter()
                .rev()
                .take_while(|(g, _)| *g > ask.generation)
                .map(|(_, hash)| hash.clone())
                .collect()
        };
        KeyChanges {
            contract: VERSION,
            epoch: self.epoch.clone(),
            generation: self.generation,
            hashes: hashes.into_iter().collect(),
            flush,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(epoch: &str, generation: u64) -> KeyChangesAsk {
        KeyChangesAsk { contract: VERSION, epoch: epoch.to_owned(), generation }
    }

    #[test]
    fn a_reader_gets_each_change_once_and_a_stranger_is_flushed() {
        let mut log = ChangeLog::new();
        let first = log.since(&ask("", 0));
        assert!(first.flush && first.hashes.is_empty());
        let epoch = first.epoch;
        assert!(!log.since(&ask(&epoch, 0)).flush);
        log.push("b");
        log.push("a");
        log.push("b");
        let next = log.since(&ask(&epoch, 0));
        assert_eq!(
            (next.hashes, next.generation, next.flush),
            (vec!["a".to_owned(), "b".to_owned()], 3, false)
        );
        assert_eq!(log.since(&ask(&epoch, 2)).hashes, ["b"]);
        assert!(log.since(&ask(&epoch, 3)).hashes.is_empty());
        assert!(log.since(&ask("other", 3)).flush, "another process");
        assert!(log.since(&ask(&epoch, 4)).flush, "from the future");
    }

    #[test]
    fn a_reader_beyond_the_log_is_flushed_and_the_log_stays_bounded() {
        let mut log = ChangeLog::new();
        for index in 0..=LOG {
            log.push(&index.to_string());
        }
        let epoch = log.since(&ask("", 0)).epoch;
        assert_eq!(log.log.len(), LOG);
        assert!(log.since(&ask(&epoch, 0)).flush);
        let last = log.since(&ask(&epoch, 1));
        assert!(!last.flush);
        assert_eq!(last.hashes.len(), LOG);
    }
}
