//! Small files beside the data, written whole or not at all.
//!
//! ```text
//! <dir>/REPLICA   the replica's identity: 32 hexadecimal digits and "\n"
//! <dir>/SCRUB     how far the scrub has come: a line of JSON
//! <dir>/ROWS      which keyspaces have the rows, if they were rewritten: a line of JSON
//! <dir>/OWNER     the storage that the folder is of: a line of JSON
//! <dir>/LIFETIMES by which lifetimes cells have died, and up to when: a line of JSON
//! <dir>/COLLECTION the floor: a line of JSON
//! <dir>/RECOVERED the damaged store of which this one was saved: its folder
//! ```

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::{
    StoreError,
    folder::{io_error, sync_parent},
};

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// What names the replica.
    Identity,
    /// How far the scrub has come.
    Scrub,
    /// The storage that the folder is of.
    Owner,
    /// Which keyspaces have the rows.
    Rows,
    /// By which lifetimes cells have died.
    Lifetimes,
    /// The floor of the collection.
    Collection,
    /// Where the damaged store is of which this one was saved, until somebody acknowledges it.
    Recovered,
}

/// More than any of them has: a key of a cell in hexadecimal is the longest.
const MAX_BYTES: u64 = 256 << 10;

impl Sidecar {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Identity,
        Self::Scrub,
        Self::Owner,
        Self::Rows,
        Self::Lifetimes,
        Self::Collection,
        Self::Recovered,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Identity => "REPLICA",
            Self::Scrub => "SCRUB",
            Self::Owner => "OWNER",
            Self::Rows => "ROWS",
            Self::Lifetimes => "LIFETIMES",
            Self::Collection => "COLLECTION",
            Self::Recovered => "RECOVERED",
        }
    }

    /// The line in the file beside the data in `dir`; nothing if there is no file,
    /// and an empty one if what is there is none. What it means is for the caller to
    /// say.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(self, dir: &Path) -> Result<Option<String>, StoreError> {
        let path = dir.join(self.name());
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
            Ok(metadata) if metadata.len() > MAX_BYTES => return Ok(Some(String::new())),
            Ok(_) => {}
        }
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        Ok(Some(String::from_utf8_lossy(&text).trim_end().to_owned()))
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(self.name());
        let removed = fs::remove_file(&path).and_then(|()| sync_parent(&path));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the line: either the old one or the new one is there after a loss of
    /// power.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(self, dir: &Path, line: &str) -> Result<(), StoreError> {
        let path = dir.join(self.name());
        // While it is being written.
        let unfinished = dir.join(format!("{}.new", self.name()));
        let write = || {
            let mut file = File::create(&unfinished)?;
            writeln!(file, "{line}")?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            sync_parent(&path)
        };
        write().map_err(io_error("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_and_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = || Sidecar::Identity.read(dir.path()).expect("read");
        assert_eq!(read(), None);
        for name in ["one", "another"] {
            Sidecar::Identity.write(dir.path(), name).expect("written");
            assert_eq!(read().as_deref(), Some(name));
        }
        assert_eq!(Sidecar::Scrub.read(dir.path()).expect("read"), None);
        fs::write(dir.path().join("REPLICA"), vec![b'x'; 1 << 20]).expect("written");
        assert_eq!(read().as_deref(), Some(""), "no line");
    }
}
