//! Bytes to typed values and back, each once.

pub(crate) mod header;
pub(crate) mod keyring;
pub(crate) mod lenient;
pub(crate) mod message;
pub(crate) mod part;
pub(crate) mod record;
pub(crate) mod state;
