//! A store that cannot be opened: what can be read of it is saved into a new one,
//! which takes its place, or is made elsewhere.
//!
//! Of a replica the others send the rest. What is saved are cells as they were written, so to begin
//! with some of them is safe: joining the others' cells gives what joining them to all would have.
//! Of a store without replicas an operator has it done, and is told what is lost.
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
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::{
    CellStore as _, DurableStore, Owner, Sidecar, StoreError, Write,
    catch_up::Newest,
    folder::{self, State, io_error, sync_parent},
    readable::{Lost, LostPart, Salvager, read_damaged},
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
    /// What was read from it.
    pub saved: Saved,
}

/// What was read of a damaged store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Cells that were read.
    pub cells: u64,
    /// What was not, up to [`MAX_LOST`] parts.
    pub lost: Vec<Lost>,
    /// How many parts were not.
    pub lost_parts: u64,
}

/// Parts of a damaged store that are named if they cannot be read.
pub const MAX_LOST: usize = 10_000;

/// Saves what can be read of the store in `path`, whose opening failed, into a new one,
/// and moves the old one aside. Blocks on disk.
///
/// # Errors
/// If the new store cannot be made, or a folder not be moved.
pub fn recover(path: &Path, cache_size: u64) -> Result<(DurableStore, Recovered), StoreError> {
    // One of something else, or of another version, is left as it is.
    folder::state(path)?;
    let path = &itself(path)?;
    let aside = aside_of(path).map_err(io_error("move aside", path))?;
    let saved = save(path, path, &aside, cache_size)?;
    set_aside(path, &aside).map_err(io_error("move aside", path))?;
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

/// Saves what can be read of the store in `path`, which nobody has open, into a new one in `to`. What
/// is in `path` stays. Blocks on disk.
///
/// # Errors
/// If there is no store in `path`, something is in `to`, or the new store cannot be made.
pub fn salvage(path: &Path, to: &Path, cache_size: u64) -> Result<Saved, StoreError> {
    must_be_made(path)?;
    let to = &itself(to)?;
    if let Some(other) = folder::enclosing(to)? {
        let path = to.to_owned();
        return Err(StoreError::Overlap { path, other });
    }
    match fs::read_dir(to).map(|mut entries| entries.next()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("list", to)(error)),
        Ok(None) => {}
        Ok(Some(_)) => {
            return Err(StoreError::Occupied {
                path: to.to_owned(),
            });
        }
    }
    let saved = save(path, to, path, cache_size)?;
    if to.exists() {
        fs::remove_dir(to).map_err(io_error("replace", to))?;
    }
    complete_recovery(to)?;
    Ok(saved)
}

fn must_be_made(path: &Path) -> Result<(), StoreError> {
    match folder::state(path)? {
        State::Made => Ok(()),
        State::New => Err(StoreError::Nothing {
            path: path.to_owned(),
        }),
    }
}

/// Saves what can be read of the store in `path` into a new one, which is to be in `to` and is
/// complete when this returns. It says that it was saved from what is, or will be, in `from`.
fn save(path: &Path, to: &Path, from: &Path, cache_size: u64) -> Result<Saved, StoreError> {
    let saving = saving(to);
    if saving.exists() {
        // One that was cut short; anything else is refused.
        folder::state(&saving)?;
        fs::remove_dir_all(&saving).map_err(io_error("remove", &saving))?;
    }
    if let Some(parent) = saving
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        folder::create_folder(parent)?;
    }
    let store = DurableStore::open(&saving, cache_size)?;
    if let Some(owner) = Owner::read(path)? {
        owner.write(&saving)?;
    }
    match super::kept::copy(path, &saving) {
        Err(error @ StoreError::Floor { .. }) => {
            tracing::warn!("saving what can be read of a store: {error}");
        }
        copied => copied?,
    }
    let saved = save_readable(path, cache_size, &store)?;
    store.flush()?;
    drop(store);
    Sidecar::Recovered.write(&saving, &from.display().to_string())?;
    Ok(saved)
}

/// Goes on with a [recovery](recover) that was cut short when the old store was aside
/// and the new one not in its place yet. To be called before a store is opened.
///
/// # Errors
/// If the folder cannot be moved.
pub fn complete_recovery(path: &Path) -> Result<(), StoreError> {
    let path = &itself(path)?;
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

/// The folder itself, be it there or not, of a path that may be a link or `.`: what is beside it takes
/// its place.
fn itself(path: &Path) -> Result<PathBuf, StoreError> {
    let found = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            // What it leads to was moved.
            Ok(target) => Ok(path.with_file_name("").join(target)),
            Err(_) => Ok(path.to_owned()),
        },
        found => found,
    };
    found.map_err(io_error("find", path))
}

/// Where what can be read is saved to.
fn saving(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{SAVING}"))
}

/// Where the store in `path` is to be moved.
fn aside_of(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for number in 1..=MAX_ASIDE {
        let aside = path.with_file_name(format!("{name}.damaged-{number}"));
        if !aside.exists() {
            return Ok(aside);
        }
    }
    Err(io::Error::other(format!(
        "there are {MAX_ASIDE} folders already that were moved aside"
    )))
}

fn set_aside(path: &Path, aside: &Path) -> io::Result<()> {
    fs::rename(path, aside)?;
    sync_parent(aside)
}

/// Saves what can be read.
fn save_readable(path: &Path, cache_size: u64, into: &DurableStore) -> Result<Saved, StoreError> {
    let mut saver = Saver {
        into,
        batch: Newest::default(),
        saved: Saved::default(),
    };
    // The engine may find what it holds to be impossible, and panic.
    let saving = AssertUnwindSafe(|| read_damaged(path, cache_size, &mut saver));
    match catch_unwind(saving) {
        Ok(saved) => saved?,
        Err(_) => saver.lose(Lost {
            part: LostPart::Rows {
                after: None,
                before: None,
            },
            reason: "the storage engine panicked, as it does when its files are damaged".to_owned(),
        }),
    }
    saver.commit()?;
    saver.finish()
}

struct Saver<'a> {
    into: &'a DurableStore,
    batch: Newest,
    saved: Saved,
}

impl Salvager for Saver<'_> {
    fn save(&mut self, write: Write) -> Result<(), StoreError> {
        self.batch.join(write);
        match self.batch.0.len() < SAVED_AT_ONCE {
            true => Ok(()),
            false => self.commit(),
        }
    }

    fn lose(&mut self, lost: Lost) {
        tracing::warn!("saving what can be read of a store: {}", lost.reason);
        self.saved.lost_parts += 1;
        if self.saved.lost.len() < MAX_LOST {
            self.saved.lost.push(lost);
        }
    }
}

impl Saver<'_> {
    /// A cell that was lost in one place may have been read in another.
    fn finish(self) -> Result<Saved, StoreError> {
        let Self {
            into, mut saved, ..
        } = self;
        let mut lost = Vec::with_capacity(saved.lost.len());
        for part in std::mem::take(&mut saved.lost) {
            let is_there = match &part.part {
                LostPart::Cell(key, Some(version)) => {
                    let found = into.row_head(key)?;
                    found.is_some_and(|(found, _)| found >= *version)
                }
                _ => false,
            };
            match is_there {
                true => saved.lost_parts -= 1,
                false => lost.push(part),
            }
        }
        saved.lost = lost;
        Ok(saved)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let writes = std::mem::take(&mut self.batch).0.into_values();
        // From the end, it may come to what was read from the beginning; and what is in the log may be
        // in its row.
        let batch = self.into.newer_rows(writes, false)?;
        self.saved.cells += batch.puts.len() as u64;
        self.into.apply(&batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cell::{Cell, CellKey, Content, Timestamp, Version, tests::key},
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

        assert_eq!((recovered.saved.cells, cells_of(&store)), (100, 100));
        assert!(recovered.aside.is_dir() && path.join(SNAPSHOTS).is_dir());
        assert!(!saving(&path).exists());
    }

    #[test]
    fn of_a_link_what_it_leads_to_is_recovered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk/a");
        fs::create_dir(folder.path().join("disk")).expect("made");
        make(&path, 100);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("disk/a", &link).expect("a link");

        let (store, recovered) = recover(&link, CACHE).expect("recovered");

        let beside = path.canonicalize().expect("it is there");
        assert_eq!(recovered.aside.parent(), beside.parent());
        assert_eq!(cells_of(&store), 100);
        drop(store);
        // Cut short when the old one was aside.
        fs::rename(&path, saving(&path)).expect("moved");
        complete_recovery(&link).expect("completed");
        assert!(link.is_symlink() && path.is_dir());
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

        assert_eq!((recovered.saved.cells, cells_of(&store)), (110, 110));
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

    /// Changes the digest in a row, which the engine knows nothing of.
    fn spoil_row(path: &Path, number: u32) {
        let store = DurableStore::open(path, CACHE).expect("a store");
        let rows = store.engine.rows();
        let key = write(number).key.to_canonical();
        let mut row = rows.cells.get(&key).expect("read").expect("there").to_vec();
        let last = row.len() - 1;
        row[last] ^= 1;
        rows.cells.insert(key, row).expect("written");
        store.flush().expect("flushed");
    }

    #[test]
    fn what_is_lost_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, to) = (folder.path().join("a"), folder.path().join("new/b"));
        make(&path, 100);
        for lost in [7, 50] {
            spoil_row(&path, lost);
        }
        // This one is whole in the log.
        let store = DurableStore::open(&path, CACHE).expect("a store");
        let logged = write(50);
        let mut cells = std::iter::once((&logged.key, &*logged.cell));
        store.append(&mut cells, Commit::Synced).expect("appended");
        drop(store);

        let saved = salvage(&path, &to, CACHE).expect("saved");

        let named: Vec<_> = saved.lost.iter().map(|lost| lost.part.clone()).collect();
        let LostPart::Cell(key, Some(_)) = &named[0] else {
            panic!("{named:?}");
        };
        assert_eq!((named.len(), key, saved.lost_parts), (1, &write(7).key, 1));
        assert_eq!(saved.cells, 99);
        assert!(path.is_dir() && !saving(&to).exists());
        let told = Sidecar::Recovered.read(&to).expect("read");
        assert_eq!(told, Some(path.display().to_string()));
        let store = DurableStore::open(&to, CACHE).expect("opened");
        assert_eq!(cells_of(&store), 99);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_lost_between_two_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, to) = (folder.path().join("a"), folder.path().join("b"));
        make(&path, 40_000);
        let tables = fs::read_dir(path.join("cells/keyspaces")).expect("listed");
        let tables = tables.map(|entry| entry.expect("listed").path().join("tables"));
        let files = tables.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let files = files.map(|entry| entry.expect("listed").path());
        let largest = files.max_by_key(|file| fs::metadata(file).expect("a file").len());
        let largest = largest.expect("a table");
        let mut bytes = fs::read(&largest).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&largest, bytes).expect("written");

        let saved = salvage(&path, &to, CACHE).expect("saved");

        let [
            Lost {
                part:
                    LostPart::Rows {
                        after: Some(after),
                        before: Some(before),
                    },
                ..
            },
        ] = &saved.lost[..]
        else {
            panic!("{:?}", saved.lost);
        };
        assert!(after < before, "{after:?} {before:?}");
        assert!(
            saved.cells > 30_000 && saved.cells < 40_000,
            "{}",
            saved.cells
        );
        let store = DurableStore::open(&to, CACHE).expect("opened");
        assert_eq!(u64::from(cells_of(&store)), saved.cells);
    }

    #[test]
    fn salvage_touches_nothing_that_it_did_not_make() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        make(&path, 3);
        let other = folder.path().join("other");
        fs::create_dir(&other).expect("made");
        let refused = |to: &Path| salvage(&path, to, CACHE).expect_err("refused");
        fs::write(other.join("thesis.tex"), "x").expect("written");
        assert!(matches!(refused(&other), StoreError::Occupied { .. }));
        fs::rename(&other, saving(&folder.path().join("b"))).expect("renamed");
        let error = refused(&folder.path().join("b"));
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        let error = refused(&path.join("inside"));
        assert!(matches!(error, StoreError::Overlap { .. }), "{error}");
        let error = salvage(&folder.path().join("none"), &other, CACHE).expect_err("nothing");
        assert!(matches!(error, StoreError::Nothing { .. }), "{error}");
        // Somebody has it open.
        let store = DurableStore::open(&path, CACHE).expect("a store");
        let error = refused(&other);
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        drop(store);
        assert_eq!(salvage(&path, &other, CACHE).expect("saved").cells, 3);
    }

    #[test]
    fn a_store_that_is_not_there_is_not_made_of_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        complete_recovery(&path).expect("nothing to do");
        assert!(!path.exists());
    }
}
