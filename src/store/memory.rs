//! What stands for a store where cells are in memory only.

use std::sync::Arc;

use super::{
    CellStore, Commit, QuarantineStore, RowBatch, RowHead, RowRead, StoreError, StoreView,
};
use crate::cell::{Cell, CellKey, Key, Part, Version};

/// Keeps nothing: the tree of the replica holds the cells themselves, and they are gone with it.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl CellStore for MemoryStore {
    fn keeps_cells(&self) -> bool {
        false
    }

    fn scan(&self, _: &mut dyn FnMut(CellKey, RowHead)) -> Result<(), StoreError> {
        Ok(())
    }

    fn append<'a>(
        &self,
        _: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        _: Commit,
    ) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn apply(&self, _: &RowBatch) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, _: &CellKey, _: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        Ok(None)
    }

    fn peek(&self, _: &CellKey, _: Version) -> Option<Arc<Cell>> {
        None
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn view(&self) -> Box<dyn StoreView> {
        Box::new(NoRows)
    }
}

/// There is nothing to be kept of what was in memory only.
impl QuarantineStore for MemoryStore {
    fn quarantine(&self, _: &CellKey, _: &Version) -> Result<(), StoreError> {
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError> {
        Ok(Vec::new())
    }
}

struct NoRows;

impl StoreView for NoRows {
    fn scan(
        &self,
        _: Option<&CellKey>,
        _: &mut dyn FnMut(CellKey, RowRead) -> bool,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, _: &CellKey) -> Result<Option<(Arc<Cell>, Version)>, StoreError> {
        Ok(None)
    }

    fn parts(&self, _: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        Ok(Vec::new())
    }
}
