//! Gets and listings.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{
    key_stamps::KeyStamps, merging::Folds, recent::Shown, GetError, Held, Replica, Shared, Tree,
};
use crate::{
    cell::{Cell, CellKey, Key, Stamp, Version},
    merge::Form,
    store::StoreError,
};

/// Where the answer to a read is.
#[derive(Debug)]
pub enum Lookup {
    /// There is no value.
    Absent,
    /// Here.
    Found(Arc<Cell>),
    /// In the store, or it takes its time to be put together: to be had with
    /// [`Replica::read`], which blocks.
    Stored(Stored),
}

/// Where a value is that is not at hand.
#[derive(Debug)]
pub struct Stored(Place);

#[derive(Debug)]
enum Place {
    /// One cell.
    Own(CellKey, Version),
    /// To be put together of several.
    Merged(Key, Form),
    /// Nowhere: a cell of the key is in quarantine.
    Quarantined(Key, Stamp),
}

/// What the store has of a cell that is in the tree.
#[derive(Debug)]
pub enum Kept {
    /// That, or a later one.
    Cell(Arc<Cell>),
    /// A newer cell of its key covers it, so that it is not needed any more.
    Covered,
    /// Nothing: it is damaged.
    Missing,
}

impl Stored {
    fn key(&self) -> &Key {
        match &self.0 {
            Place::Own(key, _) => &key.key,
            Place::Merged(key, _) | Place::Quarantined(key, _) => key,
        }
    }
}

impl Replica {
    /// Looks `key` up, to be read in a form. Does not block on disk.
    #[must_use]
    pub fn get(&self, key: &Key, form: Form) -> Lookup {
        let shared = &*self.shared;
        shared.counters.gets.add();
        if let Some(stamp) = shared.missing(key) {
            return Lookup::Stored(Stored(Place::Quarantined(key.clone(), stamp)));
        }
        let key = CellKey::own(key.clone());
        let version = match shared.inbox.look_up(&key) {
            (true, _) => {
                let key = key.key;
                return match shared.folds.try_read(shared, &key, form) {
                    Some(Some(cell)) => Lookup::Found(cell),
                    Some(None) => Lookup::Absent,
                    None => Lookup::Stored(Stored(Place::Merged(key, form))),
                };
            }
            (false, Some(shown)) if shown.is_tombstone() => return Lookup::Absent,
            (false, Some(Shown::Here(cell))) => return Lookup::Found(cell),
            (false, Some(Shown::Stored(version))) => *version,
            (false, None) => match shared.settled().get(&key) {
                Some(held) if !held.is_tombstone() => match held.cell() {
                    Some(cell) => return Lookup::Found(cell),
                    None => held.version(),
                },
                _ => return Lookup::Absent,
            },
        };
        match shared.store.peek(&key, version) {
            Some(cell) if cell.value().is_some() => Lookup::Found(cell),
            Some(_) => Lookup::Absent,
            None => Lookup::Stored(Stored(Place::Own(key, version))),
        }
    }

    /// What [`get`](Self::get) said is not at hand. Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read, or it is not known how to read what is there.
    pub fn read(&self, stored: &Stored) -> Result<Option<Arc<Cell>>, GetError> {
        let read = match &stored.0 {
            Place::Own(key, version) => self.read_own(key, *version).map_err(GetError::Store),
            Place::Merged(key, form) => self.shared.folds.read(&self.shared, key, *form),
            Place::Quarantined(key, stamp) => Err(quarantined(key, *stamp)),
        };
        if let Err(GetError::Store(error)) = &read {
            self.mend_if_damaged(stored.key(), error);
        }
        read
    }

    fn read_own(&self, key: &CellKey, version: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        match self.shared.store.read(key, version)? {
            Some(cell) if cell.stamp >= version.stamp => {
                Ok(Some(cell).filter(|cell| cell.value().is_some()))
            }
            _ => Err(StoreError::Lost {
                key: key.key.to_string(),
            }),
        }
    }

    fn mend_if_damaged(&self, key: &Key, error: &StoreError) {
        if error.is_damage() {
            let cells = cells_of(&self.shared.tree(), key).into_iter();
            self.mend(cells.map(|(key, held)| (key, held.meta())));
        }
    }

    /// The cells of `key`, tombstones among them, as JSON for people; nothing if
    /// there are none. Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read, or a cell of the key is in quarantine.
    pub fn raw(&self, key: &Key) -> Result<Option<Cell>, GetError> {
        self.check_whole(key)?;
        let cells = Folds::raw(&self.shared, key);
        Ok(cells.inspect_err(|error| self.mend_if_damaged(key, error))?)
    }

    /// Whether what there is of `key` is all that there should be. O(1) as long as
    /// nothing is in quarantine.
    ///
    /// # Errors
    /// If a cell of it is in quarantine, and not replaced yet.
    pub fn check_whole(&self, key: &Key) -> Result<(), GetError> {
        let missing = self.shared.missing(key);
        missing.map_or(Ok(()), |stamp| Err(quarantined(key, stamp)))
    }

    /// The stamp of the newest cell of `key`, pending or settled.
    #[must_use]
    pub fn newest(&self, key: &CellKey) -> Option<Stamp> {
        match self.shared.inbox.look_up(key) {
            (_, Some(shown)) => Some(shown.stamp()),
            (_, None) => self.shared.settled().get(key).map(|meta| meta.stamp()),
        }
    }

    /// The stamp of the newest of all cells of `key`, pending or settled. O(cells of
    /// the key).
    #[must_use]
    pub fn latest(&self, key: &Key) -> Option<Stamp> {
        let pending = self.shared.inbox.begin_log(key, None).into_iter();
        let pending = pending.map(|(_, shown)| shown.stamp()).max();
        let settled = cells_of(&self.shared.tree(), key).into_iter();
        settled.map(|(_, meta)| meta.stamp()).max().max(pending)
    }

    /// The keys above one and up to the other that have cells, be they tombstones.
    /// O(log n), and O(1) for each cell there and for each that is pending.
    #[must_use]
    pub fn keys_within(&self, low: Option<&Key>, high: Option<&Key>) -> BTreeSet<Key> {
        let is_within =
            |key: &Key| low.is_none_or(|low| low < key) && high.is_none_or(|high| key <= high);
        let pending = self.shared.inbox.all_recent();
        let mut keys: BTreeSet<Key> = pending.into_keys().filter(is_within).collect();
        let tree = self.snapshot().tree;
        let from = low.map_or(Bound::Unbounded, |low| {
            Bound::Included(CellKey::own(low.clone()))
        });
        let Ok(cells) = tree.range((from, Bound::Unbounded));
        for entry in cells {
            let Ok((key, _)) = entry;
            if is_within(&key.key) {
                keys.insert(key.key.clone());
            } else if low.is_none_or(|low| low < &key.key) {
                break;
            }
        }
        keys
    }

    /// Whether last writer wins for all keys.
    #[must_use]
    pub fn is_lww(&self) -> bool {
        self.shared.rules.is_lww()
    }

    /// The settled cell of `key`, be it a tombstone, of which the caller found
    /// `version` in the tree. It is that, or a later one. Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn settled_cell(&self, key: &CellKey, version: Version) -> Result<Kept, StoreError> {
        if version.tombstone {
            // All of a tombstone is in the tree.
            return Ok(Kept::Cell(Arc::new(Cell::tombstone(version.stamp))));
        }
        if let Some(cell) = self.shared.held_cell(key) {
            return Ok(Kept::Cell(cell));
        }
        match self.shared.store.read(key, version) {
            Ok(Some(cell)) => return Ok(Kept::Cell(cell)),
            Ok(None) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
        Ok(match self.shared.own_stamp(key) >= Some(version.stamp) {
            true => Kept::Covered,
            false => Kept::Missing,
        })
    }

    /// Shows all keys that have a value, each with the timestamp of its last
    /// write; those whose value is in quarantine among them, so that reading them
    /// says so. In no order. O(n). What settles meanwhile is not seen.
    pub fn for_each_key(&self, mut visit: impl FnMut(&Key, Stamp)) {
        let mut lost = self.shared.all_missing();
        self.for_each_readable_key(|key, stamp| {
            lost.remove(key);
            visit(key, stamp);
        });
        for (key, stamp) in lost {
            visit(&key, stamp);
        }
    }

    fn for_each_readable_key(&self, mut visit: impl FnMut(&Key, Stamp)) {
        // First what is pending, then what is settled: what settles between is
        // in both, and what is in both is shown as pending.
        let mut recent = self.shared.inbox.all_recent();
        let tree = self.shared.tree();
        // A key's own cell comes first, so where one is the key is another.
        let mut of_key: Option<(&Key, KeyStamps)> = None;
        let mut show = |shown: Option<(&Key, KeyStamps)>| {
            let written = shown.and_then(|(key, stamps)| Some((key, stamps.last_write()?)));
            if let Some((key, stamp)) = written {
                visit(key, stamp);
            }
        };
        let Ok(()) = tree.for_each(|CellKey { key, part }, held| {
            let (stamp, is_tombstone) = (held.stamp(), held.is_tombstone());
            if !recent.is_empty() {
                if let Some(stamps) = recent.get_mut(key) {
                    stamps.see(part, stamp, is_tombstone);
                    return;
                }
            }
            match &mut of_key {
                Some((last, stamps)) if !part.is_empty() && *last == key => {
                    stamps.see(part, stamp, is_tombstone);
                }
                _ => {
                    let mut stamps = KeyStamps::default();
                    stamps.see(part, stamp, is_tombstone);
                    show(of_key.replace((key, stamps)));
                }
            }
        });
        show(of_key);
        recent
            .iter()
            .for_each(|(key, stamps)| show(Some((key, *stamps))));
    }
}

impl Shared {
    /// When a cell of `key` was written that is in quarantine, and that nothing has
    /// replaced; nothing if there is none.
    pub(super) fn missing(&self, key: &Key) -> Option<Stamp> {
        if !self.quarantine.has(key) {
            return None;
        }
        let lost = self.quarantine.of_key(key);
        let missing = lost.into_iter().find(|(key, meta)| {
            let pending = self.inbox.look_up(key).1.map(|shown| shown.stamp());
            pending.max(self.own_stamp(key)) < Some(meta.version.stamp)
        });
        missing.map(|(_, meta)| meta.version.stamp)
    }

    /// All keys of which a cell is [`missing`](Self::missing), with its time.
    fn all_missing(&self) -> BTreeMap<Key, Stamp> {
        let keys = self.quarantine.list().into_iter().map(|(key, _)| key.key);
        keys.filter_map(|key| Some((key.clone(), self.missing(&key)?)))
            .collect()
    }
}

/// The cells of a key in a tree. O(log n) and O(1) a cell.
pub(super) fn cells_of(tree: &Tree, key: &Key) -> Vec<(CellKey, Held)> {
    let Ok(cells) = tree.range(CellKey::own(key.clone())..);
    let cells = cells.map(|entry| {
        let Ok(entry) = entry;
        entry
    });
    let of_key = cells.take_while(|(cell, _)| cell.key == *key);
    of_key
        .map(|(key, held)| (key.clone(), held.clone()))
        .collect()
}

fn quarantined(key: &Key, stamp: Stamp) -> GetError {
    GetError::Quarantined {
        key: key.to_string(),
        stamp,
    }
}
