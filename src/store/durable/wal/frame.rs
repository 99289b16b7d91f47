//! The bytes of the write-ahead log.
//!
//! ```text
//! file      header, then frames
//! header    magic 8 bytes "mst3wal\n", first group u64 BE, check 8 bytes
//! frame     place u8 (f1: the first of its group, f2: the last, f3: both, f0: neither), length
//!           u32 BE of the body, group u64 BE, synced u64 BE, check 8 bytes of these 21,
//!           check 16 bytes of all, body
//! ```
//!
//! Neither a header nor a frame begins with a zero: see `sectors`, which says how they stand in a
//! file.
//!
//! A check is the beginning of a SHA-256 over a domain tag and the bytes. The head has one of its own,
//! so that a frame that ends too early is told from one whose length is damaged. `synced` is the
//! last group that was known to be on the disk when the frame was written. The bodies of a group's
//! frames, one after the other, are its cells (see [`write_logged`](crate::cell::write_logged)).

use crate::hash::{HASH_BYTES, sha256, tag};

/// The bytes of a file before its first frame.
pub(super) const HEADER_BYTES: usize = 24;
/// The bytes of a frame before its body.
pub(super) const FRAME_HEAD_BYTES: usize = 45;
/// The bytes of a body, at the most.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"mst3wal\n";
const PLACE: u8 = 0xf0;
const FIRST: u8 = 1;
const LAST: u8 = 2;
/// Where the check of a head begins, and that of the frame.
const HEAD_CHECK: usize = 21;
const FRAME_CHECK: usize = 29;

/// The header of a file whose first group has this number.
pub(super) fn header(first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&first.to_be_bytes());
    let check = check::<8>(&[tag::LOG_FILE, &bytes[..16]]);
    bytes[16..].copy_from_slice(&check);
    bytes
}

/// The first group of a file that begins with these bytes; nothing if they are no header.
pub(super) fn read_header(bytes: &[u8]) -> Option<u64> {
    let first = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes.get(..HEADER_BYTES)? == header(first)).then_some(first)
}

/// What stands before the body of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes of the body.
    pub(super) length: usize,
    /// Whether it is the first frame of its group, and whether it is the last.
    pub(super) is_first: bool,
    pub(super) is_last: bool,
    pub(super) group: u64,
    /// The last group that was known to be on the disk.
    pub(super) synced: u64,
}

/// Fills in the head of a frame, which is room for the head, and then the body.
pub(super) fn seal(frame: &mut [u8], head: &FrameHead) {
    debug_assert_eq!(frame.len(), FRAME_HEAD_BYTES + head.length);
    frame[0] = PLACE + u8::from(head.is_first) * FIRST + u8::from(head.is_last) * LAST;
    frame[1..5].copy_from_slice(&(head.length as u32).to_be_bytes());
    frame[5..13].copy_from_slice(&head.group.to_be_bytes());
    frame[13..HEAD_CHECK].copy_from_slice(&head.synced.to_be_bytes());
    let check_of_head = check::<8>(&[tag::LOG_HEAD, &frame[..HEAD_CHECK]]);
    frame[HEAD_CHECK..FRAME_CHECK].copy_from_slice(&check_of_head);
    let (head, body) = frame.split_at_mut(FRAME_HEAD_BYTES);
    let check = check::<16>(&[tag::LOG_FRAME, &head[..FRAME_CHECK], body]);
    head[FRAME_CHECK..].copy_from_slice(&check);
}

/// The frame that `bytes` begin with, and its body; nothing if they begin with none.
pub(super) fn open(bytes: &[u8]) -> Option<(FrameHead, &[u8])> {
    let head = read_head(bytes)?;
    let body = bytes[FRAME_HEAD_BYTES..].get(..head.length)?;
    let sealed = check::<16>(&[tag::LOG_FRAME, &bytes[..FRAME_CHECK], body]);
    (bytes[FRAME_CHECK..FRAME_HEAD_BYTES] == sealed).then_some((head, body))
}

/// The head that `bytes` begin with; nothing if they begin with none.
pub(super) fn read_head(bytes: &[u8]) -> Option<FrameHead> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let place = *bytes.first()?;
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
    let head = FrameHead {
        length,
        is_first: place & FIRST != 0,
        is_last: place & LAST != 0,
        group: number(5)?,
        synced: number(13)?,
    };
    let is_possible = place & !(FIRST | LAST) == PLACE
        && length <= MAX_BODY_BYTES
        && bytes.len() >= FRAME_HEAD_BYTES;
    let is_sealed = || {
        let sealed = check::<8>(&[tag::LOG_HEAD, &bytes[..HEAD_CHECK]]);
        bytes[HEAD_CHECK..FRAME_CHECK] == sealed
    };
    (is_possible && is_sealed()).then_some(head)
}

fn check<const BYTES: usize>(pieces: &[&[u8]]) -> [u8; BYTES] {
    const { assert!(BYTES <= HASH_BYTES) };
    let mut check = [0; BYTES];
    check.copy_from_slice(&sha256(pieces)[..BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hex::encode as hex;

    fn frame(body: &[u8], head: &FrameHead) -> Vec<u8> {
        let mut frame = vec![0; FRAME_HEAD_BYTES];
        frame.extend_from_slice(body);
        seal(&mut frame, head);
        frame
    }

    #[test]
    fn bytes_are_pinned() {
        assert_eq!(
            hex(&header(7)),
            "6d737433 77616c0a 0000000000000007 ".replace(' ', "") + &hex(&header(7)[16..])
        );
        assert_eq!(hex(&header(7)[16..]), "8d679c51c6597c12");
        let head = FrameHead {
            length: 2,
            is_first: false,
            is_last: true,
            group: 3,
            synced: 2,
        };
        let frame = frame(b"ab", &head);
        assert_eq!(
            hex(&frame),
            "f2000000020000000000000003".to_owned()
                + "0000000000000002"
                + "117117d88a36de6b2fa96ac1f1ad17a860d55fc16105f220"
                + "6162"
        );
    }

    proptest! {
        #[test]
        fn frames_read_back_and_nothing_else_does(
            body in prop::collection::vec(any::<u8>(), 0..60),
            is_first: bool, is_last: bool, group: u64, synced: u64,
            flip in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let head = FrameHead { length: body.len(), is_first, is_last, group, synced };
            let mut bytes = frame(&body, &head);
            prop_assert_eq!(open(&bytes), Some((head, &body[..])));
            for end in 0..bytes.len() {
                prop_assert_eq!(open(&bytes[..end]), None);
            }
            let place = flip.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert_eq!(open(&bytes), None);
        }

        #[test]
        fn headers_read_back_and_nothing_else_does(first: u64, flip in 0..HEADER_BYTES, bit in 0u8..8) {
            let mut bytes = header(first);
            prop_assert_eq!(read_header(&bytes), Some(first));
            prop_assert_eq!(read_header(&bytes[..HEADER_BYTES - 1]), None);
            bytes[flip] ^= 1 << bit;
            prop_assert_eq!(read_header(&bytes), None);
        }
    }
}
