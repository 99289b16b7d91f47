//! Backups, snapshots with a name, and restoring them.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{AdminError, Administration, RolledBack};
use crate::{
    backup::{read_restore_frame, verify, BackupReader, BackupWriter, Header},
    cell::TIMESTAMP_ID_BYTES,
    mst::{RootHash, Violation},
    replica::{Damage, Replica, ReplicaError, Snapshot},
    store::SNAPSHOTS,
    sync::Rejections,
};

const SUFFIX: &str = ".backup";
/// A snapshot that is being written.
const UNFINISHED: &str = ".part";

/// Characters that the name of a snapshot may have.
const MAX_NAME: usize = 100;

/// How often those who wait are told how far it is.
const CELLS_A_REPORT: u64 = 10_000;

/// Updates that wait to be committed when writers are busy; for how long a copy then
/// rests after each piece of work, as a multiple of the time that it took, and at
/// the most.
const BUSY: usize = 256;
const REST: u32 = 3;
const MAX_REST: Duration = Duration::from_millis(500);

/// How far something is that takes long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Cells that are done.
    pub cells: u64,
    /// Of how many.
    pub of: u64,
}

/// Hears of progress, and says whether to go on.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// A backup that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The cut at which it was.
    pub cut: u64,
    /// The root there.
    pub root: RootHash,
    /// Its cells.
    pub cells: u64,
}

/// What came of restoring some cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Cells that there were.
    pub cells: u64,
    /// Of these, those that are newer than what was there.
    pub newest: u64,
    /// Of these, those that the storage does not take.
    pub rejected: u64,
}

/// What a verification found.
#[derive(Debug)]
pub struct Verified {
    /// Cells that were looked at.
    pub checked: u64,
    /// How many of them are damaged.
    pub damaged: u64,
    /// What is wrong with the tree in memory, if anything is.
    pub tree: Result<(), Violation>,
}

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

/// Lets go of the storage for the next that takes long.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Makes way for writers: while they are busy, a copy works a part of the time.
struct Pace<'a> {
    replica: &'a Replica,
    since: Instant,
}

impl<'a> Pace<'a> {
    fn new(replica: &'a Replica) -> Self {
        let since = Instant::now();
        Self { replica, since }
    }

    fn make_way(&mut self) {
        if self.replica.queues().uncommitted >= BUSY {
            let worked = self.since.elapsed();
            std::thread::sleep((worked * REST).min(MAX_REST));
        }
        self.since = Instant::now();
    }
}

impl Administration {
    /// One thing at a time that takes long: they would only slow each other down.
    fn begin(&self) -> Result<Busy<'_>, AdminError> {
        match self.busy.swap(true, Ordering::Acquire) {
            true => Err(AdminError::Busy),
            false => Ok(Busy(&self.busy)),
        }
    }

    /// Writes a backup of all cells as they are at a cut of about now, while writes
    /// go on. Blocks on disk.
    ///
    /// # Errors
    /// If a cell is damaged, the store cannot be read, `sink` not be written, or
    /// `progress` says no.
    pub fn back_up(
        &self,
        replica_id: &str,
        sink: impl Write,
        progress: OnProgress<'_>,
    ) -> Result<Copied, AdminError> {
        let _busy = self.begin()?;
        self.copy(replica_id, sink, progress)
    }

    fn copy(
        &self,
        replica_id: &str,
        sink: impl Write,
        progress: OnProgress<'_>,
    ) -> Result<Copied, AdminError> {
        let snapshot = self.replica.checkpoint()?;
        let header = self.header(&snapshot, replica_id);
        let mut writer = BackupWriter::new(sink, &header)?;
        let (mut done, of) = (0, header.cells);
        let mut report = |cells| match progress(Progress { cells, of }) {
            true => Ok(()),
            false => Err(AdminError::Gone),
        };
        report(0)?;
        let mut pace = Pace::new(&self.replica);
        let mut result = Ok(());
        snapshot.for_each(|key, version, cell| {
            result = match cell {
                None => {
                    self.replica.mend(std::iter::once((key.clone(), *version)));
                    Err(AdminError::Damaged(key.key.to_string()))
                }
                Some(cell) => writer.push(key, version, &cell).map_err(AdminError::Backup),
            };
            done += 1;
            if result.is_ok() && done % CELLS_A_REPORT == 0 {
                pace.make_way();
                result = report(done);
            }
            result.is_ok()
        })?;
        result?;
        writer.finish()?;
        report(done)?;
        Ok(Copied {
            cut: snapshot.cut,
            root: snapshot.root(),
            cells: done,
        })
    }

    fn header(&self, snapshot: &Snapshot, replica_id: &str) -> Header {
        Header {
            key_expr: self.group.key_expr.clone(),
            strip_prefix: self.group.strip_prefix.clone(),
            cut: snapshot.cut,
            root: snapshot.root(),
            cells: snapshot.tree.len() as u64,
            rules: self.rules.clone(),
            replica: Some(replica_id.to_owned()),
            storage: self.name.clone(),
        }
    }

    /// Joins the cells of a frame of a backup: each as it was written, so that what
    /// is newer here stays. They are committed when it returns. Blocks on disk.
    ///
    /// # Errors
    /// If the frame cannot be read, or the replica takes no writes.
    pub fn restore(&self, frame: &[u8]) -> Result<Restored, AdminError> {
        let received = read_restore_frame(frame)?;
        let mut restored = Restored {
            cells: received.len() as u64,
            ..Restored::default()
        };
        let mut rejected = Rejections::default();
        let admitted = self
            .admission
            .admit_hashed(received, &mut rejected, (self.clock)());
        for (key, cell, version) in admitted {
            match self.replica.merge_hashed(key, cell, version) {
                Ok(outcome) => {
                    restored.newest += u64::from(outcome.is_newest);
                    if outcome.committed.is_some() {
                        // There is more on its way than may be.
                        self.replica.sync()?;
                    }
                }
                Err(ReplicaError::Refused(_)) => restored.rejected += 1,
                Err(error) => return Err(error.into()),
            }
        }
        restored.rejected += rejected.total();
        self.replica.sync()?;
        Ok(restored)
    }

    /// Compares every cell with what is on the disk, and then verifies the tree.
    /// `progress` is told what was found, and says whether to go on. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read for another reason than that it is damaged.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(Progress, &[Damage]) -> bool,
    ) -> Result<Verified, AdminError> {
        let _busy = self.begin()?;
        let (mut checked, mut damaged, mut is_heard) = (0, 0, true);
        let clock = || (self.clock)();
        self.scrubbing
            .pass(&self.replica, &clock, &mut |cells, of, found| {
                checked = cells;
                damaged += found.len() as u64;
                is_heard = progress(Progress { cells, of }, found);
                is_heard
            })?;
        if !is_heard {
            return Err(AdminError::Gone);
        }
        Ok(Verified {
            checked,
            damaged,
            tree: Replica::check_tree(&self.replica.snapshot()?.tree),
        })
    }

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
        progress: &mut dyn FnMut(Progress, &RolledBack) -> bool,
    ) -> Result<RolledBack, AdminError> {
        let _busy = self.begin()?;
        let path = self.snapshot_path(name)?;
        let open = || match File::open(&path) {
            Ok(file) => Ok(BufReader::new(file)),
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
        if header.key_expr != self.group.key_expr || header.strip_prefix != self.group.strip_prefix
        {
            return Err(AdminError::OtherStorage {
                theirs: header.key_expr,
                ours: self.group.key_expr.clone(),
            });
        }
        let mut done = RolledBack::default();
        let reader = BackupReader::open(open()?).map_err(unusable)?;
        let mut cells = 0;
        for frame in reader.rollback_frames() {
            let frame = frame.map_err(unusable)?;
            cells += frame.cells.len() as u64;
            done.add(self.roll_back(frame, id)?);
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

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> AdminError {
    let path = path.display().to_string();
    move |source| AdminError::Io { path, source }
}
