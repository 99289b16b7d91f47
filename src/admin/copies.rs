//! Backups, restoring them, and verifying what is kept.

use std::{
    io::{self, Read, Write},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{AdminError, Administration};
use crate::{
    backup::{BackupWriter, Header, MAX_MISSING, read_restore_frame},
    cell::{CellKey, Timestamp, Version},
    mst::{RootHash, Violation},
    replica::{Damage, Replica, ReplicaError, Snapshot},
    sync::Rejections,
};

/// How often those who wait are told how far it is.
const CELLS_A_REPORT: u64 = 10_000;

/// Updates that wait to be committed when writers are busy; for how long a copy then
/// rests after each piece of work, as a multiple of the time that it took, and at
/// the most.
const BUSY: usize = 256;
const REST: u32 = 3;
const MAX_REST: Duration = Duration::from_millis(500);

/// How often one that waits for something looks whether the storage is being closed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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

/// Hears of each cell that was written and is the newest of its key and part.
pub type OnChange<'a> = &'a mut dyn FnMut(&CellKey, Timestamp);

/// What came of restoring some cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Cells that there were.
    pub cells: u64,
    /// Of these, those that are newer than what was there.
    pub newest: u64,
    /// Of these, those that the storage does not take.
    pub rejected: u64,
    /// Of these, those that are dropped since their lifetime is over.
    pub dead: u64,
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

/// Lets go of the storage for the next that takes long.
pub(super) struct Busy<'a>(&'a AtomicBool);

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
    pub(super) fn begin(&self) -> Result<Busy<'_>, AdminError> {
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

    pub(super) fn copy(
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
        let mut damaged: Option<(CellKey, u64)> = None;
        snapshot.for_each(|key, version, cell| {
            result = match cell {
                // All that is damaged is found, so that the next backup is made without it.
                None => {
                    self.replica.mend(std::iter::once((key.clone(), *version)));
                    damaged.get_or_insert_with(|| (key.clone(), 0)).1 += 1;
                    Ok(())
                }
                Some(_) if damaged.is_some() => Ok(()),
                Some(cell) => writer.push(key, version, &cell).map_err(AdminError::Backup),
            };
            done += 1;
            if self.replica.is_closing() {
                result = Err(AdminError::Closing);
            }
            if result.is_ok() && done % CELLS_A_REPORT == 0 {
                pace.make_way();
                result = report(done);
            }
            result.is_ok()
        })?;
        result?;
        if let Some((key, cells)) = damaged {
            let key = key.key.to_string();
            return Err(AdminError::DamagedCells { cells, key });
        }
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
            missing: self.missing(),
        }
    }

    /// The keys of which something is in quarantine.
    fn missing(&self) -> Vec<String> {
        let quarantined = self.replica.quarantined();
        let keys = quarantined
            .iter()
            .filter_map(|(key, _)| self.group.full_key(&key.key));
        let mut keys: Vec<_> = keys.take(MAX_MISSING).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Joins the cells of a frame of a backup: each as it was written, so that what
    /// is newer here stays. `changed` hears of those that were newer. They are committed when it returns. Blocks on disk.
    ///
    /// # Errors
    /// If the frame cannot be read, or the replica takes no writes.
    pub fn restore(&self, frame: &[u8], changed: OnChange<'_>) -> Result<Restored, AdminError> {
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
            let (told, timestamp) = (key.clone(), cell.timestamp);
            match self.replica.restore(key, cell, version) {
                Ok(outcome) => {
                    restored.newest += u64::from(outcome.is_newest);
                    if outcome.is_newest {
                        changed(&told, timestamp);
                    } else {
                        restored.dead += u64::from(self.is_dead(&told, timestamp));
                    }
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

    /// What [`restore`](Self::restore) would do. Nothing is written.
    ///
    /// # Errors
    /// If the frame cannot be read.
    pub fn preview_restore(&self, frame: &[u8]) -> Result<Restored, AdminError> {
        let received = read_restore_frame(frame)?;
        let cells = received.len() as u64;
        let mut rejected = Rejections::default();
        let admitted = self
            .admission
            .admit_hashed(received, &mut rejected, (self.clock)());
        let is_newest = |key: &CellKey, version: &Version| {
            let here = self.replica.newest_or_covering(key);
            here.is_none_or(|here| here < version.timestamp)
        };
        let (mut newest, mut late, mut dead) = (0, 0, 0);
        for (key, _, version) in admitted {
            if self.replica.is_late(&key, &version) {
                late += 1;
            } else if is_newest(&key, &version) {
                newest += 1;
            } else {
                dead += u64::from(self.is_dead(&key, version.timestamp));
            }
        }
        Ok(Restored {
            cells,
            newest,
            rejected: rejected.total() + late,
            dead,
        })
    }

    /// Whether what is stamped with this is not taken since its lifetime is over.
    fn is_dead(&self, key: &CellKey, timestamp: Timestamp) -> bool {
        let (lifetimes, died) = (self.replica.lifetimes(), self.replica.died_until());
        lifetimes.is_dead(&key.key, timestamp, died)
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
        let tree = self.replica.snapshot()?.tree;
        Ok(Verified {
            checked,
            damaged,
            tree: self.unless_closing(move || Replica::check_tree(&tree))?,
        })
    }

    /// Has something done that holds nothing of the replica, and that cannot be broken off.
    fn unless_closing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let (sender, done) = mpsc::sync_channel(1);
        let begun = std::thread::Builder::new().spawn(move || {
            // Nobody waits for it any more if the storage is being closed.
            let _ = sender.send(work());
        });
        let running = begun.map_err(|source| AdminError::Io {
            path: "a thread that checks the tree".to_owned(),
            source,
        })?;
        loop {
            match done.recv_timeout(LOOK_EVERY) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Timeout) if self.replica.is_closing() => {
                    return Err(AdminError::Closing);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // It has panicked.
        match running.join() {
            Ok(()) => Err(AdminError::Closing),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Reads as long as the replica is not being closed.
pub(super) struct WhileOpen<'a, R> {
    source: R,
    replica: &'a Replica,
}

impl<'a, R> WhileOpen<'a, R> {
    pub(super) fn new(source: R, replica: &'a Replica) -> Self {
        Self { source, replica }
    }
}

impl<R: Read> Read for WhileOpen<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.replica.is_closing() {
            true => Err(io::Error::other("the storage is being closed")),
            false => self.source.read(buffer),
        }
    }
}
