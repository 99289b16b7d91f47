//! What the tree holds of a cell.

use std::sync::{Arc, LazyLock};

use crate::{
    cell::{Cell, CellDigest, CellKey, CellMeta, Stamp, Version, STAMP_ID_BYTES},
    hash::HASH_BYTES,
    mst::Digested,
};

/// All of a cell but its value; and if there is no store to keep the cell, the cell
/// itself.
///
/// As there is one for each cell of a storage, and they are moved about as keys come, it is small: 64
/// bytes. A tombstone has nothing but its stamp, so none is kept; what stands in its place says that
/// it is one. The same goes for a value whose payload has a row of its own in the store.
///
/// Two are equal if they are of the same cell, whoever keeps it.
#[derive(Clone, Debug)]
pub struct Held {
    stamp: Stamp,
    digest: CellDigest,
    cell: Option<Arc<Cell>>,
}

const _: () = assert!(size_of::<Held>() == 64);

/// Stands for any tombstone: what counts is that it is this one.
static DELETED: LazyLock<Arc<Cell>> = LazyLock::new(mark);

/// Stands for any value whose payload is apart.
static APART: LazyLock<Arc<Cell>> = LazyLock::new(mark);

fn mark() -> Arc<Cell> {
    let (time, id) = (0, [0; STAMP_ID_BYTES]);
    Arc::new(Cell::tombstone(Stamp { time, id }))
}

impl Held {
    /// `meta` is the cell's, which is here if there is no store to keep it.
    pub(in crate::replica) fn new(meta: CellMeta, cell: Option<Arc<Cell>>) -> Self {
        let Version {
            stamp,
            tombstone,
            digest,
        } = meta.version;
        Self {
            stamp,
            digest,
            cell: match tombstone {
                true => Some(Arc::clone(&DELETED)),
                false => cell,
            },
        }
    }

    /// Of a cell that is in a row, and whether its payload has a row of its own.
    pub(in crate::replica) fn in_row(meta: CellMeta, is_apart: bool) -> Self {
        Self::new(meta, is_apart.then(|| Arc::clone(&APART)))
    }

    /// Whether the payload of its row has a row of its own.
    pub(in crate::replica) fn is_apart(&self) -> bool {
        let cell = self.cell.as_ref();
        cell.is_some_and(|cell| Arc::ptr_eq(cell, &APART))
    }

    /// When the cell was written, and by whom.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
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
            stamp: self.stamp,
            tombstone: self.is_tombstone(),
            digest: self.digest,
        }
    }

    /// All but the value.
    #[must_use]
    pub fn meta(&self) -> CellMeta {
        CellMeta {
            version: self.version(),
        }
    }

    /// Whether the cell is here, and is what the digest says. Hashes it.
    pub(in crate::replica) fn is_whole(&self, key: &CellKey) -> bool {
        let cell = self.cell();
        cell.is_some_and(|cell| CellMeta::of(key, &cell) == self.meta())
    }

    /// The cell, if it is not a value in a store.
    #[must_use]
    pub fn cell(&self) -> Option<Arc<Cell>> {
        match self.is_tombstone() {
            true => Some(Arc::new(Cell::tombstone(self.stamp))),
            false => self.cell.clone().filter(|_| !self.is_apart()),
        }
    }
}

impl From<CellMeta> for Held {
    fn from(meta: CellMeta) -> Self {
        Self::new(meta, None)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.version() == other.version()
    }
}

impl Eq for Held {}

impl Digested for Held {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        &self.digest.0
    }
}
