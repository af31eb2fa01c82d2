//! Writes that the group did not adopt while no instance could be told: the next one is.

use std::collections::BTreeSet;
use std::sync::Arc;

use consort_proto::PluginEvent;

/// The most keys that wait. Beyond, what a plugin had written is not what it has to go through key
/// by key; the log has told of all.
const KEYS_MAX: usize = 1024;

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
