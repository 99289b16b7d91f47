//! The digest of a cell.

use super::{Cell, CellKey, Content};
use crate::{
    hash::{hex_display, sha256, tag, HASH_BYTES},
    mst::TreeKey,
};

/// SHA-256 over all that a cell is: key, part, timestamp, kind and value, the
/// payload by its own hash.
///
/// So whoever is shown a digest in a proof can be shown what it stands for
/// without the payload, which may be large.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellDigest(pub [u8; HASH_BYTES]);
hex_display!(CellDigest);

/// The digest of `cell` at `key`.
///
/// Every field of variable length is preceded by its length, so no two
/// different cells have the same bytes.
#[must_use]
pub fn cell_digest(key: &CellKey, cell: &Cell) -> CellDigest {
    let mut head =
        Vec::with_capacity(tag::CELL.len() + 4 + key.canonical_len() + 24 + 16 + HASH_BYTES);
    head.extend_from_slice(tag::CELL);
    let length_at = head.len();
    head.extend_from_slice(&[0; 4]);
    key.write_canonical(&mut head);
    let length = (head.len() - length_at - 4) as u32;
    head[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&cell.stamp.time.to_be_bytes());
    head.extend_from_slice(&cell.stamp.id);
    match &cell.content {
        Content::Tombstone => head.push(0),
        Content::Value(value) => {
            head.push(1);
            head.extend_from_slice(&value.encoding_id.to_be_bytes());
            match &value.schema {
                None => head.push(0),
                Some(schema) => {
                    head.push(1);
                    head.extend_from_slice(&(schema.len() as u32).to_be_bytes());
                    head.extend_from_slice(schema);
                }
            }
            head.extend_from_slice(&(value.payload.len() as u64).to_be_bytes());
            head.extend_from_slice(&sha256(&[tag::PAYLOAD, &value.payload]));
        }
    }
    CellDigest(sha256(&[&head]))
}
