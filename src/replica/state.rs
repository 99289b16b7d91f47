//! What readers, writers and the core of a replica share. In memory; no I/O and no clock.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use parking_lot::RwLock as FairLock;

use super::{
    apply::{
        entry::TreeEntry,
        tree::AppliedTree,
        watermark::{cut_at, cut_below},
    },
    counters::Counters,
    integrity::quarantine::Quarantine,
    read::liveness::KeyLiveness,
    write::{acks::CommitTracker, group::Group, queue::WriteQueue, refusals::Refusals},
    Failure, Options, RootHistory, Tree, Tuning,
};
use crate::cell::{Cell, CellKey, Key, Part, Timestamp, Version};

pub(crate) struct State {
    /// Of the storage, for the log.
    pub(super) name: String,
    pub(super) options: Options,
    pub(super) tuning: Tuning,
    pub(super) queue: WriteQueue,
    /// Fair, as it is written to again and again: with the standard library's lock a reader waited
    /// for a third of a second while a set of 300,000 elements was deleted, with this one for a step.
    pub(super) tree: FairLock<AppliedTree>,
    pub(super) roots: RwLock<RootHistory>,
    pub(super) quarantine: Quarantine,
    pub(super) commits: Arc<CommitTracker>,
    pub(super) counters: Counters,
    pub(super) refusals: Refusals,
}

impl State {
    pub(super) fn new(
        name: &str,
        options: Options,
        tuning: Tuning,
        tree: AppliedTree,
        put_rules: Vec<(CellKey, Arc<Cell>)>,
        quarantined: Vec<(CellKey, Version)>,
    ) -> Self {
        // The commit itself takes time: begun at half of the interval, it is over by the end of it,
        // unless the disk is slow; then writers wait. And what is not committed holds the watermark
        // back, which is not to be noticed.
        let linger = options.sync_every.min(options.settle) / 2;
        let mut rules = tree.delete_rules();
        put_rules.iter().for_each(|(key, put)| rules.join(key, put));
        Self {
            name: name.to_owned(),
            options,
            tuning,
            queue: WriteQueue::new(tuning, linger, tree.cut(), tree.merged_keys(), rules),
            roots: RwLock::new(RootHistory::new(tree.publish(), options.keep_changes)),
            tree: FairLock::new(tree),
            quarantine: Quarantine::new(quarantined),
            commits: Arc::default(),
            counters: Counters::default(),
            refusals: Refusals::default(),
        }
    }

    /// The tree, as it is now, be a batch half applied. What is done with it keeps nobody waiting.
    pub(super) fn current_tree(&self) -> Tree {
        self.applied().tree()
    }

    pub(super) fn applied(&self) -> parking_lot::RwLockReadGuard<'_, AppliedTree> {
        self.tree.read()
    }

    pub(super) fn applied_mut(&self) -> parking_lot::RwLockWriteGuard<'_, AppliedTree> {
        self.tree.write()
    }

    pub(super) fn roots(&self) -> RwLockReadGuard<'_, RootHistory> {
        self.roots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn roots_mut(&self) -> RwLockWriteGuard<'_, RootHistory> {
        self.roots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cut when the clock shows `now`: what has a time below it is applied, or about to be.
    pub(super) fn cut_at(&self, now: u64) -> u64 {
        let held = self.queue.earliest_uncommitted().map(cut_below);
        let cut = cut_at(now, self.options.settle);
        held.map_or(cut, |held| cut.min(held))
    }

    /// When the newest cell of `key` was written, be it pending or in the tree.
    pub(super) fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        match self.queue.look_up(key) {
            (_, Some(pending)) => Some(pending.timestamp),
            (_, None) => self.applied().get(key).map(TreeEntry::timestamp),
        }
    }

    /// As [`newest`](Self::newest); or when the newest delete rule was written that matches the key,
    /// if that is later. A cell that is not newer is not taken.
    pub(super) fn newest_or_covering(&self, key: &CellKey) -> Option<Timestamp> {
        let rules = self.queue.rules();
        self.newest(key).max(rules.deleted(&key.key))
    }

    /// When the cells of a key were written that are pending or settled: enough to say whether it
    /// has a value. O(log n).
    pub(super) fn liveness(&self, key: &Key) -> KeyLiveness {
        // First what is pending, then what is settled: what settles between is in both.
        let mut timestamps = self.queue.liveness(key);
        let settled = self.applied();
        if let Some(own) = settled.get(&CellKey::own(key.clone())) {
            timestamps.see(&Part::EMPTY, own.timestamp(), own.is_tombstone());
        }
        if let Some(newest) = settled.newest_part(key) {
            timestamps.see_part(newest);
        }
        timestamps
    }

    /// Tells those who wait for a group that it is committed.
    pub(super) fn acknowledge(&self, group: &Group) {
        let newest = group.updates.iter().filter(|update| update.is_newest);
        self.counters.commits.add();
        self.counters.committed_cells.add_many(newest.count());
        self.queue.committed();
        self.commits.done(group.sequence);
    }

    /// Nothing is taken any more before anyone hears of the failure.
    pub(super) fn fail(&self, failure: Failure) {
        self.queue.close();
        self.commits.fail(failure);
    }

    /// The core has ended: nobody waits for more than is there. Why, if it failed.
    pub(super) fn end(&self) -> Option<Arc<Failure>> {
        self.queue.close();
        // Nobody answers these any more.
        drop(self.queue.take_requests());
        let failure = self.commits.failure();
        if failure.is_some() {
            self.queue.gate.abandon();
        }
        failure
    }
}
