//! What comes of joining cells to the tree, for rows, folds and those who listen.

use super::entry::TreeEntry;
use crate::cell::{CellKey, Key, Timestamp};

/// Deaths of one batch that are told to whoever listens.
const MAX_TOLD: usize = 16_384;

/// Delete rules that were collected.
pub(in crate::replica) type CollectedRules = Vec<(CellKey, Timestamp)>;

/// What comes of joining cells.
#[derive(Debug, Default)]
pub(in crate::replica) struct Joined {
    has_rows: bool,
    /// The earliest time of those that changed the tree, if any did.
    pub(in crate::replica) earliest: Option<u64>,
    /// The keys of those that are in the tree now, ascending.
    pub(in crate::replica) won: Vec<CellKey>,
    /// Of these, those in whose place there was a cell whose payload is apart, which theirs is not.
    pub(in crate::replica) stale_payloads: Vec<CellKey>,
    /// Cells that were covered and are not in the tree any more, and whether their payload is apart.
    pub(in crate::replica) covered: Vec<(CellKey, bool)>,
    /// Keys that had no cells any more but their own, for a moment at least.
    pub(in crate::replica) unmerged: Vec<Key>,
    /// Own cells that may cover others that are in the tree, and delete rules.
    pub(super) covering: Vec<CellKey>,
    /// The last cell that was looked at of those that the last of them may cover.
    pub(super) looked_at: Option<CellKey>,
    /// Cells that died, and are not in the tree any more; of those that were values.
    pub(in crate::replica) dead: Vec<(CellKey, Timestamp)>,
    /// How many died, tombstones among them.
    pub(in crate::replica) died: usize,
    /// The earliest time of those that are collectable when they are old.
    pub(in crate::replica) garbage_from: Option<u64>,
    /// Tombstones of keys that were collected, and delete rules.
    pub(in crate::replica) collected_tombstones: usize,
    pub(in crate::replica) collected_rules: CollectedRules,
    /// Whether there is a delete rule among what was joined: it covers cells that were joined
    /// before it.
    pub(in crate::replica) has_delete_rule: bool,
}

impl Joined {
    /// What is only for rows is left out if there are none.
    pub(in crate::replica) fn new(has_rows: bool) -> Self {
        Self {
            has_rows,
            ..Self::default()
        }
    }

    /// Whether there may be cells to be [covered](super::tree::AppliedTree::cover).
    pub(in crate::replica) fn is_covering(&self) -> bool {
        !self.covering.is_empty()
    }

    /// A cell goes into the tree, in the place of what its key had.
    pub(super) fn see(
        &mut self,
        key: &CellKey,
        old: Option<&TreeEntry>,
        new: &TreeEntry,
        tombstones: &mut usize,
    ) {
        if self.has_rows {
            if old.is_some_and(TreeEntry::is_apart) && !new.is_apart() {
                self.stale_payloads.push(key.clone());
            }
            self.won.push(key.clone());
        }
        *tombstones += usize::from(new.is_tombstone());
        *tombstones -= usize::from(old.is_some_and(|old| old.is_tombstone()));
        let time = new.timestamp().time;
        if new.is_tombstone() && key.part.is_empty() {
            self.garbage_from = self.garbage_from.into_iter().chain(Some(time)).min();
        }
        self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
    }

    /// A cell died, and is not in the tree any more: it was to leave it at this watermark.
    pub(super) fn die(&mut self, key: CellKey, held: &TreeEntry, leaves_at: u64) {
        // The roots below are those of what has not died.
        let last = leaves_at.saturating_sub(1);
        self.earliest = Some(self.earliest.map_or(last, |earliest| earliest.min(last)));
        self.died += 1;
        if !held.is_tombstone() && self.dead.len() < MAX_TOLD {
            self.dead.push((key.clone(), held.timestamp()));
        }
        self.cover(key, held.is_apart());
    }

    /// A cell was collected, and is not in the tree any more.
    pub(super) fn collect(&mut self, key: CellKey, held: &TreeEntry) {
        let time = held.timestamp().time;
        self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
        self.cover(key, held.is_apart());
    }

    /// A cell was covered, and is not in the tree any more.
    pub(super) fn cover(&mut self, key: CellKey, is_apart: bool) {
        if self.has_rows {
            self.covered.push((key, is_apart));
        }
    }
}
