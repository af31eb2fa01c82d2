//! MessagePack for payloads.
//!
//! A payload is bytes to the host. MessagePack is the convention of all Consort SDKs, so that
//! plugins in different languages understand each other. [`encode`] writes structures as maps by
//! field name: with `#[serde(default)]` on a new field, old and new versions of a plugin read each
//! other. [`encode_compact`] writes them as arrays, which is shorter, but then fields can only be
//! appended, all at once on all devices. [`decode`] reads both.
//!
//! ```
//! use consort_plugin::payload;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Light {
//!     on: bool,
//!     level: u8,
//! }
//!
//! let light = Light { on: true, level: 200 };
//! let bytes = payload::encode(&light)?;
//! assert_eq!(payload::decode::<Light>(&bytes)?, light);
//!
//! let compact = payload::encode_compact(&light)?;
//! assert!(compact.len() < bytes.len());
//! assert_eq!(payload::decode::<Light>(&compact)?, light);
//! # Ok::<(), consort_plugin::BoxError>(())
//! ```

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

mod value;

pub use value::Value;

/// How deep values may nest. The default of the decoder would let a hostile payload of a thousand
/// bytes overflow the stack.
pub const DEPTH_MAX: usize = 16;

/// A value as MessagePack, structures as maps by field name.
///
/// # Errors
/// The value is one that MessagePack cannot hold, such as a sequence of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    rmp_serde::to_vec_named(value).map_err(|error| EncodeError(error.to_string()))
}

/// A value as MessagePack, structures as arrays in the order of their fields.
///
/// # Errors
/// As for [`encode`].
pub fn encode_compact<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    rmp_serde::to_vec(value).map_err(|error| EncodeError(error.to_string()))
}

/// The value in a payload. The payload must hold nothing else and nest at most [`DEPTH_MAX`] deep.
///
/// # Errors
/// The payload is no MessagePack, none of a `T`, nests too deep, or goes on after the value.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    let mut rest = payload;
    let mut decoder = rmp_serde::Deserializer::new(&mut rest);
    decoder.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut decoder).map_err(|error| match error {
        rmp_serde::decode::Error::DepthLimitExceeded => DecodeError::TooDeep,
        other => DecodeError::Malformed(other.to_string()),
    })?;
    match rest.len() {
        0 => Ok(value),
        bytes => Err(DecodeError::Trailing { bytes }),
    }
}

/// Why a value has no MessagePack form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError(String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no MessagePack form: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}

/// Why a payload is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is no MessagePack, or not of the type that was asked for.
    Malformed(String),
    /// It nests deeper than [`DEPTH_MAX`].
    TooDeep,
    /// It goes on after the value.
    Trailing {
        /// How many bytes are left over.
        bytes: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(cause) => {
                write!(f, "the payload does not hold what it should: {cause}")
            }
            Self::TooDeep => write!(f, "the payload nests deeper than {DEPTH_MAX} levels"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow the value in the payload"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested(Vec<Nested>);

    fn nested(depth: usize) -> Vec<u8> {
        // An array of one element, so often, around an empty one.
        let mut bytes = vec![0x91; depth - 1];
        bytes.push(0x90);
        bytes
    }

    #[test]
    fn depth_is_limited() {
        assert!(decode::<Nested>(&nested(8)).is_ok());
        assert_eq!(decode::<Nested>(&nested(40)), Err(DecodeError::TooDeep));
        assert_eq!(
            decode::<Nested>(&nested(100_000)),
            Err(DecodeError::TooDeep)
        );
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32).unwrap();
        bytes.extend([0, 0]);
        assert_eq!(
            decode::<u32>(&bytes),
            Err(DecodeError::Trailing { bytes: 2 })
        );
    }

    #[test]
    fn other_types_and_cut_payloads_are_refused() {
        let bytes = encode("text").unwrap();
        assert!(matches!(
            decode::<u32>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(
            decode::<String>(&bytes[..3]),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(decode::<u32>(&[]), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // A binary of 4 GiB and an array of 4 G elements, with nothing behind them.
        for head in [0xc6, 0xdd] {
            let claim = [head, 0xff, 0xff, 0xff, 0xff];
            assert!(matches!(
                decode::<Vec<u64>>(&claim),
                Err(DecodeError::Malformed(_))
            ));
        }
    }
}
