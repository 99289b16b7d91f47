//! A store that cannot be opened: what can be read of it is saved into a new one,
//! which takes its place.
//!
//! It is for replicas, to which the others send the rest. What is saved are cells
//! as they were written, so to begin with some of them is safe: joining the others'
//! cells gives what joining them to all would have.
//!
//! ```text
//! <dir>            the damaged store, until all is saved
//! <dir>.saving     the new one, while it is being made
//! <dir>.damaged-N  the damaged one, when all is saved
//! ```
//!
//! A crash loses nothing: as long as the damaged store is in its place, all begins anew
//! at the next opening; and if nothing is there, the new one is complete. Only the
//! snapshots, which move last, may stay with the damaged one.

use std::{
    fs, io,
    panic::{catch_unwind, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use super::{
    catch_up::Newest,
    folder::{io_error, sync_parent},
    readable::read_damaged,
    CellStore as _, DurableStore, Owner, StoreError, Write,
};

/// Folders that may have been moved aside before.
const MAX_ASIDE: usize = 1000;

/// What is added to a store's name while what can be read of it is saved.
const SAVING: &str = ".saving";

/// The folder of the snapshots, beside the data.
pub const SNAPSHOTS: &str = "snapshots";

/// Cells that are saved at a time.
const SAVED_AT_ONCE: usize = 1024;

/// What became of a store that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where it is now.
    pub aside: PathBuf,
    /// Cells that were read from it.
    pub saved: u64,
}

/// Saves what can be read of the store in `path`, whose opening failed, into a new one,
/// and moves the old one aside. Blocks on disk.
///
/// # Errors
/// If the new store cannot be made, or a folder not be moved.
pub fn recover(path: &Path, cache_size: u64) -> Result<(DurableStore, Recovered), StoreError> {
    let saving = saving(path);
    if saving.exists() {
        fs::remove_dir_all(&saving).map_err(io_error("remove", &saving))?;
    }
    let store = DurableStore::open(&saving, cache_size)?;
    if let Some(owner) = Owner::read(path)? {
        owner.write(&saving)?;
    }
    let saved = save_readable(path, cache_size, &store)?;
    store.flush()?;
    drop(store);
    let aside = set_aside(path).map_err(io_error("move aside", path))?;
    complete_recovery(path)?;
    // The snapshots have their own checks, and stay with the storage.
    let snapshots = aside.join(SNAPSHOTS);
    if snapshots.is_dir() {
        let kept = path.join(SNAPSHOTS);
        fs::rename(&snapshots, &kept).map_err(io_error("move", &kept))?;
    }
    let store = DurableStore::open(path, cache_size)?;
    Ok((store, Recovered { aside, saved }))
}

/// Goes on with a [recovery](recover) that was cut short when the old store was aside
/// and the new one not in its place yet. To be called before a store is opened.
///
/// # Errors
/// If the folder cannot be moved.
pub fn complete_recovery(path: &Path) -> Result<(), StoreError> {
    let saving = saving(path);
    if path.exists() || !saving.exists() {
        return Ok(());
    }
    let take_place = || {
        fs::rename(&saving, path)?;
        sync_parent(path)
    };
    take_place().map_err(io_error("rename", &saving))
}

/// Where what can be read is saved to.
fn saving(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{SAVING}"))
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for number in 1..=MAX_ASIDE {
        let aside = path.with_file_name(format!("{name}.damaged-{number}"));
        if aside.exists() {
            continue;
        }
        fs::rename(path, &aside)?;
        sync_parent(&aside)?;
        return Ok(aside);
    }
    Err(io::Error::other(format!(
        "there are {MAX_ASIDE} folders already that were moved aside"
    )))
}

/// Saves what can be read, and returns how many cells that are.
fn save_readable(path: &Path, cache_size: u64, into: &DurableStore) -> Result<u64, StoreError> {
    let mut saver = Saver {
        into,
        batch: Newest::default(),
        saved: 0,
    };
    // The engine may find what it holds to be impossible, and panic.
    let saving =
        AssertUnwindSafe(|| read_damaged(path, cache_size, &mut |write| saver.save(write)));
    match catch_unwind(saving) {
        Ok(saved) => saved?,
        Err(_) => tracing::warn!("saving what can be read of a store: the engine panicked"),
    }
    saver.commit()?;
    Ok(saver.saved)
}

struct Saver<'a> {
    into: &'a DurableStore,
    batch: Newest,
    saved: u64,
}

impl Saver<'_> {
    fn save(&mut self, write: Write) -> Result<(), StoreError> {
        self.batch.join(write);
        match self.batch.0.len() < SAVED_AT_ONCE {
            true => Ok(()),
            false => self.commit(),
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let writes = std::mem::take(&mut self.batch).0.into_values();
        // From the end, it may come to what was read from the beginning; and what is in the log may be
        // in its row.
        let batch = self.into.newer_rows(writes, false)?;
        self.saved += batch.puts.len() as u64;
        self.into.apply(&batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cell::{tests::key, Cell, CellKey, Content, Timestamp, Version},
        store::Commit,
    };

    const CACHE: u64 = 8 << 20;

    fn write(number: u32) -> Write {
        let key = CellKey::own(key(&format!("k/{number}")));
        let cell = Cell {
            timestamp: Timestamp {
                time: 1,
                id: [1; 16],
            },
            content: Content::Tombstone,
        };
        Write {
            version: Version::of(&key, &cell),
            cell: Arc::new(cell),
            key,
        }
    }

    fn make(path: &Path, cells: u32) {
        let store = DurableStore::open(path, CACHE).expect("a store");
        let writes: Vec<Write> = (0..cells).map(write).collect();
        store.apply(&writes.into()).expect("applied");
        store.flush().expect("flushed");
    }

    fn cells_of(store: &DurableStore) -> u32 {
        let mut cells = 0;
        store.scan(&mut |_, _| cells += 1).expect("a scan");
        cells
    }

    #[test]
    fn what_was_cut_short_while_it_saved_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        make(&path, 100);
        fs::create_dir(path.join(SNAPSHOTS)).expect("made");
        make(&saving(&path), 10);
        complete_recovery(&path).expect("nothing to do");

        let (store, recovered) = recover(&path, CACHE).expect("recovered");

        assert_eq!((recovered.saved, cells_of(&store)), (100, 100));
        assert!(recovered.aside.is_dir() && path.join(SNAPSHOTS).is_dir());
        assert!(!saving(&path).exists());
    }

    #[test]
    fn what_is_only_in_the_log_is_saved_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        make(&path, 100);
        let store = DurableStore::open(&path, CACHE).expect("a store");
        let later = |number| {
            let mut write = write(number);
            let mut cell = Cell::clone(&write.cell);
            cell.timestamp.time = 2;
            write.version = Version::of(&write.key, &cell);
            write.cell = Arc::new(cell);
            write
        };
        let logged: Vec<Write> = (90..110).map(later).collect();
        let mut cells = logged.iter().map(|write| (&write.key, &*write.cell));
        store.append(&mut cells, Commit::Synced).expect("appended");
        drop(store);

        let (store, recovered) = recover(&path, CACHE).expect("recovered");

        assert_eq!((recovered.saved, cells_of(&store)), (110, 110));
        for write in logged {
            let found = store.view().read(&write.key).expect("readable");
            assert_eq!(found, Some((write.cell, write.version)));
        }
    }

    #[test]
    fn what_was_cut_short_when_all_was_saved_is_completed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        make(&saving(&path), 100);

        complete_recovery(&path).expect("completed");

        assert!(!saving(&path).exists());
        let store = DurableStore::open(&path, CACHE).expect("a store");
        assert_eq!(cells_of(&store), 100);
    }

    #[test]
    fn a_store_that_is_not_there_is_not_made_of_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        complete_recovery(&path).expect("nothing to do");
        assert!(!path.exists());
    }
}
