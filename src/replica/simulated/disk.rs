//! A simulated disk: a write-ahead log, and rows, of which a crash takes back what is not synced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    cell::{Cell, CellKey, Version},
    collection::kept::Kept,
    replica::write::group::Group,
    store::{
        Commit, RowBatch,
        faulty::Verdict,
        model::{Rows, apply},
    },
};

/// How long a write to the disk takes, and what becomes of it.
pub(crate) type Medium = Box<dyn FnMut() -> (Duration, Verdict)>;

/// A disk that takes no time.
pub(crate) fn ideal() -> Medium {
    Box::new(|| (Duration::ZERO, Verdict::Done))
}

/// Batches of rows after which they are in tables.
const BATCHES_A_FLUSH: usize = 20;

/// What is on the disk, or will be when it is synced.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) rows: Arc<Rows>,
    /// The groups that are not in tables.
    log: BTreeMap<u64, Vec<(CellKey, Arc<Cell>)>>,
    /// The last group, and the last that is synced.
    groups: u64,
    synced: u64,
    /// Of each batch of rows that is not in tables what was there before it.
    undo: Vec<Undo>,
    /// The last group that is in rows.
    applied: u64,
    /// What is kept of the collection.
    pub(super) kept: Kept,
    /// What was set aside.
    pub(super) aside: BTreeMap<Version, (CellKey, Arc<Cell>)>,
}

/// The rows that there were, or that there were none, and the last group that was in rows.
type Undo = (Vec<(CellKey, Option<Arc<Cell>>)>, u64);

impl Disk {
    /// Appends a group, and returns its number.
    pub(super) fn append(&mut self, group: &Group, commit: Commit) -> u64 {
        let newest = group.updates.iter().filter(|update| update.is_newest);
        let cells = newest.map(|update| (update.key.clone(), Arc::clone(&update.cell)));
        self.groups += 1;
        self.log.insert(self.groups, cells.collect());
        if commit == Commit::Synced {
            self.synced = self.groups;
        }
        self.groups
    }

    pub(super) fn apply(&mut self, batch: &RowBatch) {
        let puts = batch.puts.iter().map(|write| &write.key);
        let changed = puts.chain(batch.removes.iter().map(|(key, _)| key));
        let before = changed.map(|key| (key.clone(), self.rows.get(key).cloned()));
        self.undo.push((before.collect(), self.applied));
        apply(Arc::make_mut(&mut self.rows), batch);
        self.applied = batch.applied.unwrap_or(self.applied);
        if self.undo.len() > BATCHES_A_FLUSH {
            self.undo.clear();
            self.log.retain(|number, _| *number > self.applied);
        }
    }

    /// Nothing that was appended before is lost.
    pub(super) fn sync(&mut self) {
        self.synced = self.groups;
    }

    /// Batches of rows that a crash may take back.
    pub(super) fn unsynced_batches(&self) -> usize {
        self.undo.len()
    }

    /// Groups of the log that a crash may take back.
    pub(super) fn unsynced_groups(&self) -> u64 {
        self.groups - self.synced
    }

    /// Takes back the last so many batches of rows, of those that are not in tables, and the last so
    /// many groups of the log, of those that are not synced.
    pub(super) fn lose(&mut self, batches: usize, groups: u64) {
        assert!(groups <= self.unsynced_groups());
        let rows = Arc::make_mut(&mut self.rows);
        for (before, applied) in self.undo.drain(self.undo.len() - batches..).rev() {
            self.applied = applied;
            for (key, cell) in before {
                match cell {
                    Some(cell) => drop(rows.insert(key, cell)),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        let last = self.groups - groups;
        self.log.retain(|number, _| *number <= last);
        // Rows may be there of groups that are not in the log any more.
        self.groups = last.max(self.applied);
    }

    /// As when a store is opened: what is in the log and not in rows gets rows.
    pub(super) fn catch_up(&mut self) {
        self.undo.clear();
        let rows = Arc::make_mut(&mut self.rows);
        let mut log = std::mem::take(&mut self.log);
        let unapplied = log.split_off(&(self.applied + 1));
        self.applied = self.groups;
        self.synced = self.groups;
        for (key, cell) in unapplied.into_values().flatten() {
            let version = |cell: &Cell| Version::of(&key, cell);
            let found = rows.get(&key).map(|found| version(found));
            if found < Some(version(&cell)) {
                rows.insert(key, cell);
            }
        }
    }
}
