//! A bounded map that forgets what was used least recently.
//!
//! Everything that strangers or members can make a device remember goes into one of these, so that
//! memory has a bound whatever arrives. Looking an entry up refreshes it. Every operation takes
//! logarithmic time; the order is the tree's, so runs repeat.

use std::collections::BTreeMap;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    max: usize,
}

impl<K: Ord + Copy, V> Lru<K, V> {
    /// Holds up to `max` entries.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            max,
        }
    }

    /// The value at `key`, which becomes the most lately used.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(value)
    }

    /// The value at `key`, made by `new` where there is none; it becomes the most lately used.
    pub(super) fn get_or_insert(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.make_room();
            self.uses += 1;
            self.entries.insert(key, (self.uses, new()));
            self.by_use.insert(self.uses, key);
        }
        self.get(&key).expect("it is there or was just made")
    }

    /// Puts a value at `key`, in place of any other.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let mut value = Some(value);
        let kept = self.get_or_insert(key, || value.take().expect("called once"));
        if let Some(value) = value {
            *kept = value;
        }
    }

    /// Takes the entry at `key` out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.by_use.remove(&used);
        Some(value)
    }

    /// All entries, by key; none of them counts as used.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    fn make_room(&mut self) {
        if self.entries.len() >= self.max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.by_use.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_lately_used_is_forgotten_and_a_hit_refreshes() {
        let mut lru = Lru::new(3);
        for key in 1..=3 {
            lru.insert(key, key * 10);
        }
        assert_eq!(lru.get(&1), Some(&mut 10), "a hit refreshes");
        lru.insert(4, 40);
        assert_eq!(lru.get(&2), None, "2 was used least lately");
        lru.insert(3, 33);
        lru.insert(5, 50);
        assert_eq!(lru.get(&1), None, "so does an insertion in place");
        assert_eq!(lru.get(&3), Some(&mut 33));
        assert_eq!(lru.remove(&3), Some(33));
        assert_eq!(*lru.get_or_insert(6, || 60), 60);
        assert_eq!(*lru.get_or_insert(6, || 61), 60);
        assert_eq!(lru.len(), 3);
        for key in 10..1000 {
            lru.insert(key, 0);
            assert_eq!(lru.len(), 3);
        }
    }
}
