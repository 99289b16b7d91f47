//! Snapshots with a name: backups that are kept with the data, as many as the quota says.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, BufReader, BufWriter},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    AdminError, Administration, RolledBack,
    copies::{OnChange, OnProgress, Progress, WhileOpen},
    error::failed,
};
use crate::{
    backup::{BackupReader, Header, RollbackFrame, verify},
    cell::TIMESTAMP_ID_BYTES,
    store::SNAPSHOTS,
};

const SUFFIX: &str = ".backup";
/// A snapshot that is being written.
const UNFINISHED: &str = ".part";

/// Characters that the name of a snapshot may have.
const MAX_NAME: usize = 100;

/// Snapshots that are kept, at the most.
pub const MAX_SNAPSHOTS: usize = 32;

/// Bytes of all snapshots from which on no further one is made. So the last one may go
/// beyond, by the size of the storage.
pub const MAX_SNAPSHOT_BYTES: u64 = 64 << 30;

/// Snapshots are the data of a storage: for the user that runs the router alone.
const OWNER_ONLY_FOLDER: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;

/// A snapshot that is kept with the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Its name.
    pub name: String,
    /// What it says of itself, or why that cannot be read.
    pub header: Result<Header, String>,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Administration {
    fn snapshots(&self) -> Result<PathBuf, AdminError> {
        let folder = self.folder.as_ref().ok_or(AdminError::NoFolder)?;
        Ok(folder.join(SNAPSHOTS))
    }

    /// The snapshots that are kept with the data, by name. One that cannot be read is
    /// among them. Blocks on disk.
    ///
    /// # Errors
    /// If the storage has no folder, or it cannot be read.
    pub fn list_snapshots(&self) -> Result<Vec<SnapshotEntry>, AdminError> {
        let folder = self.snapshots()?;
        let files = match fs::read_dir(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&folder)(error)),
        };
        let mut found = Vec::new();
        for file in files {
            let file = file.map_err(failed(&folder))?.file_name();
            let file = file.to_string_lossy();
            if let Some(name) = file.strip_suffix(SUFFIX) {
                found.push(entry(name, &folder.join(&*file))?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Takes a snapshot, which is a backup that is kept with the data. Blocks on
    /// disk.
    ///
    /// # Errors
    /// As of [`back_up`](Self::back_up); and if the name is none or is taken.
    pub fn create_snapshot(
        &self,
        name: &str,
        replica_id: &str,
        progress: OnProgress<'_>,
    ) -> Result<SnapshotEntry, AdminError> {
        let _busy = self.begin()?;
        let path = self.snapshot_path(name)?;
        if path.exists() {
            return Err(AdminError::SnapshotExists(name.to_owned()));
        }
        let folder = self.snapshots()?;
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        let file = File::create(&unfinished).map_err(failed(&unfinished))?;
        let written = self.copy(replica_id, BufWriter::new(&file), progress);
        let checked = written.and_then(|_| {
            file.sync_all().map_err(failed(&unfinished))?;
            let read = File::open(&unfinished).map_err(failed(&unfinished))?;
            let read = WhileOpen::new(read, &self.replica);
            Ok(verify(BufReader::new(read), &mut |_, _| ())?)
        });
        if let Err(error) = checked {
            // What could not be finished is of no use; if it stays, it is replaced.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        fs::rename(&unfinished, &path).map_err(failed(&path))?;
        let parent = File::open(&folder).map_err(failed(&folder))?;
        parent.sync_all().map_err(failed(&folder))?;
        entry(name, &path)
    }

    /// Deletes a snapshot. Blocks on disk.
    ///
    /// # Errors
    /// If there is none of this name, or it cannot be deleted.
    pub fn delete_snapshot(&self, name: &str) -> Result<(), AdminError> {
        let path = self.snapshot_path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(AdminError::NoSnapshot(name.to_owned()))
            }
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// Makes all keys what they were at a snapshot, by new writes that bear `id`.
    /// The snapshot is verified before anything is written. Blocks on disk.
    ///
    /// # Errors
    /// If there is no such snapshot, it is damaged or of other keys; and as of
    /// [`roll_back`](Self::roll_back).
    pub fn roll_back_to(
        &self,
        name: &str,
        id: [u8; TIMESTAMP_ID_BYTES],
        changed: OnChange<'_>,
        progress: &mut dyn FnMut(Progress, &RolledBack) -> bool,
    ) -> Result<RolledBack, AdminError> {
        let write = &mut |frame| self.roll_back(frame, id, changed);
        self.each_frame(name, write, progress)
    }

    /// What [`roll_back_to`](Self::roll_back_to) would do. Nothing is written. Blocks on disk.
    ///
    /// # Errors
    /// As of that, but for what cannot be written.
    pub fn preview_rollback_to(
        &self,
        name: &str,
        progress: &mut dyn FnMut(Progress, &RolledBack) -> bool,
    ) -> Result<RolledBack, AdminError> {
        self.each_frame(name, &mut |frame| self.preview_rollback(frame), progress)
    }

    /// Has something done with each frame of a snapshot, which is verified before.
    fn each_frame(
        &self,
        name: &str,
        visit: &mut dyn FnMut(RollbackFrame) -> Result<RolledBack, AdminError>,
        progress: &mut dyn FnMut(Progress, &RolledBack) -> bool,
    ) -> Result<RolledBack, AdminError> {
        let _busy = self.begin()?;
        let path = self.snapshot_path(name)?;
        let open = || match File::open(&path) {
            Ok(file) => Ok(BufReader::new(WhileOpen::new(file, &self.replica))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(AdminError::NoSnapshot(name.to_owned()))
            }
            Err(error) => Err(failed(&path)(error)),
        };
        let unusable = |source| AdminError::Snapshot {
            name: name.to_owned(),
            source,
        };
        let header = verify(open()?, &mut |_, _| ()).map_err(unusable)?;
        if let Some(key) = header.missing.first() {
            return Err(AdminError::Incomplete {
                name: name.to_owned(),
                key: key.clone(),
            });
        }
        if header.key_expr != self.group.key_expr || header.strip_prefix != self.group.strip_prefix
        {
            return Err(AdminError::OtherStorage {
                theirs: header.key_expr,
                ours: self.group.key_expr.clone(),
            });
        }
        let mut done = RolledBack::default();
        let read = || BackupReader::open(open()?).map_err(unusable);
        let rules = read()?.wildcard_rules().map_err(unusable)?;
        let reader = read()?;
        let mut cells = 0;
        for frame in reader.rollback_frames(rules) {
            let frame = frame.map_err(unusable)?;
            cells += frame.cells.len() as u64;
            done.add(visit(frame)?);
            let of = header.cells;
            if !progress(Progress { cells, of }, &done) {
                return Err(AdminError::Gone);
            }
        }
        Ok(done)
    }

    fn snapshot_path(&self, name: &str) -> Result<PathBuf, AdminError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = !name.is_empty()
            && name.len() <= MAX_NAME
            && !name.starts_with('.')
            && name.bytes().all(is_plain);
        if !is_name {
            return Err(AdminError::Parameter {
                name: "name",
                value: name.to_owned(),
                allowed: "up to 100 letters, digits, '.', '_' and '-', not beginning with '.'",
            });
        }
        Ok(self.snapshots()?.join(format!("{name}{SUFFIX}")))
    }

    /// As [`create_snapshot`](Self::create_snapshot), if there is room for a further one.
    /// Blocks on disk.
    ///
    /// # Errors
    /// As of that; and if there are [`MAX_SNAPSHOTS`], or [`MAX_SNAPSHOT_BYTES`] of them.
    pub fn keep_snapshot(
        &self,
        name: &str,
        replica_id: &str,
        progress: OnProgress<'_>,
    ) -> Result<SnapshotEntry, AdminError> {
        let kept = self.list_snapshots()?;
        // A name that is taken is the nearer mistake, and is told below.
        if kept.iter().all(|entry| entry.name != name) {
            check_quota(kept.len(), kept.iter().map(|entry| entry.bytes).sum())?;
        }
        let folder = self.snapshots()?;
        close_folder(&folder).map_err(failed(&folder))?;
        let entry = self.create_snapshot(name, replica_id, progress)?;
        for file in fs::read_dir(&folder).map_err(failed(&folder))? {
            let path = file.map_err(failed(&folder))?.path();
            fs::set_permissions(&path, Permissions::from_mode(OWNER_ONLY_FILE))
                .map_err(failed(&path))?;
        }
        Ok(entry)
    }
}

fn entry(name: &str, path: &Path) -> Result<SnapshotEntry, AdminError> {
    let file = File::open(path).map_err(failed(path))?;
    let bytes = file.metadata().map_err(failed(path))?.len();
    let reader = BackupReader::open(BufReader::new(file));
    Ok(SnapshotEntry {
        name: name.to_owned(),
        header: reader
            .map(|reader| reader.header().clone())
            .map_err(|error| error.to_string()),
        bytes,
    })
}

fn check_quota(count: usize, bytes: u64) -> Result<(), AdminError> {
    match count < MAX_SNAPSHOTS && bytes < MAX_SNAPSHOT_BYTES {
        true => Ok(()),
        false => Err(AdminError::SnapshotQuota {
            count,
            bytes,
            max_count: MAX_SNAPSHOTS,
            max_bytes: MAX_SNAPSHOT_BYTES,
        }),
    }
}

/// Makes the folder, for its owner alone; or makes the one that is there so. What is in it
/// is out of reach of others, also while it is written.
fn close_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY_FOLDER)
        .create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY_FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_below_both_limits() {
        assert!(check_quota(MAX_SNAPSHOTS - 1, MAX_SNAPSHOT_BYTES - 1).is_ok());
        for (count, bytes) in [(MAX_SNAPSHOTS, 0), (0, MAX_SNAPSHOT_BYTES)] {
            let full = check_quota(count, bytes).expect_err("full");
            assert!(full.to_string().contains("delete one first"), "{full}");
        }
    }

    #[test]
    fn a_folder_that_was_open_is_closed() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("snapshots");
        fs::create_dir(&folder).expect("made");
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("opened");
        close_folder(&folder).expect("closed");
        let mode = fs::metadata(&folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
