//! Where cells are kept, so that they are there when the process is not.
//!
//! A store keeps for each cell its row: the cell itself and its digest, committed
//! together, so that opening is one ordered scan from which the tree is built. Where
//! nothing is to outlive the process there is no store, but [`MemoryStore`] in its place:
//! the tree then holds the cells themselves.

mod ahead;
mod durable;
mod error;
mod folder;
mod layout;
mod memory;
#[cfg(test)]
pub(crate) mod model;
mod rows;
mod salvage;
mod sidecar;

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use durable::DurableStore;
pub use error::StoreError;
pub use folder::FORMAT_VERSION;
pub use memory::MemoryStore;
pub use salvage::{complete_recovery, recover, Recovered, SNAPSHOTS};
pub use sidecar::Sidecar;

use crate::cell::{Cell, CellKey, CellMeta, Key, Part, Version};

/// A cell to be written, in the place of whatever cell the key had.
#[derive(Clone, Debug)]
pub struct Write {
    /// The cell's key.
    pub key: CellKey,
    /// The cell.
    pub cell: Arc<Cell>,
    /// Its digest and version.
    pub meta: CellMeta,
}

/// Leaves those that are newer than what there is of their cells, as `found` says.
fn retain_newer(
    writes: &mut Vec<Write>,
    found: impl Fn(&CellKey) -> Result<Option<CellMeta>, StoreError>,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    writes.retain(|write| match found(&write.key) {
        Ok(found) => found.is_none_or(|found| found.version < write.meta.version),
        Err(error) => {
            result = Err(error);
            false
        }
    });
    result
}

/// A cell of a key, and its version.
pub type Versioned = (CellKey, Arc<Cell>, Version);

/// When a commit may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// When it is on disk.
    Synced,
    /// When the operating system has it.
    Buffered,
}

/// What a replica needs of its storage.
///
/// The contract: what is read is what was written, or an error: it is compared with
/// its digest whenever it comes from its row on a disk. A commit is all or nothing,
/// whatever happens; what is read is what was committed last; after an error of
/// [`commit`](Self::commit) it is not known what is on disk, so the caller writes nothing
/// more and opens it anew.
pub trait Store: Send + Sync {
    /// Whether it is a store at all. If not, as [`MemoryStore`], nothing is written to it
    /// nor found in it.
    fn keeps_cells(&self) -> bool {
        true
    }

    /// Shows every cell, ascending by key. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what is there is not a cell.
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError>;

    /// Writes all of `batch`. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn commit(&self, batch: &[Write], commit: Commit) -> Result<(), StoreError>;

    /// Commits cells, but does not bring them to where they are found yet: to
    /// [commit](Self::commit) them costs several times as much, and can so be put off.
    /// Should the process end before, it is done when the store is opened. Until it is
    /// done, and the log [cleared](Self::clear_ahead), nothing else is committed. Blocks on
    /// disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn write_ahead<'a>(
        &self,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<(), StoreError>;

    /// Forgets what was written ahead: all of it, or what is newer, has been
    /// [committed](Self::commit) since. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn clear_ahead(&self) -> Result<(), StoreError>;

    /// The cell of `key`, of which the caller knows that it was committed with
    /// the version `at_least` or a later one. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what is there is not a cell.
    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError>;

    /// As [`read`](Self::read), but nothing if that would mean to wait for a disk.
    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>>;

    /// Cells that are committed, and are shown from here from now on: those that there is
    /// room for may be kept where [`peek`](Self::peek) finds them. Costs memory work.
    fn cache(&self, _: &mut dyn Iterator<Item = Versioned>) {}

    /// All cells of `key`, ascending by part. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what is there is not a cell.
    fn read_parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError>;

    /// The cell of `key` as it is on the disk, whatever is cached. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what is there is not a cell.
    fn reread(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError>;

    /// Removes cells of which nobody asks any more. All or nothing, but it may be
    /// that after a crash they are there again. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn remove(&self, keys: &[CellKey]) -> Result<(), StoreError>;

    /// Bytes on disk.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn disk_bytes(&self) -> Result<u64, StoreError>;

    /// Writes out what makes the next opening fast. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written. What was committed is safe even so.
    fn flush(&self) -> Result<(), StoreError>;

    /// All cells as they are now, for as long as it is kept.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn view(&self) -> Result<Box<dyn StoreView>, StoreError>;

    /// Takes a damaged cell out, and keeps what there is of it where it is in
    /// nobody's way, under what the tree said of it. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn quarantine(&self, key: &CellKey, meta: &CellMeta) -> Result<(), StoreError>;

    /// What is in quarantine, and what the tree said of it.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn quarantined(&self) -> Result<Vec<(CellKey, CellMeta)>, StoreError>;

    /// Forgets what is in quarantine under these keys. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn release(&self, keys: &[CellKey]) -> Result<(), StoreError>;
}

/// The cells of a store as they were at one time.
pub trait StoreView: Send + Sync {
    /// Shows the cells above `after`, ascending by key, until `visit` says no.
    /// Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what is there is not a cell.
    fn scan(
        &self,
        after: Option<&CellKey>,
        visit: &mut dyn FnMut(CellKey, Arc<Cell>, CellMeta) -> bool,
    ) -> Result<(), StoreError>;

    /// The cell of a key. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what is there is not a cell.
    fn read(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError>;
}
