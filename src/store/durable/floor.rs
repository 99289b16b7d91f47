//! The floor of a store's [collection](crate::collection), beside its data: a line of JSON.
//!
//! It is a promise, so it is on the disk before anything relies on it. Without the file there never
//! was one. A file that is damaged is no reason to take it for that: what was deleted could come back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Sidecar, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// NTP64.
    floor: u64,
}

pub(super) fn read(dir: &Path) -> Result<u64, StoreError> {
    let Some(line) = Sidecar::Collection.read(dir)? else {
        return Ok(0);
    };
    let line: Result<Line, _> = serde_json::from_str(&line);
    line.map(|line| line.floor).map_err(|_| StoreError::Floor {
        path: dir.join(Sidecar::Collection.name()),
    })
}

pub(super) fn write(dir: &Path, floor: u64) -> Result<(), StoreError> {
    // A number and its name: there is nothing that could not be written.
    let line = serde_json::to_string(&Line { floor }).unwrap_or_default();
    Sidecar::Collection.write(dir, &line)
}

/// A store that was saved from another takes nothing that the other would not have taken.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    match read(from)? {
        0 => Ok(()),
        floor => write(to, floor),
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
        assert_eq!(read(dir).expect("read"), 0);
        for (floor, bytes) in [
            (1 << 32, "{\"floor\":4294967296}\n"),
            (u64::MAX, "{\"floor\":18446744073709551615}\n"),
        ] {
            write(dir, floor).expect("written");
            let file = dir.join("COLLECTION");
            assert_eq!(fs::read_to_string(file).expect("read"), bytes);
            assert_eq!(read(dir).expect("read"), floor);
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
