//! All cells at one cut, while writes go on.

use std::sync::Arc;

use crate::{
    cell::{Cell, CellKey, Version},
    mst::RootHash,
    replica::{Tree, TreeEntry},
    store::{StoreError, StoreView},
};

/// Cells that are read one by one where a scan does not go on, before it is tried again.
const READ_SINGLY: usize = 64;

/// The tree as it is at a cut, and the rows that belong to it.
#[derive(Clone)]
pub struct Snapshot {
    /// Updates with a time below this are in the tree, later ones are not.
    pub cut: u64,
    /// The tree.
    pub tree: Tree,
    rows: Arc<dyn StoreView>,
}

impl Snapshot {
    /// `rows` are those of a store between two batches, when the tree was this.
    #[must_use]
    pub fn new(cut: u64, tree: Tree, rows: Box<dyn StoreView>) -> Self {
        let rows = rows.into();
        Self { cut, tree, rows }
    }

    /// The root. O(changed nodes) since it was last asked for.
    #[must_use]
    pub fn root(&self) -> RootHash {
        let Ok(root) = self.tree.root();
        root
    }

    /// The cell that the tree has at `key`, of which it says `version`; nothing if the disk has another,
    /// or none. Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn read(&self, key: &CellKey, version: &Version) -> Result<Option<Arc<Cell>>, StoreError> {
        if version.tombstone {
            // All of a tombstone is in the tree.
            return Ok(Some(Arc::new(Cell::tombstone(version.timestamp))));
        }
        let Ok(held) = self.tree.get(key);
        let held = held.filter(|held| held.version() == *version);
        let at_hand = held.and_then(TreeEntry::cell);
        if let Some(cell) = at_hand.or_else(|| self.rows.peek(key, *version)) {
            return Ok(Some(cell));
        }
        match self.rows.read(key) {
            Ok(Some((cell, found))) if found == *version => Ok(Some(cell)),
            Ok(_) => Ok(None),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes of a key and part that the tree has, and of its value. Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read. What is damaged has no value.
    pub fn bytes(&self, key: &CellKey, held: &TreeEntry) -> Result<u64, StoreError> {
        let value = match held.cell() {
            Some(cell) => cell.value_bytes() as u64,
            None => match self.rows.value_bytes(key) {
                Err(error) if error.is_damage() => 0,
                bytes => bytes?,
            },
        };
        Ok(key.canonical_len() as u64 + value)
    }

    /// Shows all cells of the tree, ascending by key, until `visit` says no. A cell that is damaged is
    /// shown as nothing. O(n). Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(&CellKey, &Version, Option<Arc<Cell>>) -> bool,
    ) -> Result<(), StoreError> {
        let Ok(cells) = self.tree.iter();
        let mut cells = cells.map(|entry| {
            let Ok(entry) = entry;
            entry
        });
        let mut next = cells.next();
        let mut after: Option<CellKey> = None;
        loop {
            // The tree and the rows are walked side by side.
            let mut is_stopped = false;
            let scanned = self.rows.scan(after.as_ref(), &mut |key, row| {
                while let Some((expected, held)) = next.filter(|(expected, _)| **expected <= key) {
                    let version = held.version();
                    let row = row.as_ref().ok().filter(|_| *expected == key);
                    let cell = row.filter(|(_, found)| *found == version);
                    let cell = cell.map(|(cell, _)| Arc::clone(cell));
                    is_stopped = !visit(expected, &version, cell.or_else(|| held.cell()));
                    if is_stopped {
                        return false;
                    }
                    next = cells.next();
                }
                next.is_some()
            });
            match scanned {
                Ok(()) if is_stopped => return Ok(()),
                Ok(()) => break,
                Err(error) if error.is_damage() && next.is_some() => {}
                Err(error) => return Err(error),
            }
            // A scan does not pass a block that cannot be read. Of the cells there, those that have
            // been replaced can be read one by one.
            for _ in 0..READ_SINGLY {
                let Some((key, held)) = next else {
                    break;
                };
                let version = held.version();
                if !visit(key, &version, self.read(key, &version)?) {
                    return Ok(());
                }
                after = Some(key.clone());
                next = cells.next();
            }
        }
        for (key, held) in next.into_iter().chain(cells) {
            if !visit(key, &held.version(), held.cell()) {
                break;
            }
        }
        Ok(())
    }
}
