//! What every machine inside a node works with: the time of the input at hand, the node's one
//! generator, and the one outbox for datagrams.

use std::collections::VecDeque;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;

use crate::event::{Address, Destination, Transmit};
use crate::status::Counters;
use crate::time::Time;

/// The surroundings of one input.
pub(crate) struct Ctx<'a> {
    /// When the input happened.
    pub(crate) now: Time,
    /// Decides all that is random.
    pub(crate) rng: &'a mut ChaCha12Rng,
    /// Datagrams to send, in order.
    pub(crate) outbox: &'a mut VecDeque<Transmit>,
    /// Counts of what was refused or lost.
    pub(crate) counters: &'a mut Counters,
}

impl Ctx<'_> {
    /// Sends a datagram to one address.
    pub(crate) fn transmit(&mut self, to: Address, payload: impl Into<Bytes>) {
        self.outbox.push_back(Transmit {
            to: Destination::Address(to),
            payload: payload.into(),
        });
    }

    /// Sends a datagram to every usable interface.
    pub(crate) fn transmit_to_everyone(&mut self, payload: impl Into<Bytes>) {
        self.outbox.push_back(Transmit {
            to: Destination::Everyone,
            payload: payload.into(),
        });
    }
}
