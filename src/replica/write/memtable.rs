//! Updates that are not applied yet, as readers see them: of each cell the newest.
//!
//! No clock and no I/O.

use std::{
    collections::{hash_map::Entry, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    cell::{Cell, CellKey, Key, Part, Version},
    replica::read::{
        fold_cache::{FoldSlot, Merging, MAX_LOGGED_BYTES},
        liveness::KeyLiveness,
    },
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

fn version(key: &CellKey, cell: &Cell) -> Version {
    Version::of(key, cell)
}

/// Invariant: what is here is newer than what the tree has.
#[derive(Default)]
pub(in crate::replica) struct Memtable {
    // Writers and readers wait while one looks here, so it has to be fast; and nobody can
    // prepare keys that collide.
    cells: HashMap<CellKey, Pending, ahash::RandomState>,
    /// Keys of which two different writes bear one timestamp.
    tied: HashSet<CellKey>,
    bytes: usize,
    /// Keys that have cells beside their own, pending or settled.
    merging: HashMap<Key, Merging>,
    /// Bytes that their logs keep, never more than [`MAX_LOGGED_BYTES`].
    logged_bytes: usize,
}

impl Memtable {
    /// Takes `cell`, of this group, if there is no newer one. It is tied if it bears the timestamp of another that is
    /// in the tree.
    pub(in crate::replica) fn offer(
        &mut self,
        key: &CellKey,
        cell: &Arc<Cell>,
        is_tied: bool,
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
                    if version(key, cell) <= version(key, other) {
                        return Offered::Lost;
                    }
                    self.tied.insert(key.clone());
                    is_tied = true;
                }
                self.bytes -= bytes_of(key, other);
                Offered::Newer(pending.insert(new).group)
            }
        };
        self.bytes += bytes;
        if !key.part.is_empty() {
            let merging = self.merging.entry(key.key.clone()).or_default();
            merging.pending(offered == Offered::First, cell.timestamp);
        }
        if !self.merging.is_empty() {
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
        let is_tied = self.tied.contains(key);
        let is_applied = pending.timestamp < applied.timestamp
            || (pending.timestamp == applied.timestamp
                && (!is_tied || version(key, pending) <= applied));
        if is_applied {
            self.bytes -= bytes_of(key, pending);
            forgotten = Some(entry.remove().cell)
                .filter(|cell| cell.timestamp == applied.timestamp && !is_tied);
            if !self.tied.is_empty() {
                self.tied.remove(key);
            }
            if !key.part.is_empty() {
                if let Some(merging) = self.merging.get_mut(&key.key) {
                    merging.applied();
                }
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
            liveness.see(&Part::EMPTY, own.timestamp, own.value().is_none());
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
    /// told of those that come. O(all that is pending): a key is folded anew seldom, and to know
    /// its cells would cost every put.
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
        if let Some(merging) = self.merging.get(key) {
            if !merging.is_applied() {
                let cells = self.cells.iter();
                let of_key = cells.filter(|(cell, _)| cell.key == *key && !cell.part.is_empty());
                pending
                    .extend(of_key.map(|(key, other)| (key.part.clone(), Arc::clone(&other.cell))));
            }
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
