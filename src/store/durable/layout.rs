//! What the storage engine's folder has to have, before the engine is let at it.
//!
//! The engine takes a list of files that is missing for a keyspace whose making was
//! interrupted, and removes the rest of it. In a store that was made completely it
//! is damage; and what is left may be all that there is. So this is looked at first:
//!
//! ```text
//! <engine>/lock                     held while the store is open
//! <engine>/version                  the engine's format
//! <engine>/keyspaces/<n>/current    the number of the list that holds: 8 bytes; the list's
//!                                   XXH3-128: 16; 0: all little-endian
//! <engine>/keyspaces/<n>/v<number>  a list of files
//! <log>/*                           at least one file
//! ```
//!
//! Keyspace 0 is the engine's own, with the names of the others. This is of fjall 3.1;
//! a version of it that does otherwise fails the tests of the store.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_128;

use super::{
    StoreError,
    current::Current,
    folder::{Folders, io_error},
};

/// The engine's own keyspace, and those of a store.
const KEYSPACES: usize = 4;

/// Bytes of `current`.
const CURRENT_BYTES: usize = 25;

/// Fails if the engine's folder, in that of a store that was made completely, lacks
/// something, or its lists of files are not what was written; and if it is in use, as
/// lists change then. The log is never without a file.
pub(super) fn check(store: &Path, folders: &Folders) -> Result<(), StoreError> {
    let engine = &folders.engine;
    check_lock(store, engine)?;
    let version = engine.join("version");
    fs::metadata(&version).map_err(missing_or("read", &version))?;
    let path = engine.join("keyspaces");
    let current = Current::read(store)?;
    let mut keyspaces = 0;
    for entry in fs::read_dir(&path).map_err(missing_or("list", &path))? {
        let keyspace = entry.map_err(io_error("list", &path))?.path();
        // Others are of a rewrite that was cut short while it made or removed them.
        let is_needed = || {
            let number = keyspace
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            current
                .as_ref()
                .is_none_or(|current| number.is_some_and(|n| current.needs(n)))
        };
        if keyspace.is_dir() && is_needed() {
            check_list(&keyspace)?;
            keyspaces += 1;
        }
    }
    if keyspaces < KEYSPACES {
        return Err(StoreError::Missing { path });
    }
    let log = &folders.log;
    let mut files = fs::read_dir(log).map_err(missing_or("list", log))?;
    match files.next() {
        Some(_) => Ok(()),
        None => Err(StoreError::Missing { path: log.clone() }),
    }
}

/// Fails if somebody has the engine's folder open, or there is no file by which one could tell.
fn check_lock(store: &Path, engine: &Path) -> Result<(), StoreError> {
    let lock = engine.join("lock");
    let file = File::options()
        .read(true)
        .write(true)
        .open(&lock)
        .map_err(missing_or("open", &lock))?;
    // Until it is dropped, which is before the engine takes it.
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: store.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &lock)(error)),
    }
}

/// Removes what there is of a store whose making was interrupted: the engine cannot go on with it. Fails
/// if somebody is making it.
pub(super) fn clear(store: &Path, folders: &Folders) -> Result<(), StoreError> {
    match check_lock(store, &folders.engine) {
        Ok(()) | Err(StoreError::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    for folder in [&folders.engine, &folders.log] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_list(keyspace: &Path) -> Result<(), StoreError> {
    let path = keyspace.join("current");
    let current = fs::read(&path).map_err(missing_or("read", &path))?;
    let damaged = |path: PathBuf| StoreError::List { path };
    let Ok(current) = <[u8; CURRENT_BYTES]>::try_from(current) else {
        return Err(damaged(path));
    };
    let (number, rest) = current.split_at(8);
    let (sum, kind) = rest.split_at(16);
    let number = number
        .iter()
        .rev()
        .fold(0, |n, byte| n << 8 | u64::from(*byte));
    let list = keyspace.join(format!("v{number}"));
    let bytes = fs::read(&list).map_err(missing_or("read", &list))?;
    match kind == [0] && xxh3_128(&bytes).to_le_bytes() == *sum {
        true => Ok(()),
        false => Err(damaged(list)),
    }
}

fn missing_or(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path },
        _ => io_error(action, &path)(error),
    }
}
