//! What readers, writers and the core of a replica share. In memory; no I/O and no clock.

use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use parking_lot::RwLock as FairLock;

use super::{
    Failure, Options, Refusal, RootHistory, Tree, Tuning,
    apply::{
        entry::TreeEntry,
        tree::AppliedTree,
        watermark::{cut_at, cut_below},
    },
    counters::Counters,
    integrity::quarantine::Quarantine,
    read::liveness::KeyLiveness,
    write::{acks::CommitTracker, group::Group, queue::WriteQueue, refusals::Refusals},
};
use crate::{
    cell::{Cell, CellKey, Key, Part, Timestamp, Version, ntp64_span},
    collection::kept::Kept,
    merge::Lifetimes,
};

/// Called with the values whose lifetime is over.
pub(super) type OnDead = Box<dyn Fn(&[(CellKey, Timestamp)]) + Send + Sync>;

/// Seconds that the floor may be behind the clock without a word.
const MAX_QUIET_HELD: u64 = 3600;

/// Seconds between two lines of the log on writes that were dead when they came.
const TOLD_AT_MOST_EVERY: u64 = 60;

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
    /// How long cells are kept.
    pub(super) lifetimes: Arc<Lifetimes>,
    pub(super) on_dead: OnceLock<OnDead>,
    /// The latest cut by another clock, when the own clock agreed with it.
    witnessed: AtomicU64,
    /// By how much deaths are behind the clock, as that leapt.
    held_deaths: AtomicU64,
    /// When it was last said that what came was dead, in seconds on the monotonic clock.
    told_dead: AtomicU64,
    /// Whether it was said that puts are hidden whose keys have no lifetime.
    told_ttl: AtomicBool,
    /// The same of writes that are older than what has been collected.
    told_late: AtomicU64,
    /// The same of a clock that is behind.
    pub(super) told_behind: AtomicU64,
    /// How far the collection is.
    pub(super) collection: Collection,
}

/// How far the collection of a storage is, for the status.
#[derive(Debug, Default)]
pub(super) struct Collection {
    /// What is on the disk.
    kept: RwLock<Kept>,
    /// What is stamped below it and collectable leaves the tree, or has left it.
    pub(super) horizon: AtomicU64,
    pub(super) phase: AtomicU8,
    /// By how much the floor is behind the clock, as that leapt.
    pub(super) held: AtomicU64,
}

impl Collection {
    pub(super) fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is on the disk.
    pub(super) fn keep(&self, kept: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}

impl State {
    pub(super) fn new(
        name: &str,
        options: Options,
        tuning: Tuning,
        tree: AppliedTree,
        put_rules: Vec<(CellKey, Arc<Cell>)>,
        quarantined: Vec<(CellKey, Version)>,
        kept: Kept,
    ) -> Self {
        // The commit itself takes time: begun at half of the interval, it is over by the end of it,
        // unless the disk is slow; then writers wait. And what is not committed holds the watermark
        // back, which is not to be noticed.
        let linger = options.sync_every.min(options.settle) / 2;
        let mut rules = tree.delete_rules();
        put_rules.iter().for_each(|(key, put)| rules.join(key, put));
        let queue = WriteQueue::new(tuning, linger, tree.cut(), tree.merged_keys(), rules);
        queue.raise_floor(kept.floor);
        Self {
            name: name.to_owned(),
            options,
            tuning,
            queue,
            lifetimes: Arc::clone(tree.deaths().lifetimes()),
            on_dead: OnceLock::new(),
            witnessed: AtomicU64::new(0),
            held_deaths: AtomicU64::new(0),
            told_dead: AtomicU64::new(0),
            told_ttl: AtomicBool::new(false),
            told_late: AtomicU64::new(0),
            told_behind: AtomicU64::new(0),
            collection: Collection {
                horizon: AtomicU64::new(match options.keep_changes {
                    true => kept.horizon,
                    false => kept.floor,
                }),
                kept: RwLock::new(kept),
                ..Collection::default()
            },
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

    /// One of many steps that change the tree. Readers that wait are next: without that, whoever takes
    /// the next step has the lock again before they are awake, and they wait for many.
    pub(super) fn change_tree<T>(&self, step: impl FnOnce(&mut AppliedTree) -> T) -> T {
        let mut tree = self.applied_mut();
        let changed = step(&mut tree);
        parking_lot::RwLockWriteGuard::unlock_fair(tree);
        changed
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
    /// if that is later, or until when what the key had is dead. A cell that is not newer is not taken.
    pub(super) fn newest_or_covering(&self, key: &CellKey) -> Option<Timestamp> {
        let rules = self.queue.rules();
        let newest = self.newest(key).max(rules.deleted(&key.key));
        newest.max(self.dead(&key.key))
    }

    /// What is not newer than this is dead in the tree.
    fn dead(&self, key: &Key) -> Option<Timestamp> {
        let lifetime = self.lifetimes.of(key)?;
        lifetime.dead(self.applied().deaths().until())
    }

    /// A write was not taken: counts it if that is since its lifetime is over.
    pub(super) fn count_if_dead(&self, key: &Key, timestamp: Timestamp) {
        if self.dead(key) < Some(timestamp) {
            return;
        }
        self.counters.dead.add();
        if self.is_to_be_told(&self.told_dead) {
            let storage = &self.name;
            tracing::warn!(
                "storage '{storage}': dropped a write of '{key}' stamped {timestamp}: its lifetime was \
                 over before it came; is the clock of its writer right? (told once a minute; the status \
                 counts them)"
            );
        }
    }

    /// A put is hidden after some time, and its key has no lifetime.
    pub(super) fn count_ttl_without_lifetime(&self, key: &Key) {
        self.counters.ttl_without_lifetime.add();
        if !self.told_ttl.swap(true, Ordering::Relaxed) {
            let storage = &self.name;
            tracing::warn!(
                "storage '{storage}': a put of '{key}' has a `ttl=`, and its key no lifetime: it will be \
                 hidden, and never leave memory and disk; add `lifetimes: {{ \"{key}\": \"1h\" }}`, \
                 or what suits such keys (told once; the status counts them)"
            );
        }
    }

    /// A write is refused since it is older than what has been collected, or may be.
    pub(super) fn count_late(&self, key: &Key, refusal: &Refusal) {
        self.counters.refused_late.add();
        if self.is_to_be_told(&self.told_late) {
            let storage = &self.name;
            tracing::warn!(
                "storage '{storage}': refused a write of '{key}': {refusal} (told once a minute; the \
                 status counts them as `refused_late`)"
            );
        }
    }

    /// Whether something is to be told now that is told once a minute, and was last at `told`.
    pub(super) fn is_to_be_told(&self, told: &AtomicU64) -> bool {
        let now = self.queue.now().as_secs() + TOLD_AT_MOST_EVERY;
        let last = told.load(Ordering::Relaxed);
        let is_due = last == 0 || last + TOLD_AT_MOST_EVERY <= now;
        let relaxed = Ordering::Relaxed;
        is_due && told.compare_exchange(last, now, relaxed, relaxed).is_ok()
    }

    /// Another clock shows `theirs`, and the own one `own`: if they agree, what is dead by
    /// that time may go.
    pub(super) fn witness(&self, theirs: u64, own: u64) {
        self.tell_if_behind(own, theirs, "that of another replica");
        let apart = theirs.abs_diff(own);
        if self.lifetimes.is_empty() || apart > ntp64_span(self.options.max_clock_drift) {
            return;
        }
        let cut = cut_at(theirs, self.options.settle);
        self.witnessed.fetch_max(cut, Ordering::Relaxed);
        if self.held_deaths.load(Ordering::Relaxed) > 0 {
            self.queue.nudge();
        }
    }

    pub(super) fn witnessed(&self) -> u64 {
        self.witnessed.load(Ordering::Relaxed)
    }

    pub(super) fn set_held_deaths(&self, held: u64) {
        if self.held_deaths.swap(held, Ordering::Relaxed) == 0 && held > 0 {
            let (storage, seconds) = (&self.name, held >> 32);
            tracing::warn!(
                "storage '{storage}': the clock is {seconds} s ahead of what anything else says: what \
                 has a lifetime is not shown by that clock, but leaves the disk no faster than 8 times \
                 the time that passes, until another clock confirms it"
            );
        }
    }

    /// The watermark by which what is dead has left the tree; 0 if no key has a lifetime.
    pub(super) fn died_until(&self) -> u64 {
        match self.lifetimes.is_empty() {
            true => 0,
            false => self.applied().deaths().until(),
        }
    }

    /// By how much deaths are behind the clock, in NTP64.
    pub(super) fn held_deaths(&self) -> u64 {
        self.held_deaths.load(Ordering::Relaxed)
    }

    /// By how much the floor is behind the clock.
    pub(super) fn set_held_floor(&self, held: u64) {
        if self.collection.held.swap(held, Ordering::Relaxed) == 0 && held >> 32 > MAX_QUIET_HELD {
            let (storage, seconds) = (&self.name, held >> 32);
            tracing::warn!(
                "storage '{storage}': the clock is {seconds} s ahead of the last write that is stored: \
                 what was deleted is collected by that clock no faster than 8 times the time that \
                 passes; if it is right, `mstctl collect now` says so"
            );
        }
    }

    pub(super) fn tell_dead(&self, dead: &[(CellKey, Timestamp)]) {
        if let Some(tell) = self.on_dead.get() {
            tell(dead);
        }
    }

    /// When the cells of a key were written that are pending or settled: enough to say whether it
    /// has a value. O(log n).
    pub(super) fn liveness(&self, key: &Key) -> KeyLiveness {
        // First what is pending, then what is settled: what settles between is in both.
        let mut timestamps = self.queue.liveness(key);
        let settled = self.applied();
        if let Some(own) = settled.get(&CellKey::own(key.clone())) {
            timestamps.see(&Part::EMPTY, own.timestamp(), own.shown_until());
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
        self.queue.take_no_more();
        self.commits.fail(failure);
    }

    /// The core has ended: nobody waits for more than is there. Why, if it failed.
    pub(super) fn end(&self) -> Option<Arc<Failure>> {
        self.queue.take_no_more();
        // Nobody answers these any more.
        drop(self.queue.take_requests());
        let failure = self.commits.failure();
        if failure.is_some() {
            self.queue.gate.abandon();
        }
        failure
    }
}
