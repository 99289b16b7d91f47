//! Backups: all cells of a tree, in a file that stands by itself.
//!
//! ```text
//! magic    "mst1back"
//! header   u32 BE length, JSON, check
//! frame    u32 BE length, a block of cells, check; any number of them
//! end      u32 BE 0, frames u64 BE, cells u64 BE, root 32 bytes, check
//! ```
//!
//! Cells come ascending by key, tombstones among them, so a reader builds the tree
//! as it reads, and knows at the end whether it has the root that the header says:
//! what it read is then exactly what was written. A check is the beginning of a
//! SHA-256 over what it follows and which frame that is: it says where a file is
//! damaged. The bytes are described in docs/formats.md.
//!
//! A backup does not depend on the storage engine, nor on the version of the protocol by which
//! replicas talk, nor on how the storage was configured. No file is opened in here.

mod error;
mod header;
mod reader;
mod rollback;
mod writer;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use header::Header;
pub use reader::{read_restore_frame, verify, BackupReader, VerifiedFrames};
pub use rollback::{RollbackFrame, RollbackFrames};
pub use writer::BackupWriter;

use crate::{
    cell::CellMeta,
    hash::{sha256, tag},
    sync::CHECK_BYTES as CELL_CHECK_BYTES,
};

/// The version of the format that is written and read.
pub const FORMAT: u32 = 2;

/// What a backup begins with.
pub const MAGIC: &[u8; 8] = b"mst1back";

/// Bytes of a check.
const CHECK_BYTES: usize = 8;

/// Bytes that a header may have.
const MAX_HEADER: u32 = 4 << 20;

/// Bytes that a frame may have: one cell may take as much, since a value may have a
/// gibibyte.
const MAX_FRAME: u32 = (1 << 30) + (1 << 20);

/// Bytes of cells after which a frame ends.
const FRAME_BYTES: usize = 512 << 10;

/// The place of the header, of which frames count on, and that of the end.
const HEADER_PLACE: u64 = 0;
const END_PLACE: u64 = u64::MAX;

/// The check of what stands at a place.
fn check(place: u64, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = sha256(&[tag::BACKUP, &place.to_be_bytes(), bytes]);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

/// What is sent of a cell's digest.
fn cell_check(meta: &CellMeta) -> [u8; CELL_CHECK_BYTES] {
    let mut check = [0; CELL_CHECK_BYTES];
    check.copy_from_slice(&meta.version.digest.0[..CELL_CHECK_BYTES]);
    check
}
