//! Opening the fjall storage engine, whose journal may be damaged: the write-ahead log has what tables
//! have not.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};

use super::{
    StoreError,
    compaction::{self, Compaction},
    current::Current,
    failure::engine_error,
    folder::{Folders, io_error},
    rows::Rows,
};

/// Files of a store that are kept open: a process may often open 1,024 in all.
const MAX_OPEN_FILES: usize = 100;

/// Threads of the engine that write tables. Those of rows are merged by a [thread](super::compaction) of
/// the store.
const WORKERS: usize = 1;

/// Bounds for a write buffer.
const MIN_MEMTABLE: u64 = 2 << 20;
const MAX_MEMTABLE: u64 = 64 << 20;

/// The engine is not to write a memtable out by itself, before the log is synced: its own bound is so many
/// times that at which the store has it written.
const SPARE: u64 = 2;

/// For how long tables that are being written are waited for, and how often one looks.
const TABLES_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Bytes of rows that the engine has in memory at which they are to be written to tables.
#[derive(Clone, Copy)]
pub(super) struct Memtables {
    pub(super) cells: u64,
    pub(super) payloads: u64,
}

impl Memtables {
    fn of_cache(cache_size: u64) -> Self {
        let memtable = |bytes: u64| bytes.clamp(MIN_MEMTABLE, MAX_MEMTABLE);
        Self {
            cells: memtable(cache_size / 4),
            payloads: memtable(cache_size / 8),
        }
    }

    /// The keyspaces of rows that were rewritten so often; they are made if they are not there.
    pub(super) fn rows(
        self,
        database: &Database,
        path: &Path,
        generation: u64,
    ) -> Result<Rows, StoreError> {
        let failed = |error| engine_error("open", path, error);
        let name = |name: &str| match generation {
            0 => name.to_owned(),
            generation => format!("{name}-{generation}"),
        };
        let unmerged = |memtable| options(memtable).compaction_strategy(compaction::none());
        let cells = || unmerged(self.cells);
        let payloads =
            || unmerged(self.payloads).with_kv_separation(Some(KvSeparationOptions::default()));
        Ok(Rows {
            path: path.to_owned(),
            cells: database.keyspace(&name("cells"), cells).map_err(failed)?,
            payloads: database
                .keyspace(&name("payloads"), payloads)
                .map_err(failed)?,
            write_buffer: self.cells,
            generation,
            is_damaged: AtomicBool::default(),
        })
    }
}

fn options(memtable: u64) -> KeyspaceCreateOptions {
    // Reads ask for what is there: the tree knows what is not.
    KeyspaceCreateOptions::default()
        .max_memtable_size(SPARE * memtable)
        .expect_point_read_hits(true)
}

/// The engine, opened, and what its rows say.
pub(super) struct Engine {
    /// The first to be dropped: its thread has the database open, too.
    pub(super) compaction: Compaction,
    pub(super) database: Database,
    /// Others after a [rewrite](super::rewrite).
    pub(super) rows: RwLock<Arc<Rows>>,
    /// What rows are rewritten into, if they are: it has every change of rows, too. Locked before `rows`.
    pub(super) target: Mutex<Option<Arc<Rows>>>,
    pub(super) quarantine: Keyspace,
    pub(super) memtables: Memtables,
    /// The last number of a keyspace that was, or may be, deleted.
    pub(super) last_keyspace: AtomicU64,
    /// The last group of the log that is in rows, when it was opened.
    pub(super) applied: u64,
    /// The journal could not be read, or was not there: only what is in tables is in rows.
    pub(super) is_journal_lost: bool,
}

impl Engine {
    /// Of one moment, for as long as it is held.
    pub(super) fn current(&self) -> RwLockReadGuard<'_, Arc<Rows>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.current())
    }

    pub(super) fn current_mut(&self) -> RwLockWriteGuard<'_, Arc<Rows>> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn target(&self) -> MutexGuard<'_, Option<Arc<Rows>>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all rows written to tables, and waits until they are synced.
    pub(super) fn write_tables(&self, target: Option<&Arc<Rows>>) -> Result<(), StoreError> {
        let rows = self.rows();
        self.write_tables_of(&self.quarantine)?;
        for place in [Some(&rows), target].into_iter().flatten() {
            self.write_tables_of(&place.cells)?;
            self.write_tables_of(&place.payloads)?;
            self.compaction.written(place);
        }
        self.sync()
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.database.persist(PersistMode::SyncAll);
        synced.map_err(self.rows().failed("sync"))
    }

    /// The engine's own way to wait does not end if the thread that writes files has given up, as it
    /// does when it meets a damaged one.
    fn write_tables_of(&self, keyspace: &Keyspace) -> Result<(), StoreError> {
        let rotated = keyspace.rotate_memtable();
        rotated.map_err(self.rows().failed("flush"))?;
        self.wait_for_tables_of(keyspace)
    }

    /// Until those are written that are being written.
    pub(super) fn wait_for_tables_of(&self, keyspace: &Keyspace) -> Result<(), StoreError> {
        let rows = self.rows();
        let start = Instant::now();
        while keyspace.sealed_memtable_count() > 0 {
            // Which fails, if the engine knows that it has.
            self.database
                .persist(PersistMode::Buffer)
                .map_err(rows.failed("flush"))?;
            if start.elapsed() > TABLES_PATIENCE {
                return Err(StoreError::Stuck {
                    path: rows.path.clone(),
                    waited: TABLES_PATIENCE,
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Removes what is left of journals that were lost: all is in tables.
    pub(super) fn forget_lost_journals(folders: &Folders) -> Result<(), StoreError> {
        for aside in files(&folders.engine, ASIDE)? {
            fs::remove_file(&aside).map_err(io_error("remove", &aside))?;
        }
        Ok(())
    }

    pub(super) fn open(
        path: &Path,
        folders: &Folders,
        cache_size: u64,
    ) -> Result<Self, StoreError> {
        let failed = |error| match error {
            fjall::Error::Locked => StoreError::Locked {
                path: path.to_owned(),
            },
            error => engine_error("open", path, error),
        };
        let open = || {
            Database::builder(&folders.engine)
                .cache_size(cache_size / 4)
                .max_cached_files(Some(MAX_OPEN_FILES))
                .worker_threads(WORKERS)
                // It would take more of the processor than the disk saves.
                .journal_compression(CompressionType::None)
                .open()
        };
        let current = Current::read(path)?
            .map(|current| current.without_others(path, &folders.engine))
            .transpose()?;
        if let Some(current) = &current {
            current.reserve(&folders.engine)?;
        }
        let mut is_journal_lost = is_journal_lost(&folders.engine)?;
        let database = match open() {
            Err(error) if is_of_journal(&error) => {
                set_journals_aside(&folders.engine)?;
                is_journal_lost = true;
                tracing::warn!(
                    "{}: the engine's journal cannot be read ({error}); what is not in tables comes \
                     from the write-ahead log",
                    path.display()
                );
                open().map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        let memtables = Memtables::of_cache(cache_size);
        let generation = current.as_ref().map_or(0, |current| current.generation);
        let rows = memtables.rows(&database, path, generation)?;
        let quarantine = database
            .keyspace("quarantine", || options(MIN_MEMTABLE))
            .map_err(failed)?;
        let last_keyspace = current.map_or(0, |current| current.last());
        let applied = rows.applied()?;
        let rows = Arc::new(rows);
        Ok(Self {
            compaction: Compaction::start(database.clone(), &rows)?,
            database,
            rows: RwLock::new(rows),
            target: Mutex::default(),
            quarantine,
            memtables,
            last_keyspace: AtomicU64::new(last_keyspace),
            applied,
            is_journal_lost,
        })
    }
}

/// Whether the engine says so of its journal, and not of a table.
fn is_of_journal(error: &fjall::Error) -> bool {
    use fjall::Error::{Decompress, InvalidTag, InvalidTrailer, JournalRecovery};
    matches!(
        error,
        JournalRecovery(_) | InvalidTag(_) | InvalidTrailer | Decompress(_)
    )
}

/// The suffixes of the engine's journals, and of those that are aside.
const JOURNAL: &str = "jnl";
const ASIDE: &str = "jnl-damaged";

/// A journal of no entries. Without any journal the engine would not know what it numbered last, and
/// find nothing in its tables (`Database::recover` of fjall 3.1.13).
const EMPTY: &str = "0.jnl";

/// The engine's file that says that its folder was made.
const VERSION: &str = "version";

fn files(engine: &Path, suffix: &str) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    if !engine.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(engine).map_err(io_error("list", engine))? {
        let path = entry.map_err(io_error("list", engine))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == suffix)
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether journals were set aside before, and it was not finished; or are gone. Then there is an
/// empty one.
fn is_journal_lost(engine: &Path) -> Result<bool, StoreError> {
    if engine.join(VERSION).exists() && files(engine, JOURNAL)?.is_empty() {
        let empty = engine.join(EMPTY);
        fs::File::create(&empty).map_err(io_error("create", &empty))?;
        return Ok(true);
    }
    Ok(!files(engine, ASIDE)?.is_empty())
}

/// Keeps copies of the engine's journals, and has it find empty ones.
fn set_journals_aside(engine: &Path) -> Result<(), StoreError> {
    for path in files(engine, JOURNAL)? {
        let aside = path.with_extension(ASIDE);
        fs::copy(&path, &aside).map_err(io_error("copy", &path))?;
        let empty = || fs::File::options().write(true).open(&path)?.set_len(0);
        empty().map_err(io_error("empty", &path))?;
    }
    Ok(())
}
