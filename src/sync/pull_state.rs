//! What a replica is at: nothing, a pull, or waiting until what it brought is part of the root.

use std::time::Duration;

use super::{identity::ReplicaId, pull::Pull, rejections::Rejections};
use crate::mst::RootHash;

/// The longest wait until joined cells are part of the root.
const JOINING: Duration = Duration::from_secs(10);

/// A pull that is going on.
pub(super) struct Going {
    pub(super) pull: Pull,
    pub(super) began: Duration,
    pub(super) request: u64,
    pub(super) asked_at: Duration,
    pub(super) timeout: Duration,
    pub(super) deadline: Duration,
    pub(super) rejected: Rejections,
    /// The number of useful cells before.
    pub(super) useful_before: u64,
    /// The largest number of useful cells seen, and answers since.
    pub(super) useful: u64,
    pub(super) useless_answers: u32,
    /// Consecutive answers of which all cells were rejected.
    pub(super) rejected_answers: u32,
    /// The peer's announced root.
    pub(super) root: RootHash,
    /// Whether a query was answered.
    pub(super) is_answered: bool,
    /// Queries in a row that were dropped on the way, or their answers.
    pub(super) drops: u32,
    /// Whether digests are of the larger width.
    pub(super) is_wide: bool,
}

impl Going {
    /// What follows when the pull is over.
    pub(super) fn joining(&self, now: Duration) -> Joining {
        Joining {
            peer: self.pull.peer,
            useful_before: self.useful_before,
            root: self.root,
            is_delta: self.pull.is_delta,
            found_nothing: self.is_wide
                && !self.pull.is_delta
                && self.pull.received == 0
                && !self.pull.is_beside()
                && self.rejected == Rejections::default(),
            deadline: now + JOINING,
        }
    }
}

/// A pull whose cells are not yet part of the root.
#[derive(Clone, Copy)]
pub(super) struct Joining {
    /// The peer that sent them.
    pub(super) peer: ReplicaId,
    /// The number of useful cells before.
    pub(super) useful_before: u64,
    /// The peer's announced root when the pull began.
    pub(super) root: RootHash,
    /// Whether it was a delta alone.
    pub(super) is_delta: bool,
    /// Whether it compared the trees, by digests that are not equal by chance, and the
    /// peer had nothing that is lacking here.
    pub(super) found_nothing: bool,
    /// The deadline.
    pub(super) deadline: Duration,
}

pub(super) enum State {
    Idle,
    Pulling(Box<Going>),
    /// The cells of a pull are on their way into the tree.
    Joining(Joining),
}
