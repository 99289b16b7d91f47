//! What is settled: the tree, and its counts.

use super::{Published, Snapshot};
use crate::{
    cell::{CellKey, CellMeta},
    mst::{Mst, Resident},
};

/// The tree of a replica.
pub type Tree = Mst<Resident<CellKey, CellMeta>>;

/// The tree, and what can be said of it without walking it.
///
/// Invariant: every cell in the tree has a time below `cut`.
pub(super) struct Settled {
    tree: Tree,
    tombstones: usize,
    cut: u64,
}

impl Settled {
    pub(super) fn new(tree: Tree, tombstones: usize, cut: u64) -> Self {
        Self {
            tree,
            tombstones,
            cut,
        }
    }

    pub(super) fn get(&self, key: &CellKey) -> Option<&CellMeta> {
        let Ok(meta) = self.tree.get(key);
        meta
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CellKey, &CellMeta)> {
        let Ok(entries) = self.tree.iter();
        entries.map(|entry| {
            let Ok(entry) = entry;
            entry
        })
    }

    /// Joins a cell into the tree: last writer wins. True if it did.
    pub(super) fn join(&mut self, key: CellKey, meta: CellMeta) -> bool {
        let Ok(old) = self.tree.upsert(key.clone(), meta);
        if let Some(old) = old.filter(|old| old.version >= meta.version) {
            // Only what is late can lose: to look first would cost every write.
            let Ok(_) = self.tree.upsert(key, old);
            return false;
        }
        self.tombstones += usize::from(meta.version.tombstone);
        self.tombstones -= usize::from(old.is_some_and(|old| old.version.tombstone));
        true
    }

    /// Joins several. The earliest time of those that changed the tree, if any
    /// did.
    pub(super) fn join_all(&mut self, cells: &[(CellKey, CellMeta)]) -> Option<u64> {
        let mut earliest = None;
        for (key, meta) in cells {
            if self.join(key.clone(), *meta) {
                let time = meta.version.stamp.time;
                earliest = Some(earliest.map_or(time, |earliest: u64| earliest.min(time)));
            }
        }
        earliest
    }

    pub(super) fn set_cut(&mut self, cut: u64) {
        self.cut = cut;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            cut: self.cut,
            tree: self.tree.clone(),
        }
    }

    /// Makes the root. O(changed nodes) since the last time.
    pub(super) fn publish(&self) -> Published {
        let Ok(root) = self.tree.root();
        Published {
            cut: self.cut,
            root,
            cells: self.tree.len(),
            tombstones: self.tombstones,
        }
    }
}
