//! The core of a replica: what to do next, and what has become of it. No thread, no I/O, no clock.
//!
//! Whoever drives it asks for the [next task](Core::next_task), does what that says, and tells the
//! core what came of it: a thread with a store does so, and a simulation with virtual time.
//!
//! A group of updates goes through the commit phases, and what is due through the apply phases; the
//! two are independent of each other.
//!
//! | commit phase | event | then |
//! |---|---|---|
//! | idle | a group is due, and there is room | `Append`: appending |
//! | appending | [`appended`](Core::appended) | its updates wait in the buckets: idle |
//! | appending | it failed | the replica has failed |
//!
//! | apply phase | event | then |
//! |---|---|---|
//! | idle | the watermark passes a bucket, or a whole second | joining |
//! | joining | some cells are joined into the tree | joining; after the last: covering |
//! | covering | some cells that are covered, or dead, leave the tree | covering; after the last: storing, or, without a store, idle or rooting |
//! | storing | [`stored`](Core::stored) | storing; after the last rows: idle, or, at a whole second, rooting |
//! | storing | it failed | the replica has failed |
//! | rooting | some nodes are hashed | rooting; after the last: idle, and `Tell` |
//! | idle | nothing is due, and the tree has changed | rooting, when it is time |
//!
//! Invariants: rows are the tree between batches, since a batch ends when its last rows are written;
//! nobody takes a snapshot before. A cell is in the memtable until then, so readers miss nothing. The
//! watermark does not pass an update that is not committed, but when there is no room: what comes
//! below the watermark is late.

mod batch;
mod collecting;
mod due;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use self::{batch::Batch, collecting::Collecting};
use super::{
    Discarded, Failure, Now,
    apply::{buckets::PendingBuckets, death_pace::DeathPace, watermark::cut_above},
    state::State,
    write::{
        deferral::WriteDeferral,
        group::Group,
        hand_over::Work,
        request::{Receiver, Request},
    },
};
use crate::{
    cell::{CellKey, Version},
    collection::kept::Kept,
    store::{RowBatch, StoreError, Versioned},
};

/// What is to be done next.
pub(crate) enum Task {
    /// Append the updates of the group that are the newest to the log, [acknowledge](State::acknowledge)
    /// the group, and call [`Core::appended`]. Other tasks may be done meanwhile.
    Append(Arc<Group>),
    /// Change rows, and call [`Core::stored`].
    Store(RowBatch),
    /// Tell whoever wants to know that a root was made, or that it covers more updates than before.
    Tell {
        /// Whether it was made just now.
        is_made: bool,
    },
    /// Send a snapshot: no batch is half applied.
    Checkpoint(Receiver),
    /// Look at cells that are said to be damaged.
    Mend(Vec<(CellKey, Version)>),
    /// Have the store keep this, call [`Core::collection_kept`], and tell whoever wants to know.
    Keep(Kept),
    /// Have the store set those of these cells aside that are to be, and call [`Core::set_aside`] with
    /// the keys of all that may go: those that cannot be read stay.
    SetAside(Vec<Discarded>),
    /// Forget what was folded of these cells' keys: some of their cells have gone.
    Refold(Vec<CellKey>),
    /// Ask again: something was done that took a bounded time.
    Again,
    /// Wait for the queue, or until then; for updates only if they may be committed.
    Wait(Option<Duration>, bool),
    /// Nothing more will come, or the replica has failed.
    End,
}

/// A group that is in the log, and not in rows yet.
struct Logged {
    number: u64,
    /// The watermark that applies the last of its updates.
    until: u64,
}

enum CommitPhase {
    Idle,
    Appending(Arc<Group>),
}

enum ApplyPhase {
    Idle,
    Joining(Box<Batch>),
    Covering(Box<Batch>),
    Storing(Box<Batch>),
    Rooting,
}

pub(crate) struct Core {
    state: Arc<State>,
    /// Whether there is a store. If not, the tree holds the cells.
    has_rows: bool,
    commit: CommitPhase,
    apply: ApplyPhase,
    buckets: PendingBuckets,
    /// Groups that are in the log and not in rows, ascending.
    logged: VecDeque<Logged>,
    /// Cells that are to be applied before the next group is committed, if any are due: as many as
    /// were committed, so that what is pending does not grow for as long as there is more to commit.
    /// A cell that is taken out since another covers it counts, too, in the tree and in its row:
    /// else one delete that covers many would hold up all who write.
    owed: usize,
    deferral: WriteDeferral,
    /// The last update that is committed, and the last of which all up to it are in the tree, or wait
    /// for their time.
    committed: u64,
    applied: u64,
    /// Whether cells die; and the watermark at which something may die next.
    has_lifetimes: bool,
    next_death: Option<u64>,
    death_pace: DeathPace,
    /// If anything is to be collected.
    collecting: Option<Collecting>,
    /// Something was applied, and time may have passed since.
    has_applied: bool,
    /// Since when the tree is not any more as it was when the root was made, if it is not.
    stale_since: Option<Duration>,
    /// When something was applied last.
    applied_at: Duration,
    requests: VecDeque<Request>,
    /// Those who wait for a snapshot, and the watermark at which theirs is taken.
    checkpoints: Vec<(u64, Receiver)>,
    is_closing: bool,
}

impl Core {
    pub(crate) fn new(state: Arc<State>, has_rows: bool) -> Self {
        let watermark = state.applied().cut();
        let sift_bytes = state.tuning.sift_bytes;
        let (next_death, deaths_until) = {
            let applied = state.applied();
            (applied.deaths().next_cut(), applied.deaths().until())
        };
        let death_pace = DeathPace::new(deaths_until, state.options.max_clock_drift);
        let has_lifetimes = !state.lifetimes.is_empty();
        let collecting = Collecting::begin(&state);
        let core = Self {
            state,
            has_rows,
            commit: CommitPhase::Idle,
            apply: ApplyPhase::Idle,
            buckets: PendingBuckets::new(watermark, sift_bytes),
            logged: VecDeque::new(),
            owed: 0,
            deferral: WriteDeferral::default(),
            committed: 0,
            applied: 0,
            has_lifetimes,
            next_death,
            death_pace,
            collecting,
            has_applied: false,
            stale_since: None,
            applied_at: Duration::ZERO,
            requests: VecDeque::new(),
            checkpoints: Vec::new(),
            is_closing: false,
        };
        core.tell_next_cut();
        core
    }

    /// What is to be done now. Takes a bounded time.
    pub(crate) fn next_task(&mut self, now: Now) -> Task {
        if self.state.commits.failure().is_some() {
            return Task::End;
        }
        // Of what is due at once, because it was late, nothing is left out; and updates that come
        // without a pause put nothing off.
        let attended = match self.is_apply_due(now) {
            true => None,
            false => self.attend(now),
        };
        let next = attended.or_else(|| self.commit_next(now));
        let next = next.or_else(|| self.apply_next(now));
        if let Some(task) = next.or_else(|| self.collect_next(now)) {
            return task;
        }
        let is_idle = matches!(self.commit, CommitPhase::Idle);
        if self.is_closing && is_idle && !self.is_apply_due(now) {
            return Task::End;
        }
        let may_commit = is_idle && !self.is_overfull();
        Task::Wait(self.wake_at(now), may_commit)
    }

    /// Takes a group, if one is due.
    fn commit_next(&mut self, now: Now) -> Option<Task> {
        let is_busy = matches!(self.commit, CommitPhase::Appending(_));
        if is_busy || (self.owed > 0 && self.is_apply_due_now(now)) {
            return None;
        }
        let Work {
            group,
            requests,
            is_last,
        } = self.state.queue.take(now.monotonic, !self.is_overfull());
        let is_asked = !requests.is_empty();
        self.requests.extend(requests);
        self.is_closing |= is_last;
        let Some(mut group) = group else {
            return is_asked.then_some(Task::Again);
        };
        if group.is_sifted() {
            group.sift();
        }
        let tuning = &self.state.tuning;
        let updates = group.updates.len();
        self.deferral
            .taken(updates, group.bytes, now.monotonic, tuning);
        let is_logged = self.has_rows && group.updates.iter().any(|update| update.is_newest);
        if !is_logged {
            self.state.acknowledge(&group);
            self.hold(group);
            return Some(Task::Again);
        }
        let group = Arc::new(group);
        self.commit = CommitPhase::Appending(Arc::clone(&group));
        self.tell_next_cut();
        Some(Task::Append(group))
    }

    /// The group was appended to the log, with this number, and acknowledged; or that failed.
    pub(crate) fn appended(&mut self, number: Result<u64, StoreError>) {
        let CommitPhase::Appending(group) = std::mem::replace(&mut self.commit, CommitPhase::Idle)
        else {
            debug_assert!(false, "nothing is being appended");
            return;
        };
        let number = match number {
            Ok(number) => number,
            Err(error) => return self.state.fail(Failure::from(error)),
        };
        let newest = group.updates.iter().filter(|update| update.is_newest);
        let until = newest.map(|update| self.buckets.bucket_of(update.cell.timestamp.time));
        let until = until.max().unwrap_or(0);
        debug_assert!(
            self.logged
                .back()
                .is_none_or(|last| last.number + 1 == number),
            "groups are numbered without gaps"
        );
        self.logged.push_back(Logged { number, until });
        // Whoever appended it may not have let go of it yet.
        let group = Arc::try_unwrap(group).unwrap_or_else(|group| Group {
            updates: group.updates.clone(),
            ..*group
        });
        self.hold(group);
    }

    /// The updates of a committed group wait for the watermark.
    fn hold(&mut self, mut group: Group) {
        let is_sifted = group.is_sifted();
        self.owed = group.updates.len();
        self.committed = group.sequence;
        self.buckets.hold(&mut group.updates, is_sifted);
        self.state.queue.give_back(group.updates);
        self.tell_next_cut();
    }

    /// Does what waits until nothing is due.
    fn attend(&mut self, now: Now) -> Option<Task> {
        let is_idle = matches!(self.commit, CommitPhase::Idle);
        let request = match is_idle {
            true => self.requests.pop_front(),
            false => None,
        };
        match request {
            Some(Request::Checkpoint(receiver)) => {
                // What is acknowledged has a time up to now, but for what is ahead of the clock.
                let until = self.buckets.last_cut().max(cut_above(now.clock));
                self.checkpoints.push((until, receiver));
                return Some(Task::Again);
            }
            Some(Request::Mend(cells)) => return Some(Task::Mend(cells)),
            Some(Request::Order(order)) => {
                self.ordered(order);
                return Some(Task::Again);
            }
            Some(Request::Collect) => {
                self.collect_now(now);
                return Some(Task::Again);
            }
            #[cfg(test)]
            Some(Request::Answer(sender)) => {
                sender.send(()).expect("awaited");
                return Some(Task::Again);
            }
            None => {}
        }
        let watermark = self.buckets.watermark();
        let ready = self
            .checkpoints
            .iter()
            .position(|(until, _)| *until <= watermark);
        if let Some(index) = ready {
            let (_, receiver) = self.checkpoints.swap_remove(index);
            return Some(Task::Checkpoint(receiver));
        }
        if self.is_extra_root_due(now) {
            self.apply = ApplyPhase::Rooting;
            return Some(Task::Again);
        }
        let is_stale = self.stale_since.is_some();
        if !is_stale && self.state.roots().covered() < self.committed {
            self.state.roots_mut().set_covered(self.committed);
            return Some(Task::Tell { is_made: false });
        }
        None
    }

    /// Whether more is pending than may be, and some of that waits for the watermark: when there is
    /// room again, more is committed.
    fn is_overfull(&self) -> bool {
        let is_waiting = self.buckets.next_cut().is_some() || self.batch().is_some();
        is_waiting && self.state.queue.is_overfull(self.buckets.value_bytes())
    }

    /// Beyond this the root says nothing: something with an earlier time is not in the tree, or may
    /// not be.
    fn tell_next_cut(&self) {
        let batch = self.batch().map(|batch| batch.first);
        let appending = self.appending().map(|group| &group.updates).into_iter();
        let appending = appending.flatten().map(|update| update.cell.timestamp.time);
        let appending = appending.min().map(|time| self.buckets.bucket_of(time));
        let next = self.buckets.next_cut().into_iter();
        let next = next.chain(batch).chain(appending);
        let next = next.chain(self.next_death).min();
        self.state.roots_mut().set_next_cut(next);
    }

    fn appending(&self) -> Option<&Group> {
        match &self.commit {
            CommitPhase::Idle => None,
            CommitPhase::Appending(group) => Some(group),
        }
    }

    fn batch(&self) -> Option<&Batch> {
        match &self.apply {
            ApplyPhase::Joining(batch)
            | ApplyPhase::Covering(batch)
            | ApplyPhase::Storing(batch) => Some(batch),
            ApplyPhase::Idle | ApplyPhase::Rooting => None,
        }
    }
}

/// Where the cells go that readers find in the store from now on.
pub(crate) type Cached<'a> = &'a dyn Fn(&mut dyn Iterator<Item = Versioned>);
