//! Reading the rows of a durable store: each is compared with its digest.

use std::{
    ops::Bound,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use fjall::{Keyspace, Readable, Snapshot};

use super::{CellCache, RowRead, StoreError, StoreView, Write, failure::engine_error, trial};
use crate::cell::{Cell, CellKey, DecodeError, Key, Part, Reader, Row, Version};

/// The key, in the keyspace of the rows, of the last group of the log that is in rows. No cell's key
/// begins with this byte, and none comes after it.
pub(super) const APPLIED_KEY: &[u8] = &[0xff];

/// The keyspaces of a store.
pub(super) struct Rows {
    pub(super) path: PathBuf,
    pub(super) cells: Keyspace,
    pub(super) payloads: Keyspace,
    /// Bytes that the engine writes to a table at the most.
    pub(super) write_buffer: u64,
    /// How often they were rewritten.
    pub(super) generation: u64,
    /// The engine could not read a block of theirs.
    pub(super) is_damaged: AtomicBool,
}

impl Rows {
    /// Whether tables of theirs are being written.
    pub(super) fn is_being_written(&self) -> bool {
        self.cells.sealed_memtable_count() + self.payloads.sealed_memtable_count() > 0
    }

    pub(super) fn failed(&self, action: &'static str) -> impl Fn(fjall::Error) -> StoreError + '_ {
        move |error| match error {
            fjall::Error::Poisoned => StoreError::Stopped {
                action,
                trial_error: trial::write(&self.path, self.write_buffer).err(),
                path: self.path.clone(),
            },
            error => {
                let error = engine_error(action, &self.path, error);
                if error.is_damage() {
                    self.is_damaged.store(true, Ordering::Relaxed);
                }
                error
            }
        }
    }

    /// Costs nothing until there is an error: a scan asks for it at every row.
    pub(super) fn damaged<'a>(
        &'a self,
        key: &'a [u8],
    ) -> impl FnOnce(DecodeError) -> StoreError + 'a {
        move |source| StoreError::Row {
            path: self.path.clone(),
            key: String::from_utf8_lossy(key).into_owned(),
            source,
        }
    }

    /// The cell that a row is, its payload from the same snapshot. What is not
    /// what its digest says is not a cell: the engine's own checks do not see that
    /// a sound block is where another was.
    pub(super) fn cell_of(
        &self,
        snapshot: &Snapshot,
        key: &CellKey,
        key_bytes: &[u8],
        row: &[u8],
    ) -> Result<(Arc<Cell>, Version), StoreError> {
        let row = Row::decode(row).map_err(self.damaged(key_bytes))?;
        let version = row.version;
        let cell = row.into_cell(|expected| {
            let payload = snapshot.get(&self.payloads, key_bytes);
            payload
                .map_err(self.failed("read"))?
                .filter(|payload| payload.len() as u64 == expected)
                .map(|payload| Bytes::copy_from_slice(&payload))
                .ok_or_else(|| StoreError::Payload {
                    path: self.path.clone(),
                    key: String::from_utf8_lossy(key_bytes).into_owned(),
                    expected,
                })
        })?;
        match Version::of(key, &cell) == version {
            true => Ok((Arc::new(cell), version)),
            false => Err(StoreError::Digest {
                path: self.path.clone(),
                key: String::from_utf8_lossy(key_bytes).into_owned(),
            }),
        }
    }

    /// The last group of the log that is in rows; 0 if none is.
    pub(super) fn applied(&self) -> Result<u64, StoreError> {
        let Some(number) = self.cells.get(APPLIED_KEY).map_err(self.failed("read"))? else {
            return Ok(0);
        };
        let mut reader = Reader(&number);
        let number = reader.array("number").map(u64::from_be_bytes);
        number.map_err(self.damaged(APPLIED_KEY))
    }

    pub(super) fn read(
        &self,
        snapshot: &Snapshot,
        key: &CellKey,
    ) -> Result<Option<(Arc<Cell>, Version)>, StoreError> {
        let key_bytes = key.to_canonical();
        let row = snapshot.get(&self.cells, &key_bytes);
        let row = row.map_err(self.failed("read"))?;
        row.map(|row| self.cell_of(snapshot, key, &key_bytes, &row))
            .transpose()
    }
}

/// A row that a scan of a damaged store has met.
pub(super) enum Met {
    /// It is whole.
    Whole(Write),
    /// It is damaged; with its version, if that can be read.
    Damaged(CellKey, Option<Version>, StoreError),
}

/// Shows every row, ascending or descending, until `visit` says no.
///
/// # Errors
/// If the engine cannot go on.
pub(super) fn scan_readable(
    rows: &Rows,
    snapshot: &Snapshot,
    is_backward: bool,
    visit: &mut dyn FnMut(Met) -> bool,
) -> Result<(), StoreError> {
    let mut all = snapshot.iter(&rows.cells);
    loop {
        let row = match is_backward {
            true => all.next_back(),
            false => all.next(),
        };
        let Some(row) = row else {
            return Ok(());
        };
        let (key_bytes, row) = row.into_inner().map_err(rows.failed("scan"))?;
        let Ok(key) = CellKey::from_canonical(&key_bytes) else {
            continue;
        };
        let met = match rows.cell_of(snapshot, &key, &key_bytes, &row) {
            Ok((cell, version)) => Met::Whole(Write { key, cell, version }),
            Err(error) => {
                let version = Row::decode_version(&row).ok();
                Met::Damaged(key, version, error)
            }
        };
        if !visit(met) {
            return Ok(());
        }
    }
}

/// The rows as they were at one time.
pub(super) struct RowsView {
    pub(super) rows: Arc<Rows>,
    pub(super) snapshot: Snapshot,
    pub(super) cached: Arc<CellCache>,
}

impl StoreView for RowsView {
    fn scan(
        &self,
        after: Option<&CellKey>,
        visit: &mut dyn FnMut(CellKey, RowRead) -> bool,
    ) -> Result<(), StoreError> {
        let rows = &self.rows;
        let low = after.map(CellKey::to_canonical);
        let low = low.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (low, Bound::Excluded(APPLIED_KEY.to_vec()));
        for row in self.snapshot.range(&rows.cells, range) {
            let (key_bytes, row) = row.into_inner().map_err(rows.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
            let cell = rows.cell_of(&self.snapshot, &key, &key_bytes, &row);
            if !visit(key, cell) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, Version)>, StoreError> {
        self.rows.read(&self.snapshot, key)
    }

    fn value_bytes(&self, key: &CellKey) -> Result<u64, StoreError> {
        let (rows, key_bytes) = (&self.rows, key.to_canonical());
        let row = self.snapshot.get(&rows.cells, &key_bytes);
        let row = row.map_err(rows.failed("read"))?;
        let row = row.map(|row| Row::decode(&row)).transpose();
        let row = row.map_err(rows.damaged(&key_bytes))?;
        Ok(row.map_or(0, |row| row.value_bytes()))
    }

    fn peek(&self, key: &CellKey, version: Version) -> Option<Arc<Cell>> {
        let (cell, found) = self.cached.get(key)?;
        (found == version).then_some(cell)
    }

    fn parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        // The bytes of the key's own cell begin those of all its cells, and of no other's.
        let prefix = CellKey::own(key.clone()).to_canonical();
        let mut cells = Vec::new();
        for row in self.snapshot.prefix(&self.rows.cells, &prefix) {
            let (key_bytes, row) = row.into_inner().map_err(self.rows.failed("scan"))?;
            let part = Part::from(&key_bytes[prefix.len()..]);
            let key = CellKey {
                key: key.clone(),
                part,
            };
            let (cell, _) = self.rows.cell_of(&self.snapshot, &key, &key_bytes, &row)?;
            cells.push((key.part, cell));
        }
        Ok(cells)
    }
}
