//! What the tree says, compared with what the disk has.
//!
//! A cell that is not on the disk as the tree says is *mended* by the thread that
//! commits, so that nothing else is written meanwhile: a tombstone is written anew,
//! since the tree knows all of it, and so is a value that is still in memory. Any
//! other goes into quarantine, and out of the tree: the root then says what this
//! replica really holds, so the other replicas' roots differ, and the next pull
//! fetches the cell again. Until then the key is not read as if it had no value: a
//! read fails and says why.

pub(in crate::replica) mod quarantine;
mod tidying;

use std::{fmt, ops::Bound, sync::Arc};

use super::{Replica, ReplicaError, Shared, Snapshot, Tree, TreeEntry, write::request::Request};
use crate::{
    cell::{Cell, CellKey, Part, Timestamp, Version},
    merge::fields_around,
    mst::Violation,
    store::StoreError,
};

/// A cell that the disk does not have as the tree says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The cell's key.
    pub key: CellKey,
    /// What the tree says of it.
    pub version: Version,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            version,
            reason,
        } = self;
        write!(f, "'{}'", key.key)?;
        if !key.part.is_empty() {
            let part = crate::hex::encode(key.part.as_bytes());
            write!(f, ", part {part}")?;
        }
        write!(f, ", written at {}: {reason}", version.timestamp)
    }
}

/// What came of looking at some cells.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Cells that were looked at.
    pub checked: usize,
    /// Those that are damaged. Mending them has been begun.
    pub damaged: Vec<Damage>,
    /// Where to go on; nothing at the end.
    pub next: Option<CellKey>,
}

impl Replica {
    /// Compares at most `most` cells of the tree, those above `after`, with what is
    /// on the disk, and begins to mend what is damaged. Blocks on disk.
    ///
    /// # Errors
    /// If the disk cannot be read for another reason than that it is damaged.
    pub fn scrub(&self, after: Option<&CellKey>, most: usize) -> Result<Scrubbed, StoreError> {
        self.scrub_tree(&self.shared.state.current_tree(), after, most)
    }

    /// As [`scrub`](Self::scrub), of a tree that the replica has had. Ends early if the replica is
    /// being closed.
    ///
    /// # Errors
    /// As of [`scrub`](Self::scrub).
    pub fn scrub_tree(
        &self,
        tree: &Tree,
        after: Option<&CellKey>,
        most: usize,
    ) -> Result<Scrubbed, StoreError> {
        let shared = &*self.shared;
        let mut scrubbed = Scrubbed {
            next: after.cloned(),
            ..Scrubbed::default()
        };
        let low = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let Ok(mut cells) = tree.range((low, Bound::Unbounded));
        while scrubbed.checked < most && !self.is_closing() {
            let Some(Ok((key, held))) = cells.next() else {
                break;
            };
            scrubbed.checked += 1;
            scrubbed.next = Some(key.clone());
            if let Some(reason) = shared.is_damaged(key, &held.version())? {
                scrubbed.damaged.push(Damage {
                    key: key.clone(),
                    version: held.version(),
                    reason,
                });
            }
        }
        if cells.next().is_none() {
            scrubbed.next = None;
        }
        shared.state.counters.scrubbed.add_many(scrubbed.checked);
        if !scrubbed.damaged.is_empty() {
            let damaged = scrubbed.damaged.iter();
            self.mend(damaged.map(|damage| (damage.key.clone(), damage.version)));
        }
        Ok(scrubbed)
    }

    /// Verifies the tree in memory: its order, its shape and all of its hashes.
    /// O(n).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_tree(tree: &Tree) -> Result<(), Violation> {
        let Ok(checked) = tree.check();
        checked
    }

    /// Has the thread look at cells that are said to be damaged, and mend those
    /// that are.
    pub fn mend(&self, cells: impl Iterator<Item = (CellKey, Version)>) {
        self.shared
            .state
            .queue
            .request(Request::Mend(cells.collect()));
    }

    /// Cells in quarantine, and what the tree said of them.
    #[must_use]
    pub fn quarantined(&self) -> Vec<(CellKey, Version)> {
        self.shared.state.quarantine.list()
    }

    /// The first cells in quarantine, by key, and no more than so many.
    #[must_use]
    pub fn first_quarantined(&self, most: usize) -> Vec<(CellKey, Version)> {
        self.shared.state.quarantine.first(most)
    }

    /// How many cells are in quarantine. O(1).
    #[must_use]
    pub fn quarantined_cells(&self) -> usize {
        self.shared.state.quarantine.len()
    }

    /// All cells as they are at a cut of about now, while writes go on: all that was
    /// acknowledged before is in it. Waits until that has settled, which takes about
    /// the settle time, or for longer if something has a timestamp ahead of the clock.
    ///
    /// # Errors
    /// If the replica failed or is closed.
    pub fn checkpoint(&self) -> Result<Snapshot, ReplicaError> {
        let (sender, made) = std::sync::mpsc::sync_channel(1);
        self.shared.state.queue.request(Request::Checkpoint(sender));
        made.recv().unwrap_or_else(|_| {
            self.shared.state.commits.check()?;
            Err(ReplicaError::Closed)
        })
    }
}

impl Shared {
    /// What is wrong with the cell of which the tree says this, if anything is.
    pub(in crate::replica) fn is_damaged(
        &self,
        key: &CellKey,
        version: &Version,
    ) -> Result<Option<String>, StoreError> {
        if !self.store.keeps_cells() {
            let held = self.state.applied().get(key).cloned();
            let held = held.filter(|held| held.version() == *version);
            let is_whole = held.is_none_or(|held| held.is_whole(key));
            return Ok((!is_whole).then(|| "it is not in memory as it was hashed".to_owned()));
        }
        // Rows follow the tree: while a cell is pending its row need not be there.
        let has_row = self.state.queue.is_applied(key);
        match self.store.view().read(key) {
            // It may be a later one.
            Ok(Some((_, found))) if found >= *version => Ok(None),
            Ok(_) if !has_row => Ok(None),
            Ok(Some((_, found))) => Ok(Some(format!(
                "the disk has an older version of it, of {}",
                found.timestamp
            ))),
            // It may have been covered, and removed, since the tree was taken.
            Ok(None) if self.state.applied().get(key).map(TreeEntry::version) != Some(*version) => {
                Ok(None)
            }
            Ok(None) => Ok(Some("it is not on the disk".to_owned())),
            Err(error) if error.is_damage() => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// The settled cell of `key`, if it is not a value in a store.
    pub(in crate::replica) fn held_cell(&self, key: &CellKey) -> Option<Arc<Cell>> {
        self.state.applied().get(key).and_then(TreeEntry::cell)
    }

    /// The cell that the tree says is at `key`, if it can be had without the disk.
    pub(in crate::replica) fn known(&self, key: &CellKey, version: &Version) -> Option<Arc<Cell>> {
        if version.tombstone {
            return Some(Arc::new(Cell::tombstone(version.timestamp)));
        }
        if key.key.is_pattern() {
            // Rules are in memory.
            let rules = self.state.queue.rules();
            let put = rules.put_rule(key);
            let put = put.filter(|put| Version::of(key, put) == *version);
            return put.map(Arc::clone);
        }
        let held = self.held_cell(key);
        let cell = held.or_else(|| self.store.peek(key, *version))?;
        (Version::of(key, &cell) == *version).then_some(cell)
    }

    /// When the newest was written of the key's own cell and those of the fields that it is within, be
    /// they pending or settled, if `key` is another cell.
    pub(in crate::replica) fn own_timestamp(&self, key: &CellKey) -> Option<Timestamp> {
        if key.part == Part::EMPTY {
            return None;
        }
        let fields = fields_around(key.part.as_bytes()).map(Part::from);
        let pending = fields.chain([Part::EMPTY]).filter_map(|part| {
            let key = key.key.clone();
            let own = CellKey { key, part };
            self.state.queue.look_up(&own).1.map(|cell| cell.timestamp)
        });
        pending.max().max(self.state.applied().covering(key))
    }
}
