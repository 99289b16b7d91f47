//! Collection in the tree: tombstones below the floor leave it.
//!
//! What a tombstone covers left the tree when it came, and below the floor nothing comes any more. So
//! it covers nothing, now or later, and the tree says the same of its key without it. That goes for a
//! tombstone of a key, and for a delete rule. A put rule shows its value on keys that have one, so it
//! stays. A tombstone with a lifetime goes when that is over.

use std::ops::Bound;

use super::{
    entry::TreeEntry,
    joined::Joined,
    tree::{AppliedTree, Tree},
};
use crate::cell::{CellKey, Version};

/// What was found of a tree, or of some of it.
#[derive(Debug, Default)]
pub(in crate::replica) struct Garbage {
    /// Cells that may go.
    pub(in crate::replica) found: Vec<CellKey>,
    /// The earliest time of those that may not yet.
    pub(in crate::replica) earliest: Option<u64>,
    /// Where to go on; `None` if that was all.
    pub(in crate::replica) last: Option<CellKey>,
}

impl AppliedTree {
    /// No cell is collectable that has a time below this; nor any, if there is none.
    pub(in crate::replica) fn garbage_from(&self) -> Option<u64> {
        self.garbage_from
    }

    /// A time that has been when the tree was built: the latest of a cell; without cells the
    /// watermark.
    pub(in crate::replica) fn known_time(&self) -> u64 {
        match self.latest {
            0 => self.cut,
            latest => latest,
        }
    }

    /// What was joined, or looked at, has something of this time that is collectable when it is old.
    pub(in crate::replica) fn see_garbage(&mut self, time: Option<u64>) {
        self.garbage_from = self.garbage_from.into_iter().chain(time).min();
    }

    /// All cells are looked at from now on, and what is [seen](Self::see_garbage) counts.
    pub(in crate::replica) fn forget_garbage(&mut self) {
        self.garbage_from = None;
    }

    /// Looks at `most` of the cells above `after`, and stops when `enough` were found that are
    /// collectable below this floor.
    pub(in crate::replica) fn garbage(
        &self,
        after: Option<&CellKey>,
        below: u64,
        most: usize,
        enough: usize,
    ) -> Garbage {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let mut garbage = Garbage::default();
        let Ok(cells) = self.tree.range((from, Bound::Unbounded));
        for (looked_at, entry) in cells.enumerate() {
            let Ok((key, held)) = entry;
            if self.is_garbage(key, held) {
                let time = held.timestamp().time;
                match time < below {
                    true => garbage.found.push(key.clone()),
                    false => {
                        garbage.earliest = garbage.earliest.into_iter().chain(Some(time)).min()
                    }
                }
            }
            if looked_at + 1 == most || garbage.found.len() == enough {
                garbage.last = Some(key.clone());
                break;
            }
        }
        garbage
    }

    /// Whether the cell may go when it is old enough.
    fn is_garbage(&self, key: &CellKey, held: &TreeEntry) -> bool {
        let covers_all = held.is_tombstone() && key.part.is_empty();
        covers_all && (key.key.is_pattern() || self.deaths.lifetimes().of(&key.key).is_none())
    }

    /// Takes a cell out of the tree that was [found](Self::garbage).
    pub(in crate::replica) fn collect(&mut self, key: CellKey, joined: &mut Joined) {
        if key.key.is_pattern() {
            let Ok(removed) = self.tree.remove(&key);
            self.rules.remove(&key);
            if let Some(removed) = removed {
                joined
                    .collected_rules
                    .push((key.clone(), removed.timestamp()));
                joined.collect(key, &removed);
            }
        } else if let Some((removed, was_last)) = self.remove(&key) {
            joined.collected_tombstones += usize::from(removed.is_tombstone());
            if was_last {
                joined.unmerged.push(key.key.clone());
            }
            joined.collect(key, &removed);
        }
    }

    /// The delete rules.
    pub(in crate::replica) fn delete_rule_cells(&self) -> Vec<(CellKey, Version)> {
        let keys = self.rules.iter().map(|(key, ..)| key);
        let cells = keys.filter_map(|key| {
            let version = self.get(&key)?.version();
            Some((key, version))
        });
        cells.collect()
    }

    /// The tree as it would be if all had left it that is collectable below a horizon. O(n).
    pub(in crate::replica) fn collected(&self, horizon: u64) -> Tree {
        let mut tree = self.tree.clone();
        let garbage = self.garbage(None, horizon, usize::MAX, usize::MAX);
        for key in &garbage.found {
            let Ok(_) = tree.remove(key);
        }
        tree
    }
}
