//! When something is due.

use std::time::Duration;

use super::{ApplyPhase, Core};
use crate::{
    cell::{ntp64_millis, ntp64_span},
    replica::{
        Now,
        apply::watermark::{cut_at, cut_below},
    },
};

/// How often it is looked whether deaths may go on that a clock's leap holds back.
const HELD_DEATHS_LOOK: Duration = Duration::from_millis(250);

impl Core {
    /// The watermark by the clock.
    fn clock_cut(&self, now: Now) -> u64 {
        cut_at(now.clock, self.state.options.settle)
    }

    /// Where updates that are not committed hold the watermark; nowhere if there is no room for them.
    fn held_at(&self) -> Option<u64> {
        if self.is_overfull() {
            return None;
        }
        let appending = self.appending().and_then(|group| group.earliest);
        let queued = self.state.queue.earliest_uncommitted();
        let earliest = appending.into_iter().chain(queued).min();
        earliest.map(cut_below)
    }

    /// The watermark up to which what is committed is to be applied now.
    pub(super) fn due_cut(&self, now: Now) -> u64 {
        let clock = self.clock_cut(now);
        let cut = self.held_at().map_or(clock, |held| clock.min(held));
        // What was late is due at the watermark that is, even if the clock was set back.
        cut.max(self.buckets.watermark())
    }

    /// Up to which watermark what is dead may leave the tree when `cut` is applied.
    pub(super) fn deaths_until(&self, now: Now, cut: u64) -> u64 {
        let witnessed = self.state.witnessed();
        let clock = self.clock_cut(now);
        cut.min(self.death_pace.until(clock, witnessed, now.monotonic))
    }

    /// Compares the clocks, so that deaths go on.
    pub(super) fn look_at_death_pace(&mut self, now: Now) {
        let (clock, witnessed) = (self.clock_cut(now), self.state.witnessed());
        self.death_pace.look(clock, witnessed, now.monotonic);
        let held = clock.saturating_sub(self.death_pace.until(clock, witnessed, now.monotonic));
        self.state.set_held_deaths(held);
    }

    /// The watermark at which something may die next, if that is to be looked at now.
    pub(super) fn due_death(&self, now: Now, cut: u64) -> Option<u64> {
        let death = self.next_death.filter(|death| *death <= cut)?;
        (death <= self.deaths_until(now, cut)).then_some(death)
    }

    /// Whether something is to be applied now, or a root to be made at a whole second, or it is half
    /// done.
    pub(super) fn is_apply_due(&self, now: Now) -> bool {
        match &self.apply {
            ApplyPhase::Idle => {
                let cut = self.due_cut(now);
                let death = self.due_death(now, cut);
                self.buckets
                    .next_step(cut, death, self.stale_since.is_some())
                    .is_some()
            }
            _ => true,
        }
    }

    /// Until when a burst defers what is due. A batch that is half applied is not deferred: snapshots
    /// wait for it.
    pub(super) fn deferred_until(&self, now: Now) -> Option<Duration> {
        let is_awaited = !self.checkpoints.is_empty() || !self.requests.is_empty();
        let is_pressing = is_awaited || self.is_closing || self.is_overfull();
        let is_half = self.batch().is_some();
        let until = self.deferral.until(now.monotonic);
        until.filter(|_| !is_pressing && !is_half)
    }

    /// As [`is_apply_due`](Self::is_apply_due), unless it is deferred.
    pub(crate) fn is_apply_due_now(&self, now: Now) -> bool {
        self.deferred_until(now).is_none() && self.is_apply_due(now)
    }

    /// When the root is to be made although it is no whole second: because nothing waits; or because
    /// no whole second comes, as the watermark stands still.
    fn extra_root_due(&self, now: Now) -> Option<Duration> {
        let stale_since = self.stale_since?;
        let tuning = &self.state.tuning;
        let is_quiet = self.buckets.next_cut().is_none() && self.appending().is_none();
        let quiet = is_quiet.then(|| self.applied_at + tuning.root_when_quiet);
        let watermark = self.buckets.watermark();
        let is_held = self.held_at().is_some_and(|held| held <= watermark);
        let stands_still = self.clock_cut(now) < watermark || is_held;
        let late = stands_still.then(|| stale_since + tuning.root_when_standing);
        quiet.into_iter().chain(late).min()
    }

    /// Whether that time has come.
    pub(super) fn is_extra_root_due(&self, now: Now) -> bool {
        let due = self.extra_root_due(now);
        due.is_some_and(|due| due <= now.monotonic)
    }

    /// When there is something to do although nothing comes: nothing if a commit is waited for.
    pub(super) fn wake_at(&self, now: Now) -> Option<Duration> {
        let root = self.extra_root_due(now);
        // By a commit the thread is woken anyway.
        let waits_for_commit = self.appending().is_some() && !self.requests.is_empty();
        let applying = match self.is_apply_due(now) {
            true => Some(now.monotonic),
            false if waits_for_commit => None,
            false => self.next_due(now),
        };
        let collecting = self.collection_due(now).filter(|_| !self.is_closing);
        let at = applying.into_iter().chain(root).chain(collecting).min()?;
        // What is deferred is not done before, be it overdue.
        Some(self.deferred_until(now).map_or(at, |until| at.max(until)))
    }

    /// When something will be due by the clock.
    fn next_due(&self, now: Now) -> Option<Duration> {
        let clock = self.clock_cut(now);
        // What should be dead by the clock is held since the clock leapt.
        let is_held = self.next_death.is_some_and(|death| death <= clock);
        let held = is_held.then(|| now.monotonic + HELD_DEATHS_LOOK);
        let death = self.next_death.filter(|_| !is_held);
        let due = self.buckets.next_due(self.stale_since.is_some());
        let awaited = self.checkpoints.iter().map(|(until, _)| *until);
        let Some(cut) = due.into_iter().chain(awaited).chain(death).min() else {
            return held;
        };
        let due = cut.saturating_add(ntp64_span(self.state.options.settle));
        let left = due.saturating_sub(now.clock);
        if left == 0 {
            // It is due by the clock: what holds the watermark is committed first.
            return held;
        }
        let left = Duration::from_millis(ntp64_millis(left) + 1);
        let due = now.monotonic + left.min(self.state.tuning.max_sleep);
        Some(held.map_or(due, |held| held.min(due)))
    }
}
