//! Committed updates of one time bucket.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    cell::{Cell, CellKey, Version},
    mst::sort_by_tree_key,
};

/// A cell that is committed, and not applied yet.
#[derive(Clone, Debug)]
pub(in crate::replica) struct PendingCell {
    pub(in crate::replica) cell: Arc<Cell>,
    /// Its digest and version, if it was hashed before.
    pub(in crate::replica) version: Option<Box<Version>>,
}

impl PendingCell {
    /// Its digest and version. Hashes the cell, if it was not hashed before.
    pub(in crate::replica) fn version(&self, key: &CellKey) -> Version {
        let known = self.version.as_deref().copied();
        known.unwrap_or_else(|| Version::of(key, &self.cell))
    }

    /// Whether it wins over `other`, of the same key. Nothing is hashed but for cells of one
    /// timestamp.
    fn wins(&self, key: &CellKey, other: &Self) -> bool {
        match self.cell.timestamp.cmp(&other.cell.timestamp) {
            Ordering::Equal => self.version(key) > other.version(key),
            order => order.is_gt(),
        }
    }
}

/// Updates that are applied together: of each cell the newest, perhaps with some that lost.
#[derive(Default)]
pub(in crate::replica) struct TimeBucket {
    /// As they came: they are put together only once, and moved no more than they have to.
    pieces: Vec<Vec<(CellKey, PendingCell)>>,
    value_bytes: usize,
}

impl TimeBucket {
    /// Adds to the one piece that there is. `to_come` is how many may come with this one.
    pub(in crate::replica) fn push(&mut self, key: CellKey, cell: PendingCell, to_come: usize) {
        self.value_bytes += cell.cell.value_bytes();
        if self.pieces.is_empty() {
            self.pieces.push(Vec::with_capacity(to_come));
        }
        self.pieces[0].push((key, cell));
    }

    /// Bytes of the values.
    pub(in crate::replica) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub(in crate::replica) fn append(&mut self, mut other: Self) {
        self.value_bytes += other.value_bytes;
        self.pieces.append(&mut other.pieces);
    }

    /// Leaves of each cell the newest, ascending by key.
    pub(in crate::replica) fn join(&mut self) {
        let mut cells = self.take();
        sort_by_tree_key(&mut cells, |(key, _)| key);
        cells.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same && next.1.wins(&next.0, &kept.1) {
                std::mem::swap(&mut next.1, &mut kept.1);
            }
            is_same
        });
        self.value_bytes = cells.iter().map(|(_, cell)| cell.cell.value_bytes()).sum();
        self.pieces.push(cells);
    }

    /// Takes all of it, in one piece.
    pub(in crate::replica) fn take(&mut self) -> Vec<(CellKey, PendingCell)> {
        self.value_bytes = 0;
        if self.pieces.len() == 1 {
            return self.pieces.pop().unwrap_or_default();
        }
        let len = self.pieces.iter().map(Vec::len).sum();
        let mut cells = Vec::with_capacity(len);
        for mut piece in self.pieces.drain(..) {
            cells.append(&mut piece);
        }
        cells
    }
}
