//! The cell: the unit that the tree holds and replicas exchange.
//!
//! A key's value is made of one or more cells, told apart by their *part*; the
//! key's own cell has the empty part. Cells of one (key, part) join by *last
//! writer wins*: the greater [`Version`] stays. That join is commutative,
//! associative and idempotent, because versions are totally ordered and two
//! cells of one version are the same cell.
//!
//! ```
//! use zenoh_backend_mst::cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version};
//! use zenoh_keyexpr::OwnedKeyExpr;
//!
//! let key = OwnedKeyExpr::new("robots/7/battery").expect("a key expression");
//! let key = CellKey::own(Key::from(Some(key)));
//! let at = |time| Timestamp { time, id: [1; 16] };
//!
//! let put = Cell {
//!     timestamp: at(5),
//!     content: Content::Value(Value {
//!         encoding_id: 0,
//!         schema: None,
//!         attachment: None,
//!         payload: "80 %".into(),
//!     }),
//! };
//! let delete = Cell::tombstone(at(6));
//!
//! // Every replica decides alike: the later write wins.
//! assert!(Version::of(&key, &delete) > Version::of(&key, &put));
//! ```
//!
//! The bytes of all of this are in docs/formats.md, pinned by golden vectors.

mod digest;
mod key;
mod logged;
mod pattern;
mod reader;
mod row;
mod timestamp;
mod ttl;

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::key::tests::*;
}

use std::fmt;

use bytes::Bytes;

pub use digest::{CellDigest, CellSummary, cell_digest};
pub(crate) use digest::{digest_of_summary, read_summary, write_summary};
pub(crate) use key::MEMBERS;
pub use key::{CellKey, Key, MAX_KEY_BYTES, MAX_KEY_CHUNKS, Part};
pub(crate) use key::{END as KEY_END, read_text, write_text};
pub use logged::{read_logged, write_logged};
pub use pattern::intersect;
pub use reader::DecodeError;
pub(crate) use reader::Reader;
pub use row::{Payload, Row, RowValue};
pub use timestamp::{TIMESTAMP_ID_BYTES, Timestamp, ntp64_duration, ntp64_millis, ntp64_span};
pub use ttl::{ttls, with_ttl, without_ttl};

use crate::{hash::HASH_BYTES, mst::Digested};

/// A value as Zenoh knows it: bytes, and what they mean.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The identifier of Zenoh's encoding.
    pub encoding_id: u16,
    /// The encoding's schema, if it has one.
    pub schema: Option<Box<[u8]>>,
    /// What came beside the payload.
    pub attachment: Option<Box<[u8]>>,
    /// The bytes.
    pub payload: Bytes,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the payload: it may be large, and it is the user's.
        f.debug_struct("Value")
            .field("encoding_id", &self.encoding_id)
            .field("schema", &self.schema.as_ref().map(|schema| schema.len()))
            .field(
                "attachment",
                &self.attachment.as_ref().map(|attachment| attachment.len()),
            )
            .field("payload", &self.payload.len())
            .finish()
    }
}

/// What a cell says of its key and part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is nothing: it was deleted.
    Tombstone,
    /// There is this.
    Value(Value),
}

/// A cell without its key: when it was written, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// When, and by whom.
    pub timestamp: Timestamp,
    /// What.
    pub content: Content,
}

impl Cell {
    /// Says that there is nothing since then.
    #[must_use]
    pub fn tombstone(timestamp: Timestamp) -> Self {
        let content = Content::Tombstone;
        Self { timestamp, content }
    }

    /// The value, unless this is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Tombstone => None,
            Content::Value(value) => Some(value),
        }
    }

    /// Bytes of the value's payload, schema and attachment.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        let bytes = |part: &Option<Box<[u8]>>| part.as_ref().map_or(0, |part| part.len());
        self.value().map_or(0, |value| {
            value.payload.len() + bytes(&value.schema) + bytes(&value.attachment)
        })
    }
}

/// The order of last writer wins: time, then the timestamp's ID; then, for two
/// different writes that bear one timestamp, a tombstone over a value, and the
/// greater digest.
///
/// That a tombstone wins such a tie keeps deleted what a wildcard delete
/// deleted: the storage manager gives an older put that comes after it the
/// delete's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// When, and by whom.
    pub timestamp: Timestamp,
    /// Whether the cell is a tombstone.
    pub tombstone: bool,
    /// The digest of the cell.
    pub digest: CellDigest,
}

impl Version {
    /// The version of `cell`. Hashes the cell.
    #[must_use]
    pub fn of(key: &CellKey, cell: &Cell) -> Self {
        Self {
            timestamp: cell.timestamp,
            tombstone: cell.value().is_none(),
            digest: cell_digest(key, cell),
        }
    }
}

impl Digested for Version {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        &self.digest.0
    }
}
