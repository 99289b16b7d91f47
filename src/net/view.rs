//! A replica, as the state machine reads it.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    cell::{CellKey, Timestamp},
    mst::RootHash,
    replica::{Change, Comparison, Replica, Span, Tree},
    sync::View,
};

/// A replica, and what was joined to it.
pub(super) struct ReplicaView {
    pub(super) replica: Arc<Replica>,
    /// Numbers of updates, ascending, and cells that had been joined with them.
    marks: VecDeque<(u64, u64)>,
    /// Cells that were handed over.
    handed_over: u64,
    /// Of these, those that were newer than what was there.
    useful: u64,
}

impl ReplicaView {
    pub(super) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            marks: VecDeque::new(),
            handed_over: 0,
            useful: 0,
        }
    }

    /// `cells` more were handed over, the last of them with this number; so many
    /// of them were useful.
    pub(super) fn joined(&mut self, cells: u64, useful: u64, sequence: u64) {
        self.handed_over += cells;
        self.useful += useful;
        self.marks.push_back((sequence, self.handed_over));
    }

    /// Cells that were handed over, and were not newer than what was there.
    pub(super) fn useless(&self) -> u64 {
        self.handed_over - self.useful
    }

    /// Forgets what is covered, but for the last.
    pub(super) fn tidy(&mut self) {
        let covered = self.replica.roots().covered();
        while self.marks.get(1).is_some_and(|(next, _)| *next <= covered) {
            self.marks.pop_front();
        }
    }
}

impl View for ReplicaView {
    fn tree(&self) -> Tree {
        self.replica.current_tree()
    }

    fn has_had(&self, root: &RootHash) -> bool {
        self.replica.roots().has_had(root)
    }

    fn compare(&self, theirs: &Span) -> Comparison {
        let now = self.replica.cut();
        self.replica.roots().compare(theirs, now)
    }

    fn latest(&self) -> Option<(Span, u64)> {
        let now = self.replica.cut();
        let roots = self.replica.roots();
        Some((roots.latest(now)?, roots.published().cells as u64))
    }

    fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.replica.newest(key)
    }

    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.replica.roots().changes_since(root, after)
    }

    fn joined(&self) -> u64 {
        let covered = self.replica.roots().covered();
        let marks = self.marks.iter().rev();
        let mark = marks.clone().find(|(sequence, _)| *sequence <= covered);
        mark.map_or(0, |(_, cells)| *cells)
    }

    fn useful(&self) -> u64 {
        self.useful
    }
}
