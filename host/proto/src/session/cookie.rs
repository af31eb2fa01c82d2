//! Cookies: how a device under load learns that a sender receives at the address it sends from.
//!
//! As WireGuard does it (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", sections
//! 5.3 and 5.4.7), with one change: the key that seals a reply follows from the group's secret, not
//! from the responder's public key alone, so a stranger who records one learns no cookie.
//!
//! A cookie is a code over the sender's address and port under a secret that lives two minutes; the
//! responder remembers nothing per sender. It travels sealed with XChaCha20-Poly1305 under a random
//! nonce, bound to `mac1` of the Init it answers. The initiator keys `mac2` with it.

use core::net::IpAddr;
use core::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::Mac as _;
use blake2::digest::consts::{U16, U32};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::event::Address;
use crate::id::PublicKey;
use crate::mutant::{self, Mutant};
use crate::session::handshake::array;
use crate::session::lru::Lru;
use crate::session::mac::MAC_LEN;
use crate::session::slots::Index;
use crate::time::Time;
use crate::wire::header::{COOKIE_LEN, INIT_LEN, Kind, TAG_LEN};

/// How long a responder's secret lives, and how long an initiator keeps a cookie.
const LIFE: Duration = Duration::from_secs(120);
/// Cookies that an initiator keeps.
const KEPT_MAX: usize = 1024;
const NONCE: usize = 4;
const BODY: usize = 28;
const TAG: usize = COOKIE_LEN - TAG_LEN;
/// Where an Init's second code stands.
const MAC2: usize = INIT_LEN - MAC_LEN;

/// What proves an address.
pub(super) type Cookie = [u8; 16];

/// The key that seals the cookies of one responder, from the group's key for `mac1`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct CookieKey([u8; 32]);

impl CookieKey {
    pub(super) fn new(group: &[u8; 32], responder: &PublicKey) -> Self {
        let mac = <Blake2sMac<U32> as KeyInit>::new(group.into())
            .chain_update(b"consort cookie v1")
            .chain_update(responder.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// Writes the reply to an Init: `remote` is its sender's index and `mac1` its first code.
    pub(super) fn seal(
        &self,
        rng: &mut ChaCha12Rng,
        remote: Index,
        mac1: &[u8; MAC_LEN],
        cookie: Cookie,
    ) -> [u8; COOKIE_LEN] {
        let mut packet = [0; COOKIE_LEN];
        packet[0] = Kind::Cookie.first_byte();
        packet[1..NONCE].copy_from_slice(&remote.to_bytes());
        rng.fill_bytes(&mut packet[NONCE..BODY]);
        packet[BODY..TAG].copy_from_slice(&cookie);
        let (head, rest) = packet.split_at_mut(BODY);
        let (body, tag) = rest.split_at_mut(TAG - BODY);
        let sealed = XChaCha20Poly1305::new((&self.0).into())
            .encrypt_in_place_detached(head[NONCE..].into(), mac1, body)
            .expect("a cookie is far shorter than the cipher's limit");
        tag.copy_from_slice(&sealed);
        packet
    }

    /// Reads the reply to an Init of ours whose first code was `mac1`.
    pub(super) fn open(&self, packet: &[u8], mac1: &[u8; MAC_LEN]) -> Option<Cookie> {
        let mut cookie: Cookie = array(&packet[BODY..TAG]);
        XChaCha20Poly1305::new((&self.0).into())
            .decrypt_in_place_detached(
                packet[NONCE..BODY].into(),
                mac1,
                &mut cookie,
                packet[TAG..].into(),
            )
            .ok()?;
        Some(cookie)
    }
}

/// The index at which a reply's Init awaits its answer.
pub(super) fn reply_index(packet: &[u8]) -> Index {
    Index::from_bytes(array(&packet[1..NONCE]))
}

/// Makes and checks the cookies that this device gives out.
#[derive(Default)]
pub(super) struct Baker {
    secret: [u8; 32],
    made: Option<Time>,
}

impl Baker {
    /// The cookie of an address, under the secret of the moment.
    pub(super) fn bake(&mut self, rng: &mut ChaCha12Rng, now: Time, to: Address) -> Cookie {
        let is_over = |made| now.since(made) >= LIFE && !mutant::is(Mutant::CookieForever);
        if self.made.is_none_or(is_over) {
            rng.fill_bytes(&mut self.secret);
            self.made = Some(now);
        }
        let Address::Udp(socket) = to;
        let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&self.secret)
            .expect("32 bytes key it")
            .chain_update(socket.port().to_le_bytes());
        let mac = match socket.ip().to_canonical() {
            _ if mutant::is(Mutant::CookieForAnyone) => mac,
            IpAddr::V4(ip) => mac.chain_update(ip.octets()),
            IpAddr::V6(ip) => mac.chain_update(ip.octets()),
        };
        mac.finalize().into_bytes().into()
    }
}

impl Drop for Baker {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Puts the second code on an Init.
pub(super) fn sign(init: &mut [u8; INIT_LEN], cookie: &Cookie) {
    let code = mac2(&init[..MAC2], cookie).finalize().into_bytes();
    init[MAC2..].copy_from_slice(&code);
}

/// Whether an Init's second code was made with this cookie.
pub(super) fn is_signed(init: &[u8], cookie: &Cookie) -> bool {
    mac2(&init[..MAC2], cookie)
        .verify_slice(&init[MAC2..])
        .is_ok()
}

fn mac2(message: &[u8], cookie: &Cookie) -> Blake2sMac<U16> {
    <Blake2sMac<U16> as KeyInit>::new_from_slice(cookie)
        .expect("16 bytes key it")
        .chain_update(message)
}

/// The cookies that this device was given.
#[derive(Debug)]
pub(super) struct Jar(Lru<(PublicKey, Address), (Cookie, Time)>);

impl Default for Jar {
    fn default() -> Self {
        Self(Lru::new(KEPT_MAX))
    }
}

impl Jar {
    /// Keeps what a peer gave for Inits to one of its addresses.
    pub(super) fn keep(&mut self, now: Time, peer: PublicKey, at: Address, cookie: Cookie) {
        self.0.insert((peer, at), (cookie, now));
    }

    /// The cookie for Inits to an address of a peer, unless it has grown old.
    pub(super) fn find(&mut self, now: Time, peer: PublicKey, at: Address) -> Option<Cookie> {
        let (cookie, given) = *self.0.get(&(peer, at))?;
        if now.since(given) < LIFE {
            return Some(cookie);
        }
        self.0.remove(&(peer, at));
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn address(text: &str) -> Address {
        Address::Udp(text.parse().expect("an address"))
    }

    #[test]
    fn a_cookie_is_of_one_address_and_port_for_two_minutes() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut baker = Baker::default();
        let start = Time::from_micros(5);
        let (one, port, host) = (
            address("10.0.0.1:1"),
            address("10.0.0.1:2"),
            address("10.0.0.2:1"),
        );
        let cookie = baker.bake(&mut rng, start, one);
        assert_ne!(cookie, baker.bake(&mut rng, start, port));
        assert_ne!(cookie, baker.bake(&mut rng, start, host));
        let mapped = address("[::ffff:10.0.0.1]:1");
        assert_eq!(cookie, baker.bake(&mut rng, start, mapped));
        let last = start + LIFE - Duration::from_micros(1);
        assert_eq!(cookie, baker.bake(&mut rng, last, one));
        assert_ne!(cookie, baker.bake(&mut rng, start + LIFE, one));
    }

    #[test]
    fn a_reply_opens_for_its_init_and_with_the_groups_key_only() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let peer = PublicKey::new([7; 32]).expect("no point of low order");
        let key = CookieKey::new(&[1; 32], &peer);
        let packet = key.seal(&mut rng, Index::new(0x0003_0201), &[5; 16], [9; 16]);
        assert_eq!(packet[..4], [0x15, 1, 2, 3]);
        assert_eq!(reply_index(&packet), Index::new(0x0003_0201));
        assert_eq!(key.open(&packet, &[5; 16]), Some([9; 16]));
        assert_eq!(key.open(&packet, &[6; 16]), None, "another Init");
        let other = PublicKey::new([8; 32]).expect("no point of low order");
        for wrong in [
            CookieKey::new(&[2; 32], &peer),
            CookieKey::new(&[1; 32], &other),
        ] {
            assert_eq!(wrong.open(&packet, &[5; 16]), None);
        }
        for byte in NONCE..COOKIE_LEN {
            let mut changed = packet;
            changed[byte] ^= 1;
            assert_eq!(key.open(&changed, &[5; 16]), None, "byte {byte}");
        }
    }

    #[test]
    fn the_second_code_covers_the_whole_init() {
        let mut init = [3; INIT_LEN];
        sign(&mut init, &[1; 16]);
        assert!(is_signed(&init, &[1; 16]));
        assert!(!is_signed(&init, &[2; 16]));
        for byte in 0..INIT_LEN {
            let mut changed = init;
            changed[byte] ^= 1;
            assert!(!is_signed(&changed, &[1; 16]), "byte {byte}");
        }
    }

    #[test]
    fn a_kept_cookie_grows_old_and_the_jar_is_bounded() {
        let peer = PublicKey::new([7; 32]).expect("no point of low order");
        let (mut jar, start, here) = (Jar::default(), Time::from_micros(9), address("10.0.0.1:1"));
        jar.keep(start, peer, here, [1; 16]);
        assert_eq!(jar.find(start, peer, here), Some([1; 16]));
        assert_eq!(jar.find(start, peer, address("10.0.0.1:2")), None);
        assert_eq!(jar.find(start + LIFE, peer, here), None);
        for port in 1..=2000 {
            let at = Address::Udp(([10, 0, 0, 1], port).into());
            jar.keep(start, peer, at, [2; 16]);
        }
        assert_eq!(jar.0.len(), KEPT_MAX);
    }
}
