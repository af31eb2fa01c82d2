//! Payloads that betray themselves: each carries a number of its own, and the rest of its bytes
//! follow from that number. Whoever reads one knows which message it is and that it is whole.

use bytes::{BufMut, Bytes, BytesMut};

use crate::seed::mix;

const MAGIC: &[u8; 4] = b"CSIM";

/// The shortest payload: the magic, the number, and four bytes that follow from it.
pub const PAYLOAD_MIN: usize = 16;

/// The payload of message `number`, `len` bytes long.
pub(crate) fn payload(number: u64, len: usize) -> Bytes {
    let len = len.max(PAYLOAD_MIN);
    let mut bytes = BytesMut::with_capacity(len + 8);
    bytes.put_slice(MAGIC);
    bytes.put_u64(number);
    let mut word = number;
    while bytes.len() < len {
        word = mix(word);
        bytes.put_u64(word);
    }
    bytes.truncate(len);
    bytes.freeze()
}

/// The number of a payload; none if a single byte of it is not as it was made.
pub(crate) fn number(payload_seen: &[u8]) -> Option<u64> {
    let rest = payload_seen.strip_prefix(MAGIC)?;
    let number = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    (payload(number, payload_seen.len()) == payload_seen).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_knows_its_number_and_its_damage() {
        for len in [0, 16, 17, 100, 1100] {
            let good = payload(77, len);
            assert_eq!(good.len(), len.max(PAYLOAD_MIN));
            assert_eq!(number(&good), Some(77));
            for byte in 0..good.len() {
                let mut wrong = good.to_vec();
                wrong[byte] ^= 1;
                assert_eq!(number(&wrong), None, "byte {byte} of {len}");
            }
        }
        assert_eq!(number(b"CSIM"), None);
        assert_eq!(number(b""), None);
    }
}
