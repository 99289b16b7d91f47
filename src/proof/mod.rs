//! Proofs: what a storage holds of a key, for whoever knows its root.
//!
//! A proof is the tree, pruned. Of all that is in the tree it *shows* the cells of
//! the key, and the cell before and after them; of the rest it has the hashes that
//! it takes to compute the root. In the order of keys it is a sequence, in which
//! nothing is hidden between the cells that are shown. So whoever knows that the
//! root is that of a tree, whose keys ascend, knows all cells that the key has in
//! it; that there are none is the same proof, without any between two neighbours.
//!
//! A cell is shown by what its digest covers: key, timestamp, encoding, and length
//! and hash of the payload, which itself is not in the proof.
//!
//! Of one root and one key, one proof is accepted, to the byte. The bytes, and the
//! argument why they prove it, are in docs/formats.md, "Proofs".
//!
//! ```
//! # use std::{sync::Arc, time::{Duration, SystemTime}};
//! # use zenoh_keyexpr::OwnedKeyExpr;
//! # use zenoh_backend_mst::{
//! #     cell::{ntp64_span, Cell, Key, Timestamp},
//! #     config::Durability,
//! #     merge::MergeRules,
//! #     replica::{Clock, Options, Replica},
//! #     store::MemoryStore,
//! # };
//! use zenoh_backend_mst::proof;
//! # let clock: Clock = Arc::new(|| {
//! #     let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
//! #     ntp64_span(now.expect("after 1970"))
//! # });
//! # let options = Options {
//! #     durability: Durability::None,
//! #     sync_every: Duration::from_millis(100),
//! #     settle: Duration::from_millis(10),
//! #     max_clock_drift: Duration::from_secs(1),
//! #     keep_changes: false,
//! #     collect_after: None,
//! #     died_until: None,
//! # };
//! # let rules = Arc::new(MergeRules::lww());
//! # let store = Box::new(MemoryStore);
//! # let replica = Replica::open("demo", store, options, rules, Arc::clone(&clock), ())?;
//! # let key = |text: &str| Key::from(OwnedKeyExpr::new(text).ok());
//! # let cell = Cell::tombstone(Timestamp { time: clock(), id: [1; 16] });
//! # replica.put(key("demo/a"), cell.clone())?;
//! // A storage that has one cell, at `demo/a`.
//! let snapshot = replica.checkpoint()?;
//! let root = snapshot.root();
//! let prove = |text| {
//!     proof::prove(&snapshot.tree, &key(text), |key, version| {
//!         let cell = snapshot.read(key, &version)?;
//!         Ok::<_, Box<dyn std::error::Error>>(cell.ok_or("it is damaged")?)
//!     })
//! };
//!
//! // The storage proves what it has. Whoever trusts the root verifies that.
//! let bytes = prove("demo/a").expect("proven");
//! let proven = proof::verify(&bytes, &root, &key("demo/a"))?;
//! assert!(proven.cells[0].is_of(&cell));
//!
//! // That there is nothing is proven, too.
//! let bytes = prove("demo/b").expect("proven");
//! let proven = proof::verify(&bytes, &root, &key("demo/b"))?;
//! assert!(proven.cells.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Making a proof costs O(log n), and the reading and hashing of the cells that it
//! shows; checking it costs a few dozen hashes. No I/O is in here.

mod error;
#[cfg(feature = "replica")]
mod prove;
mod sequence;
#[cfg(all(test, feature = "replica"))]
mod tests;
mod verify;

pub use error::{ProofError, ProveError};
#[cfg(feature = "replica")]
pub use prove::prove;
pub use verify::{read, verify};

use crate::cell::{Cell, CellSummary, Key, Part, Timestamp};

/// The version of the format, which is the first byte of a proof.
pub const VERSION: u8 = 1;

/// Bytes that a proof may have; and the keys of all cells that it shows, when they
/// are written out, so that a few bytes cannot make for a lot of hashing.
///
/// A key of last writer wins is far from it. One that is merged has as many cells
/// as it has elements or puts: some 100,000 can be proven.
pub const MAX_PROOF_BYTES: usize = 16 << 20;

/// Nodes on a path that a proof may have.
///
/// Far more than a tree can be made to have: a path meets a digit once, and once
/// more for each rank, and a run of r ranks has some 2^r times
/// [`MAX_WIDTH`](crate::mst::MAX_WIDTH) entries, each of which was mined.
pub const MAX_DEPTH: usize = 256;

/// What a child's place in a proof is: nothing, its hash, or the node itself.
mod child {
    pub(super) const NONE: u8 = 0;
    pub(super) const HIDDEN: u8 = 1;
    pub(super) const OPEN: u8 = 2;
}

/// What is added to an entry's child to say that its cell is shown.
const SHOWN: u8 = 4;

/// What was proven: all that the tree under a root holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The key.
    pub key: Key,
    /// All of its cells, ascending by part.
    pub cells: Vec<ProvenCell>,
}

impl Proven {
    /// Whether the key has no value: it was never put, or it was deleted.
    ///
    /// That is, it has no cells but a tombstone of its own. A key with other cells
    /// has a value, even if they all are tombstones: a set of which all elements
    /// were removed is an empty set.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let is_deletion =
            |cell: &ProvenCell| cell.part.is_empty() && cell.content == CellSummary::Tombstone;
        self.cells.iter().all(is_deletion)
    }
}

/// A cell that was proven to be in the tree, but for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenCell {
    /// The part of the key.
    pub part: Part,
    /// When it was written, and by whom.
    pub timestamp: Timestamp,
    /// What, the payload by its length and hash.
    pub content: CellSummary,
}

impl ProvenCell {
    /// Whether it is `cell` that was proven, payload and all. Hashes the payload.
    #[must_use]
    pub fn is_of(&self, cell: &Cell) -> bool {
        self.timestamp == cell.timestamp && self.content == CellSummary::of(&cell.content)
    }
}
