//! Gets, listings and snapshots.

pub(in crate::replica) mod fold_cache;
pub(in crate::replica) mod listing;
pub(in crate::replica) mod liveness;
pub(in crate::replica) mod merging;
mod ruling;
pub(in crate::replica) mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use self::{
    fold_cache::Folds,
    liveness::{KeyLiveness, Shown},
    ruling::with_expired,
};
use super::{GetError, Replica, Shared, Tree, TreeEntry};
use crate::{
    cell::{Cell, CellKey, Key, Timestamp, Value, Version},
    merge::Form,
    store::StoreError,
    wildcard::{WildcardRules, matches},
};

/// How often a row is read that is not what the tree says, before it is taken for lost: while a batch
/// is applied the tree may be ahead of it, but then the cell is pending.
const ATTEMPTS: usize = 8;

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
    Quarantined(Key, Timestamp),
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
        shared.state.counters.gets.add();
        if let Some(timestamp) = shared.missing(key) {
            return Lookup::Stored(Stored(Place::Quarantined(key.clone(), timestamp)));
        }
        let key = CellKey::own(key.clone());
        let (mut is_merged, mut pending, rules) = shared.state.queue.look_up_ruled(&key);
        let expired = shared.expired(&key.key);
        if let Some(ruled) = rules.and_then(|rules| rules.of_key(&key.key)) {
            let ruled = with_expired(Some(ruled), expired).unwrap_or_default();
            let now = (shared.clock)();
            match (
                shared.state.liveness(&key.key).shown(&ruled, now),
                ruled.put,
            ) {
                (Shown::Nothing, _) => return Lookup::Absent,
                (Shown::Put(_), Some(put)) => return Lookup::Found(put),
                // What was pending then may be covered.
                (Shown::Put(_) | Shown::Cells(_), _) => {
                    (is_merged, pending) = shared.state.queue.look_up(&key);
                }
            }
        }
        let version = match (is_merged, pending) {
            (true, _) => {
                let key = key.key;
                return match shared.folds.try_read(shared, &key, form) {
                    Some(Some(cell)) => Lookup::Found(cell),
                    Some(None) => Lookup::Absent,
                    None => Lookup::Stored(Stored(Place::Merged(key, form))),
                };
            }
            (false, Some(cell)) if Some(cell.timestamp) <= expired => return Lookup::Absent,
            (false, Some(cell)) => {
                return shared.if_shown(cell).map_or(Lookup::Absent, Lookup::Found);
            }
            (false, None) => match shared.state.applied().get(&key) {
                Some(held) if Some(held.timestamp()) <= expired => return Lookup::Absent,
                Some(held) if !shared.is_hidden(held.shown_until()) => match held.cell() {
                    Some(cell) => return Lookup::Found(cell),
                    None => held.version(),
                },
                _ => return Lookup::Absent,
            },
        };
        match shared.store.peek(&key, version) {
            Some(cell) => shared.if_shown(cell).map_or(Lookup::Absent, Lookup::Found),
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
            Place::Quarantined(key, timestamp) => Err(quarantined(key, *timestamp)),
        };
        if let Err(GetError::Store(error)) = &read {
            self.mend_if_damaged(stored.key(), error);
        }
        read
    }

    fn read_own(&self, key: &CellKey, version: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        let shared = &*self.shared;
        for _ in 0..ATTEMPTS {
            let cell = match shared.store.read(key, version)? {
                Some(cell) if cell.timestamp >= version.timestamp => cell,
                _ => match shared.state.queue.look_up(key) {
                    (_, Some(pending)) => pending,
                    // It was applied since.
                    (_, None) => continue,
                },
            };
            return Ok(shared.if_shown(cell));
        }
        Err(StoreError::Lost {
            key: key.key.to_string(),
        })
    }

    fn mend_if_damaged(&self, key: &Key, error: &StoreError) {
        if error.is_damage() {
            let cells = cells_of(&self.shared.state.current_tree(), key).into_iter();
            self.mend(cells.map(|(key, held)| (key, held.version())));
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
        missing.map_or(Ok(()), |timestamp| Err(quarantined(key, timestamp)))
    }

    /// The timestamp of the newest cell of `key`, pending or settled.
    #[must_use]
    pub fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.shared.state.newest(key)
    }

    /// As [`newest`](Self::newest); or when the newest delete rule was written that matches the
    /// key, if that is later: a cell that is not newer is not taken.
    #[must_use]
    pub fn newest_or_covering(&self, key: &CellKey) -> Option<Timestamp> {
        self.shared.state.newest_or_covering(key)
    }

    /// The wildcard rules, pending or settled.
    #[must_use]
    pub fn wildcard_rules(&self) -> Arc<WildcardRules> {
        self.shared.state.queue.rules()
    }

    /// The timestamp of the newest of all cells of `key`, pending or settled, and of the rules that
    /// match it. O(cells of the key).
    #[must_use]
    pub fn latest(&self, key: &Key) -> Option<Timestamp> {
        let pending = self.shared.state.queue.begin_log(key, None).into_iter();
        let pending = pending.map(|(_, cell)| cell.timestamp).max();
        let settled = cells_of(&self.shared.state.current_tree(), key).into_iter();
        let latest = settled.map(|(_, version)| version.timestamp()).max();
        let ruled = self.shared.state.queue.rules().of_key(key);
        let ruled = ruled.and_then(|ruled| {
            let put = ruled.put.map(|put| put.timestamp);
            ruled.deleted.max(put)
        });
        latest.max(pending).max(ruled)
    }

    /// The keys above one and up to the other that have cells, be they tombstones.
    /// O(log n), and O(1) for each cell there and for each that is pending.
    #[must_use]
    pub fn keys_within(&self, low: Option<&Key>, high: Option<&Key>) -> BTreeSet<Key> {
        let is_within =
            |key: &Key| low.is_none_or(|low| low < key) && high.is_none_or(|high| key <= high);
        let pending = self.shared.state.queue.all_pending();
        let mut keys: BTreeSet<Key> = pending.into_keys().filter(is_within).collect();
        let tree = self.shared.state.current_tree();
        let from = low.map_or(Bound::Unbounded, |low| {
            Bound::Included(CellKey::own(low.clone()))
        });
        let Ok(cells) = tree.range((from, Bound::Unbounded));
        for entry in cells {
            let Ok((key, _)) = entry;
            if key.key.is_internal() {
                continue;
            }
            if is_within(&key.key) {
                keys.insert(key.key.clone());
            } else if low.is_none_or(|low| low < &key.key) {
                break;
            }
        }
        keys
    }

    /// Whether `key` has cells beside its own, of which its value is folded.
    #[must_use]
    pub fn is_merged(&self, key: &Key) -> bool {
        let own = CellKey::own(key.clone());
        self.shared.state.queue.look_up(&own).0
    }

    /// Whether last writer wins for all keys.
    #[must_use]
    pub fn is_lww(&self) -> bool {
        self.shared.rules.is_lww()
    }

    /// Whether a put of this value to `key` is merged by a strategy.
    #[must_use]
    pub fn merges(&self, key: &Key, value: &Value) -> bool {
        self.shared.rules.merges(key, value)
    }

    /// Shows all keys that have a value, each with the timestamp of its last
    /// write; those whose value is in quarantine among them, so that reading them
    /// says so. In no order. O(n). What settles meanwhile is not seen.
    pub fn for_each_key(&self, mut visit: impl FnMut(&Key, Timestamp)) {
        let mut lost = self.shared.all_missing();
        self.for_each_readable_key(|key, timestamp| {
            lost.remove(key);
            visit(key, timestamp);
        });
        for (key, timestamp) in lost {
            visit(&key, timestamp);
        }
    }

    fn for_each_readable_key(&self, mut visit: impl FnMut(&Key, Timestamp)) {
        // First what is pending, then what is settled: what settles between is
        // in both, and what is in both is shown as pending.
        let mut pending = self.shared.state.queue.all_pending();
        let tree = self.shared.state.current_tree();
        // A key's own cell comes first, so where one is the key is another.
        let mut of_key: Option<(&Key, KeyLiveness)> = None;
        let rules = self.shared.ruling();
        let mut show = |shown: Option<(&Key, KeyLiveness)>| {
            let written = shown.and_then(|(key, timestamps)| {
                let ruled = rules.of_key(key);
                let written = timestamps.last_write_by(ruled.as_ref(), rules.now())?;
                Some((key, written))
            });
            if let Some((key, timestamp)) = written {
                visit(key, timestamp);
            }
        };
        let Ok(()) = tree.for_each(|CellKey { key, part }, held| {
            if key.is_internal() {
                return;
            }
            let (timestamp, until) = (held.timestamp(), held.shown_until());
            if !pending.is_empty()
                && let Some(timestamps) = pending.get_mut(key)
            {
                timestamps.see(part, timestamp, until);
                return;
            }
            match &mut of_key {
                Some((last, timestamps)) if !part.is_empty() && *last == key => {
                    timestamps.see(part, timestamp, until);
                }
                _ => {
                    let mut timestamps = KeyLiveness::default();
                    timestamps.see(part, timestamp, until);
                    show(of_key.replace((key, timestamps)));
                }
            }
        });
        show(of_key);
        pending
            .iter()
            .for_each(|(key, timestamps)| show(Some((key, *timestamps))));
    }
}

impl Shared {
    /// When a cell of `key` was written that is in quarantine, and that nothing has
    /// replaced; nothing if there is none.
    pub(in crate::replica) fn missing(&self, key: &Key) -> Option<Timestamp> {
        if self.state.quarantine.has_rules()
            && let Some(missing) = self.missing_rule(key)
        {
            return Some(missing);
        }
        if !self.state.quarantine.has(key) {
            return None;
        }
        let deleted = self.ruling().deleted(key);
        let lost = self.state.quarantine.of_key(key);
        let missing = lost.into_iter().find(|(key, version)| {
            let pending = self.state.queue.look_up(key).1.map(|cell| cell.timestamp);
            pending.max(self.own_timestamp(key)).max(deleted) < Some(version.timestamp)
        });
        missing.map(|(_, version)| version.timestamp)
    }

    /// When a rule was written that is in quarantine, and that says what is shown of `key`.
    fn missing_rule(&self, key: &Key) -> Option<Timestamp> {
        let ruling = self.ruling();
        let (ruled, now) = (ruling.of_key(key), ruling.now());
        let shown = self
            .state
            .liveness(key)
            .last_write_by(ruled.as_ref(), now)?;
        let lost = self.state.quarantine.list().into_iter();
        let lost = lost.filter(|(rule, version)| {
            let pattern = rule.key.as_key_expr().filter(|_| rule.key.is_pattern());
            let is_ours = pattern.is_some_and(|pattern| matches(pattern, key));
            is_ours && version.timestamp > shown
        });
        lost.map(|(_, version)| version.timestamp).max()
    }

    /// All keys of which a cell is [`missing`](Self::missing), with its time.
    fn all_missing(&self) -> BTreeMap<Key, Timestamp> {
        let keys = self
            .state
            .quarantine
            .list()
            .into_iter()
            .map(|(key, _)| key.key)
            .filter(|key| !key.is_internal());
        keys.filter_map(|key| Some((key.clone(), self.missing(&key)?)))
            .collect()
    }
}

/// The cells of a key in a tree. O(log n) and O(1) a cell.
pub(in crate::replica) fn cells_of(tree: &Tree, key: &Key) -> Vec<(CellKey, TreeEntry)> {
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

fn quarantined(key: &Key, timestamp: Timestamp) -> GetError {
    GetError::Quarantined {
        key: key.to_string(),
        timestamp,
    }
}
