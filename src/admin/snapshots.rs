//! How many snapshots are kept with the data, and for whom.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use super::{
    copies::{failed, OnProgress},
    AdminError, Administration, SnapshotEntry,
};
use crate::store::SNAPSHOTS;

/// Snapshots that are kept, at the most.
pub const MAX_SNAPSHOTS: usize = 32;

/// Bytes of all snapshots from which on no further one is made. So the last one may go
/// beyond, by the size of the storage.
pub const MAX_SNAPSHOT_BYTES: u64 = 64 << 30;

/// Snapshots are the data of a storage: for the user that runs the router alone.
const OWNER_ONLY_FOLDER: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;

impl Administration {
    /// As [`create_snapshot`](Self::create_snapshot), if there is room for a further one.
    /// Blocks on disk.
    ///
    /// # Errors
    /// As of that; and if there are [`MAX_SNAPSHOTS`], or [`MAX_SNAPSHOT_BYTES`] of them.
    pub fn keep_snapshot(
        &self,
        name: &str,
        replica_id: &str,
        progress: OnProgress<'_>,
    ) -> Result<SnapshotEntry, AdminError> {
        let kept = self.list_snapshots()?;
        // A name that is taken is the nearer mistake, and is told below.
        if kept.iter().all(|entry| entry.name != name) {
            check_quota(kept.len(), kept.iter().map(|entry| entry.bytes).sum())?;
        }
        let folder = self.folder().ok_or(AdminError::NoFolder)?.join(SNAPSHOTS);
        close_folder(&folder).map_err(failed(&folder))?;
        let entry = self.create_snapshot(name, replica_id, progress)?;
        for file in fs::read_dir(&folder).map_err(failed(&folder))? {
            let path = file.map_err(failed(&folder))?.path();
            fs::set_permissions(&path, Permissions::from_mode(OWNER_ONLY_FILE))
                .map_err(failed(&path))?;
        }
        Ok(entry)
    }
}

fn check_quota(count: usize, bytes: u64) -> Result<(), AdminError> {
    match count < MAX_SNAPSHOTS && bytes < MAX_SNAPSHOT_BYTES {
        true => Ok(()),
        false => Err(AdminError::SnapshotQuota {
            count,
            bytes,
            max_count: MAX_SNAPSHOTS,
            max_bytes: MAX_SNAPSHOT_BYTES,
        }),
    }
}

/// Makes the folder, for its owner alone; or makes the one that is there so. What is in it
/// is out of reach of others, also while it is written.
fn close_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY_FOLDER)
        .create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY_FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_below_both_limits() {
        assert!(check_quota(MAX_SNAPSHOTS - 1, MAX_SNAPSHOT_BYTES - 1).is_ok());
        for (count, bytes) in [(MAX_SNAPSHOTS, 0), (0, MAX_SNAPSHOT_BYTES)] {
            let full = check_quota(count, bytes).expect_err("full");
            assert!(full.to_string().contains("delete one first"), "{full}");
        }
    }

    #[test]
    fn a_folder_that_was_open_is_closed() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("snapshots");
        fs::create_dir(&folder).expect("made");
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("opened");
        close_folder(&folder).expect("closed");
        let mode = fs::metadata(&folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
