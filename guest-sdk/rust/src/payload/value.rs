//! A payload of any form, for plugins that pass values on or look before they decide on a type.

use serde::{Serialize, Serializer};

use super::{DEPTH_MAX, DecodeError};

/// Any value of MessagePack but its extension types, which no SDK writes.
///
/// It keeps the order of a map's entries, and [`encode`](super::encode) writes it in the shortest
/// form, so that what came from an SDK goes out as the same bytes.
///
/// ```
/// use consort_plugin::payload::{self, Value};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Light {
///     on: bool,
///     level: u8,
/// }
///
/// let bytes = payload::encode(&Light { on: true, level: 200 })?;
/// let value = Value::decode(&bytes)?;
/// assert_eq!(value.get("level"), Some(&Value::Unsigned(200)));
/// assert_eq!(payload::encode(&value)?, bytes);
/// # Ok::<(), consort_plugin::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// Yes or no.
    Bool(bool),
    /// An integer that is not negative.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// Some bytes.
    Binary(Vec<u8>),
    /// Values in order.
    Array(Vec<Value>),
    /// Keys with their values, in the order in which they were written.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The value in a payload. The payload must hold nothing else and nest at most [`DEPTH_MAX`]
    /// deep.
    ///
    /// # Errors
    /// The payload is no MessagePack, has an extension type, nests too deep, or goes on after the
    /// value.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { rest: payload };
        let value = reader.value(DEPTH_MAX)?;
        match reader.rest.len() {
            0 => Ok(value),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }

    /// The value under a text key of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let mut entries = entries.iter();
        entries.find_map(|(name, value)| (name.as_text() == Some(key)).then_some(value))
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let [head] = self.bytes()?;
        Ok(match head {
            0x00..=0x7f => Value::Unsigned(head.into()),
            0x80..=0x8f => self.map(usize::from(head & 0x0f), depth)?,
            0x90..=0x9f => self.array(usize::from(head & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(head & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(head - 0xc4)?;
                Value::Binary(self.take(length)?.to_vec())
            }
            0xca => Value::Float(f32::from_be_bytes(self.bytes()?).into()),
            0xcb => Value::Float(f64::from_be_bytes(self.bytes()?)),
            0xcc => Value::Unsigned(u8::from_be_bytes(self.bytes()?).into()),
            0xcd => Value::Unsigned(u16::from_be_bytes(self.bytes()?).into()),
            0xce => Value::Unsigned(u32::from_be_bytes(self.bytes()?).into()),
            0xcf => Value::Unsigned(u64::from_be_bytes(self.bytes()?)),
            0xd0 => signed(i8::from_be_bytes(self.bytes()?).into()),
            0xd1 => signed(i16::from_be_bytes(self.bytes()?).into()),
            0xd2 => signed(i32::from_be_bytes(self.bytes()?).into()),
            0xd3 => signed(i64::from_be_bytes(self.bytes()?)),
            0xd9..=0xdb => {
                let length = self.length(head - 0xd9)?;
                self.text(length)?
            }
            // These two have no length of one byte.
            0xdc | 0xdd => {
                let count = self.length(head - 0xdb)?;
                self.array(count, depth)?
            }
            0xde | 0xdf => {
                let count = self.length(head - 0xdd)?;
                self.map(count, depth)?
            }
            0xe0..=0xff => Value::Negative(head.cast_signed().into()),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => {
                return Err(malformed(&format!("a value of no known type, {head:#04x}")));
            }
        })
    }

    /// A length of 1, 2 or 4 bytes, by its place among the three.
    fn length(&mut self, place: u8) -> Result<usize, DecodeError> {
        let length = match place {
            0 => u8::from_be_bytes(self.bytes()?).into(),
            1 => u16::from_be_bytes(self.bytes()?).into(),
            _ => u32::from_be_bytes(self.bytes()?),
        };
        usize::try_from(length).map_err(|_| malformed("a length beyond this machine's memory"))
    }

    fn text(&mut self, length: usize) -> Result<Value, DecodeError> {
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|error| malformed(&error.to_string()))?;
        Ok(Value::Text(text.to_owned()))
    }

    fn array(&mut self, count: usize, depth: usize) -> Result<Value, DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let values = (0..count).map(|_| self.value(depth));
        // Grows as elements come, whatever the head claims.
        values.collect::<Result<_, _>>().map(Value::Array)
    }

    fn map(&mut self, count: usize, depth: usize) -> Result<Value, DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let entries = (0..count).map(|_| Ok((self.value(depth)?, self.value(depth)?)));
        entries.collect::<Result<_, _>>().map(Value::Map)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let split = self.rest.split_at_checked(length);
        let (taken, rest) = split.ok_or_else(|| malformed("the payload is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let split = self.rest.split_first_chunk();
        let (taken, rest) = split.ok_or_else(|| malformed("the payload is cut off"))?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn signed(value: i64) -> Value {
    u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned)
}

fn malformed(why: &str) -> DecodeError {
    DecodeError::Malformed(why.to_owned())
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => to.serialize_unit(),
            Self::Bool(yes) => to.serialize_bool(*yes),
            Self::Unsigned(number) => to.serialize_u64(*number),
            Self::Negative(number) => to.serialize_i64(*number),
            Self::Float(number) => to.serialize_f64(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::Binary(bytes) => to.serialize_bytes(bytes),
            Self::Array(values) => to.collect_seq(values),
            Self::Map(entries) => to.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::encode;

    #[test]
    fn every_form_comes_out_as_it_went_in() {
        let value = Value::Map(vec![
            (Value::Text("n".into()), Value::Nil),
            (Value::Unsigned(7), Value::Bool(true)),
            (Value::Negative(-33), Value::Float(0.5)),
            (Value::Binary(vec![0; 300]), Value::Unsigned(u64::MAX)),
            (
                Value::Text("x".repeat(70_000)),
                Value::Array(vec![Value::Negative(i64::MIN); 17]),
            ),
        ]);
        let bytes = encode(&value).unwrap();
        assert_eq!(Value::decode(&bytes), Ok(value));
    }

    #[test]
    fn longer_forms_than_needed_are_read() {
        for (bytes, number) in [
            (&[0xcd, 0, 7][..], Value::Unsigned(7)),
            (&[0xd1, 0, 7], Value::Unsigned(7)),
            (&[0xd2, 0xff, 0xff, 0xff, 0xff], Value::Negative(-1)),
            (&[0xca, 0x3f, 0, 0, 0], Value::Float(0.5)),
        ] {
            assert_eq!(Value::decode(bytes), Ok(number), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let deep = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
        assert!(Value::decode(&deep(DEPTH_MAX)).is_ok());
        for depth in [DEPTH_MAX + 1, 100_000] {
            assert_eq!(Value::decode(&deep(depth)), Err(DecodeError::TooDeep));
        }
        let trailing = DecodeError::Trailing { bytes: 1 };
        assert_eq!(Value::decode(&[0, 0]), Err(trailing));
        for bytes in [
            &[][..],
            &[0xc1],
            &[0xc7, 1, 1, 1],
            &[0xa2, 0xff, 0xfe],
            &[0xdb, 0x80, 0, 0, 0],
            &[0xdf, 0x7f, 0xff, 0xff, 0xff, 1],
            &[0xcf, 1],
        ] {
            let refused = Value::decode(bytes);
            assert!(
                matches!(refused, Err(DecodeError::Malformed(_))),
                "{bytes:02x?}"
            );
        }
    }
}
