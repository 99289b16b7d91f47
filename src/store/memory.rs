//! What stands for a store where cells are in memory only.

use std::sync::Arc;

use super::{Commit, Store, StoreError, StoreView, Write};
use crate::cell::{Cell, CellKey, CellMeta, Key, Part, Version};

/// Keeps nothing: the tree of the replica holds the cells themselves, and they are
/// gone with it.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn keeps_cells(&self) -> bool {
        false
    }

    fn scan(&self, _: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&self, _: &[Write], _: Commit) -> Result<(), StoreError> {
        Ok(())
    }

    fn write_ahead<'a>(
        &self,
        _: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        _: Commit,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn clear_ahead(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, _: &CellKey, _: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        Ok(None)
    }

    fn peek(&self, _: &CellKey, _: Version) -> Option<Arc<Cell>> {
        None
    }

    fn reread(&self, _: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        Ok(None)
    }

    fn read_parts(&self, _: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        Ok(Vec::new())
    }

    fn remove(&self, _: &[CellKey]) -> Result<(), StoreError> {
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn StoreView>, StoreError> {
        Ok(Box::new(Self))
    }

    /// There is nothing to be kept of what was in memory only.
    fn quarantine(&self, _: &CellKey, _: &CellMeta) -> Result<(), StoreError> {
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, CellMeta)>, StoreError> {
        Ok(Vec::new())
    }

    fn release(&self, _: &[CellKey]) -> Result<(), StoreError> {
        Ok(())
    }
}

impl StoreView for MemoryStore {
    fn scan(
        &self,
        _: Option<&CellKey>,
        _: &mut dyn FnMut(CellKey, Arc<Cell>, CellMeta) -> bool,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, _: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        Ok(None)
    }
}
