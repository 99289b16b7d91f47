//! Rollbacks: writing an earlier state anew, by writes that replicate like any others.
//!
//! Restoring older cells would have no effect: replicas keep the newest. So a rollback
//! writes anew what differs from the past, with timestamps of now: it deletes keys that
//! did not exist, and puts values that were different. A key whose value has died since, or is hidden
//! by its encoding by now, is left as it is. Of what lives on, the put says by its encoding
//! for how long, as it is stamped anew: it lives for what was left of its life.
//!
//! A key whose value was made of several cells gets one put of that value, after a delete
//! of all its cells: counters go on from the sum that they had, sets from the elements,
//! documents from the state. It begins a whole life, as what is merged cannot be hidden put by put.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{AdminError, Administration, OnChange};
use crate::{
    backup::RollbackFrame,
    cell::{Cell, CellKey, Content, Key, Part, TIMESTAMP_ID_BYTES, Timestamp, Value},
    merge::{Form, Merged, PartCell, shown_always, shown_for, shown_until},
    replica::{GetError, Lookup},
};

/// The outcome of a rollback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolledBack {
    /// Keys whose value was written anew.
    pub restored: u64,
    /// Keys that were deleted.
    pub deleted: u64,
    /// Keys that did not differ.
    pub kept: u64,
    /// Keys whose value has died since, or is hidden by now, and which are left as they are.
    pub dead: u64,
}

impl RolledBack {
    pub(super) fn add(&mut self, other: Self) {
        self.restored += other.restored;
        self.deleted += other.deleted;
        self.kept += other.kept;
        self.dead += other.dead;
    }
}

/// The cells of a key in the past, by part.
type PastCells = BTreeMap<Part, Cell>;

impl Administration {
    /// Restores the keys of a range to what they were, by new writes with the ID `id`; `changed` hears
    /// of each key that differed.
    /// The writes are committed when it returns. Blocks on disk.
    ///
    /// # Errors
    /// If a key does not belong to the storage: then nothing is written. If the replica
    /// takes no writes, or a strategy cannot read or write a value: then the keys before
    /// it are restored, and it is safe to try again.
    pub fn roll_back(
        &self,
        frame: RollbackFrame,
        id: [u8; TIMESTAMP_ID_BYTES],
        changed: OnChange<'_>,
    ) -> Result<RolledBack, AdminError> {
        let mut done = RolledBack::default();
        let dead = self.each_key(frame, &mut |key, cells| {
            self.make(key, cells, id, &mut done, changed)
        })?;
        done.dead = dead;
        if done.restored + done.deleted > 0 {
            self.replica.sync()?;
        }
        Ok(done)
    }

    /// What [`roll_back`](Self::roll_back) would do. Nothing is written. Blocks on disk.
    ///
    /// # Errors
    /// If a key does not belong to the storage, or a value cannot be read.
    pub fn preview_rollback(&self, frame: RollbackFrame) -> Result<RolledBack, AdminError> {
        let mut would = RolledBack::default();
        would.dead = self.each_key(frame, &mut |key, past| {
            let (was, is) = (value_of(past, Form::Json)?, self.current(key)?);
            match (self.is_alike(key, &was, &is), was.is_some()) {
                (true, is_shown) => would.kept += u64::from(is_shown),
                (false, true) => would.restored += 1,
                (false, false) => would.deleted += 1,
            }
            Ok(())
        })?;
        Ok(would)
    }

    /// Shows the keys of a frame, and those within its range that were not there, each with its cells
    /// in the past; and counts those of which nothing that they had lives on.
    fn each_key(
        &self,
        frame: RollbackFrame,
        visit: &mut dyn FnMut(&Key, &PastCells) -> Result<(), AdminError>,
    ) -> Result<u64, AdminError> {
        let mut keys = frame.cells.iter().map(|(key, _)| key);
        if let Some(foreign) = keys.find(|key| !self.admission.includes(key)) {
            return Err(AdminError::Foreign {
                key: foreign.key.to_string(),
                key_expr: self.group.key_expr.clone(),
            });
        }
        let mut past: BTreeMap<Key, PastCells> = BTreeMap::new();
        let mut died = BTreeSet::new();
        let (lifetimes, clock) = (self.replica.lifetimes(), (self.clock)());
        for (key, cell) in frame.cells {
            // What is dead by now would be put anew, and live once more.
            if lifetimes.expired(&key.key, clock) >= Some(cell.timestamp) {
                self.replica.count_dead();
                died.insert(key.key);
                continue;
            }
            let is_own = key.part.is_empty();
            if is_own && cell.value().is_some() && shown_until(&cell) <= clock {
                died.insert(key.key);
                continue;
            }
            past.entry(key.key).or_default().insert(key.part, cell);
        }
        let now = self
            .replica
            .keys_within(frame.low.as_ref(), frame.high.as_ref());
        for key in now.difference(&past.keys().cloned().collect()) {
            // One that was there, and whose value has died since, is what it is now.
            if !died.contains(key) {
                visit(key, &PastCells::new())?;
            }
        }
        past.iter().try_for_each(|(key, cells)| visit(key, cells))?;
        let dead = died.iter().filter(|key| !past.contains_key(*key));
        Ok(dead.count() as u64)
    }

    /// Restores a key.
    fn make(
        &self,
        key: &Key,
        past: &PastCells,
        id: [u8; TIMESTAMP_ID_BYTES],
        done: &mut RolledBack,
        changed: OnChange<'_>,
    ) -> Result<(), AdminError> {
        // Compared as JSON where possible: a document may be saved in several ways.
        let shown = value_of(past, Form::Json)?;
        if self.is_alike(key, &shown, &self.current(key)?) {
            done.kept += u64::from(shown.is_some());
            return Ok(());
        }
        let was = value_of(past, Form::Native)?;
        let mut timestamp = self.timestamp_above(key, id);
        let is_plain = self.replica.is_lww() && past.keys().all(Part::is_empty);
        let was = was.map(|was| self.shortened(key, past, was, timestamp.time + 1));
        if was.is_none() || !is_plain {
            self.write(key, timestamp, Content::Tombstone)?;
        }
        match was {
            None => done.deleted += 1,
            Some(was) => {
                if !is_plain {
                    // After the tombstone.
                    timestamp.time += 1;
                }
                self.write(key, timestamp, Content::Value(was))?;
                done.restored += 1;
            }
        }
        changed(&CellKey::own(key.clone()), timestamp);
        Ok(())
    }

    /// Whether nothing has to be written for a key to be what it was. What a rollback put says for how
    /// long it is shown, of keys with a lifetime: that makes no difference.
    fn is_alike(&self, key: &Key, was: &Option<Value>, is: &Option<Value>) -> bool {
        let always = |value: &Option<Value>| value.clone().map(shown_always);
        let has_lifetime = self.replica.lifetimes().of(key).is_some();
        was == is || (has_lifetime && always(was) == always(is))
    }

    /// A value that was a key's, as it is to be put at `time`: for what is left of its life.
    fn shortened(&self, key: &Key, past: &PastCells, was: Value, time: u64) -> Value {
        let own = past.get(&Part::EMPTY).filter(|_| past.len() == 1);
        let Some(own) = own.filter(|_| !self.replica.merges(key, &was)) else {
            return was;
        };
        let lifetime = self.replica.lifetimes().of(key);
        let dies = lifetime.map_or(u64::MAX, |lifetime| lifetime.death(own.timestamp.time));
        match dies.min(shown_until(own)) {
            u64::MAX => was,
            until => shown_for(was, until.saturating_sub(time)),
        }
    }

    fn write(&self, key: &Key, timestamp: Timestamp, content: Content) -> Result<(), AdminError> {
        let outcome = self.replica.put(key.clone(), Cell { timestamp, content })?;
        if outcome.committed.is_some() {
            // The queue has no room for more.
            self.replica.sync()?;
        }
        Ok(())
    }

    fn current(&self, key: &Key) -> Result<Option<Value>, AdminError> {
        let cell = match self.replica.get(key, Form::Json) {
            Lookup::Absent => None,
            Lookup::Found(cell) => Some(cell),
            Lookup::Stored(stored) => self.replica.read(&stored)?,
        };
        Ok(cell.and_then(|cell| cell.value().cloned()))
    }

    /// The present time, but after all that the key has.
    fn timestamp_above(&self, key: &Key, id: [u8; TIMESTAMP_ID_BYTES]) -> Timestamp {
        let latest = self
            .replica
            .latest(key)
            .map_or(0, |timestamp| timestamp.time);
        let time = (self.clock)().max(latest.saturating_add(1));
        Timestamp { time, id }
    }
}

/// The value that a key had.
fn value_of(cells: &PastCells, form: Form) -> Result<Option<Value>, AdminError> {
    let cells: Vec<_> = cells
        .iter()
        .map(|(part, cell)| PartCell {
            part: part.as_bytes(),
            cell,
        })
        .collect();
    let folded = catch_unwind(AssertUnwindSafe(|| Merged::fold(&cells).read(form)));
    let value = folded.map_err(|_| GetError::Panic)?;
    let value = value.map_err(GetError::Merge)?;
    Ok(value.and_then(|cell| cell.value().cloned()))
}
