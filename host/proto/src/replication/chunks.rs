//! Putting entries together that travelled in chunks, a few at a time and not for long.

use bytes::Bytes;

use super::delta::CHUNK;
use super::{MergeError, Replica};
use crate::id::NodeId;
use crate::state::{STATE_KEY_MAX, STATE_VALUE_MAX};
use crate::wire::state::{StateChunk, StateDelta, StreamId, Tenure, WireEntry};

/// Entries at once.
const ASSEMBLIES_MAX: usize = 8;
/// For how long one waits for its next chunk, in microseconds.
const PATIENCE: u64 = 5_000_000;
/// Bytes of the longest encoding of an entry.
const TOTAL_MAX: usize = STATE_VALUE_MAX + STATE_KEY_MAX + 64;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Assemblies(Vec<Assembly>);

#[derive(Clone, Debug)]
struct Assembly {
    stream: StreamId,
    n: u64,
    bytes: Vec<u8>,
    /// A bit for each chunk that is there.
    there: u128,
    until: u64,
    /// Of the sender's table.
    tenure: Option<Tenure>,
}

impl Assemblies {
    pub(super) fn expire(&mut self, now: u64) {
        self.0.retain(|one| one.until > now);
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.0.iter().map(|one| one.until).min()
    }

    /// Adds a chunk, whose bounds were checked. The encoding, if that completes it.
    fn add(
        &mut self,
        now: u64,
        chunk: &StateChunk,
    ) -> Result<Option<(Bytes, Option<Tenure>)>, MergeError> {
        let (total, offset) = (chunk.total as usize, chunk.offset as usize);
        let same = |one: &Assembly| one.stream == chunk.stream && one.n == chunk.n;
        let at = self.0.iter().position(same).unwrap_or_else(|| {
            if self.0.len() == ASSEMBLIES_MAX {
                let oldest = (0..ASSEMBLIES_MAX).min_by_key(|at| self.0[*at].until);
                self.0.remove(oldest.unwrap_or(0));
            }
            self.0.push(Assembly {
                stream: chunk.stream,
                n: chunk.n,
                bytes: vec![0; total],
                there: 0,
                until: 0,
                tenure: None,
            });
            self.0.len() - 1
        });
        let one = &mut self.0[at];
        if one.bytes.len() != total {
            return Err(MergeError::Malformed);
        }
        let bit = 1 << (offset / CHUNK);
        if one.there & bit == 0 {
            one.there |= bit;
            one.bytes[offset..offset + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
            one.until = now.saturating_add(PATIENCE);
            one.tenure = one.tenure.max(chunk.tenure);
        }
        let count = u32::try_from(total.div_ceil(CHUNK)).unwrap_or(u32::MAX);
        if one.there.count_ones() < count {
            return Ok(None);
        }
        let one = self.0.remove(at);
        Ok(Some((Bytes::from(one.bytes), one.tenure)))
    }
}

impl Replica {
    /// Whether some of an entry's chunks are there and others are not.
    pub(crate) fn awaits(&self, stream: StreamId, n: u64) -> bool {
        let mut waiting = self.assemblies.0.iter();
        waiting.any(|one| (one.stream, one.n) == (stream, n))
    }
}

fn is_sound(chunk: &StateChunk) -> bool {
    let (total, offset) = (chunk.total as usize, chunk.offset as usize);
    let fits = total <= TOTAL_MAX && offset < total && offset.is_multiple_of(CHUNK);
    fits && chunk.bytes.len() == CHUNK.min(total - offset) && chunk.n > 0
}

impl Replica {
    /// Takes in a piece of an entry; the same as [`Replica::merge`] once it is complete.
    ///
    /// # Errors
    /// Says why the piece, or the entry, is refused.
    pub(crate) fn merge_chunk(
        &mut self,
        now: u64,
        sender: NodeId,
        chunk: StateChunk,
    ) -> Result<bool, MergeError> {
        if !is_sound(&chunk) || chunk.group != self.setup.group {
            return Err(MergeError::Malformed);
        }
        if chunk.direct && chunk.stream.writer() != sender {
            return Err(MergeError::NotWriter);
        }
        let held = self.streams.get(chunk.stream);
        let n = chunk.n;
        if held.is_some_and(|held| held.covers(n)) {
            return Ok(false);
        }
        self.assemblies.expire(now);
        let Some((encoded, tenure)) = self.assemblies.add(now, &chunk)? else {
            return Ok(false);
        };
        let entry: WireEntry =
            rmp_serde::from_slice(&encoded).map_err(|_| MergeError::Malformed)?;
        let delta = StateDelta {
            group: chunk.group,
            stream: chunk.stream,
            device: chunk.device,
            direct: chunk.direct,
            more: false,
            // All that a chunk says is that its entry is there.
            from: n - 1,
            to: n,
            tenure,
            relied: chunk.until,
            entries: vec![entry],
        };
        self.merge(now, sender, &delta)
    }
}
