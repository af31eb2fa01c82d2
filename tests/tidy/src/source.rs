//! Source files, and their text without comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

/// Where our sources are.
const FOLDERS: [&str; 4] = ["host", "guest-sdk", "plugins", "tests"];

/// A file of Rust.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// As it is.
    pub text: String,
    /// With comments and the contents of literals replaced by spaces, line by line.
    pub code: String,
}

impl Source {
    /// Reads `text` as a file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            path: path.into(),
            code: blank(&text),
            text,
        }
    }

    /// The code without modules that only tests see.
    #[must_use]
    pub fn production(&self) -> String {
        let mut kept = String::new();
        let mut lines = self.code.lines().peekable();
        while let Some(line) = lines.next() {
            let indent = indentation(line);
            let opens = |next: &&str| next.trim_start().starts_with("mod ") && next.ends_with('{');
            if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(opens) {
                let closing = |line: &&str| indentation(line) == indent && line.trim() == "}";
                lines.find(closing);
                continue;
            }
            kept.push_str(line);
            kept.push('\n');
        }
        kept
    }

    /// Whether the file belongs to a crate's tests or benchmarks as a whole.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let below_the_crate = self.path.iter().skip(2);
        let mut folders = below_the_crate.map(|part| part.to_string_lossy());
        folders.any(|part| ["tests", "benches", "tests.rs"].contains(&&*part))
    }
}

/// Every file of Rust in the workspace.
///
/// # Panics
/// A folder or file cannot be read.
#[must_use]
pub fn all(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), "rs", &mut files);
    }
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("sources are readable UTF-8");
        Source::new(path.strip_prefix(root).expect("found below the root"), text)
    };
    files.into_iter().map(source).collect()
}

/// Adds every file below `folder` with the extension, in order; hidden and build folders left out.
///
/// # Panics
/// A folder cannot be read.
pub fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("folders of the workspace are readable");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !path.is_symlink() && name != "target" && !name.starts_with('.') {
            collect(&path, extension, files);
        } else if path.is_file() && path.extension().is_some_and(|own| own == extension) {
            files.push(path);
        }
    }
}

/// How many spaces a line begins with.
#[must_use]
pub fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What the reader is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    LineComment,
    /// Comments nest.
    BlockComment(usize),
    Text,
    /// A text that ends with a quote and so many hashes.
    RawText(usize),
}

fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut i = 0;
    while i < chars.len() {
        let (next, taken) = step(inside, &chars[i..]);
        for &c in &chars[i..(i + taken).min(chars.len())] {
            let keep = c == '\n' || (inside == Inside::Code && next == Inside::Code);
            code.push(if keep { c } else { ' ' });
        }
        inside = next;
        i += taken;
    }
    code
}

/// What follows the head of `rest`, and how many characters that head has.
fn step(inside: Inside, rest: &[char]) -> (Inside, usize) {
    let at = |i: usize| rest.get(i).copied().unwrap_or('\0');
    match (inside, at(0), at(1)) {
        (Inside::Code, '/', '/') => (Inside::LineComment, 2),
        (Inside::Code, '/', '*') => (Inside::BlockComment(1), 2),
        (Inside::Code, '"', _) => (Inside::Text, 1),
        (Inside::Code, 'r', '"' | '#') => match raw_text(rest) {
            Some(hashes) => (Inside::RawText(hashes), hashes + 2),
            None => (Inside::Code, 1),
        },
        // A character that would open something else.
        (Inside::Code, '\'', '"' | '/') if at(2) == '\'' => (Inside::Code, 3),
        (Inside::Code, '\'', '\\') if at(3) == '\'' => (Inside::Code, 4),
        (Inside::LineComment, '\n', _) => (Inside::Code, 1),
        (Inside::BlockComment(depth), '/', '*') => (Inside::BlockComment(depth + 1), 2),
        (Inside::BlockComment(1), '*', '/') => (Inside::Code, 2),
        (Inside::BlockComment(depth), '*', '/') => (Inside::BlockComment(depth - 1), 2),
        (Inside::Text, '\\', _) => (Inside::Text, 2),
        (Inside::Text, '"', _) => (Inside::Code, 1),
        (Inside::RawText(hashes), '"', _) if (1..=hashes).all(|i| at(i) == '#') => {
            (Inside::Code, hashes + 1)
        }
        (same, _, _) => (same, 1),
    }
}

/// The number of hashes, if a raw text begins here.
fn raw_text(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    (rest.get(hashes + 1) == Some(&'"')).then_some(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("x.rs", text).code
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(
            code("a /* b /* c */ d */ e").trim_end(),
            "a                   e"
        );
        assert_eq!(code(r#"f("x{", 'a')"#), "f(    , 'a')");
        assert_eq!(code(r#"f("\"", y)"#), "f(    , y)");
        assert_eq!(code("f(r#\"a\"b\"#, y)"), "f(        , y)");
        assert_eq!(code("'\"' + '\\'' + 'x'"), "'\"' + '\\'' + 'x'");
        assert_eq!(code("r#type x"), "r#type x");
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "one\n/* two\nthree */\n\"four\nfive\"\nsix";
        let lines: Vec<_> = code(text)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        assert_eq!(lines, ["one", "", "", "", "", "six"]);
    }

    #[test]
    fn test_modules_are_no_production() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        assert_eq!(
            Source::new("x.rs", text).production(),
            "fn a() {}\nfn c() {}\n"
        );
        let apart = "#[cfg(test)]\nmod tests;\nfn c() {}\n";
        assert_eq!(Source::new("x.rs", apart).production(), apart);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        let is_test = |path: &str| Source::new(path, "").is_test();
        assert!(is_test("host/proto/tests/all.rs"));
        assert!(is_test("host/proto/src/session/tests.rs"));
        assert!(is_test("host/proto/benches/seal.rs"));
        assert!(!is_test("tests/tidy/src/lib.rs"));
        assert!(is_test("tests/tidy/tests/sources.rs"));
    }
}
