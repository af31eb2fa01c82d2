//! Toy primitives for large simulated groups: the sizes and the failures of the real ones at a
//! fraction of their cost. They protect nothing.
//!
//! A toy key pair is an odd word s and s·G modulo 2^64, so that exchange is symmetric as it is on
//! the curve. A public key spreads its word over 32 bytes, and a byte that does not fit changes the
//! shared secret. The toy cipher is a keyed stream with a keyed 16-byte tag over nonce, associated
//! data and ciphertext; each step of the tag is a bijection, so one changed word always changes it.
//! The toy hash mixes four words with each word of its input. Randomness is the real one.

use consort_proto::crypto::{Crypto, Ring};
use consort_proto::{PublicKey, StaticSecret};
use rand_chacha::ChaCha12Rng;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

use crate::seed::mix;

/// The toy source of primitives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toy;

impl Crypto for Toy {
    fn resolver(&self, rng: ChaCha12Rng) -> Box<dyn CryptoResolver + Send> {
        Box::new(ToyResolver(Ring.resolver(rng)))
    }

    fn public_key(&self, secret: &StaticSecret) -> Option<PublicKey> {
        let mut dh = ToyDh::default();
        dh.set(secret.as_bytes());
        PublicKey::new(dh.public).ok()
    }
}

struct ToyResolver(Box<dyn CryptoResolver + Send>);

impl CryptoResolver for ToyResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(ToyDh::default())),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(ToyHash::new(match choice {
            HashChoice::SHA256 => "SHA256",
            HashChoice::Blake2s => "BLAKE2s",
            HashChoice::SHA512 | HashChoice::Blake2b => return None,
        })))
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let name = match choice {
            CipherChoice::ChaChaPoly => "ChaChaPoly",
            CipherChoice::AESGCM => "AESGCM",
        };
        Some(Box::new(ToyCipher { name, key: [0; 4] }))
    }
}

const BASE: u64 = 0xd6e8_feb8_6659_fd93;

#[derive(Default)]
struct ToyDh {
    secret: [u8; 32],
    public: [u8; 32],
}

impl ToyDh {
    /// The odd word a secret key stands for.
    fn scalar(&self) -> u64 {
        words(&self.secret).fold(BASE, |scalar, word| mix(scalar ^ word)) | 1
    }
}

impl Dh for ToyDh {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        self.secret.copy_from_slice(privkey);
        self.public = spread(self.scalar().wrapping_mul(BASE));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = [0; 32];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs = gather(pubkey.get(..32).ok_or(Error::Dh)?);
        out[..32].copy_from_slice(&spread(self.scalar().wrapping_mul(theirs)));
        Ok(())
    }
}

/// A word as 32 bytes that depend on all of it.
fn spread(word: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut next = word;
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&next.to_le_bytes());
        next = mix(next);
    }
    bytes
}

/// The word that was spread; another one if any byte was changed.
fn gather(bytes: &[u8]) -> u64 {
    let mut words = words(bytes);
    let word = words.next().unwrap_or(0);
    let (_, deviation) = words.fold((word, 0u64), |(before, deviation), word| {
        let expected = mix(before);
        (expected, deviation.rotate_left(17) ^ (word ^ expected))
    });
    word ^ deviation.wrapping_mul(BASE)
}

/// Little-endian words, the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

const HASH_LEN: usize = 32;

/// What is not a whole word waits for the rest, so the result does not depend on how the input was
/// cut.
struct ToyHash {
    name: &'static str,
    state: [u64; 4],
    part: u64,
    len: u64,
}

impl ToyHash {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            state: [BASE, 1, 2, 3],
            part: 0,
            len: 0,
        }
    }

    fn absorb(&mut self, word: u64) {
        let [a, b, c, d] = self.state;
        let a = (a ^ word).wrapping_mul(BASE).rotate_left(31);
        self.state = [b ^ a, c.wrapping_add(a), d ^ a.rotate_left(17), a];
    }
}

impl Hash for ToyHash {
    fn name(&self) -> &'static str {
        self.name
    }

    fn block_len(&self) -> usize {
        2 * HASH_LEN
    }

    fn hash_len(&self) -> usize {
        HASH_LEN
    }

    fn reset(&mut self) {
        *self = Self::new(self.name);
    }

    fn input(&mut self, data: &[u8]) {
        let mut rest = data;
        while let Some((word, after)) = rest
            .split_first_chunk::<8>()
            .filter(|_| self.len.is_multiple_of(8))
        {
            self.absorb(u64::from_le_bytes(*word));
            self.len += 8;
            rest = after;
        }
        for byte in rest {
            self.part |= u64::from(*byte) << (8 * (self.len % 8));
            self.len += 1;
            if self.len.is_multiple_of(8) {
                let word = core::mem::take(&mut self.part);
                self.absorb(word);
            }
        }
    }

    fn result(&mut self, out: &mut [u8]) {
        let (part, len) = (self.part, self.len);
        self.absorb(part);
        self.absorb(len);
        for _ in 0..4 {
            self.absorb(BASE);
        }
        for (chunk, word) in out[..HASH_LEN].chunks_exact_mut(8).zip(self.state) {
            chunk.copy_from_slice(&mix(word).to_le_bytes());
        }
    }

    /// One pass, the key first: nothing here is worth the outer one.
    fn hmac(&mut self, key: &[u8], data: &[u8], out: &mut [u8]) {
        self.reset();
        self.input(key);
        self.input(data);
        self.result(out);
    }
}

struct ToyCipher {
    name: &'static str,
    key: [u64; 4],
}

const TAG: usize = 16;

impl ToyCipher {
    fn stream(&self, nonce: u64, text: &mut [u8]) {
        let mut state = mix(self.key[0] ^ mix(nonce ^ self.key[1]));
        for chunk in text.chunks_mut(8) {
            state = mix(state);
            for (byte, pad) in chunk.iter_mut().zip(state.to_le_bytes()) {
                *byte ^= pad;
            }
        }
    }

    fn tag(&self, nonce: u64, authtext: &[u8], ciphertext: &[u8]) -> [u8; TAG] {
        let lengths = ((authtext.len() as u64) << 32) | ciphertext.len() as u64;
        let seed = mix(self.key[2] ^ mix(nonce ^ self.key[3]));
        let absorbed = words(authtext).chain(words(ciphertext)).fold(
            (seed ^ lengths, mix(seed)),
            |(left, right), word| {
                let left = (left ^ word).wrapping_mul(BASE).rotate_left(29);
                let right = (right ^ word.rotate_left(32)).wrapping_mul(BASE | 1 << 40);
                (left, right.rotate_left(23))
            },
        );
        let mut tag = [0; TAG];
        tag[..8].copy_from_slice(&mix(absorbed.0 ^ self.key[1]).to_le_bytes());
        tag[8..].copy_from_slice(&mix(absorbed.1 ^ self.key[0]).to_le_bytes());
        tag
    }
}

impl Cipher for ToyCipher {
    fn name(&self) -> &'static str {
        self.name
    }

    fn set(&mut self, key: &[u8; 32]) {
        for (own, word) in self.key.iter_mut().zip(words(key)) {
            *own = word;
        }
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        self.stream(nonce, text);
        rest[..TAG].copy_from_slice(&self.tag(nonce, authtext, text));
        plaintext.len() + TAG
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let text_len = ciphertext.len().checked_sub(TAG).ok_or(Error::Decrypt)?;
        let (text, tag) = ciphertext.split_at(text_len);
        if self.tag(nonce, authtext, text) != tag {
            return Err(Error::Decrypt);
        }
        let out = out.get_mut(..text_len).ok_or(Error::Decrypt)?;
        out.copy_from_slice(text);
        self.stream(nonce, out);
        Ok(text_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn cipher(byte: u8) -> ToyCipher {
        let mut cipher = ToyCipher {
            name: "AESGCM",
            key: [0; 4],
        };
        cipher.set(&[byte; 32]);
        cipher
    }

    fn dh(byte: u8) -> ToyDh {
        let mut dh = ToyDh::default();
        dh.set(&[byte; 32]);
        dh
    }

    fn shared(own: &ToyDh, theirs: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        own.dh(theirs, &mut out).expect("any 32 bytes will do");
        out
    }

    #[test]
    fn exchange_is_symmetric_and_differs_by_pair() {
        let (a, b, c) = (dh(1), dh(2), dh(3));
        assert_eq!(shared(&a, b.pubkey()), shared(&b, a.pubkey()));
        assert_ne!(shared(&a, b.pubkey()), shared(&a, c.pubkey()));
        assert_ne!(shared(&a, c.pubkey()), shared(&b, c.pubkey()));
        for byte in 0..32 {
            let mut wrong = b.public;
            wrong[byte] ^= 4;
            assert_ne!(shared(&a, &wrong), shared(&a, b.pubkey()), "byte {byte}");
        }
    }

    #[test]
    fn public_keys_are_acceptable_and_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..1000 {
            let secret = StaticSecret::new(Seed(1).bytes("key", index));
            seen.insert(Toy.public_key(&secret).expect("no point of low order"));
        }
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn any_change_is_refused() {
        let (good, ad, text) = (cipher(1), b"header", b"a text of nineteen.");
        let mut sealed = vec![0; text.len() + TAG];
        assert_eq!(good.encrypt(5, ad, text, &mut sealed), sealed.len());
        let open = |cipher: &ToyCipher, nonce, ad: &[u8], sealed: &[u8]| {
            let mut out = vec![0; 64];
            cipher
                .decrypt(nonce, ad, sealed, &mut out)
                .map(|len| out[..len].to_vec())
        };
        assert_eq!(open(&good, 5, ad, &sealed), Ok(text.to_vec()));
        assert!(
            !sealed.windows(4).any(|w| text.windows(4).any(|t| t == w)),
            "text in clear"
        );
        for bit in 0..sealed.len() * 8 {
            let mut wrong = sealed.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&good, 5, ad, &wrong), Err(Error::Decrypt), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(
                open(&good, 5, ad, &sealed[..cut]),
                Err(Error::Decrypt),
                "cut at {cut}"
            );
        }
        assert_eq!(
            open(&cipher(2), 5, ad, &sealed),
            Err(Error::Decrypt),
            "wrong key"
        );
        assert_eq!(
            open(&good, 6, ad, &sealed),
            Err(Error::Decrypt),
            "wrong nonce"
        );
        assert_eq!(
            open(&good, 5, b"headex", &sealed),
            Err(Error::Decrypt),
            "wrong AD"
        );
        assert_eq!(open(&good, 5, b"", &sealed), Err(Error::Decrypt), "no AD");
    }

    fn handshake(psk_initiator: u8, psk_responder: u8) -> Result<Vec<u8>, Error> {
        let responder = dh(9);
        let builder = |label| {
            let params = "Noise_IKpsk1_25519_AESGCM_SHA256"
                .parse()
                .expect("a known pattern");
            snow::Builder::with_resolver(params, Toy.resolver(Seed(3).stream(label, 0)))
        };
        let mut a = builder("a")
            .local_private_key(&[8; 32])?
            .remote_public_key(responder.pubkey())?
            .psk(1, &[psk_initiator; 32])?
            .build_initiator()?;
        let mut b = builder("b")
            .local_private_key(&[9; 32])?
            .psk(1, &[psk_responder; 32])?
            .build_responder()?;
        let (mut packet, mut out) = ([0; 512], [0; 512]);
        let len = a.write_message(b"hello", &mut packet)?;
        let len_out = b.read_message(&packet[..len], &mut out)?;
        assert_eq!(&out[..len_out], b"hello");
        let len = b.write_message(b"", &mut packet)?;
        a.read_message(&packet[..len], &mut out)?;
        let (a, b) = (
            a.into_stateless_transport_mode()?,
            b.into_stateless_transport_mode()?,
        );
        let len = a.write_message(7, b"data", &mut packet)?;
        let len = b.read_message(7, &packet[..len], &mut out)?;
        Ok(out[..len].to_vec())
    }

    #[test]
    fn noise_runs_on_it_and_a_wrong_secret_fails() {
        assert_eq!(handshake(1, 1), Ok(b"data".to_vec()));
        assert_eq!(handshake(1, 2), Err(Error::Decrypt));
    }

    #[test]
    fn a_hash_depends_on_every_byte_and_not_on_how_the_input_was_cut() {
        let digest = |parts: &[&[u8]]| {
            let mut hash = ToyHash::new("SHA256");
            for part in parts {
                hash.input(part);
            }
            let mut out = [0; HASH_LEN];
            hash.result(&mut out);
            out
        };
        let text: Vec<u8> = (0..77).collect();
        let whole = digest(&[&text]);
        for cut in 0..text.len() {
            assert_eq!(digest(&[&text[..cut], &text[cut..]]), whole, "at {cut}");
            let mut changed = text.clone();
            changed[cut] ^= 1;
            assert_ne!(digest(&[&changed]), whole, "byte {cut}");
            assert_ne!(digest(&[&text[..cut]]), whole, "{cut} bytes");
        }
    }
}
