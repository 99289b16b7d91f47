//! Reading the write-ahead log, and telling a torn end from damage.
//!
//! A loss of power may leave any part of what was not synced, in any order, and nothing in the place
//! of the rest. So groups are taken up to the first that is not whole. That is a *torn end* if the
//! group was not synced: it was promised to nobody. It is *damage*, which is never dropped, if
//!
//! - the file is not the last: a file is synced before the next is begun; or
//! - a frame further on says that the group was synced when that was written; or
//! - no part of it is missing: a write that was cut off leaves sectors as they were before, which
//!   in a file that grows is zeros or the end of the file (see `sectors`).

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{
    SUFFIX, Segment,
    frame::{self, FRAME_HEAD_BYTES, HEADER_BYTES},
    sectors::{Sectors, with_marks},
};
use crate::{
    cell::{Cell, CellKey, read_logged},
    store::{StoreError, durable::folder::io_error},
};

/// How far the numbers of the groups behind a hole may be from that of the hole.
const MAX_GROUPS_A_FILE: u64 = 1 << 32;

/// What the log is, when it has been read.
pub(in crate::store) struct Logged {
    /// The number that the next group is to have.
    pub(super) next: u64,
    /// The last groups that are in rows are not in the log: a loss of power has taken them from it. What
    /// follows in the log is of use only if these rows are not lost, either.
    pub(in crate::store) is_short: bool,
    /// The files that there are, ascending.
    pub(super) full: VecDeque<Segment>,
}

/// Reads the log in `folder`, and shows the cells of all groups beyond `shown`, in the order in which
/// they were appended. The groups up to `applied` are in rows. What a loss of power left of a group
/// that was not synced is cut off.
///
/// # Errors
/// If the folder cannot be read or written, or the log is damaged, or there are groups neither in it
/// nor in rows.
pub(in crate::store::durable) fn read(
    folder: &Path,
    applied: u64,
    shown: u64,
    visit: &mut dyn FnMut(CellKey, Cell),
) -> Result<Logged, StoreError> {
    let files = files(folder)?;
    let mut full = VecDeque::new();
    let mut next = applied + 1;
    for (index, (first, path)) in files.iter().enumerate() {
        if *first > next {
            let reason = format!("groups {next} to {} are missing", first - 1);
            return Err(damaged(path, 0, &reason));
        }
        let file = fs::read(path).map_err(io_error("read", path))?;
        let mut reader = Reader {
            path,
            file: Sectors::read(&file),
            next: *first,
            shown,
            is_last_file: index + 1 == files.len(),
            skipped: None,
        };
        let end = with_marks(reader.read(visit)?);
        if end < file.len() {
            cut_off(path, end)?;
        }
        full.push_back(Segment {
            path: path.clone(),
            bytes: end as u64,
            last: reader.next - 1,
        });
        next = next.max(reader.next);
    }
    let is_short = full.back().map_or(0, |last: &Segment| last.last) < applied;
    Ok(Logged {
        next,
        is_short,
        full,
    })
}

/// Shows the cells of all groups that can be read, of a log that may be damaged.
///
/// # Errors
/// If its files cannot be read.
pub(super) fn read_damaged(
    folder: &Path,
    visit: &mut dyn FnMut(CellKey, Cell),
    unreadable: &mut Vec<String>,
) -> Result<(), StoreError> {
    for (first, path) in files(folder)? {
        let file = fs::read(&path).map_err(io_error("read", &path))?;
        let mut reader = Reader {
            path: &path,
            file: Sectors::read(&file),
            next: first,
            shown: 0,
            is_last_file: false,
            skipped: Some(RefCell::default()),
        };
        reader.read(visit)?;
        unreadable.extend(reader.skipped.into_iter().flat_map(RefCell::into_inner));
    }
    Ok(())
}

/// Cuts off a torn end, so that what is appended next stands behind what is whole.
fn cut_off(path: &Path, end: usize) -> Result<(), StoreError> {
    let cut_off = || {
        let file = File::options().write(true).open(path)?;
        file.set_len(end as u64)?;
        file.sync_all()
    };
    cut_off().map_err(io_error("cut off the torn end of", path))
}

/// The files of the log, by the number of their first group.
fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let first = name.strip_suffix(SUFFIX).and_then(|name| name.parse().ok());
        if let Some(first) = first.filter(|first| *first > 0) {
            files.push((first, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn damaged(path: &Path, at: usize, reason: &str) -> StoreError {
    StoreError::Log {
        path: path.to_owned(),
        at: with_marks(at + 1) as u64 - 1,
        reason: reason.to_owned(),
    }
}

struct Reader<'a> {
    path: &'a Path,
    file: Sectors,
    /// The group that comes next.
    next: u64,
    /// The groups beyond this one are shown.
    shown: u64,
    is_last_file: bool,
    skipped: Option<RefCell<Vec<String>>>,
}

impl Reader<'_> {
    /// Reads the file, and returns where what is whole ends.
    fn read(&mut self, visit: &mut dyn FnMut(CellKey, Cell)) -> Result<usize, StoreError> {
        if let Some(at) = self.file.damaged {
            self.refuse(at, "a sector does not begin as it was written")?;
        }
        if frame::read_header(&self.file.bytes) != Some(self.next) {
            // A file that was being begun has no groups.
            if self.is_last_file && self.is_missing(0) && self.later_frame(0).is_none() {
                return Ok(0);
            }
            self.refuse(0, "its header is not what was written")?;
        }
        let mut at = HEADER_BYTES.min(self.file.bytes.len());
        while at < self.file.bytes.len() {
            let bad_frame = match self.group(at) {
                Ok((end, body)) => {
                    self.show(at, &body, visit)?;
                    self.next += 1;
                    at = end;
                    continue;
                }
                Err(bad_frame) => bad_frame,
            };
            match self.hole(at, bad_frame) {
                Ok(()) => {
                    let path = self.path.display();
                    tracing::info!(
                        "{path}: the torn end, of a group that was not synced, is cut off"
                    );
                    return Ok(at);
                }
                Err(reason) => self.refuse(at, reason)?,
            }
            let Some((later, group)) = self.later_group(at + 1) else {
                break;
            };
            (at, self.next) = (later, group);
        }
        Ok(at)
    }

    /// Fails with this damage, unless it is skipped.
    fn refuse(&self, at: usize, reason: &str) -> Result<(), StoreError> {
        let error = damaged(self.path, at, reason);
        match &self.skipped {
            None => Err(error),
            Some(skipped) => {
                skipped.borrow_mut().push(error.to_string());
                Ok(())
            }
        }
    }

    /// The group that begins at `at`, and where it ends; if it is not whole, where the first frame is
    /// that is not.
    fn group(&self, mut at: usize) -> Result<(usize, Vec<u8>), usize> {
        let mut body = Vec::new();
        loop {
            let frame = self.file.bytes.get(at..).and_then(frame::open);
            // A group has bytes: a first frame is never followed by another.
            let of_group = frame
                .filter(|(head, _)| head.group == self.next && head.is_first == body.is_empty());
            let (head, part) = of_group.ok_or(at)?;
            body.extend_from_slice(part);
            at += FRAME_HEAD_BYTES + head.length;
            if head.is_last {
                return Ok((at, body));
            }
        }
    }

    fn show(
        &self,
        at: usize,
        body: &[u8],
        visit: &mut dyn FnMut(CellKey, Cell),
    ) -> Result<(), StoreError> {
        if self.next <= self.shown {
            return Ok(());
        }
        for cell in read_logged(body) {
            match cell {
                Ok((key, cell)) => visit(key, cell),
                Err(error) => self.refuse(at, &error.to_string())?,
            }
        }
        Ok(())
    }

    /// Whether the group that should begin at `at`, and is not whole from `bad_frame` on, is a torn end;
    /// if not, why it is damage.
    fn hole(&self, at: usize, bad_frame: usize) -> Result<(), &'static str> {
        if !self.is_last_file {
            return Err("a group in a file that was synced is not what was written");
        }
        if self
            .later_frame(at)
            .is_some_and(|head| head.synced >= self.next)
        {
            return Err("a group that was synced is not what was written");
        }
        match self.is_missing(bad_frame) {
            true => Ok(()),
            false => Err("a group is not what was written, and no part of it is missing"),
        }
    }

    /// Of the frames behind `at` the one that knows of the latest sync.
    fn later_frame(&self, at: usize) -> Option<frame::FrameHead> {
        let frames = self.frames_from(at).map(|(_, head)| head);
        frames.max_by_key(|head| head.synced)
    }

    /// The first group at `at` or behind it of which the beginning is there, and its number.
    fn later_group(&self, at: usize) -> Option<(usize, u64)> {
        let mut frames = self.frames_from(at);
        let found = frames.find(|(_, head)| head.is_first);
        found.map(|(at, head)| (at, head.group))
    }

    /// Whole frames wherever they begin, of this group or later ones.
    fn frames_from(&self, at: usize) -> impl Iterator<Item = (usize, frame::FrameHead)> + '_ {
        let mut at = at;
        std::iter::from_fn(move || {
            loop {
                let bytes = self
                    .file
                    .bytes
                    .get(at..)
                    .filter(|bytes| !bytes.is_empty())?;
                // Heads are looked at before anything is hashed.
                let is_possible = frame::read_head(bytes).is_some_and(|head| {
                    let groups = self.next..self.next.saturating_add(MAX_GROUPS_A_FILE);
                    groups.contains(&head.group) && head.synced < head.group
                });
                let found = match is_possible {
                    true => frame::open(bytes).map(|(head, _)| (at, head)),
                    false => None,
                };
                match found {
                    Some((index, head)) => {
                        at += FRAME_HEAD_BYTES + head.length;
                        return Some((index, head));
                    }
                    None => at += 1,
                }
            }
        })
    }

    /// Whether a part of the frame that should be at `at` was never written: if its head is not there
    /// either, of all that is behind it.
    fn is_missing(&self, at: usize) -> bool {
        let bytes = &self.file.bytes;
        let rest = bytes.get(at..).unwrap_or_default();
        let end = match frame::read_head(rest) {
            Some(head) => at + FRAME_HEAD_BYTES + head.length,
            None => bytes.len().max(at + FRAME_HEAD_BYTES),
        };
        bytes.len() < end || self.file.is_any_missing(at..end)
    }
}
