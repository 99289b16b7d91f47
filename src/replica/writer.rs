//! The thread that commits and settles.

use std::{
    cell::Cell as StdCell,
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    sync::{Arc, PoisonError, RwLockWriteGuard},
    time::{Duration, Instant},
};

use super::{
    burst::Burst,
    checkpoint::Tap,
    inbox::{Group, Request, Update},
    ledger::{cut_above, Ledger},
    recent::Recent,
    settled::Settled,
    settling::{Batch, CHUNK},
    Damage, Failure, Held, ReplicaError, Shared,
};
use crate::{
    cell::{CellKey, CellMeta},
    config::Durability,
    store::{Commit, StoreError, Write},
};

/// Bytes of a group that may be written ahead.
const MAX_BYTES_AHEAD: usize = 64 << 20;

/// Cells that are brought to their rows at a time.
const WRITTEN_OUT_AT_ONCE: usize = 1024;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: Ledger,
    /// The last update that is committed.
    pub(super) committed: u64,
    /// Something is written ahead that may not be in its rows.
    pub(super) has_to_write_out: bool,
    /// What is half in the tree.
    pub(super) batch: Option<Batch>,
    /// Whether something has settled, and time may have passed since.
    pub(super) has_settled: bool,
    /// Since when the tree is not any more as it was when the root was made, if it is not.
    pub(super) stale_since: Option<Instant>,
    /// The root is to be made before anything else settles.
    pub(super) is_root_due: bool,
    /// Cells that are not in the tree any more, and are to be removed from the store.
    pub(super) covered: Vec<CellKey>,
    /// When something settled last.
    pub(super) settled: Instant,
    pub(super) burst: Burst,
    /// Checkpoints that are being made.
    pub(super) taps: Vec<Tap>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, ledger: Ledger) -> Self {
        Self {
            shared,
            ledger,
            committed: 0,
            has_to_write_out: false,
            batch: None,
            has_settled: false,
            stale_since: None,
            covered: Vec::new(),
            is_root_due: false,
            settled: Instant::now(),
            burst: Burst::default(),
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
        shared.inbox.end_batch();
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
        // Nothing is written after a failure; that the inbox is closed is part of it.
        while self.shared.commits.failure().is_none() {
            let work = self.shared.inbox.take(linger, self.next_work());
            let (group, is_last, requests) = (work.group, work.is_last, work.requests);
            let updates = group.updates.len();
            self.burst.taken(updates, group.bytes, Instant::now());
            if !self.commit_and_settle(group, linger) {
                break;
            }
            if is_last || !requests.is_empty() {
                self.settle(&|| false);
            }
            if self.shared.commits.failure().is_some() {
                break;
            }
            for request in requests {
                self.handle(request);
            }
            self.wait_for_room();
            // Of what is due at once, because it was late, nothing is left out.
            if !self.is_settling_due() {
                self.finish_checkpoints();
                self.publish();
            }
            if is_last {
                break;
            }
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
        while self.shared.inbox.is_overfull(self.ledger.held_bytes()) {
            let Some(at) = self.next_settling() else {
                return;
            };
            self.shared.inbox.pause_until(at);
            self.settle(&|| false);
        }
    }

    /// Commits what came, and settles what is due: what was due before settles while
    /// the rest is being committed, and pauses when there is more to commit.
    ///
    /// False if the store failed.
    fn commit_and_settle(&mut self, group: Group, linger: Duration) -> bool {
        let shared = Arc::clone(&self.shared);
        let is_more_due = || shared.inbox.is_commit_due(linger);
        if group.updates.is_empty() {
            self.settle_unless_put_off(&is_more_due);
            return true;
        }
        let is_ahead = self.is_to_be_written_ahead(&group);
        if is_ahead || !shared.store.keeps_cells() {
            let pause = after(group.updates.len(), is_more_due);
            if is_ahead && !self.write_ahead(&group.updates) {
                return false;
            }
            self.hold(group, is_ahead);
            self.settle_unless_put_off(&pause);
            return true;
        }
        if !self.write_out(&|| false) {
            return false;
        }
        let Group {
            mut updates,
            sequence,
            ..
        } = group;
        let too_much = self.taps.extract_if(.., |tap| !tap.remember(&updates));
        too_much.for_each(|tap| tap.fail(ReplicaError::Busy));
        let writes = self.ledger.admit(&mut updates);
        shared.inbox.give_back(updates);
        self.tell_next_cut();
        let commit = || commit(&shared, &writes, sequence);
        let owed = writes.len();
        let is_settling_due = self.is_settling_due_now();
        let is_committed = match is_settling_due {
            false => commit(),
            true => std::thread::scope(|scope| {
                let name = format!("{} commit", shared.name);
                let thread = std::thread::Builder::new().name(name);
                // There may be too many threads.
                let Ok(committing) = thread.spawn_scoped(scope, commit) else {
                    return commit();
                };
                let is_more_due = || committing.is_finished() && is_more_due();
                self.settle_unless_put_off(&after(owed, is_more_due));
                let committed = committing.join();
                committed.unwrap_or_else(|panic| resume_unwind(panic))
            }),
        };
        if !is_committed {
            return false;
        }
        self.ledger.committed();
        self.committed = sequence;
        if !is_settling_due {
            // What there is no time for now settles beside the next commit.
            self.settle_unless_put_off(&is_more_due);
        }
        true
    }

    /// Whether a group is to be written ahead: in a burst, and after it for as long as there
    /// is something written ahead that is not in its rows, which is not to be overtaken.
    fn is_to_be_written_ahead(&self, group: &Group) -> bool {
        let is_small = group.bytes <= MAX_BYTES_AHEAD && self.taps.is_empty();
        let is_put_off = || self.put_off_until().is_some() || self.has_to_write_out;
        self.shared.store.keeps_cells() && is_small && is_put_off()
    }

    /// False if the store failed.
    fn write_ahead(&mut self, updates: &[Update]) -> bool {
        let newest = updates.iter().filter(|update| update.is_newest);
        let mut cells = newest.map(|update| (&update.key, &*update.cell)).peekable();
        if cells.peek().is_none() {
            return true;
        }
        self.has_to_write_out = true;
        let mode = commit_mode(&self.shared);
        let written = self.shared.store.write_ahead(&mut cells, mode);
        succeeded(&self.shared, written)
    }

    /// What is written ahead, or is in no store at all, needs no other commit for now.
    fn hold(&mut self, group: Group, is_ahead: bool) {
        let Group {
            mut updates,
            sequence,
            ..
        } = group;
        let shared = &*self.shared;
        let newest = updates.iter().filter(|update| update.is_newest).count();
        shared.counters.commits.add();
        shared.counters.committed_cells.add_many(newest);
        self.ledger.hold(&mut updates, is_ahead);
        self.committed = sequence;
        self.tell_next_cut();
        shared.inbox.give_back(updates);
        shared.inbox.committed(&[]);
        shared.commits.done(sequence);
    }

    /// Brings what was written ahead to its rows, as long as `pause` does not say
    /// otherwise; false if that failed.
    ///
    /// There is no hurry for it to be on the disk: there it is, where it was written
    /// ahead.
    pub(super) fn write_out(&mut self, pause: &dyn Fn() -> bool) -> bool {
        if !self.has_to_write_out {
            return true;
        }
        // It may have failed just before; then not all that is held no more is in its rows.
        if self.shared.commits.failure().is_some() {
            return false;
        }
        while self.ledger.is_holding() {
            if pause() {
                return true;
            }
            let writes = self.ledger.write_out(WRITTEN_OUT_AT_ONCE);
            if !writes.is_empty() && !write_group(&self.shared, &writes, Commit::Buffered) {
                return false;
            }
        }
        self.has_to_write_out = false;
        succeeded(&self.shared, self.shared.store.clear_ahead())
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
        if shared.settled().get(&key).map(Held::meta) != Some(meta)
            || !shared.inbox.is_settled(&key)
        {
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
            };
            if write_group(&shared, &[write], Commit::Synced) {
                shared.counters.repaired.add();
                tracing::error!(
                    "storage '{name}': a cell was damaged, and is written anew: {damage}"
                );
            }
            return;
        }
        if !succeeded(&shared, shared.store.quarantine(key, &meta)) {
            return;
        }
        tracing::error!(
            "storage '{name}': a cell is damaged, and in quarantine until another replica sends \
             it, or its key is written anew: {damage}"
        );
        shared.quarantine.insert(key, meta);
        shared.inbox.begin_batch();
        let is_unmerged = settled_mut(&shared).take_out(key);
        shared.inbox.end_batch();
        shared.folds.forget(&key.key);
        if is_unmerged {
            shared.inbox.unmerged(std::slice::from_ref(&key.key));
        }
        self.roots().lost();
        self.settled = Instant::now();
        self.stale_since.get_or_insert(self.settled);
    }
}

/// Pauses as `pause` says, but not before about so many cells are settled: as many as are
/// committed, so that what is pending does not grow for as long as there is more to commit.
fn after(cells: usize, pause: impl Fn() -> bool) -> impl Fn() -> bool {
    let owed = StdCell::new(cells.div_ceil(CHUNK));
    move || match owed.get().checked_sub(1) {
        Some(left) => {
            owed.set(left);
            false
        }
        None => pause(),
    }
}

/// Writes a group, and tells those who wait for it. False if the store failed.
fn commit(shared: &Shared, writes: &[Write], sequence: u64) -> bool {
    if !writes.is_empty() {
        if !write_group(shared, writes, commit_mode(shared)) {
            return false;
        }
        shared.counters.commits.add();
        shared.counters.committed_cells.add_many(writes.len());
    }
    // Looked for while nobody waits.
    let large = writes.iter().filter(|write| Recent::is_large(&write.cell));
    let large: Vec<&Write> = large.collect();
    shared.store.cache(&mut large.iter().map(|write| {
        let Write { key, cell, meta } = write;
        (key.clone(), Arc::clone(cell), meta.version)
    }));
    shared.inbox.committed(&large);
    shared.commits.done(sequence);
    true
}

fn commit_mode(shared: &Shared) -> Commit {
    match shared.options.durability {
        Durability::Always | Durability::Interval => Commit::Synced,
        Durability::None => Commit::Buffered,
    }
}

/// Writes cells to their rows. False if the store failed.
fn write_group(shared: &Shared, writes: &[Write], commit: Commit) -> bool {
    if !succeeded(shared, shared.store.commit(writes, commit)) {
        return false;
    }
    let replacing = writes.iter().map(|write| (&write.key, write.meta));
    let replaced = shared.quarantine.replaced_by(replacing);
    release(shared, &replaced);
    true
}

pub(super) fn release(shared: &Shared, replaced: &[CellKey]) {
    if replaced.is_empty() {
        return;
    }
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

/// Whether the store has done what it was to. If not, that is the failure of the replica.
pub(super) fn succeeded(shared: &Shared, written: Result<(), StoreError>) -> bool {
    written.map_err(|error| fail(shared, error.into())).is_ok()
}

/// Nothing is taken any more before anyone hears of the failure.
fn fail(shared: &Shared, failure: Failure) {
    shared.inbox.close();
    shared.commits.fail(failure);
}

pub(super) fn settled_mut(shared: &Shared) -> RwLockWriteGuard<'_, Settled> {
    let settled = shared.settled.write();
    settled.unwrap_or_else(PoisonError::into_inner)
}
