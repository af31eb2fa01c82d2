//! Functions and their length.

use crate::source::indentation;

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its signature, counted from 1.
    pub line: usize,
    /// Lines from the signature to the closing brace.
    pub length: usize,
}

/// The functions in `code`, which has neither comments nor texts and is laid out by rustfmt: the
/// body ends at the first line that begins with a brace as far to the left as the signature.
#[must_use]
pub fn functions(code: &str) -> Vec<Function> {
    let lines: Vec<&str> = code.lines().collect();
    let found = lines.iter().enumerate().filter_map(|(start, line)| {
        let name = name(line)?;
        let end = end(&lines, start)?;
        Some(Function {
            name,
            line: start + 1,
            length: end - start + 1,
        })
    });
    found.collect()
}

/// The name, if a signature begins on this line.
fn name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let after = loop {
        match words.next()? {
            "fn" => break words.next()?,
            "const" | "async" | "unsafe" | "extern" | "pub" => {}
            word if word.starts_with("pub(") || word.ends_with(')') => {}
            _ => return None,
        }
    };
    let end = after
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(after.len());
    Some(after[..end].to_owned())
}

/// The line of the closing brace; none for a signature without a body.
fn end(lines: &[&str], start: usize) -> Option<usize> {
    let indent = indentation(lines[start]);
    for (offset, line) in lines[start..].iter().enumerate() {
        let line_indent = indentation(line);
        let text = line.trim();
        if offset == 0 && text.ends_with('}') {
            return Some(start);
        }
        if line_indent == indent && text.ends_with(';') {
            return None;
        }
        if offset > 0 && line_indent == indent && text.starts_with('}') {
            return Some(start + offset);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_end_at_their_brace() {
        let code = "\
impl A {
    pub(crate) const fn one(&self) -> u8 { 1 }

    pub fn two<T>(
        &self,
        other: T,
    ) -> u8
    where
        T: Sized,
    {
        if x {
            y
        }
    }

    fn declared(&self);
    fn declared_at_length(
        &self,
    ) -> u8;
}

async fn three() {
    loop {
    }
}
";
        let found = functions(code);
        let lengths: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.length))
            .collect();
        assert_eq!(lengths, [("one", 2, 1), ("two", 4, 11), ("three", 22, 4)]);
    }

    #[test]
    fn other_uses_of_the_word_are_none() {
        assert_eq!(
            functions("type F = fn(u8) -> u8;\nlet fn_like = 1;\ncall(|f| fn_ptr(f))"),
            []
        );
    }
}
