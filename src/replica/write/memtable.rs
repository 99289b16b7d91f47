//! Updates that are not applied yet, as readers see them: of each cell the newest.
//!
//! No clock and no I/O.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::{
    cell::{Cell, CellKey, Key, Part, Timestamp, Version},
    merge::shown_until,
    replica::read::{
        fold_cache::FoldSlot,
        liveness::KeyLiveness,
        merging::{MAX_LOGGED_BYTES, Merging},
    },
    wildcard::WildcardRules,
};

/// What an update takes in memory beside its key and value.
const UPDATE_OVERHEAD: usize = 256;

/// Memory that a cell takes while it is pending, about.
pub(in crate::replica) fn bytes_of(key: &CellKey, cell: &Cell) -> usize {
    UPDATE_OVERHEAD + key.text_and_part_len() + cell.value_bytes()
}

/// What became of a cell that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Offered {
    /// A newer one is pending.
    Lost,
    /// It is the first of its cell that is pending.
    First,
    /// It is newer than the one that was pending, which came with the group of this number.
    Newer(u32),
}

/// A cell, and the number of the group that it came with.
struct Pending {
    cell: Arc<Cell>,
    group: u32,
}

/// What a cell meets that bears the timestamp of one that is pending: which of two such is newer
/// their digests say.
#[derive(Clone, Debug)]
pub(in crate::replica) struct Tie {
    /// The one that is pending.
    pending: Arc<Cell>,
    /// The version of the cell, if it is the newer one.
    winner: Option<Version>,
}

impl Tie {
    /// Which of the two is newer. Hashes both, unless they are the same.
    pub(in crate::replica) fn decide(key: &CellKey, cell: &Cell, pending: Arc<Cell>) -> Self {
        let version = (*cell != *pending).then(|| Version::of(key, cell));
        let winner = version.filter(|version| *version > Version::of(key, &pending));
        Self { pending, winner }
    }

    /// Whether it is with this cell, which is pending.
    pub(in crate::replica) fn is_with(&self, pending: &Arc<Cell>) -> bool {
        Arc::ptr_eq(&self.pending, pending)
    }
}

/// Invariant: what is here is newer than what the tree has.
#[derive(Default)]
pub(in crate::replica) struct Memtable {
    // Writers and readers wait while one looks here, so it has to be fast; and nobody can
    // prepare keys that collide.
    cells: HashMap<CellKey, Pending, ahash::RandomState>,
    /// Cells of which two different writes bear one timestamp, with the version of the one that is
    /// pending.
    tied: HashMap<CellKey, Version>,
    /// The latest timestamp of what is or was pending: what is later bears that of nothing here.
    latest: Option<Timestamp>,
    bytes: usize,
    /// Keys that have cells beside their own, pending or settled.
    merging: HashMap<Key, Merging>,
    /// Bytes that their logs keep, never more than [`MAX_LOGGED_BYTES`].
    logged_bytes: usize,
    /// The wildcard rules, pending or settled.
    rules: Arc<WildcardRules>,
}

impl Memtable {
    pub(in crate::replica) fn with_rules(rules: WildcardRules) -> Self {
        Self {
            rules: Arc::new(rules),
            ..Self::default()
        }
    }

    pub(in crate::replica) fn rules(&self) -> &Arc<WildcardRules> {
        &self.rules
    }

    /// Readers see the rule from now on. What a delete rule covers may be in folds: all keys are
    /// folded anew.
    fn join_rule(&mut self, key: &CellKey, cell: &Arc<Cell>) {
        Arc::make_mut(&mut self.rules).join(key, cell);
        if key.part.is_empty() {
            self.merging.values_mut().for_each(Merging::drop_log);
            self.logged_bytes = 0;
        }
    }

    pub(in crate::replica) fn lose_rule(&mut self, key: &CellKey) {
        Arc::make_mut(&mut self.rules).remove(key);
    }

    /// A rule of this timestamp is not in the tree any more, nor needed; a newer one that is pending is.
    pub(in crate::replica) fn rule_collected(&mut self, key: &CellKey, timestamp: Timestamp) {
        if self
            .get(key)
            .is_none_or(|newer| newer.timestamp <= timestamp)
        {
            self.lose_rule(key);
        }
    }

    /// The cell that is pending and bears the timestamp of this one.
    pub(in crate::replica) fn tied_with(&self, key: &CellKey, cell: &Cell) -> Option<&Arc<Cell>> {
        if Some(cell.timestamp) > self.latest {
            return None;
        }
        let pending = self.get(key)?;
        (pending.timestamp == cell.timestamp).then_some(pending)
    }

    /// Takes `cell`, of this group, if there is no newer one. It is tied if it bears the timestamp of
    /// another that is in the tree; of the [tie](Self::tied_with) with one that is pending, if there
    /// is one, the outcome is `tie`.
    pub(in crate::replica) fn offer(
        &mut self,
        key: &CellKey,
        cell: &Arc<Cell>,
        is_tied: bool,
        tie: Option<&Tie>,
        group: u32,
    ) -> Offered {
        let bytes = bytes_of(key, cell);
        let mut is_tied = is_tied;
        let new = Pending {
            cell: Arc::clone(cell),
            group,
        };
        let offered = match self.cells.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                Offered::First
            }
            Entry::Occupied(mut pending) => {
                let other = &pending.get().cell;
                if other.timestamp > cell.timestamp {
                    return Offered::Lost;
                }
                if other.timestamp == cell.timestamp {
                    debug_assert!(tie.is_some_and(|tie| tie.is_with(other)));
                    let Some(version) = tie.and_then(|tie| tie.winner) else {
                        return Offered::Lost;
                    };
                    self.tied.insert(key.clone(), version);
                    is_tied = true;
                } else if !self.tied.is_empty() {
                    self.tied.remove(key);
                }
                self.bytes -= bytes_of(key, other);
                Offered::Newer(pending.insert(new).group)
            }
        };
        self.bytes += bytes;
        self.latest = self.latest.max(Some(cell.timestamp));
        if key.key.is_pattern() {
            self.join_rule(key, cell);
            return offered;
        }
        if !key.part.is_empty() {
            let merging = self.merging.entry(key.key.clone()).or_default();
            let first = Some(&key.part).filter(|_| offered == Offered::First);
            merging.add(first, cell.timestamp);
        }
        // No fold has what a rule covers.
        if !self.merging.is_empty() && self.rules.deleted(&key.key) < Some(cell.timestamp) {
            self.change_log(&key.key, |merging| merging.log(&key.part, cell, is_tied));
        }
        offered
    }

    /// Changes the log of a key, if it has other cells than its own.
    fn change_log<T>(&mut self, key: &Key, change: impl FnOnce(&mut Merging) -> T) -> Option<T> {
        let merging = self.merging.get_mut(key)?;
        self.logged_bytes -= merging.logged_bytes();
        let changed = change(merging);
        self.logged_bytes += merging.logged_bytes();
        if self.logged_bytes > MAX_LOGGED_BYTES {
            self.merging.values_mut().for_each(Merging::drop_log);
            self.logged_bytes = 0;
        }
        Some(changed)
    }

    /// Bytes that the logs of all keys keep, about.
    #[cfg(test)]
    pub(in crate::replica) fn logged_bytes(&self) -> usize {
        let logged: usize = self.merging.values().map(Merging::logged_bytes).sum();
        assert_eq!(logged, self.logged_bytes);
        logged
    }

    /// Lets go of what was applied, or of what lost to that; and returns the cell, if it is the very
    /// one that was applied.
    pub(in crate::replica) fn forget(
        &mut self,
        key: &CellKey,
        applied: Version,
    ) -> Option<Arc<Cell>> {
        // Found once, be it to be looked at or to be removed: nearly always it is both.
        let Entry::Occupied(entry) = self.cells.entry(key.clone()) else {
            return None;
        };
        let mut forgotten = None;
        let pending = &entry.get().cell;
        // Without a tie, what bears the same timestamp is the very same write.
        let tied = self.tied.get(key);
        let is_tied = tied.is_some();
        let is_applied = pending.timestamp < applied.timestamp
            || (pending.timestamp == applied.timestamp
                && tied.is_none_or(|version| *version <= applied));
        if is_applied {
            self.bytes -= bytes_of(key, pending);
            forgotten = Some(entry.remove().cell)
                .filter(|cell| cell.timestamp == applied.timestamp && !is_tied);
            if !self.tied.is_empty() {
                self.tied.remove(key);
            }
            if !key.part.is_empty()
                && let Some(merging) = self.merging.get_mut(&key.key)
            {
                merging.applied(&key.part);
            }
        }
        if self.cells.is_empty() {
            // A burst may have made it large.
            self.cells.shrink_to(4096);
        }
        forgotten
    }

    pub(in crate::replica) fn get(&self, key: &CellKey) -> Option<&Arc<Cell>> {
        self.cells.get(key).map(|pending| &pending.cell)
    }

    /// When the cells of a key were written that are pending; and perhaps those that were.
    pub(in crate::replica) fn liveness(&self, key: &Key) -> KeyLiveness {
        let mut liveness = KeyLiveness::default();
        if let Some(own) = self.get(&CellKey::own(key.clone())) {
            liveness.see(&Part::EMPTY, own.timestamp, shown_until(own));
        }
        if let Some(newest) = self.merging.get(key).and_then(Merging::newest) {
            liveness.see_part(newest);
        }
        liveness
    }

    /// Whether a key has cells beside its own.
    pub(in crate::replica) fn is_merged(&self, key: &Key) -> bool {
        !self.merging.is_empty() && self.merging.contains_key(key)
    }

    /// The tree has cells of a key beside its own.
    pub(in crate::replica) fn merged(&mut self, key: Key) {
        self.merging.entry(key).or_default();
    }

    /// The tree has no cells of a key but its own any more.
    pub(in crate::replica) fn unmerged(&mut self, key: &Key) {
        if self.merging.get(key).is_some_and(Merging::is_applied) {
            self.change_log(key, Merging::drop_log);
            self.merging.remove(key);
        }
    }

    /// The pending cells of a key, after which `reader`, if there is one, has to be
    /// told of those that come. O(what is pending of the key).
    pub(in crate::replica) fn begin_log(
        &mut self,
        key: &Key,
        reader: Option<&Arc<FoldSlot>>,
    ) -> Vec<(Part, Arc<Cell>)> {
        let own = CellKey::own(key.clone());
        let mut pending = Vec::new();
        pending.extend(self.get(&own).map(|own| (Part::EMPTY, Arc::clone(own))));
        if let Some(reader) = reader {
            self.change_log(key, |merging| merging.begin_log(reader));
        }
        for part in self.merging.get(key).into_iter().flat_map(Merging::pending) {
            let key = key.clone();
            let cell = CellKey {
                key,
                part: part.clone(),
            };
            pending.extend(
                self.get(&cell)
                    .map(|other| (cell.part.clone(), Arc::clone(other))),
            );
        }
        pending
    }

    /// The cells of a key that came since `reader` was told the last time, if
    /// they are known and no more than `max`.
    pub(in crate::replica) fn drain_log(
        &mut self,
        key: &Key,
        reader: &Arc<FoldSlot>,
        max: usize,
    ) -> Option<Vec<(Part, Arc<Cell>)>> {
        self.change_log(key, |merging| merging.drain_log(reader, max))?
    }

    pub(in crate::replica) fn iter(&self) -> impl Iterator<Item = (&CellKey, &Arc<Cell>)> {
        self.cells.iter().map(|(key, pending)| (key, &pending.cell))
    }

    pub(in crate::replica) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(in crate::replica) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(in crate::replica) fn contains(&self, key: &CellKey) -> bool {
        self.cells.contains_key(key)
    }

    /// Memory that all of it takes, about.
    pub(in crate::replica) fn bytes(&self) -> usize {
        self.bytes
    }
}
