//! Collection: the floor rises, and what is collectable leaves the tree, in steps.
//!
//! | phase | what is done | then |
//! |---|---|---|
//! | idle | the floor may rise above the earliest that is collectable | looking |
//! | looking | the tree is walked, some cells at a time, for one that is collectable | found one: raising; none: idle |
//! | raising | `Keep`; when it is on the disk, nothing below it is taken any more | draining |
//! | draining | what was taken before is applied | sweeping; of a replica: idle |
//! | sweeping | the tree is walked; what is found leaves tree and rows, a batch for each step | after the last: idle |
//!
//! Invariants: no write is taken below the floor, which is on the disk before it is said to be. Nothing
//! is swept before all that was taken below the floor is in the tree. So what is swept covers nothing
//! that could come, after a crash as well: a store that is opened has its floor, and is swept again.
//!
//! A replica sweeps to its horizon, and that rises by an [`Order`] of the machine that knows the other
//! replicas:
//!
//! | phase | what is done | then |
//! |---|---|---|
//! | idle | an order to adopt | adopting |
//! | adopting | what other replicas sent before is applied; nothing is taken that was asked for before | the evidence still holds: keeping; it does not: idle |
//! | keeping | `Keep`; when the horizon is on the disk, the roots of before are forgotten | sweeping |
//! | idle | an order to discard | `SetAside`, a batch, `Refold`: idle |

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use super::{ApplyPhase, Core, Task};
use crate::{
    cell::CellKey,
    collection::{
        floor::FloorPace,
        kept::{Kept, MemberId},
    },
    replica::{
        Adoption, CollectionState, Discarded, Failure, Now, Order, apply::entry::TreeEntry,
        state::State,
    },
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
    /// What was known of the earliest before.
    from: Option<u64>,
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
    /// As draining, before a horizon is adopted.
    Adopting(Box<Adoption>, u64),
    /// The horizon is being kept.
    Keeping,
    /// What is discarded leaves the tree; these cells were folded with others.
    Discarding(Vec<CellKey>),
}

impl Phase {
    fn state(&self) -> CollectionState {
        match self {
            Self::Idle | Self::Looking(_) => CollectionState::Idle,
            Self::Raising | Self::Draining(_) => CollectionState::Waiting,
            Self::Sweeping(_) | Self::Adopting(..) | Self::Keeping | Self::Discarding(_) => {
                CollectionState::Collecting
            }
        }
    }
}

/// The collection of a storage.
pub(super) struct Collecting {
    pace: FloorPace,
    kept: Kept,
    phase: Phase,
    /// Whether it is one of several replicas: then its horizon rises by orders.
    is_member: bool,
    orders: VecDeque<Order>,
}

impl Collecting {
    /// Nothing if the storage does not collect. What a crash left below the floor is swept.
    pub(super) fn begin(state: &State) -> Option<Self> {
        let after = state.options.collect_after?;
        let kept = state.collection.kept().clone();
        let is_member = state.options.keep_changes;
        let horizon = if is_member { kept.horizon } else { kept.floor };
        let known = state.applied().known_time();
        let from = state.applied().garbage_from();
        let collecting = Self {
            pace: FloorPace::new(after, known, kept.floor),
            kept,
            phase: Phase::Idle,
            is_member,
            orders: VecDeque::new(),
        };
        if is_member {
            state.queue.set_horizon(horizon);
            let mut roots = state.roots_mut();
            roots.keep_evidence(collecting.pace.grid());
            // Nothing waits, and what is below the floor is not taken.
            roots.drained(collecting.kept.floor);
        }
        let is_left = from.is_some_and(|from| from < horizon);
        Some(match is_left {
            true => collecting.swept(state, horizon),
            false => collecting,
        })
    }

    /// In the phase of sweeping.
    fn swept(mut self, state: &State, horizon: u64) -> Self {
        state.applied_mut().forget_garbage();
        self.phase = Phase::Sweeping(Walk::below(horizon));
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
                if let Some(order) = collecting.orders.pop_front() {
                    if let Order::Raise(floor) = order
                        && let Some(passing) = self.pass(floor, now)
                    {
                        collecting.orders.push_front(order);
                        return Some(passing);
                    }
                    return Some(self.begin_order(collecting, order));
                }
                if self.is_left(collecting) {
                    self.state.applied_mut().forget_garbage();
                    collecting.phase = Phase::Sweeping(Walk::below(collecting.kept.horizon));
                    return Some(Task::Again);
                }
                let below = self.may_rise_to(collecting, now)?;
                if let Some(passing) = self.pass(below, now) {
                    return Some(passing);
                }
                if below > self.buckets.watermark() {
                    // The core applies first what is due.
                    return None;
                }
                let from = self.state.applied().garbage_from();
                self.state.applied_mut().forget_garbage();
                collecting.phase = Phase::Looking(Walk {
                    from,
                    ..Walk::below(below)
                });
                Some(Task::Again)
            }
            Phase::Looking(walk) => {
                let (below, from) = (walk.below, walk.from);
                let (found, walk) = self.look(walk, 1);
                if !found.is_empty() {
                    // The rest was not looked at: what was known before holds.
                    self.state.applied_mut().see_garbage(from);
                    return Some(raise(collecting, below));
                }
                collecting.phase = walk.map_or(Phase::Idle, Phase::Looking);
                Some(Task::Again)
            }
            phase @ (Phase::Raising | Phase::Keeping) => {
                collecting.phase = phase;
                None
            }
            Phase::Draining(sequence) if self.committed < sequence => {
                collecting.phase = Phase::Draining(sequence);
                None
            }
            Phase::Draining(_) => {
                // Of what was taken below the floor nothing waits: it was late, and nothing is due.
                let floor = collecting.kept.floor;
                if collecting.is_member {
                    self.state.roots_mut().drained(floor);
                    // The state machine of the group announces it.
                    return Some(Task::Tell { is_made: false });
                }
                self.state.applied_mut().forget_garbage();
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
                let is_over = walk.is_none();
                collecting.phase = walk.map_or(Phase::Idle, Phase::Sweeping);
                if !found.is_empty() {
                    self.begin_collection(found);
                }
                if is_over && collecting.is_member {
                    // What was made meanwhile is the root of no horizon.
                    self.void_roots(now);
                }
                Some(Task::Again)
            }
            Phase::Adopting(adoption, sequence) if self.committed < sequence => {
                collecting.phase = Phase::Adopting(adoption, sequence);
                None
            }
            Phase::Adopting(adoption, _) => Some(self.adopt(collecting, *adoption)),
            Phase::Discarding(keys) => Some(Task::Refold(keys)),
        }
    }

    /// Whether something is below the horizon that was collected: as when a replica that had not got
    /// so far gave it once more.
    fn is_left(&self, collecting: &Collecting) -> bool {
        let from = self.state.applied().garbage_from();
        collecting.is_member && from.is_some_and(|from| from < collecting.kept.horizon)
    }

    /// Where the floor may rise to, if something may be collectable then.
    fn may_rise_to(&self, collecting: &mut Collecting, now: Now) -> Option<u64> {
        let Some(from) = self.state.applied().garbage_from() else {
            self.state.set_held_floor(0);
            return None;
        };
        let Collecting { pace, kept, .. } = collecting;
        pace.look(now.clock, now.monotonic);
        let cut = self.due_cut(now);
        let below = pace.floor(now.clock, cut, now.monotonic);
        let held = pace.candidate(now.clock, cut).saturating_sub(below);
        self.state.set_held_floor(held);
        (below > kept.floor && below > from).then_some(below)
    }

    /// Has the watermark pass a floor that the clock has passed: where nothing is written it stands still.
    /// Nothing if it has passed it, or may not yet, or if something is due, which comes first.
    fn pass(&mut self, floor: u64, now: Now) -> Option<Task> {
        let cut = self.due_cut(now);
        let is_between = self.buckets.watermark() < floor && floor <= cut;
        (is_between && !self.is_apply_due(now)).then(|| self.begin_batch(cut, false, now))
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

    fn begin_order(&mut self, collecting: &mut Collecting, order: Order) -> Task {
        match order {
            Order::Raise(floor) => {
                // What is below it has to be late, so that it is applied before anything is said.
                let may_rise = floor > collecting.kept.floor && floor <= self.buckets.watermark();
                if may_rise {
                    return raise(collecting, floor);
                }
            }
            Order::Catch if !collecting.kept.is_catching => {
                let mut kept = collecting.kept.clone();
                kept.is_catching = true;
                collecting.phase = Phase::Keeping;
                return Task::Keep(kept);
            }
            Order::Catch => {}
            Order::Discard(cells) => return self.discard(collecting, cells),
            Order::Adopt(adoption) => {
                let is_next = adoption.from == collecting.kept.horizon
                    && adoption.horizon > adoption.from
                    && adoption.horizon <= collecting.kept.floor
                    // Where nothing differs there is nothing to be caught up with.
                    && (adoption.is_catch_up || !collecting.kept.is_catching);
                if is_next {
                    let sequence = self.state.queue.set_horizon(adoption.horizon);
                    collecting.phase = Phase::Adopting(Box::new(adoption), sequence);
                }
            }
        }
        Task::Again
    }

    /// What was sent before is in the tree: looks whether the evidence still holds.
    fn adopt(&self, collecting: &mut Collecting, adoption: Adoption) -> Task {
        let roots = self.state.roots();
        let evidence = roots.evidence();
        let holds = |member: &MemberId| evidence.bound(*member) >= Some(adoption.horizon);
        let is_drained = roots.drained_floor() >= adoption.horizon;
        if !is_drained || !adoption.members.iter().all(holds) || self.state.quarantine.len() > 0 {
            self.state.queue.set_horizon(collecting.kept.horizon);
            return Task::Again;
        }
        collecting.phase = Phase::Keeping;
        Task::Keep(Kept {
            floor: collecting.kept.floor,
            horizon: adoption.horizon,
            lineage: adoption.lineage,
            is_catching: false,
        })
    }

    /// Cells that are as they were when that was decided leave the tree; first some are set aside.
    fn discard(&self, collecting: &mut Collecting, cells: Vec<Discarded>) -> Task {
        let tree = self.state.applied();
        let is_there = |cell: &Discarded| {
            tree.get(&cell.key).map(TreeEntry::version) == Some(cell.version)
                && self.state.queue.is_applied(&cell.key)
        };
        let there: Vec<Discarded> = cells.into_iter().filter(is_there).collect();
        drop(tree);
        if !collecting.is_member || there.is_empty() {
            return Task::Again;
        }
        collecting.phase = Phase::Keeping;
        Task::SetAside(there)
    }

    /// What was to be set aside is on the disk, or that failed: these keys may go.
    pub(crate) fn set_aside(&mut self, set_aside: Result<Vec<CellKey>, StoreError>) {
        let keys = match set_aside {
            Ok(keys) => keys,
            Err(error) => return self.state.fail(Failure::from(error)),
        };
        if let Some(collecting) = &mut self.collecting {
            collecting.phase = Phase::Discarding(keys.clone());
        }
        if !keys.is_empty() {
            self.begin_collection(keys);
        }
    }

    /// What is kept of the collection is on the disk, or that failed.
    pub(crate) fn collection_kept(&mut self, kept: Kept, result: Result<(), StoreError>, now: Now) {
        if let Err(error) = result {
            return self.state.fail(Failure::from(error));
        }
        let Some(collecting) = &mut self.collecting else {
            return;
        };
        let before = std::mem::replace(&mut collecting.kept, kept.clone());
        self.state.collection.keep(kept.clone());
        if kept.floor > before.floor {
            let sequence = self.state.queue.raise_floor(kept.floor);
            collecting.phase = Phase::Draining(sequence);
        } else if kept.horizon > before.horizon {
            let shown = &self.state.collection.horizon;
            shown.store(kept.horizon, Ordering::Relaxed);
            self.state.applied_mut().forget_garbage();
            collecting.phase = Phase::Sweeping(Walk::below(kept.horizon));
            self.void_roots(now);
        } else {
            collecting.phase = Phase::Idle;
        }
    }

    /// The roots so far are of another horizon. Another is made.
    fn void_roots(&mut self, now: Now) {
        self.state.roots_mut().lost();
        self.stale_since.get_or_insert(now.monotonic);
        self.applied_at = now.monotonic;
    }

    /// An operator wants to have collected what may be, and says that the clock is right.
    pub(super) fn collect_now(&mut self, now: Now) {
        if let Some(collecting) = &mut self.collecting {
            collecting.pace.trust(now.clock, now.monotonic);
        }
    }

    pub(super) fn ordered(&mut self, order: Order) {
        if let Some(collecting) = &mut self.collecting
            && collecting.orders.len() < MAX_ORDERS
        {
            collecting.orders.push_back(order);
        }
    }

    /// When there is something to collect although nothing comes.
    pub(super) fn collection_due(&self, now: Now) -> Option<Duration> {
        let collecting = self.collecting.as_ref()?;
        let Collecting {
            pace, kept, phase, ..
        } = collecting;
        match phase {
            Phase::Idle if !collecting.orders.is_empty() || self.is_left(collecting) => {
                Some(now.monotonic)
            }
            Phase::Idle => {
                let from = self.state.applied().garbage_from()?;
                let next = pace.first_above(from, kept.floor);
                let wait = pace.wait_for(next, now.clock, now.monotonic);
                Some(now.monotonic + wait.clamp(LOOK_AGAIN, LOOK_EVERY))
            }
            // It is over before anything else is done, or ends with a batch.
            Phase::Raising | Phase::Keeping => None,
            Phase::Draining(sequence) | Phase::Adopting(_, sequence) => {
                (self.committed >= *sequence).then_some(now.monotonic)
            }
            Phase::Looking(_) | Phase::Sweeping(_) | Phase::Discarding(_) => Some(now.monotonic),
        }
    }
}

/// Orders that wait, at the most: what is not done is ordered again.
const MAX_ORDERS: usize = 16;

fn raise(collecting: &mut Collecting, floor: u64) -> Task {
    collecting.phase = Phase::Raising;
    let mut kept = collecting.kept.clone();
    kept.floor = floor;
    Task::Keep(kept)
}
