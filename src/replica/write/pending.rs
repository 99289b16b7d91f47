//! Versions of what is pending, for other replicas that may have settled it already.

use std::sync::Arc;

use super::queue::WriteQueue;
use crate::{
    cell::{Cell, CellKey, Version},
    replica::Replica,
};

/// Bytes of values that are hashed at the most to list versions.
const MAX_HASHED: usize = 1 << 20;

impl Replica {
    /// The versions of cells that are pending with a time below this, ascending, those among them that newer
    /// ones have overwritten: no more than `most`, and not of what would take long to hash; the earliest first.
    /// O(all that is pending).
    #[must_use]
    pub fn pending_below(&self, time: u64, most: usize) -> Vec<(CellKey, Version)> {
        self.shared.state.queue.pending_below(time, most)
    }
}

impl WriteQueue {
    /// The versions of the cells that are pending with a time below this, ascending, those among them that
    /// newer ones have overwritten: no more than `most`, and of [`MAX_HASHED`] bytes, the earliest first.
    /// O(all that is pending).
    pub(in crate::replica) fn pending_below(
        &self,
        time: u64,
        most: usize,
    ) -> Vec<(CellKey, Version)> {
        let mut cells = self.earliest_below(time, most);
        cells.sort_unstable_by_key(|(_, cell)| cell.timestamp);
        let mut bytes = 0;
        let hashed = cells.into_iter().take_while(|(_, cell)| {
            bytes += cell.value_bytes();
            bytes <= MAX_HASHED
        });
        let versions = hashed.map(|(key, cell)| {
            let version = Version::of(&key, &cell);
            (key, version)
        });
        let mut versions: Vec<_> = versions.collect();
        versions.sort_unstable();
        versions
    }

    fn earliest_below(&self, time: u64, most: usize) -> Vec<(CellKey, Arc<Cell>)> {
        let state = self.state();
        let overwritten = state.memtable.overwritten(state.watermark);
        let cells = state.memtable.iter().chain(overwritten);
        let mut cells: Vec<_> = cells
            .filter(|(_, cell)| cell.timestamp.time < time)
            .collect();
        if most < cells.len() {
            cells.select_nth_unstable_by_key(most, |(_, cell)| cell.timestamp);
            cells.truncate(most);
        }
        let cells = cells.into_iter();
        let cells = cells.map(|(key, cell)| (key.clone(), Arc::clone(cell)));
        cells.collect()
    }
}
