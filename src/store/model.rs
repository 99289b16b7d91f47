//! A store in memory, which others are compared with, and which simulations use.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    CellStore, Commit, QuarantineStore, RowBatch, RowHead, RowRead, StoreError, StoreView,
};
use crate::{
    cell::{Cell, CellKey, Key, Part, Version},
    collection::kept::Kept as Collected,
};

/// Rows, which a view shares until they change.
pub(crate) type Rows = BTreeMap<CellKey, Arc<Cell>>;

#[derive(Default)]
struct Kept {
    rows: Arc<Rows>,
    groups: u64,
    collection: Collected,
}

/// Keeps cells in memory, and forgets them when it is dropped.
#[derive(Default)]
pub(crate) struct ModelStore(Mutex<Kept>);

impl ModelStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.kept().rows)
    }
}

/// Changes rows as a batch says.
pub(crate) fn apply(rows: &mut Rows, batch: &RowBatch) {
    let ascends = |writes: &[super::Write]| writes[0].key < writes[1].key;
    assert!(batch.puts.windows(2).all(ascends));
    for write in &batch.puts {
        assert_eq!(Version::of(&write.key, &write.cell), write.version);
        rows.insert(write.key.clone(), Arc::clone(&write.cell));
    }
    for (key, _) in &batch.removes {
        rows.remove(key);
    }
}

impl CellStore for ModelStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, RowHead)) -> Result<(), StoreError> {
        for (key, cell) in &*self.rows() {
            let version = Version::of(key, cell);
            let is_apart = false;
            let schema = cell.value().and_then(|value| value.schema.as_deref());
            let ttl = schema.and_then(|schema| crate::cell::ttls(schema).next());
            let head = RowHead {
                version,
                is_apart,
                ttl: ttl.map(Box::from),
            };
            visit(key.clone(), head);
        }
        Ok(())
    }

    fn append<'a>(
        &self,
        _: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        _: Commit,
    ) -> Result<u64, StoreError> {
        let mut kept = self.kept();
        kept.groups += 1;
        Ok(kept.groups)
    }

    fn apply(&self, batch: &RowBatch) -> Result<(), StoreError> {
        apply(Arc::make_mut(&mut self.kept().rows), batch);
        Ok(())
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        Ok(self.peek(key, at_least))
    }

    fn peek(&self, key: &CellKey, _: Version) -> Option<Arc<Cell>> {
        self.kept().rows.get(key).cloned()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn collection(&self) -> Result<Collected, StoreError> {
        Ok(self.kept().collection.clone())
    }

    fn keep_collection(&self, kept: &Collected) -> Result<(), StoreError> {
        self.kept().collection = kept.clone();
        Ok(())
    }

    fn view(&self) -> Box<dyn StoreView> {
        Box::new(ModelView(self.rows()))
    }
}

/// There is nothing to be kept of what was in memory only.
impl QuarantineStore for ModelStore {
    fn quarantine(&self, key: &CellKey, _: &Version) -> Result<(), StoreError> {
        Arc::make_mut(&mut self.kept().rows).remove(key);
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError> {
        Ok(Vec::new())
    }
}

/// The cells as they were.
pub(crate) struct ModelView(pub(crate) Arc<Rows>);

impl StoreView for ModelView {
    fn scan(
        &self,
        after: Option<&CellKey>,
        visit: &mut dyn FnMut(CellKey, RowRead) -> bool,
    ) -> Result<(), StoreError> {
        let low = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, cell) in self.0.range((low, Bound::Unbounded)) {
            let version = Version::of(key, cell);
            if !visit(key.clone(), Ok((Arc::clone(cell), version))) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, Version)>, StoreError> {
        let cell = self.0.get(key);
        Ok(cell.map(|cell| (Arc::clone(cell), Version::of(key, cell))))
    }

    fn parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        let cells = self.0.range(CellKey::own(key.clone())..);
        let of_key = cells.take_while(|(cell, _)| cell.key == *key);
        Ok(of_key
            .map(|(key, cell)| (key.part.clone(), Arc::clone(cell)))
            .collect())
    }
}
