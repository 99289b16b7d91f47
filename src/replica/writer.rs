//! The thread that commits and settles.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{atomic::Ordering, Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{cut_at, inbox::Work, ledger::Ledger, Failure, Shared};
use crate::{
    cell::{ntp64_span, CellKey, CellMeta},
    config::Durability,
    store::Commit,
};

/// Cells that go into the tree at a time, while readers wait.
const CHUNK: usize = 128;

/// While updates settle, the root is made no more often than this.
const ROOT_EVERY: Duration = Duration::from_secs(1);

/// When nothing has settled for this long, and nothing is to, the root is made.
const ROOT_WHEN_QUIET: Duration = Duration::from_millis(50);

/// The longest sleep on behalf of what is to settle, should the clock be set
/// meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    ledger: Ledger,
    /// The tree has changed since the root was made.
    is_root_stale: bool,
    root_made: Instant,
    /// When something settled last.
    settled: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, ledger: Ledger) -> Self {
        Self {
            shared,
            ledger,
            is_root_stale: false,
            root_made: Instant::now(),
            settled: Instant::now(),
        }
    }

    /// Works until the inbox is closed, or something fails; and then sees to it
    /// that nobody waits for more.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let work = AssertUnwindSafe(|| self.work());
        if let Err(panic) = catch_unwind(work) {
            let message = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                (Some(message), _) => message.clone(),
                (None, Some(message)) => (*message).to_owned(),
                (None, None) => "no message".to_owned(),
            };
            fail(&shared, Failure::Panic(message));
        }
        shared.inbox.close();
        if let Some(failure) = shared.commits.failure() {
            tracing::error!("a storage takes no more writes: {failure}");
        }
        shared.commits.close();
    }

    fn work(&mut self) {
        // The commit itself takes time: started at half of the interval, it is
        // over by the end of it, unless the disk is slow; then writers wait.
        let linger = self.shared.options.sync_every / 2;
        loop {
            let work = self.shared.inbox.take(linger, self.next_work());
            let is_last = work.is_last;
            if !self.commit(work) {
                break;
            }
            self.settle();
            self.publish();
            if is_last {
                break;
            }
            self.wait_for_room();
        }
        if self.shared.commits.failure().is_none() {
            if let Err(error) = self.shared.store.flush() {
                tracing::warn!("closing a storage: {error}; what was committed is safe");
            }
        }
    }

    /// While too much is pending, commits nothing more, so that the queue fills
    /// and writers wait.
    fn wait_for_room(&mut self) {
        while self.shared.inbox.is_overfull() {
            let Some(at) = self.next_settling() else {
                return;
            };
            self.shared.inbox.pause_until(at);
            self.settle();
        }
    }

    /// When there is something to settle.
    fn next_settling(&self) -> Option<Instant> {
        self.ledger.next_cut().map(|cut| {
            let due = cut.saturating_add(ntp64_span(self.shared.options.settle));
            let left = match cut > self.ledger.cut() {
                true => due.saturating_sub((self.shared.clock)()),
                false => 0,
            };
            let millis = (u128::from(left) * 1000) >> 32;
            Instant::now() + Duration::from_millis(millis as u64 + 1).min(MAX_SLEEP)
        })
    }

    /// When there is something to settle, or a root to be made.
    fn next_work(&self) -> Option<Instant> {
        let root = self.is_root_stale.then(|| self.root_due());
        self.next_settling().into_iter().chain(root).min()
    }

    fn root_due(&self) -> Instant {
        let every = self.root_made + ROOT_EVERY;
        match self.ledger.next_cut() {
            None => every.min(self.settled + ROOT_WHEN_QUIET),
            Some(_) => every,
        }
    }

    /// False if the store failed.
    fn commit(&mut self, work: Work) -> bool {
        if work.updates.is_empty() {
            return true;
        }
        let shared = &*self.shared;
        let writes = self.ledger.admit(work.updates);
        if !writes.is_empty() {
            let commit = match shared.options.durability {
                Durability::Always | Durability::Interval => Commit::Synced,
                Durability::None => Commit::Buffered,
            };
            if let Err(error) = shared.store.commit(&writes, commit) {
                fail(shared, error.into());
                return false;
            }
            shared.counters.commits.add();
            shared.counters.committed_cells.add_many(writes.len());
        }
        shared.inbox.committed(&writes);
        shared.commits.done(work.sequence);
        true
    }

    fn settle(&mut self) {
        let shared = &*self.shared;
        // What was late is due at the cut that is, even if the clock was set back.
        let cut = cut_at((shared.clock)(), shared.options.settle).max(self.ledger.cut());
        if self.ledger.next_cut().is_none_or(|next| next > cut) {
            return;
        }
        let (cut, due) = self.ledger.settle(cut);
        let batch = shared.inbox.batch();
        shared.inbox.set_cut(cut);
        for chunk in due.chunks(CHUNK) {
            self.is_root_stale |= join(shared, chunk);
        }
        let mut settled = shared
            .settled
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        settled.set_cut(cut);
        drop(settled);
        drop(batch);
        shared.inbox.forget(&due);
        self.settled = Instant::now();
    }

    fn publish(&mut self) {
        if !self.is_root_stale || self.root_due() > Instant::now() {
            return;
        }
        let published = self.shared.settled().publish();
        *self
            .shared
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = published;
        match self.shared.store.disk_bytes() {
            Ok(bytes) => self.shared.disk_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => tracing::warn!("the size of a storage on disk is not known: {error}"),
        }
        self.is_root_stale = false;
        self.root_made = Instant::now();
    }
}

/// Nothing is taken any more before anyone hears of the failure.
fn fail(shared: &Shared, failure: Failure) {
    shared.inbox.close();
    shared.commits.fail(failure);
}

fn join(shared: &Shared, chunk: &[(CellKey, CellMeta)]) -> bool {
    let mut settled = shared
        .settled
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    let mut changed = false;
    for (key, meta) in chunk {
        changed |= settled.join(key.clone(), *meta);
    }
    changed
}
