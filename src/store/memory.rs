//! The store in memory.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Commit, Store, StoreError, Write};
use crate::cell::{Cell, CellKey, CellMeta, Version};

type Cells = HashMap<CellKey, (Arc<Cell>, CellMeta)>;

/// Keeps cells in memory, and forgets them when it is dropped.
#[derive(Default)]
pub struct MemoryStore {
    cells: RwLock<Cells>,
}

impl Store for MemoryStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = cells.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        for (key, (_, meta)) in sorted {
            visit(key.clone(), *meta);
        }
        Ok(())
    }

    fn commit(&self, batch: &[Write], _: Commit) -> Result<(), StoreError> {
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        for write in batch {
            let value = (Arc::clone(&write.cell), write.meta);
            match cells.get_mut(&write.key) {
                Some(cell) => *cell = value,
                None => {
                    cells.insert(write.key.clone(), value);
                }
            }
        }
        Ok(())
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        Ok(self.peek(key, at_least))
    }

    fn peek(&self, key: &CellKey, _: Version) -> Option<Arc<Cell>> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.get(key).map(|(cell, _)| Arc::clone(cell))
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
