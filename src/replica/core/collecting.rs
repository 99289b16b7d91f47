//! Collection: the floor rises, and what is collectable below it leaves the tree, in steps.
//!
//! | phase | what is done | then |
//! |---|---|---|
//! | idle | the floor may rise above the earliest that is collectable | looking |
//! | looking | the tree is walked, some cells at a time, for one that is collectable | found one: raising; none: idle |
//! | raising | `KeepFloor`; when it is on the disk, nothing below it is taken any more | draining |
//! | draining | what was taken before is applied | sweeping |
//! | sweeping | the tree is walked; what is found leaves tree and rows, a batch for each step | after the last: idle |
//!
//! Invariants: no write is taken below the floor, which is on the disk before it is said to be. Nothing
//! is swept before all that was taken below the floor is in the tree. So what is swept covers nothing
//! that could come, after a crash as well: a store that is opened has its floor, and is swept again.

use std::{sync::atomic::Ordering, time::Duration};

use super::{ApplyPhase, Core, Task};
use crate::{
    cell::CellKey,
    collection::floor::FloorPace,
    replica::{CollectionState, Failure, Now, state::State},
    store::StoreError,
};

/// Cells that are looked at in one step.
const LOOKED_AT: usize = 4096;

/// How often one looks whether the floor may rise that a clock's leap holds back.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(125);

/// A walk through the tree.
#[derive(Default)]
struct Walk {
    below: u64,
    after: Option<CellKey>,
    /// The earliest time of what is left.
    earliest: Option<u64>,
}

impl Walk {
    fn below(below: u64) -> Self {
        Self {
            below,
            ..Self::default()
        }
    }
}

enum Phase {
    Idle,
    Looking(Walk),
    /// The floor is being kept.
    Raising,
    /// When all up to this update is committed, and what is late of it applied, it goes on.
    Draining(u64),
    Sweeping(Walk),
}

impl Phase {
    fn state(&self) -> CollectionState {
        match self {
            Self::Idle | Self::Looking(_) => CollectionState::Idle,
            Self::Raising | Self::Draining(_) => CollectionState::Waiting,
            Self::Sweeping(_) => CollectionState::Collecting,
        }
    }
}

/// The collection of a storage.
pub(super) struct Collecting {
    pace: FloorPace,
    floor: u64,
    phase: Phase,
}

impl Collecting {
    /// Nothing if the storage does not collect. What a crash left below the floor is swept.
    pub(super) fn begin(state: &State) -> Option<Self> {
        let after = state.options.collect_after?;
        let floor = state.queue.floor();
        let known = state.applied().known_time();
        let is_left = state
            .applied()
            .garbage_from()
            .is_some_and(|from| from < floor);
        let collecting = Self {
            pace: FloorPace::new(after, known, floor),
            floor,
            phase: Phase::Idle,
        };
        Some(match is_left {
            true => collecting.swept(state),
            false => collecting,
        })
    }

    /// In the phase of sweeping.
    fn swept(mut self, state: &State) -> Self {
        state.applied_mut().forget_garbage();
        self.phase = Phase::Sweeping(Walk::below(self.floor));
        self
    }
}

impl Core {
    /// The next step of the collection, if one is due.
    pub(super) fn collect_next(&mut self, now: Now) -> Option<Task> {
        let is_free = matches!(self.apply, ApplyPhase::Idle) && !self.is_closing;
        if !is_free || self.deferred_until(now).is_some() {
            return None;
        }
        let mut collecting = self.collecting.take()?;
        let task = self.step(&mut collecting, now);
        let shown = &self.state.collection;
        let phase = collecting.phase.state() as u8;
        shown.phase.store(phase, Ordering::Relaxed);
        self.collecting = Some(collecting);
        task
    }

    fn step(&mut self, collecting: &mut Collecting, now: Now) -> Option<Task> {
        match std::mem::replace(&mut collecting.phase, Phase::Idle) {
            Phase::Idle => {
                let below = self.may_rise_to(collecting, now)?;
                self.state.applied_mut().forget_garbage();
                collecting.phase = Phase::Looking(Walk::below(below));
                Some(Task::Again)
            }
            Phase::Looking(walk) => {
                let below = walk.below;
                let (found, walk) = self.look(walk, 1);
                if !found.is_empty() {
                    // The rest was not looked at.
                    self.state.applied_mut().see_garbage(Some(0));
                    collecting.phase = Phase::Raising;
                    return Some(Task::KeepFloor(below));
                }
                collecting.phase = walk.map_or(Phase::Idle, Phase::Looking);
                Some(Task::Again)
            }
            Phase::Raising => {
                collecting.phase = Phase::Raising;
                None
            }
            Phase::Draining(sequence) if self.committed < sequence => {
                collecting.phase = Phase::Draining(sequence);
                None
            }
            Phase::Draining(_) => {
                // Of what was taken below the floor nothing waits: it was late, and nothing is due.
                self.state.applied_mut().forget_garbage();
                let floor = collecting.floor;
                self.state
                    .collection
                    .horizon
                    .store(floor, Ordering::Relaxed);
                collecting.phase = Phase::Sweeping(Walk::below(floor));
                Some(Task::Again)
            }
            Phase::Sweeping(walk) => {
                let enough = self.state.tuning.applied_at_once;
                let (found, walk) = self.look(walk, enough);
                collecting.phase = walk.map_or(Phase::Idle, Phase::Sweeping);
                if !found.is_empty() {
                    self.begin_collection(found);
                }
                Some(Task::Again)
            }
        }
    }

    /// Where the floor may rise to, if something may be collectable then.
    fn may_rise_to(&self, collecting: &mut Collecting, now: Now) -> Option<u64> {
        let Some(from) = self.state.applied().garbage_from() else {
            self.state.set_held_floor(0);
            return None;
        };
        let Collecting { pace, floor, .. } = collecting;
        pace.look(now.clock, now.monotonic);
        let watermark = self.buckets.watermark();
        let below = pace.floor(now.clock, watermark, now.monotonic);
        let held = pace.candidate(now.clock, watermark).saturating_sub(below);
        self.state.set_held_floor(held);
        (below > *floor && below > from).then_some(below)
    }

    /// One step of a walk: what it found, and the walk, if it goes on.
    fn look(&self, mut walk: Walk, enough: usize) -> (Vec<CellKey>, Option<Walk>) {
        let tree = self.state.applied();
        let looked = tree.garbage(walk.after.as_ref(), walk.below, LOOKED_AT, enough);
        drop(tree);
        walk.earliest = walk.earliest.into_iter().chain(looked.earliest).min();
        walk.after = looked.last;
        if walk.after.is_some() {
            return (looked.found, Some(walk));
        }
        self.state.applied_mut().see_garbage(walk.earliest);
        (looked.found, None)
    }

    /// The floor is on the disk, or that failed.
    pub(crate) fn floor_kept(&mut self, floor: u64, kept: Result<(), StoreError>) {
        if let Err(error) = kept {
            return self.state.fail(Failure::from(error));
        }
        let sequence = self.state.queue.raise_floor(floor);
        if let Some(collecting) = &mut self.collecting {
            collecting.floor = floor;
            collecting.phase = Phase::Draining(sequence);
        }
    }

    /// An operator wants to have collected what may be, and says that the clock is right.
    pub(super) fn collect_now(&mut self, now: Now) {
        if let Some(collecting) = &mut self.collecting {
            collecting.pace.trust(now.clock, now.monotonic);
        }
    }

    /// When there is something to collect although nothing comes.
    pub(super) fn collection_due(&self, now: Now) -> Option<Duration> {
        let Collecting { pace, floor, phase } = self.collecting.as_ref()?;
        match phase {
            Phase::Idle => {
                let from = self.state.applied().garbage_from()?;
                let next = pace.first_above(from, *floor);
                let wait = pace.wait_for(next, now.clock, now.monotonic);
                Some(now.monotonic + wait.clamp(LOOK_AGAIN, LOOK_EVERY))
            }
            // It is over before anything else is done, or ends with a batch.
            Phase::Raising | Phase::Draining(_) => None,
            Phase::Looking(_) | Phase::Sweeping(_) => Some(now.monotonic),
        }
    }
}
