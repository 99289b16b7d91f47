//! The store in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{Commit, Store, StoreError, Write};
use crate::cell::{Cell, CellKey, CellMeta, Key, Part, Version};

type Kept = (Arc<Cell>, CellMeta);

#[derive(Default)]
struct Cells {
    /// With the empty part.
    own: HashMap<Key, Kept>,
    /// With other parts.
    parts: HashMap<Key, BTreeMap<Part, Kept>>,
}

impl Cells {
    fn get(&self, key: &CellKey) -> Option<&Kept> {
        match key.part.is_empty() {
            true => self.own.get(&key.key),
            false => self.parts.get(&key.key)?.get(&key.part),
        }
    }
}

/// Keeps cells in memory, and forgets them when it is dropped.
#[derive(Default)]
pub struct MemoryStore {
    cells: RwLock<Cells>,
}

impl MemoryStore {
    fn cells(&self) -> RwLockReadGuard<'_, Cells> {
        self.cells.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells_mut(&self) -> RwLockWriteGuard<'_, Cells> {
        self.cells.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        let cells = self.cells();
        let own = cells.own.iter();
        let own = own.map(|(key, (_, meta))| (CellKey::own(key.clone()), *meta));
        let parts = cells.parts.iter().flat_map(|(key, parts)| {
            parts.iter().map(|(part, (_, meta))| {
                let (key, part) = (key.clone(), part.clone());
                (CellKey { key, part }, *meta)
            })
        });
        let mut sorted: Vec<_> = own.chain(parts).collect();
        sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (key, meta) in sorted {
            visit(key, meta);
        }
        Ok(())
    }

    fn commit(&self, batch: &[Write], _: Commit) -> Result<(), StoreError> {
        let mut cells = self.cells_mut();
        for Write { key, cell, meta } in batch {
            let kept = (Arc::clone(cell), *meta);
            if !key.part.is_empty() {
                let parts = cells.parts.entry(key.key.clone()).or_default();
                parts.insert(key.part.clone(), kept);
                continue;
            }
            match cells.own.get_mut(&key.key) {
                Some(cell) => *cell = kept,
                None => {
                    cells.own.insert(key.key.clone(), kept);
                }
            }
        }
        Ok(())
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        Ok(self.peek(key, at_least))
    }

    fn peek(&self, key: &CellKey, _: Version) -> Option<Arc<Cell>> {
        let cells = self.cells();
        cells.get(key).map(|(cell, _)| Arc::clone(cell))
    }

    fn read_parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        let cells = self.cells();
        let own = cells.own.get(key).map(|(cell, _)| (Part::EMPTY, cell));
        let parts = cells.parts.get(key).into_iter().flatten();
        let parts = parts.map(|(part, (cell, _))| (part.clone(), cell));
        let all = own.into_iter().chain(parts);
        Ok(all.map(|(part, cell)| (part, Arc::clone(cell))).collect())
    }

    fn remove(&self, keys: &[CellKey]) -> Result<(), StoreError> {
        let mut cells = self.cells_mut();
        for key in keys {
            if key.part.is_empty() {
                cells.own.remove(&key.key);
            } else if let Some(parts) = cells.parts.get_mut(&key.key) {
                parts.remove(&key.part);
                if parts.is_empty() {
                    cells.parts.remove(&key.key);
                }
            }
        }
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
