//! The projects that `consort plugin new` writes, by language. Their files are embedded.
//!
//! A project holds the template of its language, with its name filled in, and beside it the SDK in
//! the folder `consort`: it builds without a registry that carries the SDK.

use clap::ValueEnum;
use consort_proto::PluginId;

/// Every file below `guest-sdk`, by path.
static EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/guest_sdks.rs"));

/// The languages with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    C,
    Zig,
    Js,
    Ts,
    Python,
    Go,
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

/// A file of a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where it goes, relative to the project.
    pub(super) path: String,
    pub(super) text: String,
}

impl Language {
    /// Which files of the SDK go where; the first match counts.
    fn places(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &[
                ("rust/template/", ""),
                ("rust/src/", "consort/src/"),
                ("rust/wit/", "consort/wit/"),
            ],
            Self::C => &[
                ("c/template/", ""),
                ("c/bindings/", "consort/bindings/"),
                ("c/include/", "consort/include/"),
                ("c/src/", "consort/src/"),
            ],
            Self::Zig => &[("zig/template/", ""), ("zig/src/", "consort/src/")],
            Self::Js => &[
                ("js/template-js/", ""),
                ("js/consort/", "consort/"),
                ("js/wit/", "consort/wit/"),
            ],
            Self::Ts => &[
                ("js/template-ts/", ""),
                ("js/consort/", "consort/"),
                ("js/wit/", "consort/wit/"),
            ],
            Self::Python => &[
                ("python/template/", ""),
                ("python/consort/", "consort/"),
                ("python/stubs/", "stubs/"),
                ("python/wit/", "wit/"),
            ],
            Self::Go => &[
                ("go/template/", ""),
                ("go/generate.sh", ""),
                ("go/README.md", ""),
                ("go/", "consort/"),
            ],
            Self::AssemblyScript => &[
                ("assemblyscript/template/", ""),
                ("assemblyscript/consort/", "consort/"),
            ],
        }
    }

    /// The files of a project of this language.
    pub(super) fn project(self, name: &PluginId) -> Vec<File> {
        let files = EMBEDDED.iter().filter_map(|(path, text)| {
            let (from, to) = self
                .places()
                .iter()
                .find(|(from, _)| path.starts_with(from))?;
            let rest = path.strip_prefix(from)?;
            // The whole path names a file that stays out.
            if rest.is_empty() {
                return None;
            }
            // Manifests carry another ending here, lest the tools of this repository read them.
            let rest = rest.strip_suffix(".txt").unwrap_or(rest);
            let text = if to.is_empty() {
                filled_in(text, name)
            } else {
                (*text).to_owned()
            };
            Some(File {
                path: format!("{to}{rest}"),
                text,
            })
        });
        files.collect()
    }
}

/// Puts the name into a template: as it is, as part of a file's name in Rust, as a type.
fn filled_in(text: &str, name: &PluginId) -> String {
    let plain = name.as_str();
    let snake = plain.replace(['-', '.'], "_");
    let camel: String = plain
        .split(['-', '.', '_'])
        .filter_map(|word| {
            let mut letters = word.chars();
            Some(letters.next()?.to_ascii_uppercase().to_string() + letters.as_str())
        })
        .collect();
    // A type's name begins with a letter, a plugin's may not.
    let camel = match camel.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => camel,
        _ => format!("Plugin{camel}"),
    };
    text.replace("{{name}}", plain)
        .replace("{{name_snake}}", &snake)
        .replace("{{Name}}", &camel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PluginId {
        PluginId::new(text).expect("a plain name")
    }

    #[test]
    fn every_language_has_a_whole_project() {
        for language in Language::value_variants() {
            let files = language.project(&id("my-app"));
            let has = |path: &str| files.iter().any(|file| file.path == path);
            assert!(has("README.md") && has("plugin.toml"), "{language:?}");
            assert!(has(".gitignore"), "{language:?}");
            let sdk = files
                .iter()
                .filter(|file| file.path.starts_with("consort/"));
            assert!(sdk.count() >= 2, "{language:?} has its SDK");
            let source = files
                .iter()
                .find(|file| file.text.contains("my-app is set up"));
            assert!(source.is_some(), "{language:?} says its name");
            for file in &files {
                assert!(!file.text.contains("{{name"), "{language:?}: {}", file.path);
                assert!(!file.path.ends_with(".txt"), "{language:?}: {}", file.path);
            }
        }
    }

    #[test]
    fn no_two_files_have_one_place() {
        for language in Language::value_variants() {
            let mut paths: Vec<_> = language
                .project(&id("a"))
                .into_iter()
                .map(|f| f.path)
                .collect();
            let all = paths.len();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), all, "{language:?}");
        }
    }

    #[test]
    fn names_become_names_of_types_and_files() {
        let text = "{{name}} {{name_snake}} {{Name}}";
        assert_eq!(filled_in(text, &id("my-app.2")), "my-app.2 my_app_2 MyApp2");
        assert_eq!(filled_in(text, &id("3d")), "3d 3d Plugin3d");
    }
}
