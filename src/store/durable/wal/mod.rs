//! The write-ahead log of a durable store: what is promised to be there after a crash.
//!
//! A group of cells is appended, and synced where the durability asks for it, before its writers
//! hear of it. Later the cells go to their rows, which are not synced: the log has them until the
//! engine has written its tables. So nothing that the engine's own journal loses is lost.
//!
//! The log is a folder of files. A file that is full is synced, and another is begun. Files whose
//! groups are all in tables are [removed](Wal::remove_through).
//!
//! Groups are numbered from 1, without gaps. The greatest number of which all groups up to it are
//! in rows is committed with the rows. If it is less than the log begins with, rows were lost.
//!
//! What is read back is judged in `replay`.

mod frame;
mod replay;
mod sectors;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use self::frame::{FRAME_HEAD_BYTES, FrameHead, HEADER_BYTES, MAX_BODY_BYTES};
use super::{
    Commit, StoreError,
    folder::{io_error, sync_folder},
};
use crate::cell::{Cell, CellKey, write_logged};

pub(super) use self::replay::{Logged, read};

/// The suffix of a file's name; before it stands the number of its first group.
const SUFFIX: &str = ".wal";

/// Bytes of a file beyond which another is begun, unless something else is wanted.
pub(super) const FILE_BYTES: u64 = 4 << 20;

/// Bytes of a file that has no group yet.
const EMPTY_FILE_BYTES: u64 = sectors::with_marks(HEADER_BYTES) as u64;

/// The log, open for appending.
pub(super) struct Wal {
    folder: PathBuf,
    /// Bytes of a file beyond which another is begun.
    file_bytes: u64,
    state: Mutex<State>,
}

struct State {
    file: File,
    current: Segment,
    /// Files that are full, ascending.
    full: VecDeque<Segment>,
    /// The number of the next group.
    next: u64,
    /// The last group that is on the disk.
    synced: u64,
    /// A frame that is being made.
    frame: Vec<u8>,
    /// The frame as it is to stand in the file.
    laid_out: Vec<u8>,
    /// A write has failed: what the file ends with is not known.
    is_broken: bool,
}

/// A file of the log.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    /// The last group in it, when it is full.
    last: u64,
}

impl Wal {
    /// Opens the log that was [read](read) for appending. Rows that are [in rows
    /// only](Logged::is_short) are in tables.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub(super) fn begin(
        folder: &Path,
        logged: Logged,
        file_bytes: u64,
    ) -> Result<Self, StoreError> {
        let Logged { next, mut full, .. } = logged;
        // A process that was killed may not have synced what it wrote, and only the last file may have a
        // torn end.
        if let Some(last) = full.back() {
            let sync = || File::open(&last.path)?.sync_all();
            sync().map_err(io_error("sync", &last.path))?;
        }
        let (file, current) = begin_file(folder, next)?;
        // A file without a group is of no use, and may not even have its header.
        full.retain(|file| file.path != current.path);
        let is_empty = |file: &&Segment| file.bytes <= EMPTY_FILE_BYTES;
        for empty in full.iter().filter(is_empty) {
            fs::remove_file(&empty.path).map_err(io_error("remove", &empty.path))?;
        }
        full.retain(|file| !is_empty(&file));
        Ok(Self {
            folder: folder.to_owned(),
            file_bytes,
            state: Mutex::new(State {
                file,
                current,
                full,
                next,
                synced: next - 1,
                frame: Vec::with_capacity(FRAME_HEAD_BYTES + MAX_BODY_BYTES),
                laid_out: Vec::with_capacity(sectors::with_marks(
                    FRAME_HEAD_BYTES + MAX_BODY_BYTES,
                )),
                is_broken: false,
            }),
        })
    }

    /// Shows what can be read of a log that may be damaged, and returns what is wrong with the rest.
    pub(super) fn salvage(folder: &Path, visit: &mut dyn FnMut(CellKey, Cell)) -> Vec<String> {
        let mut unreadable = Vec::new();
        if let Err(error) = replay::read_damaged(folder, visit, &mut unreadable) {
            unreadable.push(error.to_string());
        }
        unreadable
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a group, and returns its number. After an error nothing more is appended: the group
    /// may be there or not when the log is opened again.
    pub(super) fn append<'a>(
        &self,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<u64, StoreError> {
        let mut state = self.state();
        let path = state.current.path.clone();
        let failed = io_error("append to", &path);
        if std::mem::replace(&mut state.is_broken, true) {
            return Err(failed(io::Error::other("a write to it has failed before")));
        }
        if state.current.bytes >= self.file_bytes {
            self.begin_next(&mut state)?;
        }
        let group = state.next;
        let mut append = || -> io::Result<()> {
            state.append_group(cells)?;
            if commit == Commit::Synced {
                state.file.sync_data()?;
                state.synced = group;
            }
            Ok(())
        };
        append().map_err(failed)?;
        state.next = group + 1;
        state.is_broken = false;
        Ok(group)
    }

    /// Has all groups that were appended on the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.synced == state.next - 1 {
            return Ok(());
        }
        let failed = io_error("sync", &state.current.path);
        if std::mem::replace(&mut state.is_broken, true) {
            let before = io::Error::other("a write to it has failed before");
            return Err(failed(before));
        }
        state.file.sync_data().map_err(failed)?;
        state.synced = state.next - 1;
        state.is_broken = false;
        Ok(())
    }

    /// The last group that is on the disk.
    #[cfg(test)]
    pub(super) fn synced(&self) -> u64 {
        self.state().synced
    }

    /// Syncs the file, and begins another.
    fn begin_next(&self, state: &mut State) -> Result<(), StoreError> {
        let synced = state.file.sync_all();
        synced.map_err(io_error("sync", &state.current.path))?;
        state.synced = state.next - 1;
        let (file, begun) = begin_file(&self.folder, state.next)?;
        let mut full = std::mem::replace(&mut state.current, begun);
        full.last = state.next - 1;
        debug_assert!(
            state
                .full
                .back()
                .is_none_or(|before| before.last < full.last),
            "groups are numbered without gaps, and no file is without one"
        );
        state.full.push_back(full);
        state.file = file;
        Ok(())
    }

    /// The last group.
    pub(super) fn last(&self) -> u64 {
        self.state().next - 1
    }

    /// Bytes of full files whose groups are all up to `group`.
    pub(super) fn full_bytes_through(&self, group: u64) -> u64 {
        let state = self.state();
        let full = state.full.iter();
        full.take_while(|file| file.last <= group)
            .map(|file| file.bytes)
            .sum()
    }

    /// Removes full files whose groups are all up to `group`: they are in tables of the engine.
    pub(super) fn remove_through(&self, group: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        while let Some(file) = state.full.front().filter(|file| file.last <= group) {
            fs::remove_file(&file.path).map_err(io_error("remove", &file.path))?;
            state.full.pop_front();
        }
        Ok(())
    }

    /// Removes all files but one that has no groups: the groups up to `group` are in tables. Does
    /// nothing if there are later ones.
    pub(super) fn empty(&self, group: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        let is_empty = state.current.bytes == EMPTY_FILE_BYTES;
        if state.is_broken || state.next != group + 1 {
            return Ok(());
        }
        if !is_empty {
            self.begin_next(&mut state)?;
        }
        drop(state);
        self.remove_through(group)
    }

    /// Bytes on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        let state = self.state();
        let full: u64 = state.full.iter().map(|file| file.bytes).sum();
        full + state.current.bytes
    }
}

impl State {
    fn append_group<'a>(
        &mut self,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
    ) -> io::Result<()> {
        let mut is_first = true;
        let mut head = Vec::new();
        self.frame.clear();
        self.frame.resize(FRAME_HEAD_BYTES, 0);
        for (key, cell) in cells {
            let payload = write_logged(key, cell, &mut head);
            for mut piece in [&head[..], payload] {
                while !piece.is_empty() {
                    let room = FRAME_HEAD_BYTES + MAX_BODY_BYTES - self.frame.len();
                    if room == 0 {
                        self.write_frame(is_first, false)?;
                        is_first = false;
                        continue;
                    }
                    let (fits, rest) = piece.split_at(room.min(piece.len()));
                    self.frame.extend_from_slice(fits);
                    piece = rest;
                }
            }
        }
        self.write_frame(is_first, true)
    }

    fn write_frame(&mut self, is_first: bool, is_last: bool) -> io::Result<()> {
        let head = FrameHead {
            length: self.frame.len() - FRAME_HEAD_BYTES,
            is_first,
            is_last,
            group: self.next,
            synced: self.synced,
        };
        frame::seal(&mut self.frame, &head);
        self.laid_out.clear();
        sectors::lay_out(self.current.bytes, &self.frame, &mut self.laid_out);
        self.file.write_all(&self.laid_out)?;
        self.current.bytes += self.laid_out.len() as u64;
        self.frame.truncate(FRAME_HEAD_BYTES);
        Ok(())
    }
}

/// A new file, whose first group is to have this number. It has a name that survives a loss of
/// power, and no group yet.
fn begin_file(folder: &Path, first: u64) -> Result<(File, Segment), StoreError> {
    let path = folder.join(format!("{first:020}{SUFFIX}"));
    let begin = || -> io::Result<File> {
        let mut file = File::create(&path)?;
        let mut header = Vec::new();
        sectors::lay_out(0, &frame::header(first), &mut header);
        file.write_all(&header)?;
        file.sync_all()?;
        sync_folder(folder)?;
        Ok(file)
    };
    let file = begin().map_err(io_error("begin", &path))?;
    let segment = Segment {
        path,
        bytes: EMPTY_FILE_BYTES,
        last: first - 1,
    };
    Ok((file, segment))
}
