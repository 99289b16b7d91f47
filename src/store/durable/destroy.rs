//! Deletes a store, and nothing that is not of it.

use std::{fs, io, path::Path};

use super::{
    SNAPSHOTS, Sidecar, StoreError, aside,
    folder::{self, Folders, io_error, sync_parent},
};

/// What the names of snapshots, and of those that are being made, end with.
const SNAPSHOT_SUFFIXES: [&str; 2] = ["backup", "part"];

/// Deletes the store in `dir`, which nobody has open, with its snapshots; and the folder, if nothing
/// else is in it. Returns whether it did. A crash leaves a folder that is as good as new, or the rest
/// of one. Blocks on disk.
///
/// # Errors
/// If there is no store in it, or something cannot be deleted.
pub fn destroy(dir: &Path) -> Result<bool, StoreError> {
    folder::begin_destroying(dir)?;
    let Folders { engine, log } = Folders::in_store(dir);
    for path in [&engine, &log] {
        if path.exists() {
            fs::remove_dir_all(path).map_err(io_error("remove", path))?;
        }
    }
    destroy_snapshots(&dir.join(SNAPSHOTS))?;
    for sidecar in Sidecar::ALL {
        sidecar.remove(dir)?;
    }
    aside::remove(dir)?;
    folder::end_destroying(dir)?;
    match fs::remove_dir(dir) {
        Ok(()) => {
            sync_parent(dir).map_err(io_error("remove", dir))?;
            Ok(true)
        }
        // What else there is, or a link to the folder, is somebody's.
        Err(error) if is_in_use(&error) => Ok(false),
        Err(error) => Err(io_error("remove", dir)(error)),
    }
}

fn is_in_use(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, ResourceBusy};
    matches!(
        error.kind(),
        DirectoryNotEmpty | NotADirectory | ResourceBusy
    )
}

fn destroy_snapshots(snapshots: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(snapshots) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io_error("list", snapshots))?,
    };
    for entry in entries {
        let path = entry.map_err(io_error("list", snapshots))?.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        if suffix.is_some_and(|suffix| SNAPSHOT_SUFFIXES.contains(&suffix)) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    match fs::remove_dir(snapshots) {
        Err(error) if !is_in_use(&error) => Err(io_error("remove", snapshots)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DurableStore, Owner};

    fn made(dir: &Path) {
        let owner = Owner {
            key_expr: "a/**".try_into().expect("a key expression"),
            strip_prefix: None,
        };
        owner.take(dir, true).expect("new");
        drop(DurableStore::open(dir, 8 << 20).expect("made"));
        Sidecar::Identity.write(dir, "me").expect("written");
        fs::create_dir(dir.join(SNAPSHOTS)).expect("made");
        fs::write(dir.join(SNAPSHOTS).join("one.backup"), "x").expect("written");
    }

    #[test]
    fn all_that_is_a_stores_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("a");
        made(&dir);
        assert!(destroy(&dir).expect("destroyed"));
        assert!(!dir.exists());
    }

    #[test]
    fn what_is_not_a_stores_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("a");
        made(&dir);
        let others = [
            dir.join("notes.txt"),
            dir.join(SNAPSHOTS).join("thesis.tex"),
        ];
        for other in &others {
            fs::write(other, "x").expect("written");
        }
        assert!(!destroy(&dir).expect("destroyed"));
        assert!(others.iter().all(|other| other.exists()));
        assert_eq!(fs::read_dir(&dir).expect("listed").count(), 2);
        // And what is no store is not looked into.
        assert!(matches!(destroy(&dir), Err(StoreError::Absent { .. })));
        assert!(others.iter().all(|other| other.exists()));
    }
}
