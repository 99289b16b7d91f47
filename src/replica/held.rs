//! What the tree holds of a cell.

use std::{ops::Deref, sync::Arc};

use crate::{
    cell::{Cell, CellKey, CellMeta},
    hash::HASH_BYTES,
    mst::Digested,
};

/// All of a cell but its value; and if there is no store to keep the cell, the cell
/// itself.
///
/// Two are equal if they are of the same cell, whoever keeps it.
#[derive(Clone, Debug)]
pub struct Held {
    meta: CellMeta,
    cell: Option<Arc<Cell>>,
}

impl Held {
    /// Hashes the cell. O(its length).
    pub(super) fn hash(key: &CellKey, cell: Arc<Cell>) -> Self {
        let meta = CellMeta::of(key, &cell);
        Self::whole(meta, cell)
    }

    /// `meta` is the cell's.
    pub(super) fn whole(meta: CellMeta, cell: Arc<Cell>) -> Self {
        let cell = Some(cell);
        Self { meta, cell }
    }

    /// All but the value.
    #[must_use]
    pub fn meta(&self) -> CellMeta {
        self.meta
    }

    /// Whether the cell is here, and is what `meta` says. Hashes it.
    pub(super) fn is_whole(&self, key: &CellKey) -> bool {
        let cell = self.cell.as_ref();
        cell.is_some_and(|cell| CellMeta::of(key, cell) == self.meta)
    }

    /// The cell, if it is not in a store.
    #[must_use]
    pub fn cell(&self) -> Option<&Arc<Cell>> {
        self.cell.as_ref()
    }
}

impl From<CellMeta> for Held {
    fn from(meta: CellMeta) -> Self {
        Self { meta, cell: None }
    }
}

impl Deref for Held {
    type Target = CellMeta;

    fn deref(&self) -> &CellMeta {
        &self.meta
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta
    }
}

impl Eq for Held {}

impl Digested for Held {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        self.meta.digest()
    }
}
