//! What is said of a mistake in a TOML text: at which key it is, and in words of its reader.

use toml::de::{DeTable, DeValue};

/// The path of the deepest key at `offset` of a text, outermost part first, whether the key itself
/// stands there or its value. None between the values.
#[must_use]
pub fn key_at(table: &DeTable<'_>, offset: usize) -> Option<Vec<String>> {
    for (key, value) in table {
        let name = || key.get_ref().to_string();
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(mut path) = key_at(inner, offset)
        {
            path.insert(0, name());
            return Some(path);
        }
        if key.span().contains(&offset) || value.span().contains(&offset) {
            return Some(vec![name()]);
        }
    }
    None
}

/// The line of `offset` in a text, from 1.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

/// What is wrong, on one line. Serde speaks of fields, maps and "expected one of"; a reader has keys,
/// tables and what is allowed.
#[must_use]
pub fn wording(error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', "; ");
    if message.starts_with("unknown field") {
        return message
            .replacen("unknown field", "unknown key", 1)
            .replacen("expected one of", "allowed here:", 1)
            .replacen("expected", "allowed here:", 1);
    }
    match message.strip_suffix("expected a map") {
        Some(found) => format!("{found}expected a table"),
        None => message,
    }
}
