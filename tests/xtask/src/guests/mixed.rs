//! The group of five devices, each of which runs another language.
//!
//! With fewer languages a smaller group runs, and the step counts as skipped: the summary names the
//! languages that were in it, and of each that was not, why.

use anyhow::{Error, anyhow};

use crate::steps::{Skip, Steps};

/// As many devices as the group is to have, each with a language of its own.
const DEVICES: usize = 5;

/// One language under two names.
const SAME: [&str; 2] = ["js", "ts"];

/// The languages for the group: of those that were built, the first ones, each once.
pub(super) fn languages<'a>(built: &[&'a str]) -> Vec<&'a str> {
    let mut languages = Vec::new();
    for name in built {
        let is_there = SAME.contains(name) && languages.iter().any(|there| SAME.contains(there));
        if !is_there && languages.len() < DEVICES {
            languages.push(*name);
        }
    }
    languages
}

/// Why the group was smaller, if it was. `all` are the names of all languages.
pub(super) fn too_few(group: &[&str], all: &[&str], steps: &Steps) -> Option<Error> {
    if group.len() >= DEVICES {
        return None;
    }
    let missing: Vec<String> = all
        .iter()
        .filter(|name| !group.contains(name))
        .filter(|name| !(SAME.contains(name) && group.iter().any(|there| SAME.contains(there))))
        .map(|name| match steps.why_not(name) {
            Some(why) => format!("{name}: {why}"),
            None => format!("{name}: not asked for"),
        })
        .collect();
    let there = match group {
        [] => "no group ran".to_owned(),
        names => format!("a group of {} only ran, and passed", names.join(" and ")),
    };
    let error = anyhow!(
        "{there}; {DEVICES} languages are wanted. {}",
        missing.join("; ")
    );
    Some(Skip::because(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 4] = ["rust", "js", "ts", "zig"];

    #[test]
    fn one_language_is_there_once() {
        assert_eq!(languages(&ALL), ["rust", "js", "zig"]);
        assert_eq!(languages(&["ts", "c"]), ["ts", "c"]);
        let many = ["rust", "as", "js", "ts", "python", "c", "zig"];
        assert_eq!(languages(&many), ["rust", "as", "js", "python", "c"]);
    }

    #[test]
    fn a_smaller_group_is_skipped_with_the_reason_for_each_language() {
        let mut steps = Steps::new();
        steps.step("rust", || Ok(()));
        steps.step("zig", || {
            Err(Skip::because(&anyhow!("PyPI does not answer")))
        });
        let told = too_few(&["rust", "ts"], &ALL, &steps).expect("two are too few");
        assert!(told.is::<Skip>(), "{told:?}");
        let told = told.to_string();
        assert!(told.contains("rust and ts only"), "{told}");
        assert!(
            told.ends_with("wanted. zig: PyPI does not answer"),
            "{told}"
        );
        let told = too_few(&[], &["go"], &steps).expect("none").to_string();
        assert!(told.contains("no group") && told.contains("go: not asked for"));
        assert!(too_few(&["a", "b", "c", "d", "e"], &ALL, &steps).is_none());
    }
}
