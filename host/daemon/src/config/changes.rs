//! What changes in the settings while the daemon runs.
//!
//! The file's size, time and number are looked at again and again, so that every way of saving is
//! noticed: over the file, by a rename, behind a symbolic link. A change is read once it has stood
//! still, so that a file that is being written is not taken for a finished one. What is set for
//! plugins holds from there on; every other setting has an owner that read it when the daemon
//! started, so such a change is only named. What cannot be used changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use consort_proto::PluginId;

use super::key::KeyPath;
use super::plugin::Overlay;
use super::resolve::{Resolved, Source};
use super::{Config, ConfigError};

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a change must stand still.
const DEBOUNCE: Duration = Duration::from_millis(250);

/// How long a file must be missing or empty: some ways of saving begin with either.
const ABSENCE: Duration = Duration::from_secs(1);

/// The settings of a running daemon beside those that its file holds by now.
#[derive(Debug)]
pub struct Changes {
    source: Source,
    /// What holds for plugins.
    plugins: BTreeMap<PluginId, Overlay>,
    /// All other settings, as they were when the daemon started.
    fixed: BTreeMap<KeyPath, toml::Value>,
    /// Those of them that the file has other values for, as told last.
    told: Vec<KeyPath>,
    seen: Seen,
    since: Instant,
    acted_on: bool,
}

/// What a look finds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// The file that the settings are read from, if there is any.
    path: Option<PathBuf>,
    /// Its size, time of change and number; none if it is missing.
    stamp: Option<(u64, Option<SystemTime>, u64)>,
}

/// What a changed file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reread {
    /// What is set for plugins from here on; none if it is what was set before.
    pub plugins: Option<BTreeMap<PluginId, Overlay>>,
    /// The settings that hold from the next start on; empty if the same were told before.
    pub waiting: Vec<KeyPath>,
}

impl Changes {
    /// Changes of what `source` was resolved to when the daemon started.
    #[must_use]
    pub fn new(source: Source, resolved: &Resolved) -> Self {
        let seen = Seen::by_looking(&source);
        Self {
            plugins: resolved.config.plugins.clone(),
            fixed: fixed(resolved),
            told: Vec::new(),
            seen,
            since: Instant::now(),
            // What was saved between the reading and this look is a change too.
            acted_on: false,
            source,
        }
    }

    /// Looks at the file at `now`. Gives what it says if it has changed and stood still since.
    ///
    /// # Errors
    /// The changed file is not usable: the text names it, with line, key and what is allowed. What
    /// held before goes on to hold, and the error is given once.
    pub fn look(&mut self, now: Instant) -> Result<Option<Reread>, ConfigError> {
        self.notice(now);
        if self.acted_on || now.saturating_duration_since(self.since) < self.seen.settles_in() {
            return Ok(None);
        }
        self.acted_on = true;
        let resolved = self.source.resolve();
        if self.notice(now) {
            // It changed while it was read.
            return Ok(None);
        }
        Ok(self.compare(&resolved?))
    }

    /// How long to wait at `now` before the next look.
    #[must_use]
    pub fn rest(&self, now: Instant) -> Duration {
        if self.acted_on {
            return LOOK_EVERY;
        }
        let settled = self.since + self.seen.settles_in();
        settled.saturating_duration_since(now).min(LOOK_EVERY)
    }

    /// Looks whether the file is as it was.
    fn notice(&mut self, now: Instant) -> bool {
        let seen = Seen::by_looking(&self.source);
        let changed = seen != self.seen;
        if changed {
            self.seen = seen;
            self.since = now;
            self.acted_on = false;
        }
        changed
    }

    fn compare(&mut self, resolved: &Resolved) -> Option<Reread> {
        let Config { plugins, .. } = &resolved.config;
        let plugins = (*plugins != self.plugins).then(|| plugins.clone());
        if let Some(plugins) = &plugins {
            self.plugins.clone_from(plugins);
        }
        let values = fixed(resolved);
        let keys = self.fixed.keys().chain(values.keys());
        let differs = |key: &&KeyPath| self.fixed.get(key) != values.get(key);
        let mut waiting: Vec<KeyPath> = keys.filter(differs).cloned().collect();
        waiting.sort();
        waiting.dedup();
        if waiting == self.told {
            waiting.clear();
        } else {
            self.told.clone_from(&waiting);
        }
        let says_something = plugins.is_some() || !waiting.is_empty();
        says_something.then_some(Reread { plugins, waiting })
    }
}

impl Seen {
    fn by_looking(source: &Source) -> Self {
        let path = source.file();
        let metadata = path.as_ref().and_then(|path| fs::metadata(path).ok());
        let stamp = metadata.map(|file| (file.len(), file.modified().ok(), file.ino()));
        Self { path, stamp }
    }

    fn settles_in(&self) -> Duration {
        match self.stamp {
            None | Some((0, ..)) => ABSENCE,
            Some(_) => DEBOUNCE,
        }
    }
}

/// The settings that hold until the daemon ends: all but those of plugins.
fn fixed(resolved: &Resolved) -> BTreeMap<KeyPath, toml::Value> {
    let values = resolved.values.iter();
    let fixed = values.filter(|(key, _)| key.parts().first().is_none_or(|part| part != "plugins"));
    fixed
        .map(|(key, value)| (key.clone(), value.value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Flags, Surroundings};

    struct Saved {
        folder: tempfile::TempDir,
        changes: Changes,
        start: Instant,
    }

    impl Saved {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let file = folder.path().join("consort.toml");
            fs::write(&file, text).expect("written");
            let source = Source {
                flags: Flags {
                    config: Some(file),
                    settings: Vec::new(),
                },
                around: Surroundings {
                    variables: BTreeMap::from([("HOME".to_owned(), "/home/a".into())]),
                    is_root: false,
                    host_name: None,
                    current_dir: PathBuf::from("/"),
                },
            };
            let resolved = source.resolve().expect("valid");
            let changes = Changes::new(source, &resolved);
            let start = changes.since;
            let mut saved = Self {
                folder,
                changes,
                start,
            };
            assert_eq!(saved.look(400), None, "nothing changed since the start");
            saved
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("consort.toml")
        }

        fn write(&self, text: &str) {
            fs::write(self.file(), text).expect("written");
        }

        fn try_look(&mut self, at_ms: u64) -> Result<Option<Reread>, ConfigError> {
            self.changes.look(self.start + Duration::from_millis(at_ms))
        }

        /// What is said `at_ms` after the start: the values of `x` for the plugin `a`, and the keys
        /// that wait.
        fn look(&mut self, at_ms: u64) -> Option<(Option<String>, Vec<String>)> {
            let reread = self.try_look(at_ms).expect("usable")?;
            let a = reread.plugins.map(|plugins| {
                let a = plugins.get(&PluginId::new("a").expect("valid"));
                let value = a.and_then(|overlay| overlay.config.get("x"));
                value.cloned().unwrap_or_else(|| "nothing".to_owned())
            });
            let waiting = reread.waiting.iter().map(ToString::to_string);
            Some((a, waiting.collect()))
        }
    }

    fn x(value: u32) -> String {
        format!("[plugins.a.config]\nx = {value}\n")
    }

    fn says(value: &str) -> Option<(Option<String>, Vec<String>)> {
        Some((Some(value.to_owned()), Vec::new()))
    }

    #[test]
    fn a_change_counts_once_it_has_stood_still() {
        let mut saved = Saved::new(&x(1));
        saved.write(&x(20));
        assert_eq!(saved.look(1_000), None);
        saved.write(&x(300));
        assert_eq!(saved.look(1_200), None);
        assert_eq!(saved.look(1_440), None, "it changed at 1200");
        assert_eq!(saved.look(1_450), says("300"));
        assert_eq!(saved.look(9_000), None, "once");
    }

    #[test]
    fn every_way_of_saving_is_noticed() {
        let mut saved = Saved::new(&x(1));
        let aside = saved.folder.path().join("aside");
        let rename = |file: &Path, text: &str| {
            fs::write(&aside, text).expect("written");
            fs::rename(&aside, file).expect("renamed");
        };
        // A rename over the file, with the same size.
        rename(&saved.file(), &x(2));
        assert_eq!(saved.look(1_000), None);
        assert_eq!(saved.look(1_250), says("2"));
        // Emptied, then written.
        saved.write("");
        assert_eq!(saved.look(2_000), None);
        assert_eq!(saved.look(2_900), None, "an empty file is no settings yet");
        saved.write(&x(3));
        assert_eq!(saved.look(2_950), None);
        assert_eq!(saved.look(3_200), says("3"));
        // Moved away, then written.
        fs::rename(saved.file(), saved.folder.path().join("backup")).expect("renamed");
        assert_eq!(saved.look(4_000), None);
        saved.write(&x(4));
        assert_eq!(saved.look(4_600), None);
        assert_eq!(saved.look(4_850), says("4"));
        // Behind a symbolic link, whose target changes.
        let target = saved.folder.path().join("target.toml");
        fs::rename(saved.file(), &target).expect("renamed");
        std::os::unix::fs::symlink(&target, saved.file()).expect("linked");
        assert_eq!(saved.look(5_500), None, "the same file");
        rename(&target, &x(5));
        assert_eq!(saved.look(6_000), None);
        assert_eq!(saved.look(6_250), says("5"));
        // Emptied for good.
        saved.write("");
        assert_eq!(saved.look(7_000), None);
        assert_eq!(saved.look(8_000), says("nothing"));
    }

    #[test]
    fn what_is_not_usable_changes_nothing_and_is_told_once() {
        let mut saved = Saved::new(&x(1));
        let mut at = 1_000;
        for (text, line, parts) in [
            (
                "[plugins.a.limits]\nmemory_mib = 0\n",
                2,
                &["memory_mib", "1 to 1024"][..],
            ),
            (
                "[plugins.a]\n\nprio = 1\n",
                3,
                &["plugins.a.prio", "`priority`"],
            ),
            ("[plugins.a\n", 1, &[]),
        ] {
            saved.write(text);
            assert_eq!(saved.look(at), None);
            let error = saved.try_look(at + 250).expect_err(text).to_string();
            let place = format!("{}:{line}: ", saved.file().display());
            assert!(error.starts_with(&place), "{error}");
            for part in parts {
                assert!(error.contains(part), "{part:?} in {error}");
            }
            assert_eq!(saved.look(at + 500), None);
            at += 1_000;
        }
        fs::remove_file(saved.file()).expect("removed");
        assert_eq!(saved.look(at), None);
        assert_eq!(saved.look(at + 900), None);
        let missing = saved.try_look(at + 1_000).expect_err("it was named");
        assert!(matches!(missing, ConfigError::Read { .. }), "{missing}");
        // As before all that: nothing is to be done.
        saved.write(&x(1));
        assert_eq!(saved.look(at + 2_000), None);
        assert_eq!(saved.look(at + 2_250), None);
    }

    #[test]
    fn what_holds_from_the_next_start_on_is_named_once() {
        let mut saved = Saved::new("name = \"hall\"\n");
        let named = |keys: &[&str]| Some((None, keys.iter().map(ToString::to_string).collect()));
        let other = "name = \"attic\"\n[network]\nport = 5000\n";
        saved.write(other);
        assert_eq!(saved.look(1_000), None);
        assert_eq!(saved.look(1_250), named(&["name", "network.port"]));
        saved.write(&format!("{other}{}", x(1)));
        assert_eq!(saved.look(2_000), None);
        assert_eq!(saved.look(2_250), says("1"), "they were named before");
        saved.write(&format!("name = \"hall\"\n{}", x(1)));
        assert_eq!(saved.look(3_000), None);
        assert_eq!(saved.look(3_250), None, "as at the start");
        saved.write("name = \"attic\"\n");
        assert_eq!(saved.look(4_000), None);
        let again = Some((Some("nothing".to_owned()), vec!["name".to_owned()]));
        assert_eq!(saved.look(4_250), again);
    }
}
