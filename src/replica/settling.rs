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

/// While the cut stands still the root is made this long after the tree has changed.
const ROOT_WHEN_STANDING: Duration = Duration::from_secs(1);

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
        let due = match self.is_root_due || self.has_to_write_out || !self.covered.is_empty() {
            true => Some(Instant::now()),
            false => self.next_due(),
        };
        due.and_then(|due| Some(due).max(self.put_off_until()))
    }

    /// When something is due by the clock.
    fn next_due(&self) -> Option<Instant> {
        let due = self.ledger.next_due(self.is_root_stale());
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
        let root = self.extra_root_due();
        self.next_settling().into_iter().chain(root).min()
    }

    /// Whether the tree has changed since the root was made.
    pub(super) fn is_root_stale(&self) -> bool {
        self.stale_since.is_some()
    }

    /// When the root is to be made although it is no whole second: because nothing more is to
    /// settle; or because no whole second comes, as the cut is ahead of the clock, and stands still.
    fn extra_root_due(&self) -> Option<Instant> {
        let stale_since = self.stale_since?;
        let quiet = self.ledger.next_cut().is_none();
        let quiet = quiet.then(|| self.settled + ROOT_WHEN_QUIET);
        let stands_still = self.clock_cut() < self.ledger.cut();
        let late = stands_still.then(|| stale_since + ROOT_WHEN_STANDING);
        quiet.into_iter().chain(late).min()
    }

    /// The cut by the clock.
    fn clock_cut(&self) -> u64 {
        cut_at((self.shared.clock)(), self.shared.options.settle)
    }

    /// The cut up to which what is committed is to settle now.
    fn due_cut(&self) -> u64 {
        // What was late is due at the cut that is, even if the clock was set back.
        self.clock_cut().max(self.ledger.cut())
    }

    /// Whether something is to settle now, or a root to be made, or it is half done.
    pub(super) fn is_settling_due(&self) -> bool {
        let step = || self.ledger.next_step(self.due_cut(), self.is_root_stale());
        let is_begun = self.batch.is_some() || self.is_root_due || !self.covered.is_empty();
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
        if !self.covered.is_empty() {
            self.remove_some();
            return !pause();
        }
        let cut = self.due_cut();
        if let Some((step, is_root_due)) = self.ledger.next_step(cut, self.is_root_stale()) {
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
        while settled_mut(shared).cover(&mut batch.joined, CHUNK) {
            if pause() {
                self.batch = Some(batch);
                return false;
            }
        }
        let mut joined = batch.joined;
        let mut settled = settled_mut(shared);
        settled.set_cut(batch.cut);
        joined.forget_what_is_there(&settled);
        if let Some(earliest) = joined.earliest {
            self.stale_since.get_or_insert_with(Instant::now);
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
        if shared.store.keeps_cells() {
            self.covered.append(&mut joined.covered);
        }
        true
    }

    /// Removes from the store some of what is not in the tree any more. Should that not
    /// come to pass, it is left out of the tree, and removed, at the next opening.
    fn remove_some(&mut self) {
        let shared = &*self.shared;
        let left = self.covered.len().saturating_sub(REMOVED_AT_ONCE);
        let mut removed = self.covered.split_off(left);
        if shared.commits.failure().is_some() {
            return;
        }
        // A newer one may have come: it is pending, or in the tree; what settles between is both.
        shared.inbox.retain_settled(&mut removed);
        let tree = shared.tree();
        removed.retain(|key| {
            let Ok(held) = tree.get(key);
            held.is_none()
        });
        // A failure closes the replica.
        let _ = succeeded(shared, shared.store.remove(&removed));
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
            .extra_root_due()
            .is_some_and(|due| due <= Instant::now())
        {
            self.make_root(&|| false);
        }
        if !self.is_root_stale() {
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
        self.stale_since = None;
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
