//! The digest of a cell.

use sha2::{Digest as _, Sha256};

use super::{Cell, CellKey, Content};
use crate::mst::{hex_display, TreeKey, HASH_BYTES};

const TAG: &[u8] = b"zenoh-mst/1/cell\0";

/// SHA-256 over all that a cell is: key, part, timestamp, kind and value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellDigest(pub [u8; HASH_BYTES]);
hex_display!(CellDigest);

/// The digest of `cell` at `key`.
///
/// Every field of variable length is preceded by its length, so no two
/// different cells have the same bytes.
#[must_use]
pub fn cell_digest(key: &CellKey, cell: &Cell) -> CellDigest {
    // The head is put together first: many small updates cost more than a copy.
    let mut head = Vec::with_capacity(TAG.len() + 4 + key.canonical_len() + 24 + 16);
    head.extend_from_slice(TAG);
    let length_at = head.len();
    head.extend_from_slice(&[0; 4]);
    key.write_canonical(&mut head);
    let length = (head.len() - length_at - 4) as u32;
    head[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&cell.stamp.time.to_be_bytes());
    head.extend_from_slice(&cell.stamp.id);
    let mut hasher = Sha256::new();
    match &cell.content {
        Content::Tombstone => {
            head.push(0);
            hasher.update(&head);
        }
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
            hasher.update(&head);
            hasher.update(&value.payload);
        }
    }
    CellDigest(hasher.finalize().into())
}
