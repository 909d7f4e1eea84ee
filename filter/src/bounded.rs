//! A map with a hard bound: when it is full, the entry that was written longest ago goes.

use std::collections::{HashMap, VecDeque};

/// SHA-256 of a key.
pub type Hash = [u8; 32];

/// Map from [`Hash`] to `V` that never holds more than `max` entries.
#[derive(Debug)]
pub struct Bounded<V> {
    entries: HashMap<Hash, (V, u64)>,
    /// Order of writing. An entry that was written again or removed leaves its old place here until it comes up.
    order: VecDeque<(Hash, u64)>,
    writes: u64,
    max: usize,
}

impl<V> Bounded<V> {
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), writes: 0, max }
    }

    #[must_use]
    pub fn get(&self, key: &Hash) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes an entry and makes room for it.
    pub fn insert(&mut self, key: Hash, value: V) {
        if self.max == 0 {
            return;
        }
        self.writes = self.writes.wrapping_add(1);
        self.entries.insert(key, (value, self.writes));
        self.order.push_back((key, self.writes));
        while self.entries.len() > self.max {
            let Some((oldest, written)) = self.order.pop_front() else { return };
            if self.entries.get(&oldest).is_some_and(|(_, latest)| *latest == written) {
                self.entries.remove(&oldest);
            }
        }
        self.compact();
    }

    pub fn remove(&mut self, key: &Hash) -> Option<V> {
        self.entries.remove(key).map(|(value, _)| value)
    }

    /// Removes the entries that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.entries.retain(|_, (value, _)| keep(value));
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(value, _)| value)
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    /// Changes the bound; entries beyond it go with the next writes.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The order list must not outgrow the map when the same few keys are written again and again.
    fn compact(&mut self) {
        if self.order.len() > self.max.saturating_mul(2).max(64) {
            let entries = &self.entries;
            self.order.retain(|(key, written)| entries.get(key).is_some_and(|(_, latest)| latest == written));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Hash {
        [n; 32]
    }

    #[test]
    fn the_oldest_written_goes_first() {
        let mut map = Bounded::new(2);
        map.insert(key(1), 'a');
        map.insert(key(2), 'b');
        map.insert(key(1), 'c');
        map.insert(key(3), 'd');
        assert_eq!(map.get(&key(1)), Some(&'c'), "written again, so younger than 2");
        assert_eq!(map.get(&key(2)), None);
        assert_eq!(map.get(&key(3)), Some(&'d'));
    }

    #[test]
    fn rewriting_one_key_does_not_grow_the_order() {
        let mut map = Bounded::new(4);
        for n in 0..10_000 {
            map.insert(key(1), n);
        }
        assert_eq!(map.len(), 1);
        assert!(map.order.len() <= 65, "{}", map.order.len());
    }

    #[test]
    fn a_removed_entry_does_not_take_a_younger_one_with_it() {
        let mut map = Bounded::new(1);
        map.insert(key(1), 1);
        map.remove(&key(1));
        map.insert(key(1), 2);
        assert_eq!(map.get(&key(1)), Some(&2));
        map.insert(key(2), 3);
        assert_eq!((map.get(&key(1)), map.get(&key(2))), (None, Some(&3)));
    }

    #[test]
    fn a_bound_of_zero_holds_nothing() {
        let mut map = Bounded::new(0);
        map.insert(key(1), 1);
        assert!(map.is_empty());
    }
}
