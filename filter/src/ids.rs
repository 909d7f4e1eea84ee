//! Ids that no other worker, restart or replica makes.
//!
//! The clock alone will not do: two workers were seen to read the same microsecond. Each VM therefore takes a number
//! from a counter in Envoy's shared data and counts its own requests. Neither survives a restart or is shared between
//! hosts, so the VM's start time, the request's time and `x-request-id` (random, from Envoy) go in as well, of every
//! second request. The result is 122 bits of their hash in the form of a UUID (version 8), as clients expect of a call id.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use sha2::{Digest, Sha256};

/// Bytes of an id.
const ID: usize = 16;

/// Attempts at the shared counter before giving up; workers start at the same time, so a few collide.
const MAX_CLAIMS: usize = 1_000;

/// A counter shared by all VMs of one Envoy, with compare and swap.
pub trait SharedCounter {
    /// Value and its version; `None` when never written.
    fn read(&self) -> (Option<u64>, Option<u32>);
    /// Writes if the version is still the same.
    fn write(&self, value: u64, version: Option<u32>) -> bool;
}

/// Takes the next number. `None` when the counter could not be moved.
pub fn claim(counter: &impl SharedCounter) -> Option<u64> {
    for _ in 0..MAX_CLAIMS {
        let (value, version) = counter.read();
        let next = value.unwrap_or(0).wrapping_add(1);
        // The very first write has no version and cannot be guarded. It is Envoy's main thread that makes it, before
        // any worker has a VM.
        if counter.write(next, version) {
            return Some(next);
        }
    }
    None
}

/// Maker of call ids of one VM.
#[derive(Debug)]
pub struct CallIds {
    vm: u64,
    start_ns: u64,
    sequence: u64,
    /// Of all request ids so far: what Envoy drew is in the ids of those that are made ahead, too.
    drawn: u64,
    /// A hash is long enough for two ids: the second one.
    spare: Option<[u8; ID]>,
}

impl CallIds {
    #[must_use]
    pub fn new(vm: u64, start_ns: u64) -> Self {
        Self { vm, start_ns, sequence: 0, drawn: 0, spare: None }
    }

    /// A new id. `request_id` may be anything, also the client's own choice, or nothing.
    pub fn next(&mut self, now_us: u64, request_id: &[u8]) -> String {
        if let Some(spare) = self.spare.take() {
            return uuid(&spare);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut drawn = FixedState::with_seed(self.drawn).build_hasher();
        drawn.write(request_id);
        self.drawn = drawn.finish();
        // One block of the hash has room for 55 bytes.
        let mut hash = Sha256::new();
        for part in [self.vm, self.start_ns, self.sequence, now_us, self.drawn] {
            hash.update(part.to_le_bytes());
        }
        let digest = hash.finalize();
        self.spare = digest.last_chunk().copied();
        uuid(&digest)
    }
}

/// The first 128 bits of `digest` in UUID form, with version 8 and the RFC's variant.
fn uuid(digest: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (n, byte) in digest.iter().take(ID).enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = match n {
            6 => (byte & 0x0f) | 0x80,
            8 => (byte & 0x3f) | 0x80,
            _ => *byte,
        };
        for nibble in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use super::*;

    #[derive(Default)]
    struct Shared {
        value: Cell<Option<u64>>,
        version: Cell<u32>,
        losses: Cell<u32>,
    }

    impl SharedCounter for Shared {
        fn read(&self) -> (Option<u64>, Option<u32>) {
            let version = self.version.get();
            (self.value.get(), (version > 0).then_some(version))
        }

        fn write(&self, value: u64, version: Option<u32>) -> bool {
            if self.losses.get() > 0 {
                // Another worker was faster.
                self.losses.set(self.losses.get() - 1);
                self.value.set(Some(self.value.get().unwrap_or(0) + 1));
                self.version.set(self.version.get() + 1);
                return version.is_none();
            }
            if version.is_some_and(|version| version != self.version.get()) {
                return false;
            }
            self.value.set(Some(value));
            self.version.set(self.version.get() + 1);
            true
        }
    }

    #[test]
    fn numbers_are_taken_once() {
        let shared = Shared::default();
        assert_eq!(claim(&shared), Some(1));
        assert_eq!(claim(&shared), Some(2));
        assert_eq!(shared.read(), (Some(2), Some(2)));
        shared.losses.set(3);
        assert_eq!(claim(&shared), Some(6), "three others were faster");
    }

    #[test]
    fn a_counter_that_never_yields_gives_up() {
        let shared = Shared::default();
        claim(&shared);
        shared.losses.set(u32::MAX);
        assert_eq!(claim(&shared), None);
    }

    #[test]
    fn ids_differ_by_request_worker_and_restart() {
        let mut seen = HashSet::new();
        for (vm, start) in [(1, 7), (2, 7), (1, 8)] {
            let mut ids = CallIds::new(vm, start);
            for _ in 0..1_000 {
                assert!(seen.insert(ids.next(5, b"chosen-by-client")));
            }
        }
    }

    #[test]
    fn an_id_reads_like_a_uuid() {
        let id = CallIds::new(1, 1).next(1, b"");
        let bytes = id.as_bytes();
        assert_eq!(id.len(), 36);
        assert!([8, 13, 18, 23].iter().all(|n| bytes[*n] == b'-'), "{id}");
        assert_eq!(bytes[14], b'8');
        assert!(matches!(bytes[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }
}
