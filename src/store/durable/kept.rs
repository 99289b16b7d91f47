//! What is kept of a store's [collection](crate::collection), beside its data: a line of JSON.

use std::path::Path;

use super::{Sidecar, StoreError};
use crate::collection::kept::Kept;

pub(super) fn read(dir: &Path) -> Result<Kept, StoreError> {
    let Some(line) = Sidecar::Collection.read(dir)? else {
        return Ok(Kept::default());
    };
    Kept::of_line(&line).ok_or_else(|| StoreError::Floor {
        path: dir.join(Sidecar::Collection.name()),
    })
}

pub(super) fn write(dir: &Path, kept: &Kept) -> Result<(), StoreError> {
    Sidecar::Collection.write(dir, &kept.to_line())
}

/// As [`write`] of what is read, if anything is kept.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let kept = read(from)?;
    match kept == Kept::default() {
        true => Ok(()),
        false => write(to, &kept),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_bytes_of_a_floor_do_not_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        assert_eq!(read(dir).expect("read"), Kept::default());
        for (floor, bytes) in [
            (1 << 32, "{\"floor\":4294967296}\n"),
            (u64::MAX, "{\"floor\":18446744073709551615}\n"),
        ] {
            let kept = Kept {
                floor,
                ..Kept::default()
            };
            write(dir, &kept).expect("written");
            let file = dir.join("COLLECTION");
            assert_eq!(fs::read_to_string(file).expect("read"), bytes);
            assert_eq!(read(dir).expect("read"), kept);
        }
    }

    #[test]
    fn a_damaged_floor_is_not_taken_for_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        for damaged in ["", "{", "{\"floor\":-1}", "{\"floor\":1,\"roof\":2}"] {
            Sidecar::Collection.write(dir, damaged).expect("written");
            let error = read(dir).expect_err("damaged").to_string();
            assert!(
                error.contains("COLLECTION") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
