//! The other half of the writer: what is committed goes into the tree, and the root is
//! made.

use std::{
    sync::{atomic::Ordering, PoisonError, RwLockWriteGuard},
    time::{Duration, Instant},
};

use super::{
    bucket::{hashed, Due},
    checkpoint::Tap,
    cut_at,
    settled::Joined,
    writer::{release, settled_mut, succeeded, Writer},
    Held, Roots,
};
use crate::{
    cell::{ntp64_span, CellKey},
    store::Versioned,
};

/// Cells that go into the tree at a time, while readers wait.
pub(super) const CHUNK: usize = 128;

/// Nodes of the tree that are hashed at a time.
const HASHED_AT_ONCE: usize = 128;

/// Cells that are removed from the store at a time.
const REMOVED_AT_ONCE: usize = 4096;

/// When nothing has settled for this long, and nothing is to, the root is made.
const ROOT_WHEN_QUIET: Duration = Duration::from_millis(50);

/// The longest sleep on behalf of what is to settle, should the clock be set
/// meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Cells that settle together, part of which may be in the tree already. Until all are,
/// nobody takes a snapshot.
pub(super) struct Batch {
    /// Where the cut was that settles the first of them, and where it goes.
    first: u64,
    cut: u64,
    /// What has a time below this came late.
    late_before: u64,
    due: std::vec::IntoIter<(CellKey, Due)>,
    /// Those that are in the tree.
    done: Vec<(CellKey, Held)>,
    joined: Joined,
    /// Whether the root is to be made then.
    is_root_due: bool,
}

impl Writer {
    /// When there is something to settle, or a root to be made at a whole second.
    pub(super) fn next_settling(&self) -> Option<Instant> {
        if self.batch.is_some() {
            return Some(Instant::now());
        }
        let due = match self.is_root_due || self.has_to_write_out {
            true => Some(Instant::now()),
            false => self.next_due(),
        };
        due.and_then(|due| Some(due).max(self.put_off_until()))
    }

    /// When something is due by the clock.
    fn next_due(&self) -> Option<Instant> {
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
    pub(super) fn next_work(&self) -> Option<Instant> {
        let root = self.quiet_root_due();
        self.next_settling().into_iter().chain(root).min()
    }

    /// When the root is to be made because nothing more is to settle.
    fn quiet_root_due(&self) -> Option<Instant> {
        let is_quiet = self.is_root_stale && self.ledger.next_cut().is_none();
        is_quiet.then(|| self.settled + ROOT_WHEN_QUIET)
    }

    /// The cut up to which what is committed is to settle now.
    fn due_cut(&self) -> u64 {
        // What was late is due at the cut that is, even if the clock was set back.
        let clock = (self.shared.clock)();
        cut_at(clock, self.shared.options.settle).max(self.ledger.cut())
    }

    /// Whether something is to settle now, or a root to be made, or it is half done.
    pub(super) fn is_settling_due(&self) -> bool {
        let step = || self.ledger.next_step(self.due_cut(), self.is_root_stale);
        let is_begun = self.batch.is_some() || self.is_root_due;
        is_begun || self.has_to_write_out || step().is_some()
    }

    /// Until when nothing settles, because of a burst; unless a checkpoint waits for it.
    pub(super) fn put_off_until(&self) -> Option<Instant> {
        let until = self.burst.until(Instant::now());
        until.filter(|_| self.taps.is_empty())
    }

    /// As [`is_settling_due`](Self::is_settling_due), unless it is put off because of a
    /// burst. A batch that is half in the tree is not: snapshots wait for it.
    pub(super) fn is_settling_due_now(&self) -> bool {
        match self.put_off_until() {
            None => self.is_settling_due(),
            Some(_) => self.batch.is_some(),
        }
    }

    /// As [`settle`](Self::settle), but no more than is
    /// [due now](Self::is_settling_due_now).
    pub(super) fn settle_unless_put_off(&mut self, pause: &dyn Fn() -> bool) {
        match self.put_off_until() {
            None => self.settle(pause),
            Some(_) => {
                while self.batch.is_some() && self.settle_next(pause) {}
                self.tell_next_cut();
            }
        }
    }

    /// Settles what is due, and makes the roots that are due on the way; or a part of
    /// that, if `pause` says so. What is half done is gone on with the next time.
    pub(super) fn settle(&mut self, pause: &dyn Fn() -> bool) {
        while self.settle_next(pause) {}
        self.tell_next_cut();
    }

    /// The next step; false if there is none, or it paused.
    fn settle_next(&mut self, pause: &dyn Fn() -> bool) -> bool {
        if let Some(batch) = self.batch.take() {
            return self.join_batch(batch, pause);
        }
        if self.is_root_due {
            return self.make_root(pause);
        }
        if self.has_to_write_out {
            return self.write_out(pause) && !self.has_to_write_out;
        }
        let cut = self.due_cut();
        if let Some((step, is_root_due)) = self.ledger.next_step(cut, self.is_root_stale) {
            self.begin_batch(step, is_root_due);
            self.has_settled = true;
            return true;
        }
        let is_awaited = self.taps.iter().any(|tap| tap.is_ready(cut));
        let has_settled = std::mem::take(&mut self.has_settled);
        if (has_settled || is_awaited) && self.ledger.cut() < cut {
            self.begin_batch(cut, false);
            return true;
        }
        false
    }

    fn begin_batch(&mut self, cut: u64, is_root_due: bool) {
        let first = self.ledger.next_cut().unwrap_or(cut);
        let late_before = self.ledger.cut();
        let (cut, due) = self.ledger.settle(cut);
        self.shared.inbox.begin_batch();
        self.shared.inbox.set_cut(cut);
        self.batch = Some(Batch {
            first,
            cut,
            late_before,
            done: Vec::with_capacity(due.len()),
            due: due.into_iter(),
            joined: Joined::default(),
            is_root_due,
        });
    }

    /// Goes on with a batch; false if it paused.
    fn join_batch(&mut self, mut batch: Batch, pause: &dyn Fn() -> bool) -> bool {
        let shared = &*self.shared;
        while batch.due.len() > 0 {
            if pause() {
                self.batch = Some(batch);
                return false;
            }
            let chunk = batch.due.by_ref().take(CHUNK);
            let from = batch.done.len();
            batch.done.extend(chunk.map(hashed));
            settled_mut(shared).join_all(&batch.done[from..], &mut batch.joined);
        }
        let mut joined = batch.joined;
        while settled_mut(shared).cover(&mut joined, CHUNK) {}
        let mut settled = settled_mut(shared);
        settled.set_cut(batch.cut);
        joined.forget_what_is_there(&settled);
        if let Some(earliest) = joined.earliest {
            self.is_root_stale = true;
            self.roots().changed(earliest);
        }
        drop(settled);
        if !shared.store.keeps_cells() {
            let settled = batch.done.iter().map(|(key, held)| (key, held.meta()));
            release(shared, &shared.quarantine.replaced_by(settled));
        }
        shared.inbox.end_batch();
        // What comes late, as from another replica or a backup, nobody is about to read.
        let is_timely = |(_, cell, _): &Versioned| cell.stamp.time >= batch.late_before;
        shared.inbox.forget(&batch.done, |cells| {
            shared.store.cache(&mut cells.filter(is_timely));
        });
        shared.inbox.unmerged(&joined.unmerged);
        self.roots()
            .joined(batch.done.into_iter().map(|(key, _)| key));
        self.settled = Instant::now();
        self.is_root_due = batch.is_root_due;
        self.remove(joined.covered);
        true
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
            if !succeeded(shared, shared.store.remove(chunk)) {
                return;
            }
        }
    }

    pub(super) fn roots(&self) -> RwLockWriteGuard<'_, Roots> {
        let roots = self.shared.roots.write();
        roots.unwrap_or_else(PoisonError::into_inner)
    }

    /// Beyond this the root says nothing: something with an earlier time is not in the
    /// tree, or may not be.
    pub(super) fn tell_next_cut(&self) {
        let half_done = self.batch.iter().map(|batch| batch.first);
        let next = self.ledger.next_cut().into_iter().chain(half_done).min();
        self.roots().set_next_cut(next);
    }

    /// Makes the root if it is time for it, and says what the root covers. All that is
    /// due is settled.
    pub(super) fn publish(&mut self) {
        if self
            .quiet_root_due()
            .is_some_and(|due| due <= Instant::now())
        {
            self.make_root(&|| false);
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

    /// False if it paused.
    fn make_root(&mut self, pause: &dyn Fn() -> bool) -> bool {
        while !self.shared.settled().hash_some(HASHED_AT_ONCE) {
            if pause() {
                return false;
            }
        }
        let published = self.shared.settled().publish();
        self.roots().made(published);
        match self.shared.store.disk_bytes() {
            Ok(bytes) => self.shared.disk_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => tracing::warn!("the size of a storage on disk is not known: {error}"),
        }
        self.is_root_stale = false;
        self.is_root_due = false;
        self.ledger.root_made();
        self.tell();
        true
    }

    fn tell(&self) {
        if let Some(tell) = self.shared.on_root.get() {
            tell();
        }
    }
}
