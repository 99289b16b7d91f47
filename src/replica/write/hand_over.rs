//! The queue, as the thread that commits and applies sees it.

use std::{sync::PoisonError, time::Duration};

use super::{
    group::{Group, Update},
    queue::WriteQueue,
    request::Request,
};
use crate::{
    cell::{CellKey, Key},
    replica::TreeEntry,
    store::Versioned,
};

/// Keys that are forgotten while writers wait.
const FORGOTTEN_AT_ONCE: usize = 64;

/// What the queue has for the thread.
pub(in crate::replica) struct Work {
    pub(in crate::replica) group: Option<Group>,
    pub(in crate::replica) requests: Vec<Request>,
    /// Nothing more will come after the group.
    pub(in crate::replica) is_last: bool,
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
        self.gate.begin();
        let mut state = self.state();
        debug_assert!(
            watermark >= state.watermark,
            "the watermark never goes back"
        );
        state.watermark = watermark;
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
