//! Which of the cells that a machine joined are part of the root.

use std::collections::VecDeque;

/// The cells that were handed over to the replica for one machine.
#[derive(Debug, Default)]
pub struct Joins {
    /// Numbers of updates, ascending, and cells that had been joined with them.
    marks: VecDeque<(u64, u64)>,
    /// Cells that were handed over.
    handed_over: u64,
    /// Of these, those that were newer than what was there.
    useful: u64,
}

impl Joins {
    /// `cells` more were handed over, the last of them with this number; so many
    /// of them were useful.
    pub fn joined(&mut self, cells: u64, useful: u64, sequence: u64) {
        self.handed_over += cells;
        self.useful += useful;
        self.marks.push_back((sequence, self.handed_over));
    }

    /// Cells that were newer than what was there.
    #[must_use]
    pub fn useful(&self) -> u64 {
        self.useful
    }

    /// Cells that were handed over, and were not newer than what was there.
    #[must_use]
    pub fn useless(&self) -> u64 {
        self.handed_over - self.useful
    }

    /// Forgets what the root covers, but for the last: it covers all updates up to `covered`.
    pub fn tidy(&mut self, covered: u64) {
        while self.marks.get(1).is_some_and(|(next, _)| *next <= covered) {
            self.marks.pop_front();
        }
    }

    /// Cells that are part of a root that covers all updates up to `covered`.
    #[must_use]
    pub fn covered_by(&self, covered: u64) -> u64 {
        let mark = self
            .marks
            .iter()
            .rev()
            .find(|(sequence, _)| *sequence <= covered);
        mark.map_or(0, |(_, cells)| *cells)
    }
}
