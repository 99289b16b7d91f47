//! What is to settle, until it does.

use std::{cmp::Ordering, sync::Arc};

use super::Held;
use crate::{
    cell::{Cell, CellKey, CellMeta, Stamp},
    mst::sort_by_tree_key,
};

/// A cell that is to settle.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// It is in the store.
    Stored(CellMeta),
    /// It is to be in the tree itself; and what is known of it, if it was hashed before.
    Here(Arc<Cell>, Option<Box<CellMeta>>),
}

impl Due {
    fn stamp(&self) -> Stamp {
        match self {
            Self::Stored(meta) => meta.version.stamp,
            Self::Here(cell, _) => cell.stamp,
        }
    }

    /// What the tree is to hold of it. Hashes the cell, if it was not before.
    fn held(self, key: &CellKey) -> Held {
        let (meta, cell) = self.written(key);
        Held::new(meta, cell)
    }

    /// What is known of it, and the cell, if it is in no row. Hashes it, if it was not
    /// before.
    pub(super) fn written(self, key: &CellKey) -> (CellMeta, Option<Arc<Cell>>) {
        match self {
            Self::Stored(meta) => (meta, None),
            Self::Here(cell, Some(meta)) => (*meta, Some(cell)),
            Self::Here(cell, None) => (CellMeta::of(key, &cell), Some(cell)),
        }
    }

    /// Whether it wins over `other`, of the same key. Nothing is hashed but for cells of
    /// one timestamp.
    fn wins(&self, key: &CellKey, other: &Self) -> bool {
        match self.stamp().cmp(&other.stamp()) {
            Ordering::Equal => self.clone().written(key).0 > other.clone().written(key).0,
            order => order.is_gt(),
        }
    }

    fn is_here(&self) -> bool {
        matches!(self, Self::Here(..))
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Stored(_) => 0,
            Self::Here(cell, _) => cell.value_bytes(),
        }
    }
}

/// A cell as it goes into the tree. Hashes it, if it was not hashed before.
pub(super) fn hashed((key, due): (CellKey, Due)) -> (CellKey, Held) {
    let held = due.held(&key);
    (key, held)
}

/// What settles together: of each cell the newest, perhaps with some that lost.
#[derive(Default)]
pub(super) struct Bucket {
    /// As they came: they are put together only once, and moved no more than they have to.
    pieces: Vec<Vec<(CellKey, Due)>>,
    /// Those that are in no row, and the bytes of their values.
    held: usize,
    held_bytes: usize,
}

impl Bucket {
    /// Adds to the one piece that there is. `to_come` is how many may come with this one.
    pub(super) fn push(&mut self, key: CellKey, due: Due, to_come: usize) {
        self.held += usize::from(due.is_here());
        self.held_bytes += due.value_bytes();
        if self.pieces.is_empty() {
            self.pieces.push(Vec::with_capacity(to_come));
        }
        self.pieces[0].push((key, due));
    }

    /// Cells that are in no row of a store.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes of their values.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.held += other.held;
        self.held_bytes += other.held_bytes;
        self.pieces.append(&mut other.pieces);
    }

    /// Leaves of each cell the newest, ascending by key.
    pub(super) fn join(&mut self) {
        let mut cells = self.take();
        let (held, held_bytes) = (&mut self.held, &mut self.held_bytes);
        sort_by_tree_key(&mut cells, |(key, _)| key);
        cells.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same && next.1.wins(&next.0, &kept.1) {
                std::mem::swap(&mut next.1, &mut kept.1);
            }
            if is_same {
                *held -= usize::from(next.1.is_here());
                *held_bytes -= next.1.value_bytes();
            }
            is_same
        });
        self.pieces.push(cells);
    }

    /// Takes all of it, in one piece.
    pub(super) fn take(&mut self) -> Vec<(CellKey, Due)> {
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
