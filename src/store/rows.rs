//! Reading the rows of a durable store: each is checked before it is believed.

use std::{ops::Bound, path::PathBuf, sync::Arc};

use bytes::Bytes;
use fjall::{Keyspace, Readable, Snapshot};

use super::{StoreError, StoreView, Write};
use crate::cell::{Cell, CellKey, CellMeta, DecodeError, Row};

/// The keyspaces of a store.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) path: PathBuf,
    pub(super) cells: Keyspace,
    pub(super) payloads: Keyspace,
}

impl Rows {
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(fjall::Error) -> StoreError + '_ {
        move |source| StoreError::Engine {
            action,
            path: self.path.clone(),
            source: Box::new(source),
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
    ) -> Result<(Arc<Cell>, CellMeta), StoreError> {
        let row = Row::decode(row).map_err(self.damaged(key_bytes))?;
        let meta = row.meta;
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
        match CellMeta::of(key, &cell) == meta {
            true => Ok((Arc::new(cell), meta)),
            false => Err(StoreError::Digest {
                path: self.path.clone(),
                key: String::from_utf8_lossy(key_bytes).into_owned(),
            }),
        }
    }

    pub(super) fn read(
        &self,
        snapshot: &Snapshot,
        key: &CellKey,
    ) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        let key_bytes = key.to_canonical();
        let row = snapshot.get(&self.cells, &key_bytes);
        let row = row.map_err(self.failed("read"))?;
        row.map(|row| self.cell_of(snapshot, key, &key_bytes, &row))
            .transpose()
    }
}

/// The rows as they were at one time.
pub(super) struct RowsView {
    pub(super) rows: Rows,
    pub(super) snapshot: Snapshot,
}

impl RowsView {
    /// Shows every cell that can be read, ascending or descending, until `visit`
    /// says no or the engine cannot go on: true at the end of all.
    pub(super) fn scan_readable(
        &self,
        is_backward: bool,
        visit: &mut dyn FnMut(Write) -> bool,
    ) -> Result<bool, StoreError> {
        let rows = &self.rows;
        let mut all = self.snapshot.iter(&rows.cells);
        loop {
            let row = match is_backward {
                true => all.next_back(),
                false => all.next(),
            };
            let Some(row) = row else {
                return Ok(true);
            };
            let (key_bytes, row) = row.into_inner().map_err(rows.failed("scan"))?;
            let Ok(key) = CellKey::from_canonical(&key_bytes) else {
                continue;
            };
            if let Ok((cell, meta)) = rows.cell_of(&self.snapshot, &key, &key_bytes, &row) {
                let write = Write { key, cell, meta };
                if !visit(write) {
                    return Ok(false);
                }
            }
        }
    }
}

impl StoreView for RowsView {
    fn scan(
        &self,
        after: Option<&CellKey>,
        visit: &mut dyn FnMut(CellKey, Arc<Cell>, CellMeta) -> bool,
    ) -> Result<(), StoreError> {
        let rows = &self.rows;
        let low = after.map(CellKey::to_canonical);
        let low = low.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (low, Bound::<Vec<u8>>::Unbounded);
        for row in self.snapshot.range(&rows.cells, range) {
            let (key_bytes, row) = row.into_inner().map_err(rows.failed("scan"))?;
            let key = CellKey::from_canonical(&key_bytes).map_err(rows.damaged(&key_bytes))?;
            let (cell, meta) = rows.cell_of(&self.snapshot, &key, &key_bytes, &row)?;
            if !visit(key, cell, meta) {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        self.rows.read(&self.snapshot, key)
    }
}
