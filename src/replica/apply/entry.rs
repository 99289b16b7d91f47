//! What the tree holds of a cell.

use std::sync::{Arc, LazyLock};

use crate::{
    cell::{Cell, CellDigest, CellKey, TIMESTAMP_ID_BYTES, Timestamp, Version},
    hash::HASH_BYTES,
    mst::Digested,
};

/// All of a cell but its value; and if there is no store to keep the cell, the cell
/// itself.
///
/// As there is one for each cell of a storage, and they are moved about as keys come, it is small: 64
/// bytes. A tombstone has nothing but its timestamp, so none is kept; what stands in its place says that
/// it is one. The same goes for a value whose payload has a row of its own in the store.
///
/// Two are equal if they are of the same cell, whoever keeps it.
#[derive(Clone, Debug)]
pub struct TreeEntry {
    timestamp: Timestamp,
    digest: CellDigest,
    cell: Option<Arc<Cell>>,
}

const _: () = assert!(size_of::<TreeEntry>() == 64);

/// Stands for any tombstone: what counts is that it is this one.
static DELETED: LazyLock<Arc<Cell>> = LazyLock::new(mark);

/// Stands for any value whose payload is apart.
static APART: LazyLock<Arc<Cell>> = LazyLock::new(mark);

fn mark() -> Arc<Cell> {
    let (time, id) = (0, [0; TIMESTAMP_ID_BYTES]);
    Arc::new(Cell::tombstone(Timestamp { time, id }))
}

impl TreeEntry {
    /// `version` is the cell's, which is here if there is no store to keep it.
    pub(in crate::replica) fn new(version: Version, cell: Option<Arc<Cell>>) -> Self {
        let Version {
            timestamp,
            tombstone,
            digest,
        } = version;
        Self {
            timestamp,
            digest,
            cell: match tombstone {
                true => Some(Arc::clone(&DELETED)),
                false => cell,
            },
        }
    }

    /// Of a cell that is in a row, and whether its payload has a row of its own.
    pub(in crate::replica) fn in_row(version: Version, is_apart: bool) -> Self {
        Self::new(version, is_apart.then(|| Arc::clone(&APART)))
    }

    /// Whether the payload of its row has a row of its own.
    pub(in crate::replica) fn is_apart(&self) -> bool {
        let cell = self.cell.as_ref();
        cell.is_some_and(|cell| Arc::ptr_eq(cell, &APART))
    }

    /// When the cell was written, and by whom.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Whether it is a tombstone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        let cell = self.cell.as_ref();
        cell.is_some_and(|cell| Arc::ptr_eq(cell, &DELETED))
    }

    /// Its place in the order of last writer wins.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            timestamp: self.timestamp,
            tombstone: self.is_tombstone(),
            digest: self.digest,
        }
    }

    /// Whether the cell is here, and is what the digest says. Hashes it.
    pub(in crate::replica) fn is_whole(&self, key: &CellKey) -> bool {
        let cell = self.cell();
        cell.is_some_and(|cell| Version::of(key, &cell) == self.version())
    }

    /// The cell, if it is not a value in a store.
    #[must_use]
    pub fn cell(&self) -> Option<Arc<Cell>> {
        match self.is_tombstone() {
            true => Some(Arc::new(Cell::tombstone(self.timestamp))),
            false => self.cell.clone().filter(|_| !self.is_apart()),
        }
    }
}

impl From<Version> for TreeEntry {
    fn from(version: Version) -> Self {
        Self::new(version, None)
    }
}

impl PartialEq for TreeEntry {
    fn eq(&self, other: &Self) -> bool {
        self.version() == other.version()
    }
}

impl Eq for TreeEntry {}

impl Digested for TreeEntry {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        &self.digest.0
    }
}
