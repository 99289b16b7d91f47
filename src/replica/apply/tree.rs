//! The tree of what was applied, and its counts.

use std::collections::HashMap;

use super::{dying::Deaths, entry::TreeEntry, joined::Joined};
use crate::{
    cell::{Cell, CellKey, Key, Timestamp, Version},
    collection::cells::{first as first_of_members, is_of_members},
    merge::{fields_around, is_of_field},
    mst::{Mst, Resident},
    replica::RootInfo,
    wildcard::WildcardRules,
};

/// The tree of a replica.
pub type Tree = Mst<Resident<CellKey, TreeEntry>>;

/// What the tree says of a cell that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Verdict {
    /// It has a newer one, or one that covers it.
    Outdated,
    /// It has none that is newer; tied, if it has another of the same timestamp.
    Newer {
        /// See there.
        is_tied: bool,
    },
}

impl Verdict {
    pub(in crate::replica) const NEWER: Self = Self::Newer { is_tied: false };
}

/// The tree, and what can be said of it without walking it.
///
/// Invariants: every cell in the tree has a time below `cut`; and none is covered,
/// that is, each is newer than the own cell of its key, and than those of the fields that it is within,
/// if it is not that itself, and than the delete rules in the tree that match its key, and than what is dead of it.
/// So the tree is a function of the cells that were joined, whatever their order:
/// what covers a cell, or is newer than what does, is never dropped for it.
pub(in crate::replica) struct AppliedTree {
    pub(super) tree: Tree,
    pub(super) tombstones: usize,
    pub(super) cut: u64,
    /// The keys that have cells beside their own.
    pub(super) parts: HashMap<Key, Parts>,
    /// Keys whose own cell is a value.
    pub(super) own_values: usize,
    /// Those of them that have other cells too.
    pub(super) own_values_with_parts: usize,
    /// The delete rules in the tree.
    pub(super) rules: WildcardRules,
    /// What leaves the tree when its time is over.
    pub(super) deaths: Deaths,
    /// No cell has an earlier time that is collectable when it is old.
    pub(super) garbage_from: Option<u64>,
    /// The latest time of a cell that it was built from.
    pub(super) latest: u64,
}

/// Last writer wins.
pub(super) fn wins(old: Option<&TreeEntry>, new: &TreeEntry) -> bool {
    old.is_none_or(|old| old.version() < new.version())
}

/// How a cell is joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Part,
    Rule,
}

/// What is known of a key that has cells beside its own.
pub(super) struct Parts {
    /// How many they are.
    pub(super) cells: usize,
    /// When the newest of them was written, of those that there are or have been.
    pub(super) newest: Timestamp,
    /// When its own cell was written, if it has one.
    pub(super) own: Option<Timestamp>,
}

impl AppliedTree {
    pub(super) fn new(cut: u64) -> Self {
        Self {
            tree: Tree::new(Resident::default()),
            tombstones: 0,
            cut,
            parts: HashMap::new(),
            own_values: 0,
            own_values_with_parts: 0,
            rules: WildcardRules::default(),
            deaths: Deaths::default(),
            garbage_from: None,
            latest: 0,
        }
    }

    pub(in crate::replica) fn get(&self, key: &CellKey) -> Option<&TreeEntry> {
        let Ok(held) = self.tree.get(key);
        held
    }

    /// When the newest was written of what covers a cell: the own cell of its key, if it is
    /// another one, those of the fields that it is within, and the delete rules that match; or until when it is dead, which is the same.
    /// What is not newer is covered.
    pub(in crate::replica) fn covering(&self, key: &CellKey) -> Option<Timestamp> {
        let ruled = self.rules.deleted(&key.key).max(self.deaths.dead(&key.key));
        if key.part.is_empty() {
            return ruled;
        }
        let Some(parts) = self.parts.get(&key.key) else {
            // Nor has it fields.
            let own = self.get(&CellKey::own(key.key.clone()));
            return own.map(TreeEntry::timestamp).max(ruled);
        };
        let fields = fields_around(key.part.as_bytes()).filter_map(|field| {
            let (key, part) = (key.key.clone(), field.into());
            self.get(&CellKey { key, part }).map(TreeEntry::timestamp)
        });
        parts.own.max(ruled).max(fields.max())
    }

    /// Whether a cell that is offered is newer than what there is. Hashes it if that has its
    /// timestamp.
    pub(in crate::replica) fn judge(&self, key: &CellKey, cell: &Cell) -> Verdict {
        let mut is_tied = false;
        let is_outdated = self.get(key).is_some_and(|held| {
            let timestamp = held.timestamp();
            is_tied = timestamp == cell.timestamp;
            timestamp > cell.timestamp || (is_tied && held.version() >= Version::of(key, cell))
        });
        match is_outdated || self.covering(key) >= Some(cell.timestamp) {
            true => Verdict::Outdated,
            false => Verdict::Newer { is_tied },
        }
    }

    /// The delete rules in the tree.
    pub(in crate::replica) fn delete_rules(&self) -> WildcardRules {
        self.rules.clone()
    }

    /// When the newest cell of a key was written, beside its own. It may be gone since.
    pub(in crate::replica) fn newest_part(&self, key: &Key) -> Option<Timestamp> {
        self.parts.get(key).map(|parts| parts.newest)
    }

    pub(in crate::replica) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Keys that have cells beside their own.
    pub(in crate::replica) fn merged_keys(&self) -> impl Iterator<Item = &Key> {
        self.parts.keys()
    }

    #[cfg(test)]
    pub(in crate::replica) fn iter(&self) -> impl Iterator<Item = (&CellKey, &TreeEntry)> {
        let Ok(entries) = self.tree.iter();
        entries.map(|entry| {
            let Ok(entry) = entry;
            entry
        })
    }

    /// Joins cells that are their keys' own into the tree, unless rules cover them, or they are dead.
    fn join_own(&mut self, cells: &[(CellKey, TreeEntry)], joined: &mut Joined) {
        if self.rules.is_empty() && self.deaths.are_none() {
            return self.join_uncovered(cells, joined);
        }
        let cells = cells.iter();
        let uncovered = cells.filter(|(key, held)| self.covering(key) < Some(held.timestamp()));
        let uncovered: Vec<_> = uncovered.cloned().collect();
        self.join_uncovered(&uncovered, joined);
    }

    /// Joins cells that are their keys' own into the tree: last writer wins.
    fn join_uncovered(&mut self, cells: &[(CellKey, TreeEntry)], joined: &mut Joined) {
        let Self {
            tree,
            tombstones,
            parts,
            own_values,
            own_values_with_parts,
            deaths,
            ..
        } = self;
        let has_lifetimes = !deaths.are_none();
        let Ok(()) = tree.put_sorted(cells, |key, old, new| {
            if !wins(old, new) {
                return false;
            }
            joined.see(key, old, new, tombstones);
            if has_lifetimes && old.is_none() {
                deaths.joined(key, new.timestamp().time);
            }
            let was_value = usize::from(old.is_some_and(|old| !old.is_tombstone()));
            let is_value = usize::from(!new.is_tombstone());
            *own_values = *own_values + is_value - was_value;
            if parts.is_empty() {
                return true;
            }
            if let Some(parts) = parts.get_mut(&key.key) {
                parts.own = Some(new.timestamp());
                *own_values_with_parts = *own_values_with_parts + is_value - was_value;
                joined.covering.push(key.clone());
            }
            true
        });
    }

    /// Joins another cell, unless it is covered. That of a field may cover others.
    fn join_part(&mut self, cell: &(CellKey, TreeEntry), joined: &mut Joined) {
        let (key, version) = cell;
        if self.covering(key) >= Some(version.timestamp()) {
            return;
        }
        let (mut is_first, mut has_won) = (false, false);
        let tombstones = &mut self.tombstones;
        let Ok(()) = self
            .tree
            .put_sorted(std::slice::from_ref(cell), |key, old, new| {
                if !wins(old, new) {
                    return false;
                }
                joined.see(key, old, new, tombstones);
                (is_first, has_won) = (old.is_none(), true);
                true
            });
        if has_won && is_of_field(key.part.as_bytes()) && self.has_cells_within(key) {
            joined.covering.push(key.clone());
        }
        if is_first {
            self.count_part(&key.key, version.timestamp());
            if !self.deaths.are_none() {
                self.deaths.joined(key, version.timestamp().time);
            }
        }
        if let Some(parts) = self.parts.get_mut(&key.key) {
            parts.newest = parts.newest.max(version.timestamp());
        }
    }

    fn count_part(&mut self, key: &Key, newest: Timestamp) {
        if let Some(parts) = self.parts.get_mut(key) {
            parts.cells += 1;
            return;
        }
        let own = self.get(&CellKey::own(key.clone())).map(TreeEntry::version);
        let parts = Parts {
            cells: 1,
            newest,
            own: own.map(|own| own.timestamp),
        };
        self.parts.insert(key.clone(), parts);
        let is_value = own.is_some_and(|own| !own.tombstone);
        self.own_values_with_parts += usize::from(is_value);
    }

    /// The tree, as it is now. O(1).
    pub(in crate::replica) fn tree(&self) -> Tree {
        self.tree.clone()
    }

    /// Joins cells, strictly ascending by key. What they cover is still to be [taken
    /// out](Self::cover).
    pub(in crate::replica) fn join_all(
        &mut self,
        cells: &[(CellKey, TreeEntry)],
        joined: &mut Joined,
    ) {
        debug_assert!(
            cells.is_sorted_by(|(a, _), (b, _)| a < b),
            "cells ascend strictly"
        );
        let kind = |(key, _): &(CellKey, TreeEntry)| match key.part.is_empty() {
            _ if key.key.is_pattern() => Kind::Rule,
            true => Kind::Own,
            false => Kind::Part,
        };
        for alike in cells.chunk_by(|a, b| kind(a) == kind(b)) {
            match alike.first().map(kind) {
                Some(Kind::Own) => self.join_own(alike, joined),
                Some(Kind::Part) => alike.iter().for_each(|cell| self.join_part(cell, joined)),
                Some(Kind::Rule) => alike.iter().for_each(|cell| self.join_rule(cell, joined)),
                None => {}
            }
        }
    }

    /// Takes a cell out of the tree that is not to be had any more, as if it had
    /// never come; true if it was the last of its key beside the own one.
    pub(in crate::replica) fn evict(&mut self, key: &CellKey) -> bool {
        if key.key.is_pattern() {
            let Ok(_) = self.tree.remove(key);
            self.rules.remove(key);
            return false;
        }
        self.remove(key).is_some_and(|(_, was_last)| was_last)
    }

    /// Takes a cell out of the tree that is no rule; and whether it was the last of its key
    /// beside the own one.
    pub(super) fn remove(&mut self, key: &CellKey) -> Option<(TreeEntry, bool)> {
        let Ok(removed) = self.tree.remove(key);
        let removed = removed?;
        self.tombstones -= usize::from(removed.is_tombstone());
        let is_value = usize::from(!removed.is_tombstone());
        if key.part.is_empty() {
            self.own_values -= is_value;
            if let Some(parts) = self.parts.get_mut(&key.key) {
                parts.own = None;
                self.own_values_with_parts -= is_value;
            }
            return Some((removed, false));
        }
        let Some(parts) = self.parts.get_mut(&key.key) else {
            return Some((removed, false));
        };
        parts.cells -= 1;
        if parts.cells > 0 {
            return Some((removed, false));
        }
        self.parts.remove(&key.key);
        let own = self.get(&CellKey::own(key.key.clone()));
        let is_value = own.is_some_and(|own| !own.is_tombstone());
        self.own_values_with_parts -= usize::from(is_value);
        Some((removed, true))
    }

    pub(in crate::replica) fn set_cut(&mut self, cut: u64) {
        debug_assert!(cut >= self.cut, "the watermark never goes back");
        self.cut = cut;
    }

    pub(in crate::replica) fn cut(&self) -> u64 {
        self.cut
    }

    /// After a batch: keys that had no cells but their own may have got others with it.
    pub(in crate::replica) fn forget_merged(&self, joined: &mut Joined) {
        joined.unmerged.retain(|key| !self.parts.contains_key(key));
    }

    /// Hashes some nodes that changed, about so many; true if there are no more, so that
    /// the root can be made at once.
    pub(in crate::replica) fn hash_some(&self, nodes: usize) -> bool {
        let Ok(is_all) = self.tree.hash_some(nodes);
        is_all
    }

    /// Cells by which members of a group know each other: they are no keys of clients.
    fn members_cells(&self) -> usize {
        let Ok(cells) = self.tree.range(first_of_members()..);
        let keys = cells.map(|entry| {
            let Ok((key, _)) = entry;
            &key.key
        });
        keys.take_while(|key| is_of_members(key)).count()
    }

    /// Makes the root. O(changed nodes) since the last time.
    pub(in crate::replica) fn publish(&self) -> RootInfo {
        let Ok(root) = self.tree.root();
        debug_assert!(
            self.own_values_with_parts <= self.own_values.min(self.parts.len())
                && self.tombstones <= self.tree.len(),
            "a part is no more than the whole"
        );
        RootInfo {
            cut: self.cut,
            root,
            // A key with cells beside its own has a value, since none of them is
            // covered.
            keys: self.own_values - self.own_values_with_parts + self.parts.len()
                - self.members_cells(),
            cells: self.tree.len(),
            tombstones: self.tombstones,
        }
    }
}
