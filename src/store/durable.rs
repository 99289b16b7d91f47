//! The store on disk, on the fjall storage engine.
//!
//! Two keyspaces: `cells` holds the rows; `payloads` holds, under the same keys,
//! the payloads of more than [`INLINE_LIMIT`] bytes, so that the scan at opening
//! and compaction do not read and copy them. A third, `quarantine`, holds what was
//! found damaged, as it was found: a row that cannot be read any more, with what
//! the tree said of it. A fourth, `ahead`, is the [write-ahead log](super::ahead).

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode, Readable,
};
use quick_cache::{sync::Cache, Weighter};

use super::{
    ahead::Ahead,
    folder, retain_newer,
    rows::{Rows, RowsView},
    Commit, Store, StoreError, StoreView, Versioned, Write,
};
use crate::{
    cell::{Cell, CellKey, CellMeta, Key, Part, Row, Version},
    mst::TreeKey,
};

/// Payloads of more bytes than this have rows of their own.
const INLINE_LIMIT: usize = 1024;

/// Files of a store that are kept open: a process may often open 1,024 in all.
const MAX_OPEN_FILES: usize = 100;

/// Threads of the engine that write files and merge them. Of more than one, the first
/// does not merge, and while the others do it asks itself for the next in a loop: it
/// takes a processor for nothing, for as long as there is something to merge (`worker_tick`
/// in fjall 3.1.13).
const WORKERS: usize = 1;

/// Bounds for a write buffer.
const MIN_MEMTABLE: u64 = 2 << 20;
const MAX_MEMTABLE: u64 = 64 << 20;

/// For how long a flush of at most [`MAX_MEMTABLE`] is waited for, and how often
/// one looks.
const FLUSH_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Cells that were written ahead and are brought to their rows at a time.
const CAUGHT_UP_AT_ONCE: usize = 4096;

/// What a cached cell takes beside its key and value.
const CELL_OVERHEAD: u64 = 224;

/// The version tells whether a cached cell is still the one to be shown: a slow
/// reader may put one back that a commit has replaced.
type Cached = (Arc<Cell>, Version);

#[derive(Clone)]
struct CellWeight;

impl Weighter<CellKey, Cached> for CellWeight {
    fn weight(&self, key: &CellKey, (cell, _): &Cached) -> u64 {
        CELL_OVERHEAD + (key.text_and_part_len() + cell.value_bytes()) as u64
    }
}

/// Keeps cells in a folder. One at a time can have a folder open.
pub struct DurableStore {
    /// Cells that were read or written lately.
    recent: Cache<CellKey, Cached, CellWeight>,
    /// Keys whose payload has a row of its own.
    apart: Mutex<HashSet<CellKey>>,
    rows: Rows,
    ahead: Ahead,
    quarantine: Keyspace,
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
        let store = Self::open_rows(path, cache_size)?;
        store.catch_up()?;
        folder::finish(path)?;
        Ok(store)
    }

    /// As [`open`](Self::open), but what was written ahead is left where it is.
    pub(super) fn open_rows(path: &Path, cache_size: u64) -> Result<Self, StoreError> {
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
            .worker_threads(WORKERS)
            // It would take more of the processor than the disk saves.
            .journal_compression(CompressionType::None)
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
        let quarantine = database
            .keyspace("quarantine", || options(MIN_MEMTABLE))
            .map_err(failed)?;
        // Of a burst all of it may have to stay: to write it to files meanwhile would
        // cost what it is there to save.
        let ahead = database
            .keyspace("ahead", || options(MAX_MEMTABLE))
            .map_err(failed)?;
        let weight = cache_size / 8 * 3;
        let items = (weight / (CELL_OVERHEAD + 128)) as usize;
        let store = Self {
            recent: Cache::with_weighter(items, weight, CellWeight),
            apart: Mutex::default(),
            rows: Rows {
                path: path.to_owned(),
                cells,
                payloads,
            },
            ahead: Ahead::new(path.to_owned(), ahead),
            quarantine,
            database,
        };
        store.find_payloads()?;
        Ok(store)
    }

    /// Brings to their rows what was written ahead when the process ended.
    fn catch_up(&self) -> Result<(), StoreError> {
        let mut writes = self.ahead.read(Err)?;
        let written = writes.len();
        retain_newer(&mut writes, |key| self.reread_meta(key))?;
        for chunk in writes.chunks(CAUGHT_UP_AT_ONCE) {
            self.commit(chunk, Commit::Buffered)?;
        }
        self.clear_ahead()?;
        if written > 0 {
            let (path, missing) = (self.rows.path.display(), writes.len());
            tracing::info!(
                "{path}: of {written} cells that were written ahead, {missing} were not in their \
                 rows yet"
            );
        }
        Ok(())
    }

    /// What is said of a cell by its row.
    fn reread_meta(&self, key: &CellKey) -> Result<Option<CellMeta>, StoreError> {
        let rows = &self.rows;
        let key_bytes = key.to_canonical();
        let row = rows.cells.get(&key_bytes).map_err(rows.failed("read"))?;
        row.map(|row| Row::decode_meta(&row).map_err(rows.damaged(&key_bytes)))
            .transpose()
    }

    /// What can be read of what was written ahead.
    pub(super) fn readable_ahead(&self) -> Vec<Write> {
        let read = self.ahead.read(|error| {
            tracing::warn!("saving what can be read of a store: {error}");
            Ok(())
        });
        read.unwrap_or_default()
    }

    fn batch(&self, len: usize, commit: Commit) -> OwnedWriteBatch {
        let mode = match commit {
            Commit::Synced => PersistMode::SyncData,
            Commit::Buffered => PersistMode::Buffer,
        };
        OwnedWriteBatch::with_capacity(self.database.clone(), len).durability(Some(mode))
    }

    fn find_payloads(&self) -> Result<(), StoreError> {
        let rows = &self.rows;
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows.payloads.iter() {
            let bytes = row.key().map_err(rows.failed("scan"))?;
            apart.insert(CellKey::from_canonical(&bytes).map_err(rows.damaged(&bytes))?);
        }
        Ok(())
    }

    /// The engine's own way to wait does not end if the thread that writes files
    /// has given up, as it does when it meets a damaged one.
    fn flush_keyspace(&self, keyspace: &Keyspace) -> Result<(), StoreError> {
        keyspace
            .rotate_memtable()
            .map_err(self.rows.failed("flush"))?;
        let start = Instant::now();
        while keyspace.sealed_memtable_count() > 0 {
            // Which fails, if the engine knows that it has.
            self.database
                .persist(PersistMode::Buffer)
                .map_err(self.rows.failed("flush"))?;
            if start.elapsed() > FLUSH_PATIENCE {
                return Err(StoreError::Stuck {
                    path: self.rows.path.clone(),
                    waited: FLUSH_PATIENCE,
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn rows_view(&self) -> RowsView {
        RowsView {
            rows: self.rows.clone(),
            snapshot: self.database.snapshot(),
        }
    }

    /// Payloads that have rows of their own.
    #[cfg(test)]
    pub(super) fn payload_rows(&self) -> usize {
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(self.rows.payloads.len().ok(), Some(apart.len()));
        apart.len()
    }
}

impl Store for DurableStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        let rows = &self.rows;
        let mut last: Option<CellKey> = None;
        for row in rows.cells.iter() {
            let (key_bytes, row) = row.into_inner().map_err(rows.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
            let meta = Row::decode_meta(&row).map_err(rows.damaged(&key_bytes))?;
            // As the tree is built from it, in one go.
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(StoreError::Order {
                    path: rows.path.clone(),
                    key: String::from_utf8_lossy(&key_bytes).into_owned(),
                });
            }
            last = Some(key.clone());
            visit(key, meta);
        }
        Ok(())
    }

    fn commit(&self, batch: &[Write], commit: Commit) -> Result<(), StoreError> {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let mut engine_batch = self.batch(batch.len(), commit);
        // The engine makes copies of its own.
        let (mut key_bytes, mut row) = (Vec::new(), Vec::new());
        for Write {
            key, cell, meta, ..
        } in batch
        {
            key_bytes.clear();
            key.write_canonical(&mut key_bytes);
            row.clear();
            let is_apart = Row::encode_cell(meta, cell, INLINE_LIMIT, &mut row);
            if let (true, Some(value)) = (is_apart, cell.value()) {
                let payload: &[u8] = &value.payload;
                engine_batch.insert(&self.rows.payloads, key_bytes.as_slice(), payload);
                apart.insert(key.clone());
            } else if !apart.is_empty() && apart.remove(key) {
                engine_batch.remove(&self.rows.payloads, key_bytes.as_slice());
            }
            engine_batch.insert(&self.rows.cells, key_bytes.as_slice(), row.as_slice());
        }
        engine_batch
            .commit()
            .map_err(self.rows.failed("write to"))?;
        Ok(())
    }

    fn write_ahead<'a>(
        &self,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<(), StoreError> {
        self.ahead.append(self.batch(1, commit), cells)
    }

    fn clear_ahead(&self) -> Result<(), StoreError> {
        // What is in rows is not to be lost while what is cleared is not.
        self.ahead.clear(self.batch(0, Commit::Synced))
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        if let Some(cell) = self.peek(key, at_least) {
            return Ok(Some(cell));
        }
        // One snapshot, so that a row and its payload are of one commit.
        let Some((cell, meta)) = self.rows.read(&self.database.snapshot(), key)? else {
            return Ok(None);
        };
        let cached = (Arc::clone(&cell), meta.version);
        self.recent.insert(key.clone(), cached);
        Ok(Some(cell))
    }

    fn reread(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        self.rows.read(&self.database.snapshot(), key)
    }

    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>> {
        let (cell, version) = self.recent.get(key)?;
        (version >= at_least).then_some(cell)
    }

    fn cache(&self, cells: &mut dyn Iterator<Item = Versioned>) {
        for (key, cell, version) in cells {
            self.recent.insert(key, (cell, version));
        }
    }

    fn read_parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        let snapshot = self.database.snapshot();
        // The bytes of the key's own cell begin those of all its cells, and of
        // no other's.
        let prefix = CellKey::own(key.clone()).to_canonical();
        let mut cells = Vec::new();
        for row in snapshot.prefix(&self.rows.cells, &prefix) {
            let (key_bytes, row) = row.into_inner().map_err(self.rows.failed("scan"))?;
            let part = Part::from(&key_bytes[prefix.len()..]);
            let key = CellKey {
                key: key.clone(),
                part,
            };
            let (cell, _) = self.rows.cell_of(&snapshot, &key, &key_bytes, &row)?;
            cells.push((key.part, cell));
        }
        Ok(cells)
    }

    fn remove(&self, keys: &[CellKey]) -> Result<(), StoreError> {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.batch(keys.len(), Commit::Buffered);
        for key in keys {
            let key_bytes = key.to_canonical();
            if apart.remove(key) {
                batch.remove(&self.rows.payloads, key_bytes.as_slice());
            }
            batch.remove(&self.rows.cells, key_bytes);
            self.recent.remove(key);
        }
        batch.commit().map_err(self.rows.failed("write to"))
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.database
            .disk_space()
            .map_err(self.rows.failed("measure"))
    }

    fn flush(&self) -> Result<(), StoreError> {
        let Rows {
            cells, payloads, ..
        } = &self.rows;
        for keyspace in [cells, payloads, &self.quarantine, self.ahead.keyspace()] {
            self.flush_keyspace(keyspace)?;
        }
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(self.rows.failed("sync"))
    }

    fn view(&self) -> Result<Box<dyn StoreView>, StoreError> {
        Ok(Box::new(self.rows_view()))
    }

    fn quarantine(&self, key: &CellKey, meta: &CellMeta) -> Result<(), StoreError> {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let key_bytes = key.to_canonical();
        let mut batch = self.batch(2, Commit::Synced);
        let head = Row {
            meta: *meta,
            value: None,
        };
        let mut kept = head.encode();
        // What cannot be read cannot be kept.
        if let Ok(Some(row)) = self.rows.cells.get(&key_bytes) {
            kept.extend_from_slice(&row);
        }
        if apart.remove(key) {
            if let Ok(Some(payload)) = self.rows.payloads.get(&key_bytes) {
                kept.extend_from_slice(&payload);
            }
            batch.remove(&self.rows.payloads, key_bytes.as_slice());
        }
        batch.insert(&self.quarantine, key_bytes.as_slice(), kept);
        batch.remove(&self.rows.cells, key_bytes);
        batch.commit().map_err(self.rows.failed("write to"))?;
        self.recent.remove(key);
        Ok(())
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, CellMeta)>, StoreError> {
        let rows = &self.rows;
        let mut found = Vec::new();
        for row in self.quarantine.iter() {
            let (key_bytes, kept) = row.into_inner().map_err(rows.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
            let meta = Row::decode_meta(&kept).map_err(rows.damaged(&key_bytes))?;
            found.push((key, meta));
        }
        Ok(found)
    }

    fn release(&self, keys: &[CellKey]) -> Result<(), StoreError> {
        let mut batch = self.batch(keys.len(), Commit::Buffered);
        for key in keys {
            batch.remove(&self.quarantine, key.to_canonical());
        }
        batch.commit().map_err(self.rows.failed("write to"))
    }
}
