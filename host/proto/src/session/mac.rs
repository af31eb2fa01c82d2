//! The message authentication code at the end of handshake packets.
//!
//! `mac1` is keyed by the group secret and the recipient's public key. It costs a fraction of a
//! microsecond and stands before all else, so that whoever lacks the secret can only replay what it
//! has recorded. It covers the whole packet before it, the parts that Noise leaves out included.

use blake2::Blake2sMac;
use blake2::digest::Mac as _;
use blake2::digest::consts::{U16, U32};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::PublicKey;

/// The size of a message authentication code.
pub(super) const MAC_LEN: usize = 16;

/// Makes and checks the codes of packets to one recipient.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct MacKey([u8; 32]);

impl MacKey {
    /// Derives the key for packets to `recipient` from the group's.
    pub(super) fn new(group: &[u8; 32], recipient: &PublicKey) -> Self {
        let mac = Blake2sMac::<U32>::new(group.into())
            .chain_update(b"consort mac1 v1")
            .chain_update(recipient.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// The code of `message`.
    pub(super) fn tag(&self, message: &[u8]) -> [u8; MAC_LEN] {
        self.mac(message).finalize().into_bytes().into()
    }

    /// Whether `tag` is the code of `message`; takes the same time whatever differs.
    pub(super) fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        self.mac(message).verify_slice(tag).is_ok()
    }

    fn mac(&self, message: &[u8]) -> Blake2sMac<U16> {
        Blake2sMac::new((&self.0).into()).chain_update(message)
    }
}
