//! Files that are there when they are complete, and not before.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::exit::{Error, file_error};

/// What stands for standard input or output.
const STANDARD: &str = "-";

/// What a file is called until it is complete: this is added to its name.
const UNFINISHED: &str = ".part";

/// What is written is the data of a storage, and for whoever asked for it alone.
const OWNER_ONLY: u32 = 0o600;

/// Whether standard input or output is meant.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}

/// Opens a file for reading, or standard input.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    if is_standard(path) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(file_error("read", path))?;
    // A folder can be opened, and not read.
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let problem = "it is a folder, and a file is needed".to_owned();
        return Err(Error::Place {
            path: path.to_owned(),
            problem,
        });
    }
    Ok(Box::new(BufReader::new(file)))
}

/// A file that is being written, under another name. Without
/// [`finish`](Self::finish) nothing is left of it; but what a process leaves that
/// is killed has that other name.
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    is_finished: bool,
}

/// The name of a path with something added.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Unfinished {
    /// Begins a file. One that is there stays as it is until the new one is
    /// complete, and is replaced only if `force` says so.
    pub(crate) fn create(path: &Path, force: bool) -> Result<Self, Error> {
        if !force && path.exists() {
            let problem = "it is there; choose another name, or replace it with --force".to_owned();
            return Err(Error::Place {
                path: path.to_owned(),
                problem,
            });
        }
        let unfinished = with_suffix(path, UNFINISHED);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = options
            .mode(OWNER_ONLY)
            .open(&unfinished)
            .map_err(file_error("write", &unfinished))?;
        // One that was left behind has the mode that it was made with.
        file.set_permissions(fs::Permissions::from_mode(OWNER_ONLY))
            .map_err(file_error("write", &unfinished))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            is_finished: false,
        })
    }

    fn unfinished(&self) -> PathBuf {
        with_suffix(&self.path, UNFINISHED)
    }

    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.unfinished();
        self.file
            .write_all(bytes)
            .map_err(file_error("write", path))
    }

    /// Begins anew.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        let path = self.unfinished();
        let restarted = self.file.rewind().and_then(|()| self.file.set_len(0));
        restarted.map_err(file_error("write", path))
    }

    /// What was written, once it is on disk.
    pub(crate) fn read_back(&mut self) -> Result<impl Read + use<>, Error> {
        let path = self.unfinished();
        self.file.sync_all().map_err(file_error("write", &path))?;
        let file = File::open(&path).map_err(file_error("read", &path))?;
        Ok(BufReader::new(file))
    }

    /// Gives the file its name, for good.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let unfinished = self.unfinished();
        self.file
            .sync_all()
            .map_err(file_error("write", &unfinished))?;
        fs::rename(&unfinished, &self.path).map_err(file_error("rename", &unfinished))?;
        self.is_finished = true;
        sync_parent(&self.path)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // It is named so that nobody takes it for complete.
            let _ = fs::remove_file(self.unfinished());
        }
    }
}

/// Puts names that were changed in a path's folder on disk.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(file_error("write", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_complete() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let mut file = Unfinished::create(&path, false).expect("begun");
        file.add(b"whole").expect("written");
        assert!(!path.exists() && dir.path().join("f.part").exists());
        let mut read = Vec::new();
        let mut back = file.read_back().expect("opened");
        back.read_to_end(&mut read).expect("read");
        assert_eq!(read, b"whole");
        file.finish().expect("finished");
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        assert!(!dir.path().join("f.part").exists());
    }

    #[test]
    fn nothing_is_left_of_a_failure_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        fs::write(&path, b"old").expect("written");
        let refused = Unfinished::create(&path, false).err().expect("refused");
        assert_eq!(refused.code(), 5);
        let mut file = Unfinished::create(&path, true).expect("begun");
        file.add(b"new").expect("written");
        drop(file);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_file_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let left_behind = dir.path().join("f.part");
        fs::write(&left_behind, b"half").expect("written");
        let open = fs::Permissions::from_mode(0o666);
        fs::set_permissions(&left_behind, open).expect("set");
        let mut file = Unfinished::create(&path, false).expect("begun");
        file.add(b"whole").expect("written");
        file.finish().expect("finished");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_is_no_file() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(
            open(dir.path())
                .err()
                .is_some_and(|error| error.code() == 5)
        );
    }
}
