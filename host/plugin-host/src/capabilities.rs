//! What a plugin may reach outside its sandbox: nothing, unless its manifest asks for it and the
//! operator grants it.
//!
//! Invariant: what holds is never more than what is asked for and never more than what is granted.
//! What is asked for and not granted costs the plugin nothing else: it runs without, and the refusal
//! is shown with the line that would grant it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::text_value::text_value;

/// The most folders that a plugin may ask for.
pub const FOLDERS_MAX: usize = 16;

/// What may be done with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Look and read.
    Read,
    /// Also make, change and remove.
    ReadWrite,
}

impl Access {
    /// As it is written in manifests and settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "\"read\" or \"read-write\"";
        text_value(deserializer, EXPECTED, |text| {
            let mut known = [Self::Read, Self::ReadWrite].into_iter();
            let access = known.find(|access| access.as_str() == text);
            access.ok_or_else(|| format!("{text:?} is no way to use a folder; use {EXPECTED}"))
        })
    }
}

/// What a manifest asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// To talk with programs on this device.
    pub local: bool,
    /// Folders, by the names under which the plugin will see them.
    pub files: BTreeMap<String, Access>,
}

/// What the operator grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// To talk with programs on this device.
    pub local: bool,
    /// Folders of this device, by the names that the manifest has for them.
    pub files: BTreeMap<String, FolderGrant>,
}

/// A folder of this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderGrant {
    /// Where it is.
    pub path: PathBuf,
    /// What may be done with it at most.
    pub access: Access,
}

/// What holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The folders it has, as `/<name>`.
    pub files: BTreeMap<String, FolderGrant>,
    /// Whether it talks with programs on this device.
    pub local: bool,
    /// What was asked for and does not hold, or not wholly, ordered by name.
    pub refused: Vec<Refusal>,
}

/// Something that was asked for and does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What, as `local` or `files.<name>`.
    pub capability: String,
    /// Why, and what would grant it.
    pub reason: String,
}

impl Capabilities {
    /// What is both asked for and granted, for the plugin `id`.
    #[must_use]
    pub fn intersect(id: &str, asked: &Asked, granted: &Granted) -> Self {
        let mut held = Self::default();
        for (name, wanted) in &asked.files {
            held.add_folder(id, name, *wanted, granted.files.get(name));
        }
        held.local = asked.local && granted.local;
        if asked.local && !granted.local {
            let reason = format!(
                "not granted: `local = true` under [plugins.\"{id}\".capabilities] grants it"
            );
            held.refused.push(Refusal {
                capability: "local".to_owned(),
                reason,
            });
        }
        held
    }

    fn add_folder(&mut self, id: &str, name: &str, wanted: Access, grant: Option<&FolderGrant>) {
        let capability = format!("files.{name}");
        let Some(grant) = grant else {
            let reason = format!(
                "not granted: `path` and `access = \"{}\"` under \
                 [plugins.\"{id}\".capabilities.files.{name}] grant it",
                wanted.as_str()
            );
            return self.refused.push(Refusal { capability, reason });
        };
        if grant.access < wanted {
            let reason = format!(
                "granted for reading only: `access = \"read-write\"` under \
                 [plugins.\"{id}\".capabilities.files.{name}] grants the rest"
            );
            self.refused.push(Refusal { capability, reason });
        }
        let grant = FolderGrant {
            path: grant.path.clone(),
            access: grant.access.min(wanted),
        };
        self.files.insert(name.to_owned(), grant);
    }
}

/// Whether a text can name a folder: 1 to 32 of `a` to `z`, `0` to `9`, `-`, `_`.
#[must_use]
pub fn is_folder_name(name: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=32).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(folders: &[(&str, Access)]) -> Asked {
        Asked {
            local: true,
            files: folders.iter().map(|(n, a)| ((*n).to_owned(), *a)).collect(),
        }
    }

    fn granted(folders: &[(&str, Access)]) -> Granted {
        let grant = |access| FolderGrant {
            path: PathBuf::from("/srv"),
            access,
        };
        Granted {
            local: false,
            files: folders
                .iter()
                .map(|(n, a)| ((*n).to_owned(), grant(*a)))
                .collect(),
        }
    }

    #[test]
    fn what_holds_is_asked_for_and_granted() {
        let asked = asked(&[
            ("both", Access::ReadWrite),
            ("less", Access::ReadWrite),
            ("modest", Access::Read),
            ("none", Access::Read),
        ]);
        let granted = granted(&[
            ("both", Access::ReadWrite),
            ("less", Access::Read),
            ("modest", Access::ReadWrite),
            ("unasked", Access::ReadWrite),
        ]);
        let held = Capabilities::intersect("app", &asked, &granted);
        let files: Vec<_> = held.files.iter().map(|(n, g)| (&n[..], g.access)).collect();
        assert_eq!(
            files,
            [
                ("both", Access::ReadWrite),
                ("less", Access::Read),
                ("modest", Access::Read)
            ]
        );
        let refused: Vec<_> = held.refused.iter().map(|r| &r.capability[..]).collect();
        assert_eq!(refused, ["files.less", "files.none", "local"]);
        for refusal in &held.refused {
            assert!(refusal.reason.contains("[plugins.\"app\".capabilities"));
        }
        let granted = Granted {
            local: true,
            ..granted
        };
        let held = Capabilities::intersect("app", &asked, &granted);
        let refused: Vec<_> = held.refused.iter().map(|r| &r.capability[..]).collect();
        assert_eq!(refused, ["files.less", "files.none"]);
        assert!(held.local);
        let unasked = Capabilities::intersect("app", &Asked::default(), &granted);
        assert_eq!(
            unasked,
            Capabilities::default(),
            "granted and not asked for"
        );
    }

    #[test]
    fn nothing_holds_by_default() {
        let held = Capabilities::intersect("app", &Asked::default(), &granted(&[]));
        assert_eq!(held, Capabilities::default());
    }

    #[test]
    fn folder_names_are_plain() {
        for name in ["a", "my-music_2"] {
            assert!(is_folder_name(name), "{name}");
        }
        for name in ["", "A", "a/b", "..", ".", "a b", &"a".repeat(33)] {
            assert!(!is_folder_name(name), "{name}");
        }
    }
}
