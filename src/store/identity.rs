//! The identity of a replica, in a file beside its data:
//!
//! ```text
//! <dir>/REPLICA   32 hexadecimal digits and "\n"
//! ```

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::{
    folder::{io_error, sync_parent},
    StoreError,
};

const FILE: &str = "REPLICA";
/// While it is being written.
const UNFINISHED: &str = "REPLICA.new";
/// More than any identity has.
const MAX_BYTES: u64 = 64;

/// Reads what names the replica whose data is in `dir`; nothing if it has no name
/// yet. It is for the caller to say whether it is one.
///
/// # Errors
/// If the file cannot be read.
pub fn read_identity(dir: &Path) -> Result<Option<String>, StoreError> {
    let path = dir.join(FILE);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
        Ok(metadata) if metadata.len() > MAX_BYTES => return Ok(Some(String::new())),
        Ok(_) => {}
    }
    let text = fs::read(&path).map_err(io_error("read", &path))?;
    Ok(Some(String::from_utf8_lossy(&text).trim_end().to_owned()))
}

/// Names the replica whose data is in `dir`, for good: either the old name or the
/// new one is there after a loss of power.
///
/// # Errors
/// If the file cannot be written.
pub fn write_identity(dir: &Path, identity: &str) -> Result<(), StoreError> {
    let (unfinished, path) = (dir.join(UNFINISHED), dir.join(FILE));
    let write = || {
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{identity}")?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_parent(&path)
    };
    write().map_err(io_error("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(read_identity(dir.path()).expect("read"), None);
        for name in ["one", "another"] {
            write_identity(dir.path(), name).expect("written");
            let read = read_identity(dir.path()).expect("read");
            assert_eq!(read.as_deref(), Some(name));
        }
        fs::write(dir.path().join(FILE), [b'x'; 1000]).expect("written");
        let read = read_identity(dir.path()).expect("read");
        assert_eq!(read.as_deref(), Some(""), "no name");
    }
}
