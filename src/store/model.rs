//! A store in memory, which others are compared with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{Commit, Store, StoreError, StoreView, Write};
use crate::cell::{Cell, CellKey, CellMeta, Key, Part, Version};

/// Digests are not kept, but made when somebody asks: few do, and what is written and
/// read all the time is to be small.
#[derive(Default)]
struct Cells {
    /// With the empty part. Nobody can prepare keys that collide.
    own: HashMap<Key, Arc<Cell>, ahash::RandomState>,
    /// With other parts.
    parts: HashMap<Key, BTreeMap<Part, Arc<Cell>>>,
}

impl Cells {
    fn get(&self, key: &CellKey) -> Option<&Arc<Cell>> {
        match key.part.is_empty() {
            true => self.own.get(&key.key),
            false => self.parts.get(&key.key)?.get(&key.part),
        }
    }

    fn sorted(&self) -> Vec<(CellKey, Arc<Cell>)> {
        let own = self.own.iter();
        let own = own.map(|(key, cell)| (CellKey::own(key.clone()), Arc::clone(cell)));
        let parts = self.parts.iter().flat_map(|(key, parts)| {
            parts.iter().map(move |(part, cell)| {
                let (key, part) = (key.clone(), part.clone());
                (CellKey { key, part }, Arc::clone(cell))
            })
        });
        let mut sorted: Vec<_> = own.chain(parts).collect();
        sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        sorted
    }
}

/// A cell, and its digest.
fn with_meta(key: &CellKey, cell: Arc<Cell>) -> (Arc<Cell>, CellMeta) {
    let meta = CellMeta::of(key, &cell);
    (cell, meta)
}

/// Keeps cells in memory, and forgets them when it is dropped.
#[derive(Default)]
pub(crate) struct ModelStore {
    cells: RwLock<Cells>,
}

impl ModelStore {
    fn cells(&self) -> RwLockReadGuard<'_, Cells> {
        self.cells.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells_mut(&self) -> RwLockWriteGuard<'_, Cells> {
        self.cells.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ModelStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        let sorted = self.cells().sorted();
        for (key, cell) in sorted {
            let meta = CellMeta::of(&key, &cell);
            visit(key, meta);
        }
        Ok(())
    }

    fn commit(&self, batch: &[Write], _: Commit) -> Result<(), StoreError> {
        let mut cells = self.cells_mut();
        for Write { key, cell, .. } in batch {
            let cell = Arc::clone(cell);
            if key.part.is_empty() {
                cells.own.insert(key.key.clone(), cell);
            } else {
                let parts = cells.parts.entry(key.key.clone()).or_default();
                parts.insert(key.part.clone(), cell);
            }
        }
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

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        Ok(self.peek(key, at_least))
    }

    fn peek(&self, key: &CellKey, _: Version) -> Option<Arc<Cell>> {
        let cells = self.cells();
        cells.get(key).cloned()
    }

    fn reread(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        let cell = self.cells().get(key).cloned();
        Ok(cell.map(|cell| with_meta(key, cell)))
    }

    fn read_parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        let cells = self.cells();
        let own = cells.own.get(key).map(|cell| (Part::EMPTY, cell));
        let parts = cells.parts.get(key).into_iter().flatten();
        let parts = parts.map(|(part, cell)| (part.clone(), cell));
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

    /// O(n log n), while nothing is committed.
    fn view(&self) -> Result<Box<dyn StoreView>, StoreError> {
        Ok(Box::new(ModelView(self.cells().sorted())))
    }

    /// There is nothing to be kept of what was in memory only.
    fn quarantine(&self, key: &CellKey, _: &CellMeta) -> Result<(), StoreError> {
        self.remove(std::slice::from_ref(key))
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, CellMeta)>, StoreError> {
        Ok(Vec::new())
    }

    fn release(&self, _: &[CellKey]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The cells as they were, ascending.
struct ModelView(Vec<(CellKey, Arc<Cell>)>);

impl StoreView for ModelView {
    fn scan(
        &self,
        after: Option<&CellKey>,
        visit: &mut dyn FnMut(CellKey, Arc<Cell>, CellMeta) -> bool,
    ) -> Result<(), StoreError> {
        let passed = after.map_or(0, |after| self.0.partition_point(|(key, _)| key <= after));
        for (key, cell) in &self.0[passed..] {
            let (cell, meta) = with_meta(key, Arc::clone(cell));
            if !visit(key.clone(), cell, meta) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        let place = self.0.binary_search_by(|(other, _)| other.cmp(key));
        let cell = place.ok().map(|place| Arc::clone(&self.0[place].1));
        Ok(cell.map(|cell| with_meta(key, cell)))
    }
}
