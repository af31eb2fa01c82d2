//! Links in Markdown.

/// The targets of `[text](target)` in `markdown` that are files: relative, without their anchor.
/// What stands in code is no link.
#[must_use]
pub fn file_links(markdown: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            links.extend(links_in(&without_code(line)));
        }
    }
    links
}

fn links_in(line: &str) -> Vec<String> {
    let after_text = line.match_indices("](").map(|(i, _)| &line[i + 2..]);
    let targets = after_text.filter_map(|rest| Some(&rest[..rest.find(')')?]));
    let files = targets.filter(|target| !target.starts_with('#') && !target.contains("://"));
    let files = files.filter(|target| !target.starts_with("mailto:"));
    files
        .map(|target| target.split('#').next().unwrap_or(target).to_owned())
        .collect()
}

/// A line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_count() {
        let markdown = "\
See [a](docs/a.md#part), [b](https://example.org/b) and [c](#c).
`[not](a-link.md)` but [d](d.md)
```
[neither](this.md)
```
    [nor](that.md)
";
        assert_eq!(file_links(markdown), ["docs/a.md", "d.md"]);
    }
}
