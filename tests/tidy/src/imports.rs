//! What code names of a crate.

use std::collections::BTreeSet;

/// The first name after each `prefix::` in `code`, such as `session` for `crate::session::Table`
/// under the prefix `crate`. Groups in braces give one name per member.
#[must_use]
pub fn names_under(prefix: &str, code: &str) -> BTreeSet<String> {
    let path = format!("{prefix}::");
    let mut names = BTreeSet::new();
    for (start, _) in code.match_indices(&path) {
        let before = code[..start].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
            add_first_names(&code[start + path.len()..], &mut names);
        }
    }
    names
}

fn add_first_names(rest: &str, names: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    match rest.strip_prefix('{') {
        Some(group) => members(group).for_each(|member| add_first_names(member, names)),
        None => {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            if end > 0 {
                names.insert(rest[..end].to_owned());
            }
        }
    }
}

/// The members of a group that has just been opened; the commas of inner groups do not count.
fn members(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    let mut ends = vec![];
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                ends.push(i);
                break;
            }
            ',' if depth == 0 => ends.push(i),
            _ => {}
        }
    }
    let starts = std::iter::once(0).chain(ends.clone().into_iter().map(|end| end + 1));
    starts.zip(ends).map(|(start, end)| &group[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        names_under("crate", code).into_iter().collect()
    }

    #[test]
    fn paths_and_groups_are_read() {
        assert_eq!(names("use crate::session::Table;"), ["session"]);
        assert_eq!(
            names("let x = crate::clock::now(crate::id::X);"),
            ["clock", "id"]
        );
        assert_eq!(
            names("use crate::{\n    a::{b, c},\n    d,\n    e::{f::{g}, h},\n};\nuse x::y;"),
            ["a", "d", "e"]
        );
    }

    #[test]
    fn other_paths_are_left_alone() {
        assert_eq!(
            names("use mycrate::session; use a::crate::b;"),
            Vec::<String>::new()
        );
        let found = names_under("consort_proto", "use consort_proto::Node; consort::Y");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["Node"]);
    }
}
