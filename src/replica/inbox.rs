//! The hand-over from those who write to the thread that commits.

use std::{
    collections::{hash_map::Entry, HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use super::{settled::Settled, Queues};
use crate::cell::{cell_digest, Cell, CellKey, CellMeta, Stamp};

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
const FORGOTTEN_AT_ONCE: usize = 256;

/// What an update takes in memory beside its key and value.
const UPDATE_OVERHEAD: usize = 256;

/// A cell on its way to the store.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) key: CellKey,
    pub(super) cell: Arc<Cell>,
    /// Whether it was, of all that had been offered, the newest of its key.
    pub(super) is_newest: bool,
}

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
    /// For each cell that has pending updates the newest, for readers.
    ///
    /// Invariant: it is newer than what is settled.
    recent: HashMap<CellKey, Arc<Cell>>,
    recent_bytes: usize,
    /// Keys in `recent` of which two different writes bear one timestamp.
    tied: HashSet<CellKey>,
    queue: Vec<Update>,
    queued_bytes: usize,
    /// Updates that the thread is committing.
    committing: usize,
    /// When the oldest in the queue came.
    since: Option<Instant>,
    /// When the oldest of those came that the thread is committing.
    committing_since: Option<Instant>,
    /// Of the last update taken, counted from 1.
    sequence: u64,
    /// The cut up to which all is settled, as far as writers know.
    cut: u64,
    commit_now: bool,
    closed: bool,
    /// Whether the thread waits without a time.
    asleep: bool,
}

impl State {
    /// Shows `cell` to readers, if there is no newer one.
    fn offer_recent(&mut self, key: &CellKey, cell: &Arc<Cell>) -> bool {
        match self.recent.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(cell));
            }
            Entry::Occupied(recent) if recent.get().stamp > cell.stamp => return false,
            Entry::Occupied(mut recent) => {
                let other = recent.get();
                if other.stamp == cell.stamp {
                    if cell_digest(key, cell) <= cell_digest(key, other) {
                        return false;
                    }
                    self.tied.insert(key.clone());
                }
                self.recent_bytes -= bytes_of(key, other);
                recent.insert(Arc::clone(cell));
            }
        }
        self.recent_bytes += bytes_of(key, cell);
        true
    }

    /// Shows no more what has settled, or what lost to that.
    fn forget(&mut self, key: &CellKey, settled: &CellMeta) {
        let Some(recent) = self.recent.get(key) else {
            return;
        };
        let version = settled.version;
        let is_settled = recent.stamp < version.stamp
            || (recent.stamp == version.stamp
                // Without a tie, it is the very same write.
                && (!self.tied.contains(key) || cell_digest(key, recent) <= version.digest));
        if is_settled {
            self.recent_bytes -= bytes_of(key, recent);
            self.recent.remove(key);
            self.tied.remove(key);
        }
    }
}

fn bytes_of(key: &CellKey, cell: &Cell) -> usize {
    UPDATE_OVERHEAD + key.canonical_len() + cell.value_bytes()
}

/// What the thread has to do.
pub(super) struct Work {
    pub(super) updates: Vec<Update>,
    /// The last of them.
    pub(super) sequence: u64,
    /// Nothing more will come.
    pub(super) is_last: bool,
}

pub(super) struct Inbox {
    state: Mutex<State>,
    /// There is something for the thread to do.
    wake: Condvar,
    /// Something has settled.
    settled: Condvar,
    /// Held while a batch goes into the tree.
    batch: Mutex<()>,
}

impl Inbox {
    pub(super) fn new(cut: u64) -> Self {
        Self {
            state: Mutex::new(State {
                recent: HashMap::new(),
                recent_bytes: 0,
                tied: HashSet::new(),
                queue: Vec::new(),
                queued_bytes: 0,
                committing: 0,
                since: None,
                committing_since: None,
                sequence: 0,
                cut,
                commit_now: false,
                closed: false,
                asleep: false,
            }),
            wake: Condvar::new(),
            settled: Condvar::new(),
            batch: Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an update. The writer is to wait for the commit if the oldest update
    /// that is not committed came `patience` ago: so those that are acknowledged
    /// and not committed never span more than that. If it is zero the commit is
    /// not put off.
    pub(super) fn offer(
        &self,
        key: CellKey,
        cell: Cell,
        patience: Duration,
        settled: &RwLock<Settled>,
    ) -> Offer {
        let durable = patience.is_zero();
        let cell = Arc::new(cell);
        let bytes = bytes_of(&key, &cell);
        let mut state = self.state();
        if state.closed {
            return Offer::Closed;
        }
        if cell.stamp.time < state.cut && !state.recent.contains_key(&key) {
            // Late: the tree may have a newer one. (Locks are taken in this
            // order everywhere: inbox, then tree.)
            let settled = settled.read().unwrap_or_else(PoisonError::into_inner);
            let newer = settled.get(&key).is_some_and(|meta| {
                meta.version.stamp > cell.stamp
                    || (meta.version.stamp == cell.stamp
                        && meta.version.digest >= cell_digest(&key, &cell))
            });
            if newer {
                return Offer::Outdated;
            }
        }
        let is_newest = state.offer_recent(&key, &cell);
        state.queue.push(Update {
            key,
            cell,
            is_newest,
        });
        state.queued_bytes += bytes;
        state.sequence += 1;
        state.commit_now |= durable;
        let now = Instant::now();
        let oldest = *state.since.get_or_insert(now);
        let oldest = state.committing_since.unwrap_or(oldest);
        let is_overdue = durable || now.duration_since(oldest) >= patience;
        let is_full = state.queue.len() > MAX_QUEUED || state.queued_bytes > MAX_QUEUED_BYTES;
        if state.asleep || durable || state.queue.len() == GROUP || is_full {
            state.asleep = false;
            self.wake.notify_one();
        }
        Offer::Taken {
            sequence: state.sequence,
            is_newest,
            wait: is_overdue || is_full,
        }
    }

    /// The newest pending cell of `key`.
    pub(super) fn recent(&self, key: &CellKey) -> Option<Arc<Cell>> {
        self.state().recent.get(key).cloned()
    }

    /// For each key with pending updates the stamp of the newest, and whether it
    /// is a tombstone.
    pub(super) fn all_recent(&self) -> HashMap<CellKey, (Stamp, bool)> {
        let state = self.state();
        let recent = state.recent.iter();
        recent
            .map(|(key, cell)| (key.clone(), (cell.stamp, cell.value().is_none())))
            .collect()
    }

    pub(super) fn queues(&self) -> Queues {
        let state = self.state();
        Queues {
            uncommitted: state.queue.len() + state.committing,
            uncommitted_bytes: state.queued_bytes,
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
        let _batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
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
            let commit = state.commit_now
                || state.closed
                || state.queue.len() >= GROUP
                || linger_ends.is_some_and(|end| end <= now);
            let is_due = other_work.is_some_and(|at| at <= now);
            if commit || is_due {
                let mut work = Work {
                    updates: Vec::new(),
                    sequence: state.sequence,
                    is_last: state.closed,
                };
                if commit {
                    work.updates = std::mem::take(&mut state.queue);
                    state.queued_bytes = 0;
                    state.committing = work.updates.len();
                    state.committing_since = state.since.take();
                    state.commit_now = false;
                } else {
                    work.sequence -= state.queue.len() as u64;
                }
                return work;
            }
            let wake_at = match (linger_ends, other_work) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (one, None) | (None, one) => one,
            };
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

    /// For the thread: whether more is pending than may be.
    pub(super) fn is_overfull(&self) -> bool {
        let state = self.state();
        state.recent_bytes > MAX_PENDING_BYTES && !state.closed
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

    /// For the thread: what was taken is committed.
    pub(super) fn committed(&self) {
        let mut state = self.state();
        state.committing = 0;
        state.committing_since = None;
    }

    /// For the thread: marks the time in which a batch goes into the tree.
    pub(super) fn batch(&self) -> MutexGuard<'_, ()> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the thread, before a batch goes into the tree: what comes now with a
    /// time below `cut` is late.
    pub(super) fn set_cut(&self, cut: u64) {
        self.state().cut = cut;
    }

    /// For the thread, after it: readers find in the tree what has settled.
    pub(super) fn forget(&self, settled: &[(CellKey, CellMeta)]) {
        for chunk in settled.chunks(FORGOTTEN_AT_ONCE) {
            let mut state = self.state();
            for (key, meta) in chunk {
                state.forget(key, meta);
            }
        }
        let mut state = self.state();
        if state.recent.is_empty() {
            // A burst may have made it large.
            state.recent.shrink_to(GROUP);
        }
        self.settled.notify_all();
    }
}
