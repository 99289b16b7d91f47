//! The hand-over from those who write to the thread that commits.
//!
//! Nobody looks into the tree or the store while the queue is locked. An update that comes *late*,
//! its time being below the watermark, may be older than what the tree has. So its writer looks that
//! up before, and again if a batch was applied meanwhile.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::memtable::{bytes_of, Memtable, Offered};
use crate::{
    cell::{Cell, CellKey, Key, Part, Version},
    replica::{
        apply::tree::{AppliedTree, Verdict},
        core::Request,
        read::{fold_cache::FoldSlot, liveness::KeyLiveness},
        Queues, TreeEntry, Tuning,
    },
    store::Versioned,
};

/// Keys that are forgotten while writers wait.
const FORGOTTEN_AT_ONCE: usize = 64;

/// A cell on its way to the log and the tree.
#[derive(Clone, Debug)]
pub(in crate::replica) struct Update {
    pub(in crate::replica) key: CellKey,
    pub(in crate::replica) cell: Arc<Cell>,
    /// Its digest and version, if it was hashed before.
    pub(in crate::replica) version: Option<Box<Version>>,
    /// Whether it was, of all that had been offered, the newest of its key.
    pub(in crate::replica) is_newest: bool,
}

/// A cell that is offered, and its digest and version, if it was hashed before.
pub(in crate::replica) type Offer = (CellKey, Arc<Cell>, Option<Box<Version>>);

/// The cells of one write, which are taken together.
pub(in crate::replica) type Offers = SmallVec<[Offer; 1]>;

/// What came of a write that was offered.
pub(in crate::replica) enum Taken {
    /// No updates are taken any more.
    Closed,
    /// The tree has later ones.
    Outdated,
    Yes {
        sequence: u64,
        /// False if a later one is pending.
        is_newest: bool,
        /// Whether the writer is to wait for the commit.
        wait: bool,
    },
}

/// Updates that are committed together.
#[derive(Debug, Default)]
pub(in crate::replica) struct Group {
    pub(in crate::replica) updates: Vec<Update>,
    /// Memory that they take, about.
    pub(in crate::replica) bytes: usize,
    /// Updates in it that others in it overwrite, or that came after a later one.
    pub(in crate::replica) overwritten: usize,
    /// The number of the last of them.
    pub(in crate::replica) sequence: u64,
    /// The earliest time of those that are not late.
    pub(in crate::replica) earliest: Option<u64>,
}

impl Group {
    /// Whether so many updates were overwritten that it is worth the while to look for them.
    pub(in crate::replica) fn is_sifted(&self) -> bool {
        self.overwritten > self.updates.len() / 4
    }

    /// Of each cell leaves one update the newest: the log needs no other.
    pub(in crate::replica) fn sift(&mut self) {
        // Nobody can prepare keys that collide.
        let mut seen = HashSet::<CellKey, ahash::RandomState>::default();
        let newest = self.updates.iter_mut().rev();
        for update in newest.filter(|update| update.is_newest) {
            update.is_newest = seen.insert(update.key.clone());
        }
    }
}

/// What the queue has for the thread.
pub(in crate::replica) struct Work {
    pub(in crate::replica) group: Option<Group>,
    pub(in crate::replica) requests: Vec<Request>,
    /// Nothing more will come after the group.
    pub(in crate::replica) is_last: bool,
}

struct State {
    memtable: Memtable,
    /// What is queued, and the number of that group.
    queued: Group,
    group: u32,
    /// To be the room of the next queue.
    spare: Vec<Update>,
    /// Updates that are being committed.
    committing: usize,
    committing_bytes: usize,
    committing_earliest: Option<u64>,
    /// When the oldest of those that are queued came, and of those that are being committed.
    since: Option<Duration>,
    committing_since: Option<Duration>,
    /// The number of the last update that was taken, counted from 1.
    sequence: u64,
    watermark: u64,
    /// Batches of which something was forgotten: what was looked up in the tree before may have
    /// changed since, and nothing here tells.
    forgotten: u64,
    requests: Vec<Request>,
    commit_now: bool,
    is_closed: bool,
    /// The thread knows that it is closed.
    is_closing: bool,
    /// Something else has happened that the thread waits for.
    is_nudged: bool,
    /// Whether the thread waits without a time.
    is_asleep: bool,
}

impl State {
    fn is_late(&self, (key, cell, _): &Offer) -> bool {
        cell.timestamp.time < self.watermark && !self.memtable.contains(key)
    }

    /// True if it is the newest of its key.
    fn take(&mut self, (key, cell, version): Offer, is_tied: bool) -> bool {
        self.sequence += 1;
        let offered = self.memtable.offer(&key, &cell, is_tied, self.group);
        let is_newest = offered != Offered::Lost;
        let queued = &mut self.queued;
        queued.bytes += bytes_of(&key, &cell);
        queued.overwritten += usize::from(match offered {
            Offered::First => false,
            Offered::Newer(group) => group == self.group,
            Offered::Lost => true,
        });
        queued.sequence = self.sequence;
        let time = Some(cell.timestamp.time).filter(|time| *time >= self.watermark);
        queued.earliest = time.into_iter().chain(queued.earliest).min();
        queued.updates.push(Update {
            key,
            cell,
            version,
            is_newest,
        });
        is_newest
    }

    /// Whether what is queued is to be committed now: the oldest has waited for `linger`, or there
    /// are enough for a group, or someone asks for it.
    fn is_commit_due(&self, now: Duration, linger: Duration, tuning: &Tuning) -> bool {
        let is_asked = self.commit_now || self.is_closed;
        let has_lingered = || self.since.is_some_and(|since| since + linger <= now);
        !self.queued.updates.is_empty()
            && (is_asked || self.queued.updates.len() >= tuning.group || has_lingered())
    }
}

pub(in crate::replica) struct WriteQueue {
    tuning: Tuning,
    /// How long an update waits for others at the most.
    linger: Duration,
    started: Instant,
    state: Mutex<State>,
    /// There is something for the thread to do.
    wake: Condvar,
    /// Something was applied.
    applied: Condvar,
    batch: Mutex<BatchState>,
    batch_ended: Condvar,
}

/// What becomes of the batch that is being applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchState {
    /// There is none.
    None,
    /// It is half applied.
    Half,
    /// It was cut off by a failure, and stays half applied.
    CutOff,
}

impl WriteQueue {
    /// `merged` are the keys of which the tree has cells beside their own.
    pub(in crate::replica) fn new<'a>(
        tuning: Tuning,
        linger: Duration,
        watermark: u64,
        merged: impl Iterator<Item = &'a Key>,
    ) -> Self {
        let mut memtable = Memtable::default();
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
            batch: Mutex::new(BatchState::None),
            batch_ended: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time on the monotonic clock that all times here are of.
    pub(in crate::replica) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the cells of a write, all or none. The writer is to wait for the commit if the oldest
    /// update that is not committed came `patience` ago: so those that are acknowledged and not
    /// committed never span more than that. If it is zero the commit is not put off.
    pub(in crate::replica) fn offer(
        &self,
        offers: Offers,
        patience: Duration,
        now: Duration,
        tree: &RwLock<AppliedTree>,
    ) -> Taken {
        let mut judged: Option<(u64, SmallVec<[Verdict; 1]>)> = None;
        let mut state = self.state();
        loop {
            if state.is_closed {
                return Taken::Closed;
            }
            let is_judged = judged
                .as_ref()
                .is_some_and(|(forgotten, _)| *forgotten == state.forgotten);
            if is_judged || !offers.iter().any(|offer| state.is_late(offer)) {
                break;
            }
            let forgotten = state.forgotten;
            drop(state);
            let tree = tree.read().unwrap_or_else(PoisonError::into_inner);
            let verdicts = offers.iter().map(|(key, cell, _)| tree.judge(key, cell));
            judged = Some((forgotten, verdicts.collect()));
            drop(tree);
            state = self.state();
        }
        let had = state.queued.updates.len();
        let mut is_newest = false;
        for (index, offer) in offers.into_iter().enumerate() {
            let verdict = match &judged {
                Some((_, verdicts)) if state.is_late(&offer) => verdicts[index],
                _ => Verdict::NEWER,
            };
            if let Verdict::Newer { is_tied } = verdict {
                is_newest |= state.take(offer, is_tied);
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
        }
    }

    /// Whether a key has cells beside its own; and its newest own one that is pending.
    pub(in crate::replica) fn look_up(&self, key: &CellKey) -> (bool, Option<Arc<Cell>>) {
        let state = self.state();
        let is_merged = state.memtable.is_merged(&key.key);
        (is_merged, state.memtable.get(key).cloned())
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
        let state = self.state();
        let mut keys = HashMap::<_, KeyLiveness, _>::default();
        keys.reserve(state.memtable.len());
        for (key, cell) in state.memtable.iter() {
            let liveness = keys.entry(key.key.clone()).or_default();
            liveness.see(&key.part, cell.timestamp, cell.value().is_none());
        }
        keys
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

    pub(in crate::replica) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.wake_up(&mut state);
    }

    /// Has the thread look at what there is to do, because something else has happened.
    pub(in crate::replica) fn nudge(&self) {
        let mut state = self.state();
        state.is_nudged = true;
        self.wake_up(&mut state);
    }

    fn wake_up(&self, state: &mut State) {
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

    /// Runs `read` while no batch is half applied; nothing if one stays so.
    pub(in crate::replica) fn between_batches<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let batch = self.batch.lock();
        let mut batch = batch.unwrap_or_else(PoisonError::into_inner);
        while *batch == BatchState::Half {
            let waited = self.batch_ended.wait(batch);
            batch = waited.unwrap_or_else(PoisonError::into_inner);
        }
        (*batch == BatchState::None).then(read)
    }
}

/// What only the thread that commits calls.
impl WriteQueue {
    /// Takes what there is to do: updates only if their commit is due, and `may_commit`.
    pub(in crate::replica) fn take(&self, now: Duration, may_commit: bool) -> Work {
        let mut state = self.state();
        state.is_nudged = false;
        let is_due = state.is_commit_due(now, self.linger, &self.tuning);
        let group = (may_commit && is_due).then(|| {
            let spare = std::mem::take(&mut state.spare);
            let mut group = std::mem::take(&mut state.queued);
            state.group = state.group.wrapping_add(1);
            state.queued.updates = spare;
            group.sequence = state.sequence;
            state.committing = group.updates.len();
            state.committing_bytes = group.bytes;
            state.committing_earliest = group.earliest;
            state.committing_since = state.since.take();
            group
        });
        // Requests are for when what came before them is committed.
        let mut requests = Vec::new();
        if state.queued.updates.is_empty() {
            state.commit_now = false;
            requests = std::mem::take(&mut state.requests);
            state.is_closing = state.is_closed;
        }
        Work {
            group,
            requests,
            is_last: state.is_closing,
        }
    }

    /// Waits until there may be something to [`take`](Self::take), or until `until`.
    pub(in crate::replica) fn wait(&self, until: Option<Duration>, may_commit: bool) {
        let mut state = self.state();
        loop {
            let now = self.now();
            let is_due = state.is_commit_due(now, self.linger, &self.tuning) && may_commit;
            let is_asked = state.queued.updates.is_empty() && !state.requests.is_empty();
            let is_closed = state.is_closed && !state.is_closing && may_commit;
            if is_due || is_asked || is_closed || state.is_nudged {
                return;
            }
            if until.is_some_and(|until| until <= now) {
                return;
            }
            let linger_ends = state.since.filter(|_| may_commit);
            let linger_ends = linger_ends.map(|since| since + self.linger);
            let wake_at = linger_ends.into_iter().chain(until).min();
            // With a time to wake at, an update that comes need not wake us if that is early enough
            // for it.
            let is_early = |at| at <= now + self.linger;
            state.is_asleep = may_commit && linger_ends.is_none() && !wake_at.is_some_and(is_early);
            state = match wake_at {
                None => self.wake.wait(state),
                Some(at) => self
                    .wake
                    .wait_timeout(state, at.saturating_sub(now))
                    .map(|(state, _)| state)
                    .map_err(|poison| PoisonError::new(poison.into_inner().0)),
            }
            .unwrap_or_else(PoisonError::into_inner);
            state.is_asleep = false;
        }
    }

    /// Room in which updates came, to be used again.
    pub(in crate::replica) fn give_back(&self, mut room: Vec<Update>) {
        room.clear();
        // A burst may have made it large.
        room.shrink_to(4 * self.tuning.group);
        self.state().spare = room;
    }

    /// Whether more is pending than may be, or more is `held` in the buckets.
    pub(in crate::replica) fn is_overfull(&self, held: usize) -> bool {
        let state = self.state();
        state.memtable.bytes().max(held) > self.tuning.max_pending_bytes && !state.is_closed
    }

    /// The group that was taken is committed.
    pub(in crate::replica) fn committed(&self) {
        let mut state = self.state();
        state.committing = 0;
        state.committing_bytes = 0;
        state.committing_earliest = None;
        state.committing_since = None;
    }

    /// What nobody answers any more.
    pub(in crate::replica) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// The tree has no cells of these keys but their own any more.
    pub(in crate::replica) fn unmerged(&self, keys: &[Key]) {
        let mut state = self.state();
        keys.iter().for_each(|key| state.memtable.unmerged(key));
    }

    /// Whether no version of the cell is pending.
    pub(in crate::replica) fn is_applied(&self, key: &CellKey) -> bool {
        !self.state().memtable.contains(key)
    }

    /// A batch is applied from now on: what comes now with a time below `watermark` is late.
    pub(in crate::replica) fn begin_batch(&self, watermark: u64) {
        self.set_batch(BatchState::Half);
        self.state().watermark = watermark;
    }

    /// The batch is applied.
    pub(in crate::replica) fn end_batch(&self) {
        self.set_batch(BatchState::None);
    }

    /// A batch that is half applied stays so.
    pub(in crate::replica) fn abandon_batch(&self) {
        let batch = *self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if batch == BatchState::Half {
            self.set_batch(BatchState::CutOff);
        }
    }

    fn set_batch(&self, batch: BatchState) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = batch;
        self.batch_ended.notify_all();
    }

    /// After a batch: readers find in the tree and the store what was applied. `forgotten` are shown
    /// those cells that were here, some at a time.
    pub(in crate::replica) fn forget(
        &self,
        applied: &[(CellKey, TreeEntry)],
        mut forgotten: impl FnMut(&mut dyn Iterator<Item = Versioned>),
    ) {
        let mut cells = Vec::with_capacity(FORGOTTEN_AT_ONCE);
        self.state().forgotten += 1;
        for chunk in applied.chunks(FORGOTTEN_AT_ONCE) {
            let mut state = self.state();
            for (key, held) in chunk {
                let cell = state.memtable.forget(key, held.version());
                cells.extend(cell.map(|cell| (key.clone(), cell, held.version())));
            }
            drop(state);
            forgotten(&mut cells.drain(..));
        }
        self.applied.notify_all();
    }
}
