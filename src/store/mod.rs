//! Durable storage for cells.
//!
//! A store has a write-ahead log and rows. A group of cells is [appended](CellStore::append) to the
//! log, and is committed then. Later its cells are [applied](CellStore::apply): each cell of the tree
//! has a row, with its digest. So opening is one ordered scan of the rows, from which the tree is
//! built, after what the log has and the rows have not was applied.
//!
//! Where nothing is to outlive the process there is no store, but [`MemoryStore`] in its place: the
//! tree then holds the cells themselves.

#[cfg(feature = "durable")]
mod durable;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(all(test, feature = "durable"))]
mod golden_tests;
mod memory;
#[cfg(test)]
pub(crate) mod model;
#[cfg(all(test, feature = "durable"))]
mod tests;

use std::sync::Arc;

#[cfg(feature = "durable")]
pub use durable::{
    DurableStore, FORMAT_VERSION, Lost, LostPart, MAX_LOST, Mirror, Owner, Recovered, SNAPSHOTS,
    Saved, Sidecar, StoreTuning, complete_recovery, destroy, is_made, recover, salvage,
};
pub use error::StoreError;
pub use memory::MemoryStore;

use crate::{
    cell::{Cell, CellKey, Key, Part, Version},
    collection::kept::Kept,
};

/// Payloads of more bytes than this have rows of their own.
const INLINE_LIMIT: usize = 1024;

/// Whether the payload of a cell has a row of its own.
pub(crate) fn is_apart(cell: &Cell) -> bool {
    let value = cell.value();
    value.is_some_and(|value| value.payload.len() > INLINE_LIMIT)
}

/// A cell to be written to its row.
#[derive(Clone, Debug)]
pub struct Write {
    /// The cell's key.
    pub key: CellKey,
    /// The cell.
    pub cell: Arc<Cell>,
    /// Its digest and version.
    pub version: Version,
}

impl Write {
    /// Hashes the cell.
    #[cfg(feature = "durable")]
    fn of(key: CellKey, cell: Cell) -> Self {
        Self {
            version: Version::of(&key, &cell),
            cell: Arc::new(cell),
            key,
        }
    }
}

/// Changes of rows that are made together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    /// Rows that are written, each in the place of whatever row the key had. Ascending by key, and
    /// each key once.
    pub puts: Vec<Write>,
    /// Of these keys, and others, those whose row had its payload apart, and has not any more.
    pub stale_payloads: Vec<CellKey>,
    /// Rows that are removed, and whether their payload is apart.
    pub removes: Vec<(CellKey, bool)>,
    /// Cells that leave the quarantine.
    pub released: Vec<CellKey>,
    /// The groups of the log up to this one are in rows with this batch.
    pub applied: Option<u64>,
}

impl RowBatch {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            puts,
            stale_payloads,
            removes,
            released,
            applied,
        } = self;
        let is_empty = puts.is_empty() && stale_payloads.is_empty() && removes.is_empty();
        is_empty && released.is_empty() && applied.is_none()
    }
}

impl From<Vec<Write>> for RowBatch {
    fn from(puts: Vec<Write>) -> Self {
        Self {
            puts,
            ..Self::default()
        }
    }
}

/// A row as a scan shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// All of the cell but its value.
    pub version: Version,
    /// Whether its payload has a row of its own.
    pub is_apart: bool,
    /// For how long its encoding says that it is shown, as it is written there.
    pub ttl: Option<Box<str>>,
}

/// A cell of a key, and its version.
pub type Versioned = (CellKey, Arc<Cell>, Version);

/// Shows keys until it is told to stop; returns whether it showed all.
pub type KeyWalk<'a> = dyn FnMut(&mut dyn FnMut(&CellKey) -> bool) -> bool + 'a;

/// When a commit may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// When it is on the disk.
    Synced,
    /// When the operating system has it.
    Buffered,
}

/// Cells, as a replica keeps them.
///
/// The contract: what is read is what was written, or an error: a cell is compared with its digest
/// whenever it comes from a row on a disk. A group that was appended is there when the store is opened
/// again, all of it or nothing. A batch of rows is made all or not at all. After an error of
/// [`append`](Self::append) or [`apply`](Self::apply) it is not known what is on the disk, so the
/// caller writes nothing more and opens the store anew.
pub trait CellStore: Send + Sync {
    /// Whether it is a store at all. If not, as [`MemoryStore`], nothing is written to it nor found
    /// in it.
    fn keeps_cells(&self) -> bool {
        true
    }

    /// Shows every row, ascending by key. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or a row is damaged.
    fn scan(&self, visit: &mut dyn FnMut(CellKey, RowHead)) -> Result<(), StoreError>;

    /// Appends a group to the write-ahead log, and returns its number: the groups are numbered
    /// without gaps. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn append<'a>(
        &self,
        group: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<u64, StoreError>;

    /// Changes rows. They need not be on the disk when it returns, as long as the log has what they
    /// have. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn apply(&self, batch: &RowBatch) -> Result<(), StoreError>;

    /// The cell in the row of `key`, of which the caller knows that it had the version `at_least`.
    /// Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or the row is damaged.
    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError>;

    /// As [`read`](Self::read), but nothing if that would mean to wait for a disk.
    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>>;

    /// Takes cells that are in rows, and that somebody may read soon. Those that there is room for
    /// are kept where [`peek`](Self::peek) finds them. Costs memory work.
    fn cache(&self, _: &mut dyn Iterator<Item = Versioned>) {}

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

    /// Whether it is worth while to [rewrite](Self::rewrite) the rows: because a block of the engine's
    /// files cannot be read; or, when it is quiet, because the files have much that is no row any
    /// more. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn wants_rewrite(&self, _is_quiet: bool) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Writes all rows that can be read anew, and lets go of the files that had them. Others read and
    /// write meanwhile. `walk` is called once, and shows the keys of all rows that there are when it
    /// is called. Returns false if it broke off. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn rewrite(&self, _walk: &mut KeyWalk<'_>) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// What is kept of the storage's [collection](crate::collection): nothing if it never was kept.
    /// Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or what it has is damaged.
    fn collection(&self) -> Result<Kept, StoreError> {
        Ok(Kept::default())
    }

    /// Keeps this of the collection: it is on the disk when it returns, with all that was applied
    /// before. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn keep_collection(&self, _kept: &Kept) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sets cells aside that are about to leave the rows, for an operator to look at: they are on the
    /// disk when it returns. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn set_aside(&self, _cells: &[(CellKey, Arc<Cell>)]) -> Result<(), StoreError> {
        Err(StoreError::NothingAside)
    }

    /// Shows what was set aside, in no order; some of it perhaps more than once. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn aside(&self, _visit: &mut dyn FnMut(CellKey, Cell)) -> Result<(), StoreError> {
        Ok(())
    }

    /// Forgets all that was set aside. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn drop_aside(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// All rows as they are now, for as long as it is kept.
    fn view(&self) -> Box<dyn StoreView>;
}

/// Rows that were found damaged.
pub trait QuarantineStore {
    /// Takes a damaged row out, and keeps what there is of it where it is in nobody's way, under what
    /// the tree said of it. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be written.
    fn quarantine(&self, key: &CellKey, version: &Version) -> Result<(), StoreError>;

    /// What is in quarantine, and what the tree said of it.
    ///
    /// # Errors
    /// If the disk cannot be read.
    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError>;
}

/// What a replica needs of its storage.
pub trait Store: CellStore + QuarantineStore {}

impl<S: CellStore + QuarantineStore> Store for S {}

/// A cell of a row, or why it cannot be had.
pub type RowRead = Result<(Arc<Cell>, Version), StoreError>;

/// The rows of a store as they were at one time.
pub trait StoreView: Send + Sync {
    /// Shows the rows above `after`, ascending by key, until `visit` says no; a damaged one as the
    /// error. Blocks on disk.
    ///
    /// # Errors
    /// If the scan cannot go on.
    fn scan(
        &self,
        after: Option<&CellKey>,
        visit: &mut dyn FnMut(CellKey, RowRead) -> bool,
    ) -> Result<(), StoreError>;

    /// The cell in the row of a key, as it is on the disk. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or the row is damaged.
    fn read(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, Version)>, StoreError>;

    /// [Bytes of the value](Cell::value_bytes) in the row of a key, without reading a payload that is
    /// apart; 0 if there is no row. Blocks on disk.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    fn value_bytes(&self, key: &CellKey) -> Result<u64, StoreError> {
        let read = self.read(key)?;
        Ok(read.map_or(0, |(cell, _)| cell.value_bytes() as u64))
    }

    /// The cell of this very version, if it can be had without waiting for a disk.
    fn peek(&self, _: &CellKey, _: Version) -> Option<Arc<Cell>> {
        None
    }

    /// All cells of `key`, ascending by part. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read, or a row is damaged.
    fn parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError>;
}
