//! snow's cipher and hash traits over ring.
//!
//! Nonces are laid out as the Noise specification says (revision 34, section 12): 32 zero bits,
//! then the 64-bit counter, big-endian for AES-GCM and little-endian for ChaCha20-Poly1305.

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest;
use snow::Error;
use snow::types::{Cipher, Hash};

const TAG: usize = 16;

fn key(algorithm: &'static aead::Algorithm, bytes: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(algorithm, bytes).expect("both ciphers take 32-byte keys"))
}

fn seal(key: &LessSafeKey, nonce: [u8; 12], ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
    let (body, rest) = out.split_at_mut(plaintext.len());
    body.copy_from_slice(plaintext);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(ad), body)
        .expect("a datagram is far shorter than the ciphers' limit");
    rest[..TAG].copy_from_slice(tag.as_ref());
    plaintext.len() + TAG
}

fn open(
    key: &LessSafeKey,
    nonce: [u8; 12],
    ad: &[u8],
    ciphertext: &[u8],
    out: &mut [u8],
) -> Result<usize, Error> {
    let body_len = ciphertext.len().checked_sub(TAG).ok_or(Error::Decrypt)?;
    let (body, tag) = ciphertext.split_at(body_len);
    let out = out.get_mut(..body_len).ok_or(Error::Decrypt)?;
    out.copy_from_slice(body);
    let tag = aead::Tag::try_from(tag).map_err(|_| Error::Decrypt)?;
    key.open_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(ad),
        tag,
        out,
        0..,
    )
    .map_err(|_| Error::Decrypt)?;
    Ok(body_len)
}

/// One of the two ciphers. They differ in name, algorithm and the order of the nonce's bytes.
pub(super) struct RingCipher {
    name: &'static str,
    algorithm: &'static aead::Algorithm,
    counter_bytes: fn(u64) -> [u8; 8],
    key: LessSafeKey,
}

impl RingCipher {
    pub(super) fn aes_gcm() -> Self {
        Self::new("AESGCM", &aead::AES_256_GCM, u64::to_be_bytes)
    }

    pub(super) fn chacha_poly() -> Self {
        Self::new("ChaChaPoly", &aead::CHACHA20_POLY1305, u64::to_le_bytes)
    }

    /// With a key of zeros, as snow sets the real one before use.
    fn new(
        name: &'static str,
        algorithm: &'static aead::Algorithm,
        counter_bytes: fn(u64) -> [u8; 8],
    ) -> Self {
        Self {
            name,
            algorithm,
            counter_bytes,
            key: key(algorithm, &[0; 32]),
        }
    }

    fn nonce(&self, counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(self.counter_bytes)(counter));
        nonce
    }
}

impl Cipher for RingCipher {
    fn name(&self) -> &'static str {
        self.name
    }

    fn set(&mut self, bytes: &[u8; 32]) {
        self.key = key(self.algorithm, bytes);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        seal(&self.key, self.nonce(nonce), authtext, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        open(&self.key, self.nonce(nonce), authtext, ciphertext, out)
    }
}

pub(super) struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.clone().finish().as_ref());
    }
}
