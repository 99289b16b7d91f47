//! The store on disk, on the fjall storage engine.
//!
//! Two keyspaces: `cells` holds the rows; `payloads` holds, under the same keys,
//! the payloads of more than [`INLINE_LIMIT`] bytes, so that the scan at opening
//! and compaction do not read and copy them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable, Snapshot,
};
use quick_cache::{sync::Cache, Weighter};

use super::{folder, Commit, Store, StoreError, Write};
use crate::cell::{Cell, CellKey, CellMeta, DecodeError, Key, Part, Row, Version};

/// Payloads of more bytes than this have rows of their own.
const INLINE_LIMIT: usize = 1024;

/// Files of a store that are kept open: a process may often open 1,024 in all.
const MAX_OPEN_FILES: usize = 100;

/// Bounds for a write buffer.
const MIN_MEMTABLE: u64 = 2 << 20;
const MAX_MEMTABLE: u64 = 64 << 20;

/// What a cached cell takes beside its key and value.
const CELL_OVERHEAD: u64 = 224;

/// The version tells whether a cached cell is still the one to be shown: a slow
/// reader may put one back that a commit has replaced.
type Cached = (Arc<Cell>, Version);

#[derive(Clone)]
struct CellWeight;

impl Weighter<CellKey, Cached> for CellWeight {
    fn weight(&self, key: &CellKey, (cell, _): &Cached) -> u64 {
        CELL_OVERHEAD + (key.canonical_len() + cell.value_bytes()) as u64
    }
}

/// Keeps cells in a folder. One at a time can have a folder open.
pub struct DurableStore {
    path: PathBuf,
    /// Cells that were read or written lately.
    recent: Cache<CellKey, Cached, CellWeight>,
    /// Keys whose payload has a row of its own.
    apart: Mutex<HashSet<CellKey>>,
    cells: Keyspace,
    payloads: Keyspace,
    database: Database,
}

impl DurableStore {
    /// Opens the store in `path`, making it if it is not there. Of `cache_size`
    /// bytes, three eighths are for cells, a quarter is for blocks of the files,
    /// and the rest for writes that are not in files yet: a quarter for rows, an
    /// eighth for payloads that have rows of their own.
    ///
    /// # Errors
    /// If the folder cannot be used, is in use, or holds something else; it is
    /// then left as it was found.
    pub fn open(path: &Path, cache_size: u64) -> Result<Self, StoreError> {
        let engine_path = folder::prepare(path)?;
        let failed = |source| match source {
            fjall::Error::Locked => StoreError::Locked {
                path: path.to_owned(),
            },
            source => StoreError::Engine {
                action: "open",
                path: path.to_owned(),
                source: Box::new(source),
            },
        };
        let database = Database::builder(&engine_path)
            .cache_size(cache_size / 4)
            .max_cached_files(Some(MAX_OPEN_FILES))
            .open()
            .map_err(failed)?;
        let options = |memtable: u64| {
            // Reads ask for what is there: the tree knows what is not.
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable.clamp(MIN_MEMTABLE, MAX_MEMTABLE))
                .expect_point_read_hits(true)
        };
        let cells = database
            .keyspace("cells", || options(cache_size / 4))
            .map_err(failed)?;
        let payloads = database
            .keyspace("payloads", || {
                options(cache_size / 8).with_kv_separation(Some(KvSeparationOptions::default()))
            })
            .map_err(failed)?;
        let weight = cache_size / 8 * 3;
        let items = (weight / (CELL_OVERHEAD + 128)) as usize;
        let store = Self {
            path: path.to_owned(),
            recent: Cache::with_weighter(items, weight, CellWeight),
            apart: Mutex::default(),
            cells,
            payloads,
            database,
        };
        store.find_payloads()?;
        folder::finish(path)?;
        Ok(store)
    }

    fn find_payloads(&self) -> Result<(), StoreError> {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        for row in self.payloads.iter() {
            let bytes = row.key().map_err(self.failed("scan"))?;
            apart.insert(CellKey::from_canonical(&bytes).map_err(self.damaged(&bytes))?);
        }
        Ok(())
    }

    /// Payloads that have rows of their own.
    #[cfg(test)]
    pub(super) fn payload_rows(&self) -> usize {
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(self.payloads.len().ok(), Some(apart.len()));
        apart.len()
    }

    fn failed(&self, action: &'static str) -> impl Fn(fjall::Error) -> StoreError + '_ {
        move |source| StoreError::Engine {
            action,
            path: self.path.clone(),
            source: Box::new(source),
        }
    }

    /// The cell that a row is, its payload from the same snapshot.
    fn cell_of(
        &self,
        snapshot: &Snapshot,
        key_bytes: &[u8],
        row: &[u8],
    ) -> Result<(Arc<Cell>, Version), StoreError> {
        let row = Row::decode(row).map_err(self.damaged(key_bytes))?;
        let version = row.meta.version;
        let cell = row.into_cell(|expected| {
            let payload = snapshot.get(&self.payloads, key_bytes);
            payload
                .map_err(self.failed("read"))?
                .filter(|payload| payload.len() as u64 == expected)
                .map(|payload| Bytes::copy_from_slice(&payload))
                .ok_or_else(|| StoreError::Payload {
                    path: self.path.clone(),
                    key: String::from_utf8_lossy(key_bytes).into_owned(),
                    expected,
                })
        })?;
        Ok((Arc::new(cell), version))
    }

    /// Costs nothing until there is an error: a scan asks for it at every row.
    fn damaged<'a>(&'a self, key: &'a [u8]) -> impl FnOnce(DecodeError) -> StoreError + 'a {
        move |source| StoreError::Row {
            path: self.path.clone(),
            key: String::from_utf8_lossy(key).into_owned(),
            source,
        }
    }
}

impl Store for DurableStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        for row in self.cells.iter() {
            let (key_bytes, row) = row.into_inner().map_err(self.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(self.damaged(&key_bytes))?;
            let meta = Row::decode_meta(&row).map_err(self.damaged(&key_bytes))?;
            visit(key, meta);
        }
        Ok(())
    }

    fn commit(&self, batch: &[Write], commit: Commit) -> Result<(), StoreError> {
        let mode = match commit {
            Commit::Synced => PersistMode::SyncData,
            Commit::Buffered => PersistMode::Buffer,
        };
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let mut engine_batch = self.database.batch().durability(Some(mode));
        for Write { key, cell, meta } in batch {
            let (row, is_apart) = Row::encode_cell(meta, cell, INLINE_LIMIT);
            let key_bytes = key.to_canonical();
            if let (true, Some(value)) = (is_apart, cell.value()) {
                let payload: &[u8] = &value.payload;
                engine_batch.insert(&self.payloads, key_bytes.as_slice(), payload);
                apart.insert(key.clone());
            } else if !apart.is_empty() && apart.remove(key) {
                engine_batch.remove(&self.payloads, key_bytes.as_slice());
            }
            engine_batch.insert(&self.cells, key_bytes, row);
        }
        engine_batch.commit().map_err(self.failed("write to"))?;
        for write in batch {
            let cached = (Arc::clone(&write.cell), write.meta.version);
            self.recent.insert(write.key.clone(), cached);
        }
        Ok(())
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        if let Some(cell) = self.peek(key, at_least) {
            return Ok(Some(cell));
        }
        let key_bytes = key.to_canonical();
        // One snapshot, so that a row and its payload are of one commit.
        let snapshot = self.database.snapshot();
        let row = snapshot.get(&self.cells, &key_bytes);
        let Some(row) = row.map_err(self.failed("read"))? else {
            return Ok(None);
        };
        let (cell, version) = self.cell_of(&snapshot, &key_bytes, &row)?;
        self.recent
            .insert(key.clone(), (Arc::clone(&cell), version));
        Ok(Some(cell))
    }

    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>> {
        let (cell, version) = self.recent.get(key)?;
        (version >= at_least).then_some(cell)
    }

    fn read_parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        let snapshot = self.database.snapshot();
        // The bytes of the key's own cell begin those of all its cells, and of
        // no other's.
        let prefix = CellKey::own(key.clone()).to_canonical();
        let mut cells = Vec::new();
        for row in snapshot.prefix(&self.cells, &prefix) {
            let (key_bytes, row) = row.into_inner().map_err(self.failed("scan"))?;
            let (cell, _) = self.cell_of(&snapshot, &key_bytes, &row)?;
            cells.push((Part::from(&key_bytes[prefix.len()..]), cell));
        }
        Ok(cells)
    }

    fn remove(&self, keys: &[CellKey]) -> Result<(), StoreError> {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for key in keys {
            let key_bytes = key.to_canonical();
            if apart.remove(key) {
                batch.remove(&self.payloads, key_bytes.as_slice());
            }
            batch.remove(&self.cells, key_bytes);
            self.recent.remove(key);
        }
        batch.commit().map_err(self.failed("write to"))
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.database.disk_space().map_err(self.failed("measure"))
    }

    fn flush(&self) -> Result<(), StoreError> {
        for keyspace in [&self.cells, &self.payloads] {
            keyspace
                .rotate_memtable_and_wait()
                .map_err(self.failed("flush"))?;
        }
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(self.failed("sync"))
    }
}
