//! The lifetimes of a tree's keys, and by which watermark what is dead has left it.

use std::sync::Arc;

use super::fading::Fading;
use crate::{
    cell::{CellKey, Key, Timestamp},
    merge::Lifetimes,
};

/// The lifetimes of keys, and how far what is dead has left the tree.
#[derive(Debug, Default)]
pub(in crate::replica) struct Deaths {
    pub(super) lifetimes: Arc<Lifetimes>,
    /// What is dead at this watermark is not joined, and leaves the tree. Up to the cut, unless the
    /// clock leapt.
    pub(super) until: u64,
    pub(super) fading: Fading,
}

impl Deaths {
    pub(super) fn are_none(&self) -> bool {
        self.lifetimes.is_empty()
    }

    /// What is not newer than this is dead; of keys without a lifetime nothing is.
    pub(in crate::replica) fn dead(&self, key: &Key) -> Option<Timestamp> {
        self.lifetimes.dead(key, self.until)
    }

    /// A cell goes into the tree that was not there.
    pub(super) fn joined(&mut self, key: &CellKey, time: u64) {
        if let Some(lifetime) = self.lifetimes.of(&key.key) {
            self.fading.add(key, lifetime.leaves_at(time));
        }
    }

    pub(in crate::replica) fn lifetimes(&self) -> &Arc<Lifetimes> {
        &self.lifetimes
    }

    /// Cells with a lifetime that are in the tree, and some that were.
    pub(in crate::replica) fn len(&self) -> usize {
        self.fading.len()
    }

    /// The first watermark at which a cell may be dead.
    pub(in crate::replica) fn next_cut(&self) -> Option<u64> {
        self.fading.next_cut()
    }

    /// Up to which watermark what is dead has left the tree, or is about to.
    pub(in crate::replica) fn until(&self) -> u64 {
        self.until
    }
}
