//! What makes a pruned tree a proof: what it shows, and where it hides something.

use std::cmp::Ordering;

use super::{ProofError, ProvenCell};

/// Takes what is in a pruned tree, in the order of keys, and sees to it that what
/// is hidden has no cell of the key.
#[derive(Debug)]
pub(super) struct Sequence {
    met: Met,
    /// Cells that are shown.
    shown: usize,
    /// Those of the key.
    cells: Vec<ProvenCell>,
}

/// What came last.
#[derive(Clone, Copy, Debug)]
enum Met {
    /// Nothing that is shown.
    Nothing { is_hidden: bool },
    /// The cell before those of the key.
    Below,
    /// A cell of the key.
    Cell,
    /// The cell after those of the key, and maybe more.
    Above,
}

/// A cell that is shown, beside the key.
#[derive(Debug)]
pub(super) enum Shown {
    /// Of a key below.
    Below,
    /// Of the key.
    Cell(ProvenCell),
    /// Of a key above.
    Above,
}

const NEEDLESS: ProofError = ProofError::Form("it shows a cell that it need not show");

impl Sequence {
    pub(super) fn new() -> Self {
        Self {
            met: Met::Nothing { is_hidden: false },
            shown: 0,
            cells: Vec::new(),
        }
    }

    /// Cells that were shown so far.
    pub(super) fn shown(&self) -> usize {
        self.shown
    }

    /// One entry or more come, that are hidden.
    pub(super) fn hide(&mut self) -> Result<(), ProofError> {
        match &mut self.met {
            Met::Nothing { is_hidden } => *is_hidden = true,
            // Right beside what is shown something of the key could be.
            Met::Below | Met::Cell => return Err(ProofError::Gap),
            Met::Above => {}
        }
        Ok(())
    }

    /// A cell comes, that is shown.
    pub(super) fn show(&mut self, cell: Shown) -> Result<(), ProofError> {
        self.shown += 1;
        self.met = match (self.met, cell) {
            (Met::Nothing { .. }, Shown::Below) => Met::Below,
            (Met::Below | Met::Above, Shown::Below) => return Err(NEEDLESS),
            (Met::Cell, Shown::Below) => return Err(ProofError::Order),

            // Nothing of the key is before the cell that is its own.
            (Met::Nothing { is_hidden }, Shown::Cell(cell)) => {
                if is_hidden && !cell.part.is_empty() {
                    return Err(ProofError::Gap);
                }
                self.cells.push(cell);
                Met::Cell
            }
            (Met::Below, Shown::Cell(cell)) if cell.part.is_empty() => return Err(NEEDLESS),
            (Met::Below | Met::Cell, Shown::Cell(cell)) => {
                let last = self.cells.last().map(|last| &last.part);
                if last.is_some_and(|last| last.cmp(&cell.part) != Ordering::Less) {
                    return Err(ProofError::Order);
                }
                self.cells.push(cell);
                Met::Cell
            }
            (Met::Above, Shown::Cell(_)) => return Err(ProofError::Order),

            (Met::Nothing { is_hidden: true }, Shown::Above) => return Err(ProofError::Gap),
            (Met::Nothing { .. } | Met::Below | Met::Cell, Shown::Above) => Met::Above,
            (Met::Above, Shown::Above) => return Err(NEEDLESS),
        };
        Ok(())
    }

    /// All cells of the key, when the tree has ended.
    pub(super) fn finish(self) -> Result<Vec<ProvenCell>, ProofError> {
        match self.met {
            Met::Nothing { is_hidden: true } => Err(ProofError::Gap),
            _ => Ok(self.cells),
        }
    }
}
