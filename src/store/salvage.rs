//! A store that cannot be opened: it is moved aside, and what can be read of it
//! is saved into a new one.
//!
//! It is for replicas, to which the others send the rest. What is saved are cells
//! as they were written, so to begin with some of them is safe: joining the others'
//! cells gives what joining them to all would have.

use std::{
    fs, io,
    panic::{catch_unwind, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use super::{
    folder::{io_error, sync_parent},
    Commit, DurableStore, Store, StoreError, Write,
};

/// Folders that may have been moved aside before.
const MAX_ASIDE: usize = 1000;

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

/// Moves the store in `path` aside, whose opening failed, and makes a new one there
/// with all that can be read of it. Blocks on disk.
///
/// # Errors
/// If the folder cannot be moved, or the new store not be made.
pub fn recover(path: &Path, cache_size: u64) -> Result<(DurableStore, Recovered), StoreError> {
    let aside = set_aside(path).map_err(io_error("move aside", path))?;
    let store = DurableStore::open(path, cache_size)?;
    // The snapshots have their own checks, and stay with the storage.
    let snapshots = aside.join(SNAPSHOTS);
    if snapshots.is_dir() {
        let kept = path.join(SNAPSHOTS);
        fs::rename(&snapshots, &kept).map_err(io_error("move", &kept))?;
    }
    // The engine may find what it holds to be impossible, and panic.
    let salvaging = AssertUnwindSafe(|| salvage(&aside, cache_size, &store));
    let saved = catch_unwind(salvaging).unwrap_or(Ok(0))?;
    Ok((store, Recovered { aside, saved }))
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

/// Saves what can be read: from the beginning to the first place that cannot, and
/// from the end to the last.
fn salvage(aside: &Path, cache_size: u64, into: &DurableStore) -> Result<u64, StoreError> {
    let Ok(damaged) = DurableStore::open(aside, cache_size) else {
        return Ok(0);
    };
    let view = damaged.rows_view();
    let mut saver = Saver {
        into,
        batch: Vec::new(),
        saved: 0,
    };
    for is_backward in [false, true] {
        let mut result = Ok(());
        let read = view.scan_readable(is_backward, &mut |write| {
            result = saver.save(write);
            result.is_ok()
        });
        result?;
        match read {
            // All of it: there is nothing left for the way back.
            Ok(_) => break,
            Err(error) => tracing::warn!("saving what can be read of a store: {error}"),
        }
    }
    saver.commit()?;
    Ok(saver.saved)
}

struct Saver<'a> {
    into: &'a DurableStore,
    batch: Vec<Write>,
    saved: u64,
}

impl Saver<'_> {
    fn save(&mut self, write: Write) -> Result<(), StoreError> {
        self.batch.push(write);
        match self.batch.len() < SAVED_AT_ONCE {
            true => Ok(()),
            false => self.commit(),
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let mut batch = std::mem::take(&mut self.batch);
        // From the end, it may come to what was read from the beginning.
        let mut result = Ok(());
        batch.retain(|write| match self.into.reread(&write.key) {
            Ok(found) => found.is_none(),
            Err(error) => {
                result = Err(error);
                false
            }
        });
        result?;
        self.into.commit(&batch, Commit::Synced)?;
        self.saved += batch.len() as u64;
        Ok(())
    }
}
