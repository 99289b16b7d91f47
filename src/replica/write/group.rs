//! Updates that are committed together.

use std::{collections::HashSet, sync::Arc};

use crate::cell::{Cell, CellKey, Version};

/// A cell on its way to the log and the tree.
#[derive(Clone, Debug)]
pub(in crate::replica) struct Update {
    pub(in crate::replica) key: CellKey,
    pub(in crate::replica) cell: Arc<Cell>,
    /// Its digest and version, if it was hashed before.
    pub(in crate::replica) version: Option<Box<Version>>,
    /// Whether it was, of all that had been offered, the newest of its key.
    pub(in crate::replica) is_newest: bool,
}

/// Updates that are committed together.
#[derive(Debug, Default)]
pub(in crate::replica) struct Group {
    pub(in crate::replica) updates: Vec<Update>,
    /// Memory that they take, about.
    pub(in crate::replica) bytes: usize,
    /// Updates in it that others in it overwrite, or that came after a later one.
    pub(in crate::replica) overwritten: usize,
    /// The number of the last of them.
    pub(in crate::replica) sequence: u64,
    /// The earliest time of those that are not late.
    pub(in crate::replica) earliest: Option<u64>,
}

impl Group {
    /// Whether so many updates were overwritten that it is worth the while to look for them.
    pub(in crate::replica) fn is_sifted(&self) -> bool {
        self.overwritten > self.updates.len() / 4
    }

    /// Of each cell leaves one update the newest: the log needs no other.
    pub(in crate::replica) fn sift(&mut self) {
        // Nobody can prepare keys that collide.
        let mut seen = HashSet::<CellKey, ahash::RandomState>::default();
        let newest = self.updates.iter_mut().rev();
        for update in newest.filter(|update| update.is_newest) {
            update.is_newest = seen.insert(update.key.clone());
        }
    }
}
