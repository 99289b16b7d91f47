//! The state of the model: three replicas, what they have announced, and what can happen.

use crate::content::{Content, NEVER, OPS, Ops, earliest};

pub const REPLICAS: usize = 3;

/// The grid of floors and horizons.
pub fn grid(time: u64) -> u64 {
    match time {
        0..3 => 0,
        3..5 => 3,
        _ => 5,
    }
}

/// The hash of a root: of the content alone.
pub fn root(tree: &Content) -> u64 {
    crate::explore::fingerprint(tree)
}

/// A founder (none: [`NOBODY`]) and sets of the evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    pub founder: u8,
    pub lapsed: u8,
    pub forced: u8,
}

pub const NOBODY: u8 = 7;

/// A root that a replica has had in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Past {
    /// The earliest that was joined since.
    pub since: u8,
    /// The evictions in it.
    pub evicted: u8,
    pub root: u64,
}

/// What an announcement showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub floor: u8,
    pub since: u8,
    pub evicted: u8,
    pub life: u8,
    pub name: u8,
}

/// An announcement that is on its way for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Announcement {
    pub name: u8,
    pub life: u8,
    pub root: u64,
    pub floor: u8,
    pub horizon: u8,
    pub line: Line,
    pub flagged: bool,
}

/// What a crash leaves, and what an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    pub tree: Content,
    /// Accepted, committed, and not in the tree.
    pub queue: Ops,
    pub aside: Ops,
    pub horizon: u8,
    pub line: Line,
    pub floor: u8,
    /// For each other replica: all held or accepted before it was there, in that life.
    pub known: [(u8, u8); REPLICAS],
    pub name: u8,
    /// Without content of its own yet: no source, no evidence.
    pub is_fresh: bool,
    /// History: all that the tree stands for, and what was taken from clients.
    pub ghost: Ops,
    pub accepted: Ops,
    /// History: tombstones that a catch-up dropped since they covered nothing.
    pub void: Ops,
}

/// An answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub horizon: u8,
    pub line: Line,
    pub tree: Content,
    pub ghost: Ops,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub durable: Durable,
    /// As far as the floor is durable. Another than the floor only with a seeded bug.
    pub synced_floor: u8,
    pub life: u8,
    pub told: u8,
    pub past: Vec<Past>,
    pub seen: [Seen; REPLICAS],
    pub answer: Option<Answer>,
    pub image: Option<Durable>,
    /// It was put back to an image, and has not adopted a horizon since.
    pub is_restored: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub replicas: [Replica; REPLICAS],
    pub announced: [Option<Announcement>; REPLICAS],
    /// What is left of each budget.
    pub left: Budget,
}

/// How often faults happen, and operators act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub crashes: u8,
    pub restores: u8,
    pub lapses: u8,
    pub forgets: u8,
    pub joins: u8,
    pub announcements: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Client(usize, usize),
    Settle(usize),
    Raise(usize),
    Announce(usize),
    Hear(usize, usize),
    Sync(usize, usize),
    Ask(usize, usize),
    Answer(usize),
    /// With those that were silent for too long, as this replica sees it.
    Adopt(usize, u8),
    CatchUp(usize, usize),
    Crash(usize),
    Save(usize),
    Restore(usize),
    Forget(usize, usize),
    JoinByHand(usize, usize),
    Begin(usize, usize),
}

/// A seeded bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    FloorNotSynced,
    NoFence,
    LateJoinAfterHearing,
    LateJoinBeforeHearing,
    PendingBelowFloor,
    AnswersSurviveAdoption,
    TimeAlone,
    UnknownMemberIgnored,
    OldLifeIsEvidence,
    CatchUpKeepsOwn,
    BaseBeforeAside,
    LapseWithoutMajority,
    AnyHorizonObeyed,
    GateWithoutLineage,
    JoinByHandDropsOwn,
    ForcedResetsItself,
    EvictionCountsAtOnce,
    PastKeptAtAdoption,
    NestedCellsKept,
    PullIsEvidence,
    KnownOfAnyMember,
    KnownNotLowered,
    KnownOutlivesRestore,
    FreshIsSource,
    TombstonesDropped,
    ShownEvictionForgotten,
    AsideKeepsLife,
}

/// What can happen in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub name: &'static str,
    /// What clients may write, to each replica.
    pub clients: [Ops; REPLICAS],
    /// How many replicas are members at first.
    pub members: usize,
    pub budget: Budget,
    /// Answers may be on their way while something else happens.
    pub answers: bool,
    /// The highest floor.
    pub top: u8,
    /// Which names may lapse, and which replicas are put back to images.
    pub lapsing: u8,
    pub imaged: u8,
    /// What clients write waits before it is in the tree.
    pub queues: bool,
    /// Announcements may be late: there is at most one of each replica, for ever.
    pub late: bool,
    /// Replicas go on alone.
    pub alone: bool,
    pub bug: Option<Bug>,
    /// What has happened before the search begins.
    pub before: &'static [Action],
}

impl World {
    pub fn new(bounds: &Bounds) -> Self {
        let founders = (1u8 << bounds.members) - 1;
        let replica = |id: u8| {
            let joined = usize::from(id) < bounds.members;
            let tree = Content {
                joins: if joined { founders } else { 0 },
                ..Content::default()
            };
            let line = Line {
                founder: NOBODY,
                lapsed: 0,
                forced: 0,
            };
            let durable = Durable {
                tree,
                queue: 0,
                aside: 0,
                horizon: 0,
                line,
                floor: 0,
                known: [(0, 0); REPLICAS],
                name: id,
                is_fresh: !joined,
                ghost: 0,
                accepted: 0,
                void: 0,
            };
            let mut replica = Replica {
                durable,
                synced_floor: 0,
                life: 0,
                told: 0,
                past: Vec::new(),
                seen: Default::default(),
                answer: None,
                image: None,
                is_restored: false,
            };
            replica.made_root();
            replica
        };
        Self {
            replicas: [replica(0), replica(1), replica(2)],
            announced: [None; REPLICAS],
            left: bounds.budget,
        }
    }

    /// All that might happen; [`step`](crate::steps) says what of it can.
    pub fn actions(&self, bounds: &Bounds) -> Vec<Action> {
        let mut all = Vec::with_capacity(64);
        for i in 0..REPLICAS {
            let client = (0..OPS).filter(|op| bounds.clients[i] >> op & 1 == 1);
            all.extend(client.map(|op| Action::Client(i, op)));
            all.extend([Action::Settle(i), Action::Raise(i), Action::Adopt(i, 0)]);
            if bounds.late {
                all.push(Action::Announce(i));
            }
            if bounds.answers {
                all.push(Action::Answer(i));
            }
            if self.left.crashes > 0 {
                all.push(Action::Crash(i));
            }
            if self.left.restores > 0 && bounds.imaged >> i & 1 == 1 {
                all.extend([Action::Save(i), Action::Restore(i)]);
            }
            for j in (0..REPLICAS).filter(|j| *j != i) {
                all.extend([Action::Hear(i, j), Action::CatchUp(i, j)]);
                all.push(match bounds.answers {
                    true => Action::Ask(i, j),
                    false => Action::Sync(i, j),
                });
                if self.left.lapses > 0 && bounds.lapsing >> j & 1 == 1 {
                    all.push(Action::Adopt(i, 1 << self.replicas[j].durable.name));
                }
                if self.left.forgets > 0 {
                    all.push(Action::Forget(i, j));
                }
                if self.left.joins > 0 {
                    all.extend([Action::JoinByHand(i, j), Action::Begin(i, j)]);
                }
            }
        }
        all
    }
}

impl Replica {
    /// The tree has a root.
    pub fn made_root(&mut self) {
        let tree = &self.durable.tree;
        let (root, evicted) = (root(tree), tree.evicted());
        self.past.retain(|past| past.root != root);
        let since = NEVER;
        self.past.push(Past {
            since,
            evicted,
            root,
        });
        self.past.sort_unstable();
    }

    /// Cells were joined into the tree, the earliest with this time: what was seen with roots of before
    /// says no more about what is not below it.
    pub fn joined(&mut self, earliest: u8, bug: Option<Bug>) {
        if bug != Some(Bug::LateJoinBeforeHearing) {
            self.past
                .iter_mut()
                .for_each(|past| past.since = past.since.min(earliest));
        }
        if bug != Some(Bug::LateJoinAfterHearing) {
            self.seen
                .iter_mut()
                .for_each(|seen| seen.since = seen.since.min(earliest));
        }
    }

    /// Something new is held: it may not be at others.
    pub fn lower_known(&mut self, earliest: u8, bug: Option<Bug>) {
        if bug != Some(Bug::KnownNotLowered) {
            let known = self.durable.known.iter_mut();
            known.for_each(|(known, _)| *known = (*known).min(earliest));
        }
    }

    pub fn forget_evidence(&mut self) {
        // Which life was met last is not forgotten.
        for seen in &mut self.seen {
            (seen.floor, seen.since, seen.evicted) = (0, 0, 0);
        }
    }

    /// The floor that may be announced.
    pub fn announceable(&self, bug: Option<Bug>) -> u8 {
        let is_all_in = earliest(self.durable.queue) >= self.durable.floor;
        match is_all_in || bug == Some(Bug::PendingBelowFloor) {
            true => self.durable.floor,
            false => self.told,
        }
    }
}
