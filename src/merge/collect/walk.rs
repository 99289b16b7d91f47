//! What is found on the walk over the places of a key.

use super::Collection;
use crate::{
    cell::Part,
    merge::strategy::{PartCell, StrategyOf},
};

pub(super) struct Walk {
    pub(super) horizon: u64,
    pub(super) strategy_of: StrategyOf,
    pub(super) collection: Collection,
}

impl Walk {
    pub(super) fn is_final(&self, cell: &PartCell<'_>) -> bool {
        cell.cell.timestamp.time < self.horizon
    }

    pub(super) fn leave(&mut self, cell: &PartCell<'_>) {
        self.collection.leave.push(Part::from(cell.part));
    }
}
