//! A store that is only read: what opens it works on a mirror of its folder, and changes nothing in it.
//!
//! The storage engine, and the log, write when they are opened. Files of tables are never changed, only
//! removed: so the mirror has symbolic links to these, and copies of the others.
//!
//! ```text
//! <dir>/cells/lock                      locked as one that is shared: nobody else writes meanwhile
//! <temp>/zenoh-backend-mst-<pid>-<n>/   the mirror, which only its user may read; removed when it is closed
//! ```

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
};

use super::{
    StoreError,
    folder::{self, Folders, State, io_error},
    salvage::SNAPSHOTS,
};

/// Folders of the engine whose files are never changed.
const UNCHANGED: [&str; 2] = ["tables", "blobs"];

/// Mirrors of a process that may be left over from others of its ID.
const MAX_MIRRORS: u32 = 10_000;

/// A mirror of a store's folder, which is removed when this is dropped.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    _lock: File,
}

impl Mirror {
    /// Mirrors the store in `dir`, which nobody may have open for writing meanwhile. Blocks on disk.
    ///
    /// # Errors
    /// If there is no store, it is in use, or cannot be read; if there is no room for temporary files.
    pub fn of(dir: &Path) -> Result<Self, StoreError> {
        if folder::state(dir)? == State::New {
            return Err(StoreError::Absent {
                path: dir.to_owned(),
            });
        }
        let lock = shared_lock(dir)?;
        let from = std::path::absolute(dir).map_err(io_error("find", dir))?;
        // Made before anything is copied, so that what was copied is removed whatever comes.
        let mirror = Self {
            path: make_private_folder()?,
            _lock: lock,
        };
        copy(&from, &mirror.path)?;
        Ok(mirror)
    }

    /// The folder that is to be opened instead.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let path = self.path.display();
            tracing::warn!("{path}, a mirror of a storage's folder, was not removed: {error}");
        }
    }
}

fn shared_lock(dir: &Path) -> Result<File, StoreError> {
    let path = Folders::in_store(dir).engine.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Missing { path });
        }
        opened => opened.map_err(io_error("open", &path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

fn make_private_folder() -> Result<PathBuf, StoreError> {
    let (temp, process) = (std::env::temp_dir(), std::process::id());
    for number in 0..MAX_MIRRORS {
        let path = temp.join(format!("zenoh-backend-mst-{process}-{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create the folder", &path)(error)),
        }
    }
    let full = io::Error::other(format!(
        "there are {MAX_MIRRORS} mirrors of this process already"
    ));
    Err(io_error("create a folder in", &temp)(full))
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let is_unchanged = from
        .file_name()
        .is_some_and(|name| UNCHANGED.iter().any(|unchanged| name == *unchanged));
    for entry in fs::read_dir(from).map_err(io_error("list", from))? {
        let entry = entry.map_err(io_error("list", from))?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        let is_folder = path.is_dir();
        if is_unchanged || entry.file_name() == SNAPSHOTS {
            symlink(&path, &copied).map_err(io_error("create", &copied))?;
        } else if is_folder {
            fs::create_dir(&copied).map_err(io_error("create the folder", &copied))?;
            copy(&path, &copied)?;
        } else {
            copy_file(&path, &copied).map_err(io_error("copy", &path))?;
        }
    }
    Ok(())
}

/// Without the permissions, as the copy is written to. Where there are zeros to the end, as in the
/// engine's journal, the copy has a hole.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    let used = bytes.iter().rposition(|byte| *byte != 0);
    fs::write(to, &bytes[..used.map_or(0, |last| last + 1)])?;
    File::options()
        .write(true)
        .open(to)?
        .set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        cell::{Cell, CellKey, Content, Timestamp, Value, tests::key},
        store::{CellStore as _, Commit, DurableStore, Owner, RowBatch, Write},
    };

    const CACHE: u64 = 4 << 20;

    fn write(number: u32, time: u64, length: usize) -> Write {
        let cell = Cell {
            timestamp: Timestamp { time, id: [3; 16] },
            content: Content::Value(Value {
                encoding_id: 0,
                schema: None,
                attachment: None,
                payload: vec![number as u8; length].into(),
            }),
        };
        Write::of(CellKey::own(key(&format!("k/{number}"))), cell)
    }

    fn append(store: &DurableStore, writes: &[Write]) -> u64 {
        let mut cells = writes.iter().map(|write| (&write.key, &*write.cell));
        store.append(&mut cells, Commit::Synced).expect("appended")
    }

    fn cells_of(dir: &Path) -> BTreeMap<CellKey, Arc<Cell>> {
        let store = DurableStore::open(dir, CACHE).expect("opened");
        let mut cells = BTreeMap::new();
        let mut visit = |key, row: crate::store::RowRead| {
            cells.insert(key, row.expect("whole").0);
            true
        };
        store.view().scan(None, &mut visit).expect("scanned");
        cells
    }

    /// All that there is, with the times of the last changes.
    fn contents(dir: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir).expect("listed") {
            let path = entry.expect("listed").path();
            let changed = fs::metadata(&path).and_then(|file| file.modified());
            let changed = changed.expect("a time");
            match path.is_dir() {
                true => {
                    found.extend(contents(&path));
                    found.insert(path, (changed, Vec::new()));
                }
                false => {
                    let bytes = fs::read(&path).expect("read");
                    found.insert(path, (changed, bytes));
                }
            }
        }
        found
    }

    #[test]
    fn what_is_read_by_a_mirror_is_not_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("store");
        let store = DurableStore::open(&dir, CACHE).expect("made");
        let rows: Vec<_> = (0..300).map(|n| write(n, 1, n as usize * 10)).collect();
        let batch = RowBatch {
            applied: Some(append(&store, &rows)),
            ..RowBatch::from(rows.clone())
        };
        store.apply(&batch).expect("applied");
        store.flush().expect("flushed");
        // These are in the log alone.
        let logged: Vec<_> = (290..310).map(|n| write(n, 2, 10)).collect();
        append(&store, &logged);
        drop(store);
        fs::create_dir(dir.join(SNAPSHOTS)).expect("made");
        fs::write(dir.join(SNAPSHOTS).join("a.backup"), "b").expect("written");
        let expected: BTreeMap<_, _> = rows
            .into_iter()
            .chain(logged)
            .map(|write| (write.key, write.cell))
            .collect();
        let before = contents(&dir);

        let mirror = Mirror::of(&dir).expect("mirrored");
        let path = mirror.path().to_owned();
        assert_eq!(cells_of(&path), expected);
        // The mirror can be written to, merged, and emptied.
        let store = DurableStore::open(&path, CACHE).expect("opened");
        let rows: Vec<_> = (0..300).map(|n| write(n, 9, 5000)).collect();
        store.apply(&rows.into()).expect("applied");
        store.flush().expect("flushed");
        let keys: Vec<_> = expected.keys().cloned().collect();
        assert!(
            store
                .rewrite(&mut |visit| keys.iter().all(visit))
                .expect("rewritten")
        );
        drop(store);
        assert_eq!(contents(&dir), before);

        // Meanwhile others may read it, and nobody write to it.
        drop(Mirror::of(&dir).expect("read by two"));
        let error = DurableStore::open(&dir, CACHE).err().expect("refused");
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        drop(mirror);
        assert!(!path.exists());
        let store = DurableStore::open(&dir, CACHE).expect("free again");
        let error = Mirror::of(&dir).expect_err("refused");
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        drop(store);
        assert_eq!(cells_of(&dir), expected);
    }

    #[test]
    fn nothing_is_mirrored_of_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = folder.path().join("none");
        let error = Mirror::of(&none).expect_err("refused");
        assert!(matches!(error, StoreError::Absent { .. }), "{error}");
        assert!(!none.exists());
        let owner = |key_expr: &str| Owner {
            key_expr: key_expr.try_into().expect("a key expression"),
            strip_prefix: None,
        };
        owner("fleet/a/**").take(&none, true).expect("new");
        drop(DurableStore::open(&none, CACHE).expect("made"));
        let before = contents(&none);
        owner("fleet/**").check(&none).expect("a wider one");
        let error = owner("tele/**").check(&none).expect_err("another");
        assert!(matches!(error, StoreError::Owner { .. }), "{error}");
        assert_eq!(contents(&none), before);
    }
}
