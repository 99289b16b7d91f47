//! How far the collection of a storage is, for operators.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Life, Replica, Tree, state::State, write::request::Request};
use crate::{
    cell::{Cell, CellKey, Version},
    collection::{
        floor,
        kept::{Kept, MemberId},
        lineage::Lineage,
    },
    mst::RootHash,
    store::StoreError,
};

/// What a storage's collection does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CollectionState {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// The floor was raised: what came before is still applied.
    Waiting,
    /// What is below the floor leaves.
    Collecting,
}

impl CollectionState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Idle, Self::Waiting, Self::Collecting];

    /// As the status says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Collecting => "collecting",
        }
    }
}

/// How far the collection of a storage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionProgress {
    /// What is collected when it is so old; nothing if the storage does not collect.
    pub after: Option<Duration>,
    /// No client's write stamped below it is taken, NTP64. It stays where the collection is switched
    /// off.
    pub floor: u64,
    /// What is collectable below it has left, or is leaving.
    pub horizon: u64,
    /// What is done now.
    pub state: CollectionState,
    /// By how much the floor is behind the clock, in NTP64: it leapt, and nothing has confirmed it.
    pub held: u64,
}

impl CollectionProgress {
    /// What is done now, as the status says it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.after {
            Some(_) => self.state.name(),
            None => "off",
        }
    }
}

/// A horizon that is to be adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The horizon so far.
    pub from: u64,
    /// The new one.
    pub horizon: u64,
    /// Its lineage.
    pub lineage: Lineage<MemberId>,
    /// The members by whose evidence it is adopted.
    pub members: Vec<MemberId>,
    /// Whether it is that of another replica, and this one has caught up.
    pub is_catch_up: bool,
}

/// A cell that is to leave the tree, as another replica, which is ahead, does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Its key.
    pub key: CellKey,
    /// As it was when that was decided: if there is another since, that stays.
    pub version: Version,
    /// Whether it is set aside: nobody may have known it.
    pub is_aside: bool,
}

/// What the state machine of a group has its replica do about the collection, when nothing is half
/// applied. What cannot be done is dropped, and ordered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Raise the floor to this.
    Raise(u64),
    /// Be nobody's source: it begins to catch up.
    Catch,
    /// Let go of these cells.
    Discard(Vec<Discarded>),
    /// Adopt a horizon.
    Adopt(Adoption),
}

/// How the state machine of a group sees the collection of its replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// What is on the disk.
    pub kept: Kept,
    /// The floor below which all that was taken is in the tree.
    pub drained: u64,
    /// The earliest time of what is collectable when it is old.
    pub garbage_from: Option<u64>,
    /// Whether cells are leaving the tree, or a horizon is being adopted.
    pub is_busy: bool,
    /// Whether something is damaged, and not healed yet.
    pub is_damaged: bool,
    /// The step of the grid of horizons.
    pub grid: u64,
}

impl MemberState {
    /// Nothing if the replica does not collect.
    pub(super) fn of(state: &State) -> Option<Self> {
        let after = state.options.collect_after?;
        let phase = state.collection.phase.load(Ordering::Relaxed);
        let kept = state.collection.kept().clone();
        Some(Self {
            drained: state.roots().drained_floor(),
            garbage_from: state.applied().garbage_from(),
            is_busy: phase == CollectionState::Collecting as u8,
            is_damaged: state.quarantine.len() > 0,
            grid: floor::grid(after),
            kept,
        })
    }
}

impl Replica {
    /// How the state machine of a group sees the collection; nothing if there is none.
    #[must_use]
    pub fn member_state(&self) -> Option<MemberState> {
        MemberState::of(&self.shared.state)
    }

    /// Has this done when nothing is half applied.
    pub fn order(&self, order: Order) {
        self.shared.state.queue.request(Request::Order(order));
    }

    /// A member at the same horizon announced a root, and a floor: as
    /// [`RootHistory::hear`](super::RootHistory::hear).
    pub fn hear(&self, member: MemberId, life: Life, root: &RootHash, floor: u64) {
        self.shared
            .state
            .roots_mut()
            .hear(member, life, root, floor);
    }

    /// A member was heard, in this life.
    pub fn met(&self, member: MemberId, life: Life) {
        self.shared.state.roots_mut().met(member, life);
    }

    /// The tree as it would be if all had left it that is collectable below a horizon. O(n).
    #[must_use]
    pub fn collected(&self, horizon: u64) -> Tree {
        self.shared.state.applied().collected(horizon)
    }

    /// The delete rules in the tree.
    #[must_use]
    pub fn delete_rules(&self) -> Vec<(CellKey, Version)> {
        self.shared.state.applied().delete_rule_cells()
    }

    /// Shows what was set aside.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn aside(&self, visit: &mut dyn FnMut(CellKey, Cell)) -> Result<(), StoreError> {
        self.shared.store.aside(visit)
    }

    /// Forgets what was set aside.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn drop_aside(&self) -> Result<(), StoreError> {
        self.shared.store.drop_aside()
    }

    /// How far the collection is.
    #[must_use]
    pub fn collection(&self) -> CollectionProgress {
        let state = &self.shared.state;
        let phase = state.collection.phase.load(Ordering::Relaxed);
        CollectionProgress {
            after: state.options.collect_after,
            floor: state.queue.floor(),
            horizon: state.collection.horizon.load(Ordering::Relaxed),
            state: CollectionState::ALL
                .get(usize::from(phase))
                .copied()
                .unwrap_or_default(),
            held: state.collection.held.load(Ordering::Relaxed),
        }
    }

    /// Has collected what may be by the clock as it is, even if that leapt. Returns at once.
    pub fn collect_now(&self) {
        let collect = Request::Collect;
        self.shared.state.queue.request(collect);
    }
}
