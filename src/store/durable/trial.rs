//! Why the storage engine has stopped. It stops for good after an error of the thread that writes its
//! files, and does not say which; so the same is tried.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Written and removed at once.
const TRIAL: &str = "TRIAL";

/// Bytes that are written at a time.
static CHUNK: [u8; 64 << 10] = [1; 64 << 10];

/// Writes as many bytes to a file in `folder` as the engine may have wanted to, syncs them, and lets go of
/// them. What that fails with, the engine has most likely failed with.
pub(super) fn write(folder: &Path, bytes: u64) -> io::Result<()> {
    let path = folder.join(TRIAL);
    let mut file = File::create(&path)?;
    // Nothing is left of it, whatever comes.
    fs::remove_file(&path)?;
    for _ in 0..bytes.div_ceil(CHUNK.len() as u64) {
        file.write_all(&CHUNK)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_and_says_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), 100_000).expect("there is room");
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 0);
        let error = write(&folder.path().join("none"), 1).expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
