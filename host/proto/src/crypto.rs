//! Where a node's cryptographic primitives come from.
//!
//! The real primitives are in [`Ring`]: ciphers and SHA-256 from ring, Curve25519 and BLAKE2s from
//! snow's own resolver, randomness from the node's seeded generator. A simulator may bring
//! primitives of its own with the same sizes and the same failures, which make large groups cheap
//! to simulate.

use core::fmt::Debug;

use rand_chacha::ChaCha12Rng;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

use crate::id::PublicKey;
use crate::keys::StaticSecret;

mod ring_cipher;

use ring_cipher::{RingCipher, Sha256};

/// A source of primitives for the Noise handshake and the sessions that follow.
pub trait Crypto: Debug + Send + Sync {
    /// Primitives whose randomness comes from `rng` alone.
    fn resolver(&self, rng: ChaCha12Rng) -> Box<dyn CryptoResolver + Send>;

    /// The public key of `secret`; none if the result is a key that no peer would accept.
    fn public_key(&self, secret: &StaticSecret) -> Option<PublicKey>;
}

/// The real primitives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ring;

impl Crypto for Ring {
    fn resolver(&self, rng: ChaCha12Rng) -> Box<dyn CryptoResolver + Send> {
        Box::new(RingResolver(rng))
    }

    fn public_key(&self, secret: &StaticSecret) -> Option<PublicKey> {
        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519)?;
        dh.set(secret.as_bytes());
        PublicKey::new(dh.pubkey().try_into().ok()?).ok()
    }
}

struct RingResolver(ChaCha12Rng);

impl CryptoResolver for RingResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom(self.0.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256::default())),
            HashChoice::SHA512 | HashChoice::Blake2s | HashChoice::Blake2b => {
                DefaultResolver.resolve_hash(choice)
            }
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::AESGCM => Some(Box::new(RingCipher::aes_gcm())),
            CipherChoice::ChaChaPoly => Some(Box::new(RingCipher::chacha_poly())),
        }
    }
}

/// Randomness from the node's generator, so that one seed gives the same handshake bytes.
#[derive(Debug)]
pub struct SeededRandom(pub ChaCha12Rng);

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        rand::Rng::fill_bytes(&mut self.0, dest);
        Ok(())
    }
}
