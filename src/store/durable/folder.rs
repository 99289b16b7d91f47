//! A storage's folder: what says that it is ours, and of which format.
//!
//! ```text
//! <dir>/FORMAT    "zenoh-backend-mst storage\nformat 3\n"
//! <dir>/cells/    the storage engine's files
//! <dir>/wal/      the write-ahead log
//! <dir>/REPLICA   and others: see `sidecar.rs`
//! ```
//!
//! `FORMAT` is read before anything else is touched. While a folder is being
//! made it is called `FORMAT.new`; it gets its name when all is there, so that a
//! folder whose making was interrupted is made again, and one whose files were
//! taken away is not taken for a new one.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{Sidecar, StoreError};

/// The format that this version writes and reads.
pub const FORMAT_VERSION: u32 = 3;

const FORMAT_FILE: &str = "FORMAT";
/// `FORMAT` while it is being written.
const UNFINISHED: &str = "FORMAT.new";
const FIRST_LINE: &str = "zenoh-backend-mst storage";
const ENGINE: &str = "cells";
const LOG: &str = "wal";
/// More than a `FORMAT` of any version has.
const MAX_FORMAT_BYTES: u64 = 4096;

pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

/// The folders of a store.
pub(super) struct Folders {
    /// Of the engine's files.
    pub(super) engine: PathBuf,
    /// Of the write-ahead log.
    pub(super) log: PathBuf,
}

impl Folders {
    pub(super) fn in_store(dir: &Path) -> Self {
        Self {
            engine: dir.join(ENGINE),
            log: dir.join(LOG),
        }
    }
}

/// What is in the place of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing, or what was left by a making that was cut short.
    New,
    /// A store.
    Made,
}

/// What is in the place of a folder.
///
/// # Errors
/// If it is something else, or of another version.
pub(super) fn state(dir: &Path) -> Result<State, StoreError> {
    match read_version(dir)? {
        Some(FORMAT_VERSION) => return Ok(State::Made),
        Some(found) => {
            return Err(StoreError::Version {
                path: dir.to_owned(),
                found,
                known: FORMAT_VERSION,
            });
        }
        None => {}
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::New),
        entries => entries.map_err(io_error("list", dir))?,
    };
    let is_unfinished = dir.join(UNFINISHED).is_file();
    let owner = Sidecar::Owner.name();
    let unfinished_owner = format!("{owner}.new");
    for entry in entries {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        let is_ours = name == UNFINISHED || name == ENGINE || name == LOG;
        // Which is written first.
        let is_owner = name == owner || name == unfinished_owner.as_str();
        if !(is_owner || is_unfinished && is_ours) {
            return Err(foreign(dir, &name.to_string_lossy()));
        }
    }
    Ok(State::New)
}

/// Whether there is a store in the folder, whole or not.
#[must_use]
pub fn is_made(dir: &Path) -> bool {
    dir.join(FORMAT_FILE).is_file()
}

/// The folder of a store in which `dir` is, if it is in one.
pub(super) fn enclosing(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let dir = std::path::absolute(dir).map_err(io_error("find", dir))?;
    let is_ours = |folder: &&Path| is_made(folder) && read_version(folder).is_ok();
    Ok(dir.ancestors().skip(1).find(is_ours).map(Path::to_owned))
}

/// Begins to make `dir`, in which nothing is, ours. The caller opens what is in it, then calls
/// [`finish`].
pub(super) fn begin(dir: &Path) -> Result<(), StoreError> {
    write_version(dir)?;
    let log = Folders::in_store(dir).log;
    create(&log).map_err(io_error("create the folder", &log))
}

/// Creates the folder, and those above it.
pub(super) fn create_folder(dir: &Path) -> Result<(), StoreError> {
    create(dir).map_err(io_error("create the folder", dir))
}

/// Creates the folder and those above it. Their names have to survive a loss of
/// power, as does what will be in them.
fn create(dir: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(dir)?;
    for created in missing {
        sync_parent(created)?;
    }
    Ok(())
}

pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Has the names in a folder survive a loss of power.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Says that all is there.
pub(super) fn finish(dir: &Path) -> Result<(), StoreError> {
    if read_version(dir)?.is_some() {
        return Ok(());
    }
    let path = dir.join(FORMAT_FILE);
    let finish = || {
        fs::rename(dir.join(UNFINISHED), &path)?;
        sync_parent(&path)
    };
    finish().map_err(io_error("write", &path))
}

/// Makes a store one whose making was cut short, so that it is none until all is deleted.
pub(super) fn begin_destroying(dir: &Path) -> Result<(), StoreError> {
    let (path, unfinished) = (dir.join(FORMAT_FILE), dir.join(UNFINISHED));
    if state(dir).is_ok_and(|state| state == State::Made) {
        let begin = || {
            fs::rename(&path, &unfinished)?;
            sync_parent(&path)
        };
        return begin().map_err(io_error("rename", &path));
    }
    match unfinished.is_file() {
        true => Ok(()),
        false => Err(StoreError::Absent {
            path: dir.to_owned(),
        }),
    }
}

/// Removes what says that there was a store.
pub(super) fn end_destroying(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(UNFINISHED);
    fs::remove_file(&path).map_err(io_error("remove", &path))
}

fn foreign(dir: &Path, found: &str) -> StoreError {
    StoreError::Foreign {
        path: dir.to_owned(),
        found: found.to_owned(),
    }
}

fn read_version(dir: &Path) -> Result<Option<u32>, StoreError> {
    let path = dir.join(FORMAT_FILE);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
        Ok(metadata) if metadata.len() > MAX_FORMAT_BYTES => {
            return Err(foreign(dir, FORMAT_FILE));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let version = match (lines.next(), lines.next()) {
        (Some(FIRST_LINE), Some(line)) => line.strip_prefix("format "),
        _ => None,
    };
    match version.and_then(|version| version.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(foreign(dir, FORMAT_FILE)),
    }
}

fn write_version(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(UNFINISHED);
    let write = || {
        let mut file = File::create(&path)?;
        write!(file, "{FIRST_LINE}\nformat {FORMAT_VERSION}\n")?;
        file.sync_all()
    };
    write().map_err(io_error("write", &path))
}
