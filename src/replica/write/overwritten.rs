//! Updates that were pending when newer ones of their cells came, or that came after these.
//!
//! Of two updates of a cell the older one, too, goes into the tree, if a watermark comes between them; and another
//! replica, whose clock is ahead, may have settled that one alone. So who is asked what is pending names both.

use std::{collections::VecDeque, sync::Arc};

use crate::cell::{Cell, CellKey};

/// How many are remembered, and bytes of their values: then the earliest to come make room.
const MAX: usize = 4096;
const MAX_BYTES: usize = 1 << 20;

/// In the order in which they were overwritten.
#[derive(Debug, Default)]
pub(in crate::replica) struct Overwritten {
    cells: VecDeque<(CellKey, Arc<Cell>)>,
    bytes: usize,
}

impl Overwritten {
    pub(in crate::replica) fn push(&mut self, key: &CellKey, cell: Arc<Cell>) {
        self.bytes += cell.value_bytes();
        self.cells.push_back((key.clone(), cell));
        while self.cells.len() > MAX || self.bytes > MAX_BYTES {
            let Some((_, cell)) = self.cells.pop_front() else {
                break;
            };
            self.bytes -= cell.value_bytes();
        }
    }

    /// Those with a time from the watermark on: what is older has settled.
    pub(in crate::replica) fn from(
        &self,
        watermark: u64,
    ) -> impl Iterator<Item = (&CellKey, &Arc<Cell>)> {
        let cells = self.cells.iter().map(|(key, cell)| (key, cell));
        cells.filter(move |(_, cell)| cell.timestamp.time >= watermark)
    }

    /// Nothing is pending any more.
    pub(in crate::replica) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cell::Timestamp, replica::tests::cell_key};

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest() {
        let mut overwritten = Overwritten::default();
        for time in 0..3 * MAX as u64 {
            let timestamp = Timestamp { time, id: [1; 16] };
            overwritten.push(&cell_key(1), Arc::new(Cell::tombstone(timestamp)));
        }
        let times = |watermark| {
            let cells = overwritten.from(watermark);
            cells
                .map(|(_, cell)| cell.timestamp.time)
                .collect::<Vec<_>>()
        };
        let (first, end) = (2 * MAX as u64, 3 * MAX as u64);
        assert_eq!(times(0), (first..end).collect::<Vec<_>>());
        assert_eq!(times(end - 2), [end - 2, end - 1]);
        overwritten.clear();
        assert_eq!(overwritten.from(0).count(), 0);
    }

    #[test]
    fn large_values_make_room() {
        use crate::replica::tests::cell;
        let mut overwritten = Overwritten::default();
        let large = |time| {
            let mut large = cell(time, 1, Some(7));
            if let crate::cell::Content::Value(value) = &mut large.content {
                value.payload = vec![0; MAX_BYTES / 2].into();
            }
            Arc::new(large)
        };
        for time in 0..10 {
            overwritten.push(&cell_key(1), large(time));
        }
        let times = overwritten.from(0).map(|(_, cell)| cell.timestamp.time);
        assert_eq!(times.collect::<Vec<_>>(), [8, 9]);
    }
}
