//! The store on disk: rows on the fjall storage engine, and a [write-ahead log](wal).
//!
//! Three keyspaces: `cells` holds the rows, and the number of the last group of the log that is in
//! rows; `payloads` holds, under the same keys, the payloads of more than [`INLINE_LIMIT`] bytes, so
//! that the scan at opening and compaction do not read and copy them; `quarantine` holds rows that
//! were found damaged, as they were found, with what the tree said of them.
//!
//! Rows are not synced. The log keeps a group until the engine has written it to tables, so the
//! engine's own journal is not needed for anything: whatever a loss of power left of it, the log has
//! the rest.

mod aside;
mod buffered;
mod catch_up;
mod compaction;
mod current;
mod destroy;
mod engine;
mod failure;
mod folder;
mod kept;
mod layout;
mod mirror;
mod owner;
mod quarantine;
mod readable;
mod rewrite;
mod rows;
mod salvage;
mod sidecar;
mod trial;
mod tuning;
mod wal;

pub use destroy::destroy;
pub use folder::{FORMAT_VERSION, is_made};
pub use mirror::Mirror;
pub use owner::Owner;
pub use readable::{Lost, LostPart};
pub use salvage::{MAX_LOST, Recovered, SNAPSHOTS, Saved, complete_recovery, recover, salvage};
pub use sidecar::Sidecar;
pub use tuning::StoreTuning;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fjall::{OwnedWriteBatch, PersistMode};
use quick_cache::{Weighter, sync::Cache};

use self::{
    buffered::{Buffered, ROW_OVERHEAD},
    catch_up::Newest,
    engine::Engine,
    folder::{Folders, State},
    rewrite::Upkeep,
    rows::{APPLIED_KEY, RowsView},
    wal::Wal,
};
use super::{
    CellStore, Commit, INLINE_LIMIT, KeyWalk, QuarantineStore, RowBatch, RowHead, RowRead,
    StoreError, StoreView, Versioned, Write, is_apart,
};
use crate::{
    cell::{Cell, CellKey, Row, Version},
    collection::kept::Kept,
    mst::TreeKey,
};

/// What a cached cell takes beside its key and value.
const CELL_OVERHEAD: u64 = 224;

/// The version tells whether a cached cell is still the one to be shown: a slow
/// reader may put one back that a later one has replaced.
type Cached = (Arc<Cell>, Version);

#[derive(Clone)]
struct CellWeight;

impl Weighter<CellKey, Cached> for CellWeight {
    fn weight(&self, key: &CellKey, (cell, _): &Cached) -> u64 {
        CELL_OVERHEAD + (key.text_and_part_len() + cell.value_bytes()) as u64
    }
}

/// Cells that were read or written lately.
type CellCache = Cache<CellKey, Cached, CellWeight>;

/// Keeps cells in a folder. One at a time can have a folder open.
pub struct DurableStore {
    cached: Arc<CellCache>,
    wal: Wal,
    /// The last group of the log that is in rows.
    applied: AtomicU64,
    tuning: StoreTuning,
    buffered: Mutex<Buffered>,
    upkeep: Mutex<Upkeep>,
    engine: Engine,
}

impl DurableStore {
    /// Opens the store in `path`, making it if it is not there, and applies what the log has and the
    /// rows have not. Of `cache_size` bytes, three eighths are for cells, a quarter is for blocks of
    /// the files, and the rest for writes that are not in tables yet: a quarter for rows, an eighth
    /// for payloads that have rows of their own.
    ///
    /// # Errors
    /// If the folder cannot be used, is in use, or holds something else; it is then left as it was
    /// found.
    pub fn open(path: &Path, cache_size: u64) -> Result<Self, StoreError> {
        Self::open_tuned(path, cache_size, StoreTuning::of_cache(cache_size))
    }

    /// As [`open`](Self::open), with sizes of one's own.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_tuned(
        path: &Path,
        cache_size: u64,
        tuning: StoreTuning,
    ) -> Result<Self, StoreError> {
        let folders = Folders::in_store(path);
        folder::create_folder(path)?;
        match folder::state(path)? {
            State::Made => layout::check(path, &folders)?,
            State::New => {
                layout::clear(path, &folders)?;
                folder::begin(path)?;
            }
        }
        let engine = Engine::open(path, &folders, cache_size)?;
        let is_journal_lost = engine.is_journal_lost;
        let shown = match is_journal_lost {
            // The tables of one keyspace may be older than those of another.
            true => 0,
            false => engine.applied,
        };
        let mut newest = Newest::default();
        let mut visit = |key, cell| newest.join(Write::of(key, cell));
        let logged = wal::read(&folders.log, engine.applied, shown, &mut visit)?;
        if logged.is_short {
            // The engine's journal may be all that has these rows, and is not to be relied on.
            engine.write_tables(None)?;
        }
        let wal = Wal::begin(&folders.log, logged, tuning.log_file)?;
        let weight = cache_size / 8 * 3;
        let items = (weight / (CELL_OVERHEAD + 128)) as usize;
        let store = Self {
            cached: Arc::new(Cache::with_weighter(items, weight, CellWeight)),
            applied: AtomicU64::new(engine.applied),
            tuning,
            buffered: Mutex::default(),
            upkeep: Mutex::default(),
            wal,
            engine,
        };
        store.catch_up(newest, is_journal_lost)?;
        if is_journal_lost {
            store.flush()?;
            Engine::forget_lost_journals(&folders)?;
        }
        folder::finish(path)?;
        Ok(store)
    }

    fn batch(&self, len: usize, commit: Commit) -> OwnedWriteBatch {
        let mode = match commit {
            Commit::Synced => PersistMode::SyncData,
            Commit::Buffered => PersistMode::Buffer,
        };
        OwnedWriteBatch::with_capacity(self.engine.database.clone(), len).durability(Some(mode))
    }

    fn rows_view(&self) -> RowsView {
        let rows = self.engine.current();
        RowsView {
            rows: Arc::clone(&rows),
            snapshot: self.engine.database.snapshot(),
            cached: Arc::clone(&self.cached),
        }
    }

    #[cfg(test)]
    pub(super) fn log_bytes(&self) -> u64 {
        self.wal.disk_bytes()
    }

    /// What the engine has in memory, of cells and of payloads; and the last group of the log that is on
    /// the disk.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> (u64, u64, u64) {
        let buffered = self.buffered.lock().unwrap_or_else(PoisonError::into_inner);
        (buffered.cells, buffered.payloads, self.wal.synced())
    }

    /// Waits until the tables are written that are being written.
    #[cfg(test)]
    pub(super) fn wait_for_tables(&self) {
        let rows = self.engine.rows();
        while rows.is_being_written() {
            std::thread::yield_now();
        }
    }

    /// Payloads that have rows of their own: as many as rows say.
    #[cfg(test)]
    pub(super) fn payload_rows(&self) -> usize {
        let mut apart = 0;
        let scanned = self.scan(&mut |_, head| apart += usize::from(head.is_apart));
        scanned.expect("a scan");
        assert_eq!(self.engine.rows().payloads.len().ok(), Some(apart));
        apart
    }
}

impl CellStore for DurableStore {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, RowHead)) -> Result<(), StoreError> {
        let rows = self.engine.rows();
        let mut last: Option<CellKey> = None;
        for row in rows.cells.range(..APPLIED_KEY) {
            let (key_bytes, row) = row.into_inner().map_err(rows.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
            let head = Row::decode_head(&row).map_err(rows.damaged(&key_bytes))?;
            // As the tree is built from it, in one go.
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(StoreError::Order {
                    path: rows.path.clone(),
                    key: String::from_utf8_lossy(&key_bytes).into_owned(),
                });
            }
            last = Some(key.clone());
            let (version, is_apart) = head;
            let head = RowHead {
                version,
                is_apart,
                ttl: Row::ttl(&row).map(Box::from),
            };
            visit(key, head);
        }
        Ok(())
    }

    fn append<'a>(
        &self,
        group: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<u64, StoreError> {
        self.wal.append(group, commit)
    }

    fn apply(&self, batch: &RowBatch) -> Result<(), StoreError> {
        let RowBatch {
            puts,
            stale_payloads,
            removes,
            released,
            applied,
        } = batch;
        let target = self.engine.target();
        let rows = self.engine.rows();
        let places = Vec::from_iter([Some(&rows), target.as_ref()].into_iter().flatten());
        self.engine.compaction.check(&rows)?;
        let mut engine_batch = self.batch(puts.len() + removes.len() + 1, Commit::Buffered);
        // The engine makes copies of its own.
        let (mut key_bytes, mut row) = (Vec::new(), Vec::new());
        let (mut cell_bytes, mut payload_bytes) = (0, 0);
        for rows in &places {
            let (cells, payloads) = (&rows.cells, &rows.payloads);
            for Write { key, cell, version } in puts {
                key_bytes.clear();
                key.write_canonical(&mut key_bytes);
                row.clear();
                let is_apart = Row::encode_cell(version, cell, INLINE_LIMIT, &mut row);
                if let (true, Some(value)) = (is_apart, cell.value()) {
                    let payload: &[u8] = &value.payload;
                    payload_bytes += key_bytes.len() + payload.len() + ROW_OVERHEAD;
                    engine_batch.insert(payloads, key_bytes.as_slice(), payload);
                }
                cell_bytes += key_bytes.len() + row.len() + ROW_OVERHEAD;
                engine_batch.insert(cells, key_bytes.as_slice(), row.as_slice());
            }
            for key in stale_payloads {
                let key_bytes = key.to_canonical();
                payload_bytes += key_bytes.len() + ROW_OVERHEAD;
                engine_batch.remove(payloads, key_bytes);
            }
            for (key, is_apart) in removes {
                let key_bytes = key.to_canonical();
                if *is_apart {
                    payload_bytes += key_bytes.len() + ROW_OVERHEAD;
                    engine_batch.remove(payloads, key_bytes.as_slice());
                }
                cell_bytes += key_bytes.len() + ROW_OVERHEAD;
                engine_batch.remove(cells, key_bytes);
            }
            // The last: a table that has it has all that comes before it.
            if let Some(applied) = applied {
                engine_batch.insert(cells, APPLIED_KEY, applied.to_be_bytes());
            }
        }
        for key in released {
            engine_batch.remove(&self.engine.quarantine, key.to_canonical());
        }
        let committed = engine_batch.commit();
        committed.map_err(rows.failed("write to"))?;
        self.upkeep().note(
            puts.len() + removes.len(),
            (cell_bytes + payload_bytes) as u64,
        );
        for (key, _) in removes {
            self.cached.remove(key);
        }
        if let Some(applied) = applied {
            self.applied.store(*applied, Ordering::Relaxed);
        }
        self.trim_log(&places, cell_bytes, payload_bytes)
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        if let Some(cell) = self.peek(key, at_least) {
            return Ok(Some(cell));
        }
        // One snapshot, so that a row and its payload are of one batch.
        let (rows, snapshot) = {
            let rows = self.engine.current();
            (Arc::clone(&rows), self.engine.database.snapshot())
        };
        let Some((cell, version)) = rows.read(&snapshot, key)? else {
            return Ok(None);
        };
        let cached = (Arc::clone(&cell), version);
        self.cached.insert(key.clone(), cached);
        Ok(Some(cell))
    }

    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>> {
        let (cell, version) = self.cached.get(key)?;
        (version >= at_least).then_some(cell)
    }

    fn cache(&self, cells: &mut dyn Iterator<Item = Versioned>) {
        for (key, cell, version) in cells {
            self.cached.insert(key, (cell, version));
        }
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let tables = self.engine.database.disk_space();
        let tables = tables.map_err(self.engine.rows().failed("measure"))?;
        Ok(tables + self.wal.disk_bytes())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let target = self.engine.target();
        let mut buffered = self.buffered.lock().unwrap_or_else(PoisonError::into_inner);
        self.wal.sync()?;
        self.engine.write_tables(target.as_ref())?;
        *buffered = Buffered::default();
        drop(buffered);
        self.wal.empty(self.applied.load(Ordering::Relaxed))
    }

    fn collection(&self) -> Result<Kept, StoreError> {
        kept::read(&self.engine.current().path)
    }

    fn keep_collection(&self, kept: &Kept) -> Result<(), StoreError> {
        // What it says of rows has to hold after a loss of power.
        self.wal.sync()?;
        kept::write(&self.engine.current().path, kept)
    }

    fn set_aside(&self, cells: &[(CellKey, Arc<Cell>)]) -> Result<(), StoreError> {
        aside::append(&self.engine.current().path, cells)
    }

    fn aside(&self, visit: &mut dyn FnMut(CellKey, Cell)) -> Result<(), StoreError> {
        aside::read(&self.engine.current().path, visit)
    }

    fn drop_aside(&self) -> Result<(), StoreError> {
        aside::remove(&self.engine.current().path)
    }

    fn view(&self) -> Box<dyn StoreView> {
        Box::new(self.rows_view())
    }

    fn wants_rewrite(&self, is_quiet: bool) -> Result<bool, StoreError> {
        self.is_rewrite_worthwhile(is_quiet)
    }

    fn rewrite(&self, walk: &mut KeyWalk<'_>) -> Result<bool, StoreError> {
        self.rewrite_rows(walk)
    }
}
