//! Opening the fjall storage engine, whose journal may be damaged: the write-ahead log has what tables
//! have not.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};

use super::{
    failure::engine_error,
    folder::{io_error, Folders},
    rows::Rows,
    StoreError,
};

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
}

/// The engine, opened, and what its rows say.
pub(super) struct Engine {
    pub(super) database: Database,
    pub(super) rows: Rows,
    pub(super) quarantine: Keyspace,
    pub(super) memtables: Memtables,
    /// The last group of the log that is in rows, when it was opened.
    pub(super) applied: u64,
    /// The journal could not be read, or was not there: only what is in tables is in rows.
    pub(super) is_journal_lost: bool,
}

impl Engine {
    /// Has all rows written to tables, and waits until they are synced.
    pub(super) fn write_tables(&self) -> Result<(), StoreError> {
        let Rows {
            cells, payloads, ..
        } = &self.rows;
        for keyspace in [cells, payloads, &self.quarantine] {
            self.write_tables_of(keyspace)?;
        }
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(self.rows.failed("sync"))
    }

    /// The engine's own way to wait does not end if the thread that writes files has given up, as it
    /// does when it meets a damaged one.
    fn write_tables_of(&self, keyspace: &Keyspace) -> Result<(), StoreError> {
        keyspace
            .rotate_memtable()
            .map_err(self.rows.failed("flush"))?;
        let start = Instant::now();
        while keyspace.sealed_memtable_count() > 0 {
            // Which fails, if the engine knows that it has.
            self.database
                .persist(PersistMode::Buffer)
                .map_err(self.rows.failed("flush"))?;
            if start.elapsed() > TABLES_PATIENCE {
                return Err(StoreError::Stuck {
                    path: self.rows.path.clone(),
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
        let options = |bytes: u64| {
            // Reads ask for what is there: the tree knows what is not.
            KeyspaceCreateOptions::default()
                .max_memtable_size(SPARE * bytes)
                .expect_point_read_hits(true)
        };
        let cells = database
            .keyspace("cells", || options(memtables.cells))
            .map_err(failed)?;
        let payloads = database
            .keyspace("payloads", || {
                options(memtables.payloads).with_kv_separation(Some(KvSeparationOptions::default()))
            })
            .map_err(failed)?;
        let quarantine = database
            .keyspace("quarantine", || options(MIN_MEMTABLE))
            .map_err(failed)?;
        let rows = Rows {
            path: path.to_owned(),
            cells,
            payloads,
            write_buffer: memtables.cells,
        };
        let applied = rows.applied()?;
        Ok(Self {
            database,
            rows,
            quarantine,
            memtables,
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
