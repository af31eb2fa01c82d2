//! Bytes to typed values and back, each once.

pub(crate) mod header;
pub(crate) mod message;
