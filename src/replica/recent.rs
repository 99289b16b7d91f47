//! What is pending, as readers see it: of each cell the newest.

use std::{
    collections::{hash_map::Entry, HashMap, HashSet},
    sync::Arc,
};

use crate::cell::{Cell, CellKey, CellMeta, Stamp, Version};

/// Values of more bytes are shown from the store once they are committed.
const KEPT_VALUE_BYTES: usize = 4096;

/// What an update takes in memory beside its key and value.
const UPDATE_OVERHEAD: usize = 256;

/// Memory that a cell takes while it is pending, about.
pub(super) fn bytes_of(key: &CellKey, cell: &Cell) -> usize {
    UPDATE_OVERHEAD + key.canonical_len() + cell.value_bytes()
}

/// Where a pending cell is shown from.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    Here(Arc<Cell>),
    /// A large value, which is committed.
    Stored(Version),
}

impl Shown {
    pub(super) fn stamp(&self) -> Stamp {
        match self {
            Self::Here(cell) => cell.stamp,
            Self::Stored(version) => version.stamp,
        }
    }

    pub(super) fn is_tombstone(&self) -> bool {
        match self {
            Self::Here(cell) => cell.value().is_none(),
            Self::Stored(version) => version.tombstone,
        }
    }

    /// Hashes the cell, if it is here.
    fn version(&self, key: &CellKey) -> Version {
        match self {
            Self::Here(cell) => CellMeta::of(key, cell).version,
            Self::Stored(version) => *version,
        }
    }

    fn bytes(&self, key: &CellKey) -> usize {
        match self {
            Self::Here(cell) => bytes_of(key, cell),
            Self::Stored(_) => UPDATE_OVERHEAD + key.canonical_len(),
        }
    }
}

/// Invariant: what is shown is newer than what is settled.
#[derive(Default)]
pub(super) struct Recent {
    cells: HashMap<CellKey, Shown>,
    /// Keys of which two different writes bear one timestamp.
    tied: HashSet<CellKey>,
    bytes: usize,
}

impl Recent {
    /// Shows `cell`, if there is no newer one. True if it is shown.
    pub(super) fn offer(&mut self, key: &CellKey, cell: &Arc<Cell>) -> bool {
        let offered = Shown::Here(Arc::clone(cell));
        let bytes = offered.bytes(key);
        match self.cells.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(offered);
            }
            Entry::Occupied(mut shown) => {
                let other = shown.get();
                if other.stamp() > cell.stamp {
                    return false;
                }
                if other.stamp() == cell.stamp {
                    if offered.version(key) <= other.version(key) {
                        return false;
                    }
                    self.tied.insert(key.clone());
                }
                self.bytes -= other.bytes(key);
                shown.insert(offered);
            }
        }
        self.bytes += bytes;
        true
    }

    /// Lets go of a large value that is committed, to be shown from the store.
    pub(super) fn release(&mut self, key: &CellKey, cell: &Arc<Cell>, version: Version) {
        if cell.value_bytes() <= KEPT_VALUE_BYTES {
            return;
        }
        if let Some(shown) = self.cells.get_mut(key) {
            if matches!(shown, Shown::Here(here) if Arc::ptr_eq(here, cell)) {
                self.bytes -= shown.bytes(key);
                *shown = Shown::Stored(version);
                self.bytes += shown.bytes(key);
            }
        }
    }

    /// Shows no more what has settled, or what lost to that.
    pub(super) fn forget(&mut self, key: &CellKey, settled: Version) {
        let Some(shown) = self.cells.get(key) else {
            return;
        };
        let is_settled = shown.stamp() < settled.stamp
            || (shown.stamp() == settled.stamp
                // Without a tie, it is the very same write.
                && (!self.tied.contains(key) || shown.version(key) <= settled));
        if is_settled {
            self.bytes -= shown.bytes(key);
            self.cells.remove(key);
            self.tied.remove(key);
        }
        if self.cells.is_empty() {
            // A burst may have made it large.
            self.cells.shrink_to(4096);
        }
    }

    pub(super) fn get(&self, key: &CellKey) -> Option<&Shown> {
        self.cells.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CellKey, &Shown)> {
        self.cells.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(super) fn contains(&self, key: &CellKey) -> bool {
        self.cells.contains_key(key)
    }

    /// Memory that all of it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
