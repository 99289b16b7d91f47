//! What a replica that catches up has, and the other does not: found while their trees are compared.
//!
//! The own tree is compared as it would be if it were collected at the other's horizon. Only what is
//! below that is of interest: above it all is joined as ever.

use std::{collections::BTreeSet, ops::Bound};

use super::fragment::Range;
use crate::{cell::CellKey, collection::cells::is_of_members, replica::Tree};

/// Cells that one comparison finds, at the most: the next finds the rest.
pub(super) const MAX_FOUND: usize = 65_536;

/// What is found.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// The other's horizon.
    pub(super) horizon: u64,
    /// The time below which both had all that this replica has.
    pub(super) common: u64,
    /// Cells below the horizon that the other does not have, or whose place one of its cells takes.
    pub(super) own: BTreeSet<CellKey>,
    /// Whether there may be more.
    pub(super) is_full: bool,
    /// Cells below the horizon that came, and that nothing here keeps from being joined.
    pub(super) lacked: u64,
}

impl Mirror {
    pub(super) fn new(horizon: u64, common: u64) -> Self {
        Self {
            horizon,
            common,
            ..Self::default()
        }
    }

    /// The other does not have the cell of this key, or has another in its place.
    pub(super) fn see(&mut self, key: &CellKey, tree: &Tree) {
        let Ok(held) = tree.get(key);
        let is_below = held.is_some_and(|held| held.timestamp().time < self.horizon);
        if !is_below || is_of_members(&key.key) {
            return;
        }
        match self.own.len() < MAX_FOUND {
            true => drop(self.own.insert(key.clone())),
            false => self.is_full = true,
        }
    }

    /// The other has nothing in this range.
    pub(super) fn see_all(&mut self, range: &Range, tree: &Tree) {
        let bound = |key: &Option<CellKey>| key.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let Ok(cells) = tree.range((bound(&range.low), bound(&range.high)));
        for cell in cells {
            let Ok((key, _)) = cell;
            self.see(key, tree);
            if self.is_full {
                break;
            }
        }
    }

    /// Whether both have the same below the horizon, as far as was compared.
    pub(super) fn is_done(&self) -> bool {
        self.own.is_empty() && self.lacked == 0 && !self.is_full
    }
}
