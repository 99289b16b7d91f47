//! The hand-over from those who write to the thread that commits.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{
    checkpoint,
    key_stamps::KeyStamps,
    merging::Slot,
    recent::{bytes_of, Recent, Shown},
    settled::Settled,
    Held, Queues,
};
use crate::{
    cell::{Cell, CellKey, CellMeta, Key, Part},
    store::{Versioned, Write},
};

/// Updates that are committed without waiting for more.
pub(super) const GROUP: usize = 4096;

/// Updates, and bytes of them, that may be queued; a writer then waits until its
/// own is committed.
const MAX_QUEUED: usize = 65_536;
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Bytes of cells that may be pending, that is, shown to readers from memory
/// because their time to settle has not come. Beyond that nothing is committed
/// until some have settled, so the queue fills, and writers wait.
const MAX_PENDING_BYTES: usize = 256 << 20;

/// Keys that are forgotten while writers wait.
const FORGOTTEN_AT_ONCE: usize = 64;

/// A cell on its way to the store.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) key: CellKey,
    pub(super) cell: Arc<Cell>,
    /// What is known of it, if it was hashed before.
    pub(super) meta: Option<Box<CellMeta>>,
    /// Whether it was, of all that had been offered, the newest of its key.
    pub(super) is_newest: bool,
}

/// What the thread is asked for beside updates.
pub(super) enum Request {
    /// To make a checkpoint.
    Checkpoint(checkpoint::Receiver),
    /// To look at cells of which the tree says this, and to mend what is damaged.
    Mend(Vec<(CellKey, CellMeta)>),
    /// To say that all before this is done.
    #[cfg(test)]
    Answer(std::sync::mpsc::SyncSender<()>),
}

impl Update {
    /// Hashes the cell, if that has not been done.
    pub(super) fn meta(&self) -> CellMeta {
        let known = self.meta.as_deref().copied();
        known.unwrap_or_else(|| CellMeta::of(&self.key, &self.cell))
    }
}

/// A cell that is offered, and what is known of it, if it was hashed before.
pub(super) type Offered = (CellKey, Arc<Cell>, Option<Box<CellMeta>>);

/// What came of an update that was offered.
pub(super) enum Offer {
    /// No updates are taken any more.
    Closed,
    /// A later one is settled.
    Outdated,
    Taken {
        sequence: u64,
        /// False if a later one is pending.
        is_newest: bool,
        /// Whether the writer is to wait for the commit.
        wait: bool,
    },
}

struct State {
    recent: Recent,
    queue: Vec<Update>,
    /// To be the next queue: what held updates that the thread has dealt with.
    spare: Vec<Update>,
    queued_bytes: usize,
    /// Updates that the thread is committing.
    committing: usize,
    committing_bytes: usize,
    /// When the oldest in the queue came.
    since: Option<Instant>,
    /// When the oldest of those came that the thread is committing.
    committing_since: Option<Instant>,
    /// Of the last update taken, counted from 1.
    sequence: u64,
    /// The cut up to which all is settled, as far as writers know.
    cut: u64,
    requests: Vec<Request>,
    commit_now: bool,
    closed: bool,
    /// Whether the thread waits without a time.
    asleep: bool,
}

impl State {
    /// Whether the cell is the newest of its key that is pending; nothing, if a
    /// later one is settled.
    fn offer(&mut self, (key, cell, meta): Offered, settled: &RwLock<Settled>) -> Option<bool> {
        let mut is_tied = false;
        if cell.stamp.time < self.cut && !self.recent.contains(&key) {
            // Late: the tree may have a newer one. (Locks are taken in this
            // order everywhere: inbox, then tree.)
            let settled = settled.read().unwrap_or_else(PoisonError::into_inner);
            let is_newer = settled.get(&key).is_some_and(|meta| {
                let stamp = meta.stamp();
                is_tied = stamp == cell.stamp;
                stamp > cell.stamp || (is_tied && meta.meta() >= CellMeta::of(&key, &cell))
            });
            if is_newer || settled.covering(&key) >= Some(cell.stamp) {
                return None;
            }
        }
        self.queued_bytes += bytes_of(&key, &cell);
        self.sequence += 1;
        let is_newest = self.recent.offer(&key, &cell, is_tied);
        self.queue.push(Update {
            key,
            cell,
            meta,
            is_newest,
        });
        Some(is_newest)
    }

    /// Whether what is queued is to be committed now: the oldest has waited for `linger`,
    /// or there are [`GROUP`], or someone asks for it.
    fn is_commit_due(&self, now: Instant, linger: Duration) -> bool {
        self.commit_now
            || self.closed
            || self.queue.len() >= GROUP
            || self.since.is_some_and(|since| since + linger <= now)
    }
}

/// Updates that are committed together.
pub(super) struct Group {
    pub(super) updates: Vec<Update>,
    /// Memory that they take, about.
    pub(super) bytes: usize,
    /// The last of them.
    pub(super) sequence: u64,
}

/// What the thread has to do.
pub(super) struct Work {
    pub(super) group: Group,
    /// To be done when they are committed.
    pub(super) requests: Vec<Request>,
    /// Nothing more will come.
    pub(super) is_last: bool,
}

pub(super) struct Inbox {
    state: Mutex<State>,
    /// There is something for the thread to do.
    wake: Condvar,
    /// Something has settled.
    settled: Condvar,
    /// Whether a batch is half in the tree.
    batch: Mutex<bool>,
    /// It is in the tree.
    batch_ended: Condvar,
}

impl Inbox {
    /// `merged` are the keys that have settled cells beside their own.
    pub(super) fn new<'a>(cut: u64, merged: impl Iterator<Item = &'a Key>) -> Self {
        let mut recent = Recent::default();
        merged.for_each(|key| recent.merged(key.clone()));
        Self {
            state: Mutex::new(State {
                recent,
                queue: Vec::new(),
                spare: Vec::new(),
                queued_bytes: 0,
                committing: 0,
                committing_bytes: 0,
                since: None,
                committing_since: None,
                sequence: 0,
                cut,
                requests: Vec::new(),
                commit_now: false,
                closed: false,
                asleep: false,
            }),
            wake: Condvar::new(),
            settled: Condvar::new(),
            batch: Mutex::new(false),
            batch_ended: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the cells of an update, all or none. The writer is to wait for the
    /// commit if the oldest update that is not committed came `patience` ago: so
    /// those that are acknowledged and not committed never span more than that. If
    /// it is zero the commit is not put off.
    pub(super) fn offer(
        &self,
        cells: impl IntoIterator<Item = Offered>,
        patience: Duration,
        settled: &RwLock<Settled>,
    ) -> Offer {
        let durable = patience.is_zero();
        let mut state = self.state();
        if state.closed {
            return Offer::Closed;
        }
        let was_queued = state.queue.len();
        let (mut is_taken, mut is_newest) = (false, false);
        for offered in cells {
            if let Some(newest) = state.offer(offered, settled) {
                is_taken = true;
                is_newest |= newest;
            }
        }
        if !is_taken {
            return Offer::Outdated;
        }
        state.commit_now |= durable;
        let now = Instant::now();
        let oldest = *state.since.get_or_insert(now);
        let oldest = state.committing_since.unwrap_or(oldest);
        let is_overdue = durable || now.duration_since(oldest) >= patience;
        let is_full = state.queue.len() > MAX_QUEUED || state.queued_bytes > MAX_QUEUED_BYTES;
        let is_group = was_queued < GROUP && state.queue.len() >= GROUP;
        if state.asleep || durable || is_group || is_full {
            state.asleep = false;
            self.wake.notify_one();
        }
        Offer::Taken {
            sequence: state.sequence,
            is_newest,
            wait: is_overdue || is_full,
        }
    }

    /// Whether a key has cells beside its own; and its newest own one that is
    /// pending.
    pub(super) fn look_up(&self, key: &CellKey) -> (bool, Option<Shown>) {
        let state = self.state();
        let is_merged = state.recent.is_merged(&key.key);
        (is_merged, state.recent.get(key).cloned())
    }

    /// As [`Recent::key_stamps`].
    pub(super) fn key_stamps(&self, key: &Key) -> KeyStamps {
        self.state().recent.key_stamps(key)
    }

    /// As [`Recent::begin_log`].
    pub(super) fn begin_log(&self, key: &Key, reader: Option<&Arc<Slot>>) -> Vec<(Part, Shown)> {
        self.state().recent.begin_log(key, reader)
    }

    #[cfg(test)]
    pub(super) fn logged_bytes(&self) -> usize {
        self.state().recent.logged_bytes()
    }

    /// As [`Recent::drain_log`].
    pub(super) fn drain_log(
        &self,
        key: &Key,
        reader: &Arc<Slot>,
        max: usize,
    ) -> Option<Vec<(Part, Arc<Cell>)>> {
        self.state().recent.drain_log(key, reader, max)
    }

    /// For the thread: keys that have no settled cells but their own any more.
    pub(super) fn unmerged(&self, keys: &[Key]) {
        let mut state = self.state();
        keys.iter().for_each(|key| state.recent.unmerged(key));
    }

    /// For the thread: leaves those of the keys of which no cell is pending.
    pub(super) fn retain_settled(&self, keys: &mut Vec<CellKey>) {
        let state = self.state();
        keys.retain(|key| !state.recent.contains(key));
    }

    /// What is pending of each key.
    pub(super) fn all_recent(&self) -> HashMap<Key, KeyStamps, ahash::RandomState> {
        let state = self.state();
        let mut keys = HashMap::<_, KeyStamps, _>::default();
        keys.reserve(state.recent.len());
        for (key, shown) in state.recent.iter() {
            let stamps = keys.entry(key.key.clone()).or_default();
            stamps.see(&key.part, shown.stamp(), shown.is_tombstone());
        }
        keys
    }

    pub(super) fn queues(&self) -> Queues {
        let state = self.state();
        Queues {
            uncommitted: state.queue.len() + state.committing,
            uncommitted_bytes: state.queued_bytes + state.committing_bytes,
            unsettled: state.recent.len(),
        }
    }

    /// Has the thread commit what there is, and returns the last of it.
    pub(super) fn request_commit(&self) -> u64 {
        let mut state = self.state();
        state.commit_now = true;
        state.asleep = false;
        self.wake.notify_one();
        state.sequence
    }

    /// Asks the thread for something, to be done when what was handed over before is
    /// committed; it is dropped if nothing is taken any more.
    pub(super) fn request(&self, request: Request) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.requests.push(request);
        state.commit_now = true;
        state.asleep = false;
        self.wake.notify_one();
    }

    /// For the thread, when it ends: what nobody answers any more.
    pub(super) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// For the thread: whether no version of the cell is pending.
    pub(super) fn is_settled(&self, key: &CellKey) -> bool {
        !self.state().recent.contains(key)
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.asleep = false;
        self.wake.notify_one();
    }

    pub(super) fn wait_until_settled(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while !(state.queue.is_empty() && state.recent.is_empty()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            state = self
                .settled
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Runs `read` while no batch is half in the tree.
    pub(super) fn between_batches<T>(&self, read: impl FnOnce() -> T) -> T {
        let mut is_half_in = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_half_in {
            let waited = self.batch_ended.wait(is_half_in);
            is_half_in = waited.unwrap_or_else(PoisonError::into_inner);
        }
        read()
    }

    /// For the thread: waits for work. Updates are handed out when the oldest has
    /// waited for `linger`, or there are [`GROUP`], or someone asks for it;
    /// nothing is handed out when `other_work`, if it is given, has passed.
    pub(super) fn take(&self, linger: Duration, other_work: Option<Instant>) -> Work {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let linger_ends = state.since.map(|since| since + linger);
            let commit = state.is_commit_due(now, linger);
            let is_due = other_work.is_some_and(|at| at <= now) || !state.requests.is_empty();
            if commit || is_due {
                let mut work = Work {
                    group: Group {
                        updates: Vec::new(),
                        bytes: 0,
                        sequence: state.sequence,
                    },
                    requests: std::mem::take(&mut state.requests),
                    is_last: state.closed,
                };
                if commit {
                    let spare = std::mem::take(&mut state.spare);
                    work.group.updates = std::mem::replace(&mut state.queue, spare);
                    work.group.bytes = std::mem::take(&mut state.queued_bytes);
                    state.committing = work.group.updates.len();
                    state.committing_bytes = work.group.bytes;
                    state.committing_since = state.since.take();
                    state.commit_now = false;
                } else {
                    work.group.sequence -= state.queue.len() as u64;
                }
                return work;
            }
            let wake_at = linger_ends.into_iter().chain(other_work).min();
            // With a time to wake at, an update that comes need not wake us if
            // that is early enough for it.
            state.asleep = linger_ends.is_none() && wake_at.is_none_or(|at| at > now + linger);
            state = match wake_at {
                None => self.wake.wait(state),
                Some(at) => self
                    .wake
                    .wait_timeout(state, at - now)
                    .map(|(state, _)| state)
                    .map_err(|poison| PoisonError::new(poison.into_inner().0)),
            }
            .unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
    }

    /// For the thread: room in which updates came, to be used again.
    pub(super) fn give_back(&self, mut room: Vec<Update>) {
        room.clear();
        // A burst may have made it large.
        room.shrink_to(4 * GROUP);
        self.state().spare = room;
    }

    /// For the thread: whether there are updates that [`take`](Self::take) would hand
    /// out.
    pub(super) fn is_commit_due(&self, linger: Duration) -> bool {
        self.state().is_commit_due(Instant::now(), linger)
    }

    /// For the thread: whether more is pending than may be, or more is `held` by what
    /// is to settle.
    pub(super) fn is_overfull(&self, held: usize) -> bool {
        let state = self.state();
        state.recent.bytes().max(held) > MAX_PENDING_BYTES && !state.closed
    }

    /// For the thread: waits until `at`, or until the inbox is closed.
    pub(super) fn pause_until(&self, at: Instant) {
        let mut state = self.state();
        while let (false, Some(left)) = (state.closed, at.checked_duration_since(Instant::now())) {
            state = self
                .wake
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// For the thread: what was taken is committed. `large` is what is to be
    /// [released](Recent::release) of it.
    pub(super) fn committed(&self, large: &[&Write]) {
        let mut state = self.state();
        state.committing = 0;
        state.committing_bytes = 0;
        state.committing_since = None;
        for write in large {
            let version = write.meta.version;
            state.recent.release(&write.key, &write.cell, version);
        }
    }

    /// For the thread: a batch goes into the tree from now on.
    pub(super) fn begin_batch(&self) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// For the thread: it is there, or nothing more will come.
    pub(super) fn end_batch(&self) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.batch_ended.notify_all();
    }

    /// For the thread, before a batch goes into the tree: what comes now with a
    /// time below `cut` is late.
    pub(super) fn set_cut(&self, cut: u64) {
        self.state().cut = cut;
    }

    /// For the thread, after it: readers find in the tree what has settled. `forgotten`
    /// are shown those cells that were here, some at a time.
    pub(super) fn forget(
        &self,
        settled: &[(CellKey, Held)],
        mut forgotten: impl FnMut(&mut dyn Iterator<Item = Versioned>),
    ) {
        let mut cells = Vec::with_capacity(FORGOTTEN_AT_ONCE);
        for chunk in settled.chunks(FORGOTTEN_AT_ONCE) {
            let mut state = self.state();
            for (key, held) in chunk {
                let cell = state.recent.forget(key, held.version());
                cells.extend(cell.map(|cell| (key.clone(), cell, held.version())));
            }
            drop(state);
            forgotten(&mut cells.drain(..));
        }
        self.settled.notify_all();
    }
}
