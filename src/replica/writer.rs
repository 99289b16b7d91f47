//! The thread that commits and settles.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    sync::{atomic::Ordering, Arc, PoisonError, RwLockWriteGuard},
    time::{Duration, Instant},
};

use super::{
    checkpoint::Tap,
    cut_at,
    inbox::{Request, Update},
    ledger::{cut_above, Ledger},
    settled::{Joined, Settled},
    Damage, Failure, ReplicaError, Roots, Shared,
};
use crate::{
    cell::{ntp64_span, CellKey, CellMeta},
    config::Durability,
    store::{Commit, Write},
};

/// Cells that go into the tree at a time, while readers wait.
const CHUNK: usize = 128;

/// Cells that are removed from the store at a time.
const REMOVED_AT_ONCE: usize = 4096;

/// When nothing has settled for this long, and nothing is to, the root is made.
const ROOT_WHEN_QUIET: Duration = Duration::from_millis(50);

/// The longest sleep on behalf of what is to settle, should the clock be set
/// meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    ledger: Ledger,
    /// The last update that is committed.
    committed: u64,
    /// The tree has changed since the root was made.
    is_root_stale: bool,
    /// When something settled last.
    settled: Instant,
    /// Checkpoints that are being made.
    taps: Vec<Tap>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, ledger: Ledger) -> Self {
        Self {
            shared,
            ledger,
            committed: 0,
            is_root_stale: false,
            settled: Instant::now(),
            taps: Vec::new(),
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
        // Nobody answers these any more.
        drop(shared.inbox.take_requests());
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
            let (is_last, requests) = (work.is_last, work.requests);
            if !self.commit(work.updates, work.sequence) {
                break;
            }
            for request in requests {
                self.handle(request);
            }
            self.settle();
            self.finish_checkpoints();
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

    /// When there is something to settle, or a root to be made at a whole second.
    fn next_settling(&self) -> Option<Instant> {
        let due = self.ledger.next_due(self.is_root_stale);
        let awaited = self.taps.iter().map(Tap::until);
        due.into_iter().chain(awaited).min().map(|cut| {
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
        let root = self.quiet_root_due();
        self.next_settling().into_iter().chain(root).min()
    }

    /// When the root is to be made because nothing more is to settle.
    fn quiet_root_due(&self) -> Option<Instant> {
        let is_quiet = self.is_root_stale && self.ledger.next_cut().is_none();
        is_quiet.then(|| self.settled + ROOT_WHEN_QUIET)
    }

    /// False if the store failed.
    fn commit(&mut self, updates: Vec<Update>, sequence: u64) -> bool {
        if updates.is_empty() {
            return true;
        }
        let too_much = self.taps.extract_if(.., |tap| !tap.remember(&updates));
        too_much.for_each(|tap| tap.fail(ReplicaError::Busy));
        let writes = self.ledger.admit(updates);
        self.tell_next_cut();
        let shared = Arc::clone(&self.shared);
        if !writes.is_empty() {
            let commit = match shared.options.durability {
                Durability::Always | Durability::Interval => Commit::Synced,
                Durability::None => Commit::Buffered,
            };
            if !self.write(&writes, commit) {
                return false;
            }
            shared.counters.commits.add();
            shared.counters.committed_cells.add_many(writes.len());
            let replaced = shared.quarantine.replaced_by(&writes);
            if !replaced.is_empty() {
                self.release(&replaced);
            }
        }
        shared.inbox.committed(&writes);
        shared.commits.done(sequence);
        self.committed = sequence;
        true
    }

    /// False if the store failed.
    fn write(&self, writes: &[Write], commit: Commit) -> bool {
        let written = self.shared.store.commit(writes, commit);
        if let Err(error) = written {
            fail(&self.shared, error.into());
            return false;
        }
        true
    }

    fn release(&self, replaced: &[CellKey]) {
        let shared = &*self.shared;
        shared.counters.repaired.add_many(replaced.len());
        let name = &shared.name;
        tracing::info!(
            "storage '{name}': {} damaged cells have been replaced",
            replaced.len()
        );
        if let Err(error) = shared.store.release(replaced) {
            // Then it is found again, and let go of, at the next opening.
            tracing::warn!("storage '{name}': the quarantine was not cleared: {error}");
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Checkpoint(receiver) => match self.shared.store.view() {
                Ok(view) => {
                    // What is acknowledged has a time up to now, but for what is
                    // ahead of the clock.
                    let now = cut_above((self.shared.clock)());
                    let until = self.ledger.last_cut().max(now);
                    self.taps.push(Tap::new(view, until, receiver));
                }
                Err(error) => {
                    let error = ReplicaError::Unreadable(Arc::new(error));
                    // Whoever has stopped waiting does not need it.
                    let _ = receiver.send(Err(error));
                }
            },
            Request::Mend(cells) => {
                for (key, meta) in cells {
                    self.mend(key, meta);
                }
            }
            #[cfg(test)]
            Request::Answer(sender) => sender.send(()).expect("awaited"),
        }
    }

    fn finish_checkpoints(&mut self) {
        let cut = self.ledger.cut();
        for tap in self.taps.extract_if(.., |tap| tap.is_ready(cut)) {
            tap.finish(self.shared.settled().snapshot());
        }
    }

    /// Looks at a cell that is said to be damaged, and mends it if it is.
    fn mend(&mut self, key: CellKey, meta: CellMeta) {
        let shared = Arc::clone(&self.shared);
        let name = &shared.name;
        // What is replaced already, or about to be, needs no mending.
        if shared.settled().get(&key) != Some(&meta) || !shared.inbox.is_settled(&key) {
            return;
        }
        let reason = match shared.is_damaged(&key, &meta) {
            Ok(None) => return,
            Ok(Some(reason)) => reason,
            Err(error) => {
                tracing::warn!("storage '{name}': a cell cannot be checked: {error}");
                return;
            }
        };
        shared.counters.damaged.add();
        let damage = Damage { key, meta, reason };
        let key = &damage.key;
        if let Some(cell) = shared.known(key, &meta) {
            let write = Write {
                key: key.clone(),
                cell,
                meta,
                is_late: false,
            };
            if self.write(&[write], Commit::Synced) {
                shared.counters.repaired.add();
                tracing::error!(
                    "storage '{name}': a cell was damaged, and is written anew: {damage}"
                );
            }
            return;
        }
        if let Err(error) = shared.store.quarantine(key, &meta) {
            fail(&shared, error.into());
            return;
        }
        tracing::error!(
            "storage '{name}': a cell is damaged, and in quarantine until another replica sends \
             it, or its key is written anew: {damage}"
        );
        shared.quarantine.insert(key, meta);
        let batch = shared.inbox.batch();
        let is_unmerged = settled_mut(&shared).take_out(key);
        drop(batch);
        shared.folds.forget(&key.key);
        if is_unmerged {
            shared.inbox.unmerged(std::slice::from_ref(&key.key));
        }
        self.roots().lost();
        self.is_root_stale = true;
        self.settled = Instant::now();
    }

    /// Settles what is due, and makes the roots that are due on the way.
    fn settle(&mut self) {
        // What was late is due at the cut that is, even if the clock was set back.
        let clock = (self.shared.clock)();
        let cut = cut_at(clock, self.shared.options.settle).max(self.ledger.cut());
        let mut was_due = false;
        while let Some((step, is_root_due)) = self.ledger.next_step(cut, self.is_root_stale) {
            was_due = true;
            self.settle_to(step);
            if is_root_due {
                self.make_root();
            }
        }
        let is_awaited = self.taps.iter().any(|tap| tap.is_ready(cut));
        if (was_due || is_awaited) && self.ledger.cut() < cut {
            self.settle_to(cut);
        }
        self.tell_next_cut();
    }

    fn settle_to(&mut self, cut: u64) {
        let shared = &*self.shared;
        let (cut, due) = self.ledger.settle(cut);
        let batch = shared.inbox.batch();
        shared.inbox.set_cut(cut);
        let mut joined = Joined::default();
        for chunk in due.chunks(CHUNK) {
            settled_mut(shared).join_all(chunk, &mut joined);
        }
        while settled_mut(shared).cover(&mut joined, CHUNK) {}
        let mut settled = settled_mut(shared);
        settled.set_cut(cut);
        joined.forget_what_is_there(&settled);
        if let Some(earliest) = joined.earliest {
            self.is_root_stale = true;
            self.roots().changed(earliest);
        }
        drop(settled);
        drop(batch);
        shared.inbox.forget(&due);
        shared.inbox.unmerged(&joined.unmerged);
        self.roots().joined(due.into_iter().map(|(key, _)| key));
        self.settled = Instant::now();
        self.remove(joined.covered);
    }

    /// Removes from the store what is not in the tree any more. Should that not
    /// come to pass, it is left out of the tree, and removed, at the next opening.
    fn remove(&self, mut covered: Vec<CellKey>) {
        let shared = &*self.shared;
        if covered.is_empty() || shared.commits.failure().is_some() {
            return;
        }
        // What is pending is in the store already, and newer.
        shared.inbox.retain_settled(&mut covered);
        for chunk in covered.chunks(REMOVED_AT_ONCE) {
            if let Err(error) = shared.store.remove(chunk) {
                fail(shared, error.into());
                return;
            }
        }
    }

    fn roots(&self) -> RwLockWriteGuard<'_, Roots> {
        let roots = self.shared.roots.write();
        roots.unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_next_cut(&self) {
        self.roots().set_next_cut(self.ledger.next_cut());
    }

    fn publish(&mut self) {
        if self
            .quiet_root_due()
            .is_some_and(|due| due <= Instant::now())
        {
            self.make_root();
        }
        if !self.is_root_stale {
            let mut roots = self.roots();
            let covers_more = roots.covered() < self.committed;
            roots.set_covered(self.committed);
            drop(roots);
            if covers_more {
                self.tell();
            }
        }
    }

    fn make_root(&mut self) {
        let published = self.shared.settled().publish();
        self.roots().made(published);
        match self.shared.store.disk_bytes() {
            Ok(bytes) => self.shared.disk_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => tracing::warn!("the size of a storage on disk is not known: {error}"),
        }
        self.is_root_stale = false;
        self.ledger.root_made();
        self.tell();
    }

    fn tell(&self) {
        if let Some(tell) = self.shared.on_root.get() {
            tell();
        }
    }
}

/// Nothing is taken any more before anyone hears of the failure.
fn fail(shared: &Shared, failure: Failure) {
    shared.inbox.close();
    shared.commits.fail(failure);
}

fn settled_mut(shared: &Shared) -> RwLockWriteGuard<'_, Settled> {
    let settled = shared.settled.write();
    settled.unwrap_or_else(PoisonError::into_inner)
}
