//! What the engine has in memory and not in tables, and when tables are written.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use super::{DurableStore, StoreError, engine::Memtables, rows::Rows};

/// What is in rows and not in tables.
#[derive(Default)]
pub(super) struct Buffered {
    /// What the engine has in memory of each keyspace since its tables began to be written, about.
    pub(super) cells: u64,
    pub(super) payloads: u64,
    /// The groups up to this one were in rows when tables began to be written, if they are being
    /// written.
    pub(super) flushing: Option<u64>,
}

/// What a row takes of the engine's memory beside its key and value, by its own account
/// (`Memtable::insert` of lsm-tree 3.1.10).
pub(super) const ROW_OVERHEAD: usize = 64;

impl DurableStore {
    /// Lets go of what the log has and tables have; has tables written if that has become much, or
    /// what the engine has in memory.
    ///
    /// The log is synced before. So it has, whatever a loss of power leaves, all that tables may have:
    /// should the journal be lost, of a row that is in a table its payload comes from the log.
    pub(super) fn trim_log(
        &self,
        places: &[&Arc<Rows>],
        cell_bytes: usize,
        payload_bytes: usize,
    ) -> Result<(), StoreError> {
        let mut buffered = self.buffered.lock().unwrap_or_else(PoisonError::into_inner);
        buffered.cells += cell_bytes as u64;
        buffered.payloads += payload_bytes as u64;
        if let Some(applied) = buffered.flushing
            && !places.iter().any(|rows| rows.is_being_written())
        {
            buffered.flushing = None;
            self.wal.remove_through(applied)?;
        }
        let applied = self.applied.load(Ordering::Relaxed);
        let is_log_full = buffered.flushing.is_none()
            && self.wal.full_bytes_through(applied) >= self.tuning.log_kept;
        let Memtables {
            cells: most_cells,
            payloads: most_payloads,
        } = self.engine.memtables;
        let of_cells = is_log_full || buffered.cells >= most_cells;
        let of_payloads = is_log_full || buffered.payloads >= most_payloads;
        if !of_cells && !of_payloads {
            return Ok(());
        }
        self.wal.sync()?;
        for rows in places {
            for (keyspace, is_due) in [(&rows.cells, of_cells), (&rows.payloads, of_payloads)] {
                if is_due {
                    let begun = keyspace.rotate_memtable();
                    begun.map_err(rows.failed("flush"))?;
                }
            }
            self.engine.compaction.written(rows);
        }
        if of_cells {
            buffered.cells = 0;
        }
        if of_payloads {
            buffered.payloads = 0;
        }
        if is_log_full {
            buffered.flushing = Some(applied);
        }
        Ok(())
    }
}
