//! What is pending, as readers see it: of each cell the newest.

use std::{
    collections::{hash_map::Entry, HashMap, HashSet},
    sync::Arc,
};

use super::{
    key_stamps::KeyStamps,
    merging::{Merging, Slot, MAX_LOGGED_BYTES},
};
use crate::cell::{Cell, CellKey, CellMeta, Key, Part, Stamp, Version};

/// Values of more bytes are shown from the store once they are committed.
const KEPT_VALUE_BYTES: usize = 4096;

/// What an update takes in memory beside its key and value.
const UPDATE_OVERHEAD: usize = 256;

/// Memory that a cell takes while it is pending, about.
pub(super) fn bytes_of(key: &CellKey, cell: &Cell) -> usize {
    UPDATE_OVERHEAD + key.text_and_part_len() + cell.value_bytes()
}

/// Where a pending cell is shown from. Small, as there may be many.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    Here(Arc<Cell>),
    /// A large value, which is committed.
    Stored(Box<Version>),
}

impl Shown {
    pub(super) fn stamp(&self) -> Stamp {
        match self {
            Self::Here(cell) => cell.stamp,
            Self::Stored(version) => version.stamp,
        }
    }

    pub(super) fn is_tombstone(&self) -> bool {
        match self {
            Self::Here(cell) => cell.value().is_none(),
            Self::Stored(version) => version.tombstone,
        }
    }

    /// Hashes the cell, if it is here.
    fn version(&self, key: &CellKey) -> Version {
        match self {
            Self::Here(cell) => CellMeta::of(key, cell).version,
            Self::Stored(version) => **version,
        }
    }

    fn bytes(&self, key: &CellKey) -> usize {
        match self {
            Self::Here(cell) => bytes_of(key, cell),
            Self::Stored(_) => UPDATE_OVERHEAD + key.text_and_part_len(),
        }
    }
}

/// Invariant: what is shown is newer than what is settled.
#[derive(Default)]
pub(super) struct Recent {
    // Writers and readers wait while one looks here, so it has to be fast; and nobody can
    // prepare keys that collide.
    cells: HashMap<CellKey, Shown, ahash::RandomState>,
    /// Keys of which two different writes bear one timestamp.
    tied: HashSet<CellKey>,
    bytes: usize,
    /// Keys that have cells beside their own, pending or settled.
    merging: HashMap<Key, Merging>,
    /// Bytes that their logs keep, never more than [`MAX_LOGGED_BYTES`].
    logged_bytes: usize,
}

impl Recent {
    /// Shows `cell`, if there is no newer one. True if it is shown. It is tied if it
    /// bears the timestamp of another that is settled.
    pub(super) fn offer(&mut self, key: &CellKey, cell: &Arc<Cell>, is_tied: bool) -> bool {
        let offered = Shown::Here(Arc::clone(cell));
        let bytes = offered.bytes(key);
        let (mut is_tied, mut is_first) = (is_tied, false);
        match self.cells.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(offered);
                is_first = true;
            }
            Entry::Occupied(mut shown) => {
                let other = shown.get();
                if other.stamp() > cell.stamp {
                    return false;
                }
                if other.stamp() == cell.stamp {
                    if offered.version(key) <= other.version(key) {
                        return false;
                    }
                    self.tied.insert(key.clone());
                    is_tied = true;
                }
                self.bytes -= other.bytes(key);
                shown.insert(offered);
            }
        }
        self.bytes += bytes;
        if !key.part.is_empty() {
            let merging = self.merging.entry(key.key.clone()).or_default();
            merging.pending(is_first, cell.stamp);
        }
        if !self.merging.is_empty() {
            self.change_log(&key.key, |merging| merging.log(&key.part, cell, is_tied));
        }
        true
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
    pub(super) fn logged_bytes(&self) -> usize {
        let logged: usize = self.merging.values().map(Merging::logged_bytes).sum();
        assert_eq!(logged, self.logged_bytes);
        logged
    }

    /// Whether a value is to be [released](Self::release) when it is committed.
    pub(super) fn is_large(cell: &Cell) -> bool {
        cell.value_bytes() > KEPT_VALUE_BYTES
    }

    /// Lets go of a large value that is committed, to be shown from the store.
    pub(super) fn release(&mut self, key: &CellKey, cell: &Arc<Cell>, version: Version) {
        if let Some(shown) = self.cells.get_mut(key) {
            if matches!(shown, Shown::Here(here) if Arc::ptr_eq(here, cell)) {
                self.bytes -= shown.bytes(key);
                *shown = Shown::Stored(Box::new(version));
                self.bytes += shown.bytes(key);
            }
        }
    }

    /// Shows no more what has settled, or what lost to that; and returns the cell, if it
    /// has settled and was here.
    pub(super) fn forget(&mut self, key: &CellKey, settled: Version) -> Option<Arc<Cell>> {
        // Found once, be it to be looked at or to be removed: nearly always it is both.
        let Entry::Occupied(entry) = self.cells.entry(key.clone()) else {
            return None;
        };
        let mut forgotten = None;
        let shown = entry.get();
        // Without a tie, what bears the same timestamp is the very same write.
        let is_tied = self.tied.contains(key);
        let is_settled = shown.stamp() < settled.stamp
            || (shown.stamp() == settled.stamp && (!is_tied || shown.version(key) <= settled));
        if is_settled {
            self.bytes -= shown.bytes(key);
            forgotten = match entry.remove() {
                Shown::Here(cell) if cell.stamp == settled.stamp && !is_tied => Some(cell),
                _ => None,
            };
            if !self.tied.is_empty() {
                self.tied.remove(key);
            }
            if !key.part.is_empty() {
                if let Some(merging) = self.merging.get_mut(&key.key) {
                    merging.settled();
                }
            }
        }
        if self.cells.is_empty() {
            // A burst may have made it large.
            self.cells.shrink_to(4096);
        }
        forgotten
    }

    pub(super) fn get(&self, key: &CellKey) -> Option<&Shown> {
        self.cells.get(key)
    }

    /// When the cells of a key were written that are pending; and perhaps those that were.
    pub(super) fn key_stamps(&self, key: &Key) -> KeyStamps {
        let mut stamps = KeyStamps::default();
        if let Some(own) = self.get(&CellKey::own(key.clone())) {
            stamps.see(&Part::EMPTY, own.stamp(), own.is_tombstone());
        }
        if let Some(newest) = self.merging.get(key).and_then(Merging::newest) {
            stamps.see_part(newest);
        }
        stamps
    }

    /// Whether a key has cells beside its own.
    pub(super) fn is_merged(&self, key: &Key) -> bool {
        !self.merging.is_empty() && self.merging.contains_key(key)
    }

    /// A key has settled cells beside its own.
    pub(super) fn merged(&mut self, key: Key) {
        self.merging.entry(key).or_default();
    }

    /// A key has no settled cells but its own any more.
    pub(super) fn unmerged(&mut self, key: &Key) {
        if self.merging.get(key).is_some_and(Merging::is_settled) {
            self.change_log(key, Merging::drop_log);
            self.merging.remove(key);
        }
    }

    /// The pending cells of a key, after which `reader`, if there is one, has to be
    /// told of those that come. O(all that is pending): a key is folded anew seldom, and to know
    /// its cells would cost every put.
    pub(super) fn begin_log(
        &mut self,
        key: &Key,
        reader: Option<&Arc<Slot>>,
    ) -> Vec<(Part, Shown)> {
        let own = CellKey::own(key.clone());
        let mut pending = Vec::new();
        pending.extend(self.get(&own).map(|own| (Part::EMPTY, own.clone())));
        if let Some(reader) = reader {
            self.change_log(key, |merging| merging.begin_log(reader));
        }
        if let Some(merging) = self.merging.get(key) {
            if !merging.is_settled() {
                let cells = self.cells.iter();
                let of_key = cells.filter(|(cell, _)| cell.key == *key && !cell.part.is_empty());
                pending.extend(of_key.map(|(cell, shown)| (cell.part.clone(), shown.clone())));
            }
        }
        pending
    }

    /// The cells of a key that came since `reader` was told the last time, if
    /// they are known and no more than `max`.
    pub(super) fn drain_log(
        &mut self,
        key: &Key,
        reader: &Arc<Slot>,
        max: usize,
    ) -> Option<Vec<(Part, Arc<Cell>)>> {
        self.change_log(key, |merging| merging.drain_log(reader, max))?
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CellKey, &Shown)> {
        self.cells.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(super) fn contains(&self, key: &CellKey) -> bool {
        self.cells.contains_key(key)
    }

    /// Memory that all of it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
