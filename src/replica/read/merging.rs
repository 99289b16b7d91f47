//! What the write queue knows of keys that have cells beside their own, and their logs.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use super::fold_cache::FoldSlot;
use crate::cell::{Cell, Part, Timestamp};

/// Cells that are logged for a key that is not read.
const MAX_LOGGED: usize = 16_384;

/// Bytes that all logs of a storage may keep in memory. Beyond that all are dropped, so that keys are
/// folded anew when they are read next.
pub(in crate::replica) const MAX_LOGGED_BYTES: usize = 32 << 20;

/// What a cell takes in a log beside its part and value.
const LOGGED_OVERHEAD: usize = 128;

/// What the write queue knows of a key that has cells beside its own.
#[derive(Default)]
pub(in crate::replica) struct Merging {
    /// Parts of its cells that are pending, but for its own.
    pending: HashSet<Part, ahash::RandomState>,
    /// The timestamp of the newest that was pending.
    newest: Option<Timestamp>,
    log: Option<Box<Log>>,
}

struct Log {
    reader: Weak<FoldSlot>,
    cells: Vec<(Part, Arc<Cell>)>,
    bytes: usize,
}

impl Merging {
    /// A cell with this timestamp is pending; if it is the first of its part, that is `first`.
    pub(in crate::replica) fn add(&mut self, first: Option<&Part>, timestamp: Timestamp) {
        self.pending.extend(first.cloned());
        self.newest = self.newest.max(Some(timestamp));
    }

    pub(in crate::replica) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Logs a cell, if there is a reader who wants to know. Of two that bear one
    /// timestamp a fold cannot say which it has.
    pub(in crate::replica) fn log(&mut self, part: &Part, cell: &Arc<Cell>, is_tied: bool) {
        let Some(log) = &mut self.log else {
            return;
        };
        if is_tied || log.cells.len() == MAX_LOGGED || log.reader.strong_count() == 0 {
            self.log = None;
            return;
        }
        log.cells.push((part.clone(), Arc::clone(cell)));
        log.bytes += LOGGED_OVERHEAD + part.as_bytes().len() + cell.value_bytes();
    }

    /// Bytes that the log keeps in memory, about.
    pub(in crate::replica) fn logged_bytes(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.bytes)
    }

    /// Has the key folded anew when it is read next.
    pub(in crate::replica) fn drop_log(&mut self) {
        self.log = None;
    }

    /// The cell of a part that was pending is applied.
    pub(in crate::replica) fn applied(&mut self, part: &Part) {
        self.pending.remove(part);
        if self.pending.is_empty() {
            // A burst may have made it large.
            self.pending = HashSet::default();
        }
    }

    /// The parts of its cells that are pending, but for its own, in no order.
    pub(in crate::replica) fn pending(&self) -> impl Iterator<Item = &Part> {
        self.pending.iter()
    }

    pub(in crate::replica) fn is_applied(&self) -> bool {
        self.pending.is_empty()
    }

    pub(in crate::replica) fn begin_log(&mut self, reader: &Arc<FoldSlot>) {
        self.log = Some(Box::new(Log {
            reader: Arc::downgrade(reader),
            cells: Vec::new(),
            bytes: 0,
        }));
    }

    pub(in crate::replica) fn drain_log(
        &mut self,
        reader: &Arc<FoldSlot>,
        max: usize,
    ) -> Option<Vec<(Part, Arc<Cell>)>> {
        let log = self.log.as_mut()?;
        let is_for_reader = log.reader.as_ptr() == Arc::as_ptr(reader);
        (is_for_reader && log.cells.len() <= max).then(|| {
            log.bytes = 0;
            std::mem::take(&mut log.cells)
        })
    }
}
