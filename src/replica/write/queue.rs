//! The hand-over from those who write to the thread that commits.
//!
//! Nobody looks into the tree or the store while the queue is locked, and nobody hashes. An update
//! that comes *late*, its time being below the watermark, may be older than what the tree has. So its
//! writer looks that up before, and again if a batch was applied meanwhile. Likewise it hashes what
//! bears the timestamp of another update, before it takes the lock again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use smallvec::SmallVec;

use super::{
    batch_gate::BatchGate,
    group::Group,
    memtable::{Memtable, Tie},
    request::Request,
    state::{Offer, Offers, State, Ties},
};
use crate::{
    cell::{Cell, CellKey, Key, Part, Timestamp},
    merge::shown_until,
    replica::{
        Queues, Tuning,
        apply::tree::{AppliedTree, Verdict},
        read::{fold_cache::FoldSlot, liveness::KeyLiveness},
    },
    wildcard::WildcardRules,
};

/// What a write has to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Fence {
    /// Nothing.
    Open,
    /// It is a client's: it must not be below the floor.
    Floor,
    /// Another replica sent it, which was asked when this was the horizon: it has to be that still.
    Horizon(u64),
}

/// What came of a write that was offered.
pub(in crate::replica) enum Taken {
    /// No updates are taken any more.
    Closed,
    /// The tree has later ones; or it was asked for at another horizon.
    Outdated,
    /// It is stamped below the floor.
    Late {
        key: Key,
        timestamp: Timestamp,
        floor: u64,
    },
    Yes {
        sequence: u64,
        /// False if a later one is pending.
        is_newest: bool,
        /// Whether the writer is to wait for the commit.
        wait: bool,
        /// Whether more is queued than may be.
        is_full: bool,
    },
}

pub(in crate::replica) struct WriteQueue {
    pub(super) tuning: Tuning,
    /// How long an update waits for others at the most.
    pub(super) linger: Duration,
    started: Instant,
    pub(super) state: Mutex<State>,
    /// There is something for the thread to do.
    pub(super) wake: Condvar,
    /// Something was applied.
    pub(super) applied: Condvar,
    is_closing: AtomicBool,
    /// Keeps those out who want to see no half of a batch.
    pub(in crate::replica) gate: BatchGate,
}

impl WriteQueue {
    /// `merged` are the keys of which the tree has cells beside their own; `rules` are those that
    /// it has.
    pub(in crate::replica) fn new<'a>(
        tuning: Tuning,
        linger: Duration,
        watermark: u64,
        merged: impl Iterator<Item = &'a Key>,
        rules: WildcardRules,
    ) -> Self {
        let mut memtable = Memtable::with_rules(rules);
        merged.for_each(|key| memtable.merged(key.clone()));
        Self {
            tuning,
            linger,
            started: Instant::now(),
            state: Mutex::new(State {
                memtable,
                queued: Group::default(),
                group: 0,
                spare: Vec::new(),
                committing: 0,
                committing_bytes: 0,
                committing_earliest: None,
                since: None,
                committing_since: None,
                sequence: 0,
                watermark,
                floor: 0,
                horizon: 0,
                forgotten: 0,
                requests: Vec::new(),
                commit_now: false,
                is_closed: false,
                is_closing: false,
                is_nudged: false,
                is_asleep: false,
            }),
            wake: Condvar::new(),
            applied: Condvar::new(),
            is_closing: AtomicBool::new(false),
            gate: BatchGate::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time on the monotonic clock that all times here are of.
    pub(in crate::replica) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the cells of a write, all or none, if they pass the fence. The writer is to wait for the commit
    /// if the oldest update that is not committed came `patience` ago: so those that are acknowledged and not
    /// committed never span more than that. If it is zero the commit is not put off.
    pub(in crate::replica) fn offer(
        &self,
        offers: Offers,
        fence: Fence,
        patience: Duration,
        now: Duration,
        tree: &RwLock<AppliedTree>,
    ) -> Taken {
        let mut judged: Option<(u64, SmallVec<[Verdict; 1]>)> = None;
        let mut ties = Ties::new();
        let mut state = self.state();
        loop {
            if state.is_closed {
                return Taken::Closed;
            }
            // The floor does not rise between this and the taking: the lock is let go of only to come
            // back here.
            if let Fence::Horizon(asked) = fence
                && asked != state.horizon
            {
                return Taken::Outdated;
            }
            let floor = state.floor;
            let is_late = |(_, cell, _): &&Offer| cell.timestamp.time < floor;
            if floor > 0
                && fence == Fence::Floor
                && let Some((key, cell, _)) = offers.iter().find(is_late)
            {
                let (key, timestamp) = (key.key.clone(), cell.timestamp);
                return Taken::Late {
                    key,
                    timestamp,
                    floor,
                };
            }
            let is_judged = judged
                .as_ref()
                .is_some_and(|(forgotten, _)| *forgotten == state.forgotten);
            if !is_judged && offers.iter().any(|offer| state.is_late(offer)) {
                let forgotten = state.forgotten;
                drop(state);
                let tree = tree.read();
                let verdicts = offers.iter().map(|(key, cell, _)| tree.judge(key, cell));
                judged = Some((forgotten, verdicts.collect()));
                drop(tree);
            } else if let Some((index, pending)) = state.undecided_tie(&offers, &ties) {
                drop(state);
                let (key, cell, _) = &offers[index];
                ties.retain(|(other, _)| *other != index);
                ties.push((index, Tie::decide(key, cell, pending)));
            } else {
                break;
            }
            state = self.state();
        }
        let had = state.queued.updates.len();
        let mut is_newest = false;
        for (index, offer) in offers.into_iter().enumerate() {
            let verdict = match &judged {
                Some((_, verdicts)) if state.is_late(&offer) => verdicts[index],
                _ => Verdict::NEWER,
            };
            let tie = ties.iter().find(|(other, _)| *other == index);
            if let Verdict::Newer { is_tied } = verdict {
                is_newest |= state.take(offer, is_tied, tie.map(|(_, tie)| tie));
            }
        }
        let has = state.queued.updates.len();
        if has == had {
            return Taken::Outdated;
        }
        let is_durable = patience.is_zero();
        state.commit_now |= is_durable;
        let oldest = *state.since.get_or_insert(now);
        let oldest = state.committing_since.unwrap_or(oldest);
        let is_overdue = is_durable || now.saturating_sub(oldest) >= patience;
        let Tuning {
            group,
            max_queued,
            max_queued_bytes,
            ..
        } = self.tuning;
        let is_full = has > max_queued || state.queued.bytes > max_queued_bytes;
        let is_group = had < group && has >= group;
        if state.is_asleep || is_durable || is_group || is_full {
            state.is_asleep = false;
            self.wake.notify_one();
        }
        Taken::Yes {
            sequence: state.sequence,
            is_newest,
            wait: is_overdue || is_full,
            is_full,
        }
    }

    /// The floor.
    pub(in crate::replica) fn floor(&self) -> u64 {
        self.state().floor
    }

    /// Nothing is taken from now on that is fenced and below this. Returns the number of the last
    /// update that was taken before.
    pub(in crate::replica) fn raise_floor(&self, floor: u64) -> u64 {
        let mut state = self.state();
        state.floor = state.floor.max(floor);
        state.sequence
    }

    /// What was asked for at another horizon is not taken from now on. Returns the number of the last
    /// update that was taken before.
    pub(in crate::replica) fn set_horizon(&self, horizon: u64) -> u64 {
        let mut state = self.state();
        state.horizon = horizon;
        state.sequence
    }

    /// Whether a key has cells beside its own; and its newest own one that is pending.
    pub(in crate::replica) fn look_up(&self, key: &CellKey) -> (bool, Option<Arc<Cell>>) {
        let state = self.state();
        let is_merged = state.memtable.is_merged(&key.key);
        (is_merged, state.memtable.get(key).cloned())
    }

    /// As [`look_up`](Self::look_up), and the rules, if there are any.
    pub(in crate::replica) fn look_up_ruled(
        &self,
        key: &CellKey,
    ) -> (bool, Option<Arc<Cell>>, Option<Arc<WildcardRules>>) {
        let state = self.state();
        let is_merged = state.memtable.is_merged(&key.key);
        let rules = Some(state.memtable.rules()).filter(|rules| !rules.is_empty());
        let rules = rules.map(Arc::clone);
        (is_merged, state.memtable.get(key).cloned(), rules)
    }

    /// The rules, pending or applied.
    pub(in crate::replica) fn rules(&self) -> Arc<WildcardRules> {
        Arc::clone(self.state().memtable.rules())
    }

    /// A rule is not to be had any more, as if it had never come.
    pub(in crate::replica) fn lose_rule(&self, key: &CellKey) {
        self.state().memtable.lose_rule(key);
    }

    /// What is pending of the keys that `is_wanted`. O(all that is pending).
    pub(in crate::replica) fn pending_of(
        &self,
        is_wanted: impl Fn(&Key) -> bool,
    ) -> HashMap<Key, KeyLiveness, ahash::RandomState> {
        let state = self.state();
        let mut keys = HashMap::<_, KeyLiveness, _>::default();
        let is_wanted = |key: &Key| is_wanted(key) && !key.is_internal();
        for (key, cell) in state.memtable.iter().filter(|(key, _)| is_wanted(&key.key)) {
            let liveness = keys.entry(key.key.clone()).or_default();
            liveness.see(&key.part, cell.timestamp, shown_until(cell));
        }
        keys
    }

    /// Delete rules left the tree, which had these versions.
    pub(in crate::replica) fn rules_collected(&self, collected: &[(CellKey, Timestamp)]) {
        let mut state = self.state();
        for (key, timestamp) in collected {
            state.memtable.rule_collected(key, *timestamp);
        }
    }

    /// As [`Memtable::liveness`].
    pub(in crate::replica) fn liveness(&self, key: &Key) -> KeyLiveness {
        self.state().memtable.liveness(key)
    }

    /// As [`Memtable::begin_log`].
    pub(in crate::replica) fn begin_log(
        &self,
        key: &Key,
        reader: Option<&Arc<FoldSlot>>,
    ) -> Vec<(Part, Arc<Cell>)> {
        self.state().memtable.begin_log(key, reader)
    }

    #[cfg(test)]
    pub(in crate::replica) fn logged_bytes(&self) -> usize {
        self.state().memtable.logged_bytes()
    }

    /// As [`Memtable::drain_log`].
    pub(in crate::replica) fn drain_log(
        &self,
        key: &Key,
        reader: &Arc<FoldSlot>,
        max: usize,
    ) -> Option<Vec<(Part, Arc<Cell>)>> {
        self.state().memtable.drain_log(key, reader, max)
    }

    /// What is pending of each key.
    pub(in crate::replica) fn all_pending(&self) -> HashMap<Key, KeyLiveness, ahash::RandomState> {
        self.pending_of(|_| true)
    }

    pub(in crate::replica) fn queues(&self) -> Queues {
        let state = self.state();
        Queues {
            uncommitted: state.queued.updates.len() + state.committing,
            uncommitted_bytes: state.queued.bytes + state.committing_bytes,
            unsettled: state.memtable.len(),
        }
    }

    /// The earliest time of the updates that are not committed, but for late ones.
    pub(in crate::replica) fn earliest_uncommitted(&self) -> Option<u64> {
        let state = self.state();
        let earliest = state.committing_earliest.into_iter();
        earliest.chain(state.queued.earliest).min()
    }

    /// Has the thread commit what there is, and returns the number of the last of it.
    pub(in crate::replica) fn request_commit(&self) -> u64 {
        let mut state = self.state();
        state.commit_now = true;
        self.wake_up(&mut state);
        state.sequence
    }

    /// Asks the thread for something, to be done when what was handed over before is committed; it
    /// is dropped if nothing is taken any more.
    pub(in crate::replica) fn request(&self, request: Request) {
        let mut state = self.state();
        if !state.is_closed {
            state.requests.push(request);
            state.commit_now = true;
            self.wake_up(&mut state);
        }
    }

    /// Whether somebody closes the replica: whoever reads ends. A replica that has failed takes nothing
    /// any more, but can be read until it is closed.
    pub(in crate::replica) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Closes the replica.
    pub(in crate::replica) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.take_no_more();
    }

    /// Nothing is taken any more.
    pub(in crate::replica) fn take_no_more(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.wake_up(&mut state);
    }

    /// Whether nothing is taken any more.
    pub(in crate::replica) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Has the thread look at what there is to do, because something else has happened.
    pub(in crate::replica) fn nudge(&self) {
        let mut state = self.state();
        state.is_nudged = true;
        self.wake_up(&mut state);
    }

    pub(super) fn wake_up(&self, state: &mut State) {
        state.is_asleep = false;
        self.wake.notify_one();
    }

    pub(in crate::replica) fn wait_until_applied(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while !(state.queued.updates.is_empty() && state.memtable.is_empty()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.applied.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
