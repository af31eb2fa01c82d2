//! What fuzz targets and tests of the guards need of sessions besides their interface.

use crate::id::PublicKey;
use crate::keys::GroupKeys;
use crate::session::Sessions;
use crate::session::mac::{MAC_LEN, MacKey};

/// Puts the code of all before it at `at`, as a member does in a packet for `recipient`.
pub(crate) fn sign(keys: &GroupKeys, recipient: &PublicKey, packet: &mut [u8], at: usize) {
    let (signed, rest) = packet.split_at_mut(at);
    rest[..MAC_LEN].copy_from_slice(&MacKey::new(&keys.mac1, recipient).tag(signed));
}

impl Sessions {
    /// Whether every index belongs to one live session or pending Init.
    pub(crate) fn indices_hold(&self) -> bool {
        let sessions = self.peers.values().flat_map(|slots| slots.indices());
        let attempts = self.attempts.values();
        let pending = attempts.flat_map(|attempt| attempt.pending.iter().map(|init| init.local));
        let mut live: Vec<_> = sessions.chain(pending).collect();
        live.sort_unstable();
        live.iter().eq(self.indices.keys())
    }

    /// As if so many packets had been sent over the session with a peer.
    pub(crate) fn wear(&mut self, peer: &PublicKey, sent: u64) {
        let session = self.peers.get_mut(peer);
        if let Some(session) = session.and_then(|slots| slots.current.as_mut()) {
            session.set_sent(sent);
        }
    }
}
