//! Writes that the group did not adopt while no instance could be told: the next one is.

use std::collections::BTreeSet;
use std::sync::Arc;

use consort_proto::PluginEvent;

/// The most keys that wait. Beyond, what a plugin had written is not what it has to go through key
/// by key; the log tells how many were left out.
const KEYS_MAX: usize = 1024;
/// Keys that a line of the log names.
const LISTED_MAX: usize = 32;

/// Keys for the log: the first ones, and how many more there are.
pub(super) fn listed(keys: &[Arc<str>]) -> String {
    let (first, rest) = keys.split_at(keys.len().min(LISTED_MAX));
    let named: Vec<String> = first.iter().map(|key| format!("{key:?}")).collect();
    let mut text = named.join(", ");
    if !rest.is_empty() {
        text.push_str(&format!(" and {} more", rest.len()));
    }
    text
}

/// Keys that wait for an instance.
#[derive(Debug, Default)]
pub(super) struct Superseded(BTreeSet<Arc<str>>);

impl Superseded {
    /// Adds keys, each once; says how many there was no room for.
    pub(super) fn note(&mut self, keys: &[Arc<str>]) -> usize {
        let mut left_out = 0;
        for key in keys {
            if self.0.len() < KEYS_MAX || self.0.contains(key) {
                self.0.insert(Arc::clone(key));
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// What an instance is to be told, if anything. Nothing waits any more.
    pub(super) fn take(&mut self) -> Option<PluginEvent> {
        let keys: Vec<Arc<str>> = std::mem::take(&mut self.0).into_iter().collect();
        (!keys.is_empty()).then_some(PluginEvent::WritesSuperseded(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_some_keys_and_counts_the_rest() {
        let keys: Vec<Arc<str>> = (0..35).map(|n| format!("k{n}").into()).collect();
        assert_eq!(listed(&keys[..1]), r#""k0""#);
        assert_eq!(listed(&keys[..3]), r#""k0", "k1", "k2""#);
        let all = listed(&keys[..LISTED_MAX]);
        assert!(all.ends_with(r#""k31""#), "{all}");
        assert_eq!(listed(&keys), format!("{all} and 3 more"));
        assert_eq!(listed(&["a\n".into()]), r#""a\n""#, "one line");
    }

    #[test]
    fn keys_wait_once_each_and_are_bounded() {
        let mut waiting = Superseded::default();
        assert_eq!(waiting.take(), None);
        let keys: Vec<Arc<str>> = (0..KEYS_MAX).map(|n| format!("{n:05}").into()).collect();
        assert_eq!(waiting.note(&keys), 0);
        assert_eq!(waiting.note(&keys[..7]), 0, "known ones need no room");
        assert_eq!(waiting.note(&["a".into(), "b".into()]), 2);
        assert_eq!(waiting.take(), Some(PluginEvent::WritesSuperseded(keys)));
        assert_eq!(waiting.take(), None);
    }
}
