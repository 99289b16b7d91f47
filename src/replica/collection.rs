//! How far the collection of a storage is, for operators.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Replica, write::request::Request};

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

impl Replica {
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
