//! One number from which all randomness of a run follows.
//!
//! Every user of randomness draws from a stream of its own, named by a label and an index. Adding
//! a draw in one place therefore leaves the others as they were, and a failing seed stays
//! comparable while a scenario is being edited.

use core::fmt;
use core::str::FromStr;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// The number that decides a run.
///
/// As text it is a number, as in `42` or `0x2a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "SeedText", into = "SeedText")]
pub struct Seed(pub u64);

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or a text with one as in \"0x2a\""
)]
enum SeedText {
    Number(u64),
    Text(String),
}

impl TryFrom<SeedText> for Seed {
    type Error = InvalidSeed;

    fn try_from(text: SeedText) -> Result<Self, InvalidSeed> {
        match text {
            SeedText::Number(number) => Ok(Self(number)),
            SeedText::Text(text) => text.parse(),
        }
    }
}

impl From<Seed> for SeedText {
    fn from(seed: Seed) -> Self {
        Self::Text(seed.to_string())
    }
}

/// Why a text is no seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSeed(String);

impl fmt::Display for InvalidSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no seed: give a number, as in 42 or 0x2a",
            self.0
        )
    }
}

impl std::error::Error for InvalidSeed {}

impl Seed {
    /// The seed that the `run`-th repetition of the scenario `name` uses.
    #[must_use]
    pub fn of(name: &str, run: u32) -> Self {
        Self(mix(label_hash(name) ^ mix(u64::from(run))))
    }

    /// 32 bytes for the `index`-th user of `label`.
    #[must_use]
    pub fn bytes(self, label: &str, index: u64) -> [u8; 32] {
        let mut word = mix(self.0) ^ mix(label_hash(label).wrapping_add(mix(index)));
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            word = mix(word);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The generator of the `index`-th user of `label`.
    #[must_use]
    pub fn stream(self, label: &str, index: u64) -> ChaCha12Rng {
        ChaCha12Rng::from_seed(self.bytes(label, index))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = InvalidSeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let number = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(&hex.replace('_', ""), 16),
            None => text.parse(),
        };
        number
            .map(Self)
            .map_err(|_| InvalidSeed(text.chars().take(40).collect()))
    }
}

/// Runs a scenario `runs` times with seeds of its own.
///
/// `CONSORT_SEED` replays one seed, `CONSORT_RUNS` changes the number of runs.
///
/// # Panics
/// One of the two variables holds no number; and whatever `body` panics with.
pub fn scenario(name: &str, runs: u32, body: impl Fn(Seed)) {
    if let Ok(text) = std::env::var("CONSORT_SEED") {
        let seed = text
            .parse()
            .unwrap_or_else(|error| panic!("CONSORT_SEED: {error}"));
        return body(seed);
    }
    let runs = match std::env::var("CONSORT_RUNS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("CONSORT_RUNS={text}: {error}")),
        Err(_) => runs,
    };
    for run in 0..runs {
        body(Seed::of(name, run));
    }
}

/// A bijection of 64-bit words that spreads every bit (the finaliser of splitmix64).
pub(crate) const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn label_hash(label: &str) -> u64 {
    label
        .bytes()
        .fold(label.len() as u64, |hash, byte| mix(hash ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let seed = Seed(7);
        assert_eq!(seed.bytes("links", 0), seed.bytes("links", 0));
        assert_ne!(seed.bytes("links", 0), seed.bytes("links", 1));
        assert_ne!(seed.bytes("links", 0), seed.bytes("nodes", 0));
        assert_ne!(seed.bytes("links", 0), Seed(8).bytes("links", 0));
    }

    #[test]
    fn a_seed_survives_its_text() {
        let seed = Seed::of("heal", 3);
        assert_eq!(seed.to_string().parse(), Ok(seed));
        assert_eq!("42".parse(), Ok(Seed(42)));
        assert!("forty-two".parse::<Seed>().is_err());
        assert_ne!(Seed::of("heal", 3), Seed::of("heal", 4));
    }
}
