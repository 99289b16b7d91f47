//! Backups: all cells of a tree, in a self-contained file.
//!
//! ```text
//! magic    "mst1back"
//! header   u32 BE length, JSON, check
//! frame    u32 BE length, a block of cells, check; any number of them
//! end      u32 BE 0, frames u64 BE, cells u64 BE, root 32 bytes, check
//! ```
//!
//! Cells ascend by key, including tombstones, so a reader builds the tree as it reads,
//! and knows at the end whether it has the root of the header: what it read is then
//! exactly what was written. A check is the beginning of a SHA-256 over what it follows
//! and the number of the frame: it tells where a file is damaged. docs/formats.md
//! describes the bytes.
//!
//! A backup depends neither on the storage engine, nor on the version of the replication
//! protocol, nor on the storage's configuration. This module opens no files.

mod error;
mod header;
mod reader;
mod rollback;
mod writer;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use header::{Header, MAX_MISSING};
pub use reader::{BackupReader, VerifiedFrames, read_restore_frame, verify};
pub use rollback::{RollbackFrame, RollbackFrames};
pub use writer::BackupWriter;

use crate::{
    cell::Version,
    hash::{sha256, tag},
    sync::CHECK_BYTES as CELL_CHECK_BYTES,
};

/// The version of the format that is written and read.
pub const FORMAT: u32 = 2;

/// The first bytes of a backup.
pub const MAGIC: &[u8; 8] = b"mst1back";

/// The length of a check in bytes.
const CHECK_BYTES: usize = 8;

/// The most bytes of a header.
const MAX_HEADER: u32 = 4 << 20;

/// The most bytes of a frame: one cell may take as much, since a value may have a
/// gibibyte.
const MAX_FRAME: u32 = (1 << 30) + (1 << 20);

/// Bytes of cells after which a frame ends.
const FRAME_BYTES: usize = 512 << 10;

/// The place of the header, from which frames count on, and that of the end.
const HEADER_PLACE: u64 = 0;
const END_PLACE: u64 = u64::MAX;

/// The check of bytes at a place.
fn check(place: u64, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = sha256(&[tag::BACKUP, &place.to_be_bytes(), bytes]);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

/// The beginning of a cell's digest that is written.
fn cell_check(version: &Version) -> [u8; CELL_CHECK_BYTES] {
    let mut check = [0; CELL_CHECK_BYTES];
    check.copy_from_slice(&version.digest.0[..CELL_CHECK_BYTES]);
    check
}
