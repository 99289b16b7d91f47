//! What goes into the state machine, and what comes out.

use std::time::Duration;

use super::{
    identity::{Fingerprint, Group, Incarnation, ReplicaId, Token},
    peers::PeerStatus,
    pull::Rejections,
    report::Report,
};
use crate::{
    cell::{Cell, CellKey, Stamp},
    mst::RootHash,
    replica::{Change, Comparison, Span, Tree},
};

/// What a machine has to know of its replica.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which replica this is.
    pub replica: ReplicaId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What it replicates.
    pub group: Group,
    /// By which rules.
    pub fingerprint: Fingerprint,
    /// The time between two announcements if nothing happens.
    pub sync_interval: Duration,
    /// How far ahead of the clock a timestamp may be.
    pub max_clock_drift: Duration,
}

/// What a machine reads of its replica.
pub trait View {
    /// The tree, as it is settled.
    fn tree(&self) -> Tree;
    /// Whether this is a root that the tree has or had. What was held with it is held.
    fn has_had(&self, root: &RootHash) -> bool;
    /// Compares a root with one's own.
    fn compare(&self, theirs: &Span) -> Comparison;
    /// The latest root and the number of cells, if there is a root.
    fn latest(&self) -> Option<(Span, u64)>;
    /// The stamp of the newest cell of a key, settled or not.
    fn newest(&self, key: &CellKey) -> Option<Stamp>;
    /// As [`Roots::changes_since`](crate::replica::Roots::changes_since).
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>>;
    /// Of the cells that the machine had joined, how many are part of the root,
    /// or need not be because there are newer ones, or their time has not come.
    fn joined(&self) -> u64;
    /// Of the cells that the machine had joined, how many were newer than what
    /// was there.
    fn useful(&self) -> u64;
}

/// What time it is, and what else a machine does not have by itself.
pub struct Context<'a> {
    /// Time since some fixed instant; never goes back.
    pub now: Duration,
    /// What the clock shows, in NTP64.
    pub wall: u64,
    /// A random number each time.
    pub random: &'a mut dyn FnMut() -> u64,
    /// The replica.
    pub view: &'a dyn View,
}

impl Context<'_> {
    /// A random part of `span`.
    pub(super) fn up_to(&mut self, span: Duration) -> Duration {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos((self.random)() % nanos.saturating_add(1))
    }

    /// `span`, give or take a fifth.
    pub(super) fn about(&mut self, span: Duration) -> Duration {
        span - span / 5 + self.up_to(span * 2 / 5)
    }
}

/// What happens to a machine.
#[derive(Debug)]
pub enum Event {
    /// The token of a replica, perhaps of another group, appeared.
    Appeared(Token),
    /// A token disappeared.
    Gone(Token),
    /// Tokens may have come and gone unseen: those that are there appear anew.
    TokensMissed,
    /// A replica of the group said something of itself.
    Announced(ReplicaId, Vec<u8>),
    /// A root was made.
    Root,
    /// An answer to a query, or why there is none.
    Answer(u64, Result<Vec<u8>, String>),
    /// An operator wants all peers compared with, now.
    SyncNow,
    /// It is time: see [`wake_at`](super::Machine::wake_at).
    Tick,
}

/// Which queryable is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// For digests.
    Digest,
    /// For cells.
    Entries,
}

/// What a machine wants done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish this as one's own announcement.
    Announce(Vec<u8>),
    /// Have a replica say what its root is.
    AskRoot(ReplicaId),
    /// Ask a replica; the answer bears the number.
    Ask(u64, ReplicaId, Query, Vec<u8>),
    /// Join these cells. When they are part of the root, [`View::joined`] counts
    /// them and [`Event::Root`] is due.
    Join(Vec<(CellKey, Cell)>),
    /// Another replica has this identity and is older: take a new one, and make a
    /// new machine.
    TakeNewIdentity,
    /// Another replica had this identity and has given it up: declare again what
    /// it undeclared, since a router takes the one for the other.
    DeclareAgain,
    /// Tell the operator.
    Report(Report),
}

/// What a machine has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The other replicas.
    pub peers: Vec<PeerStatus>,
    /// Pulls that were begun.
    pub started: u64,
    /// Pulls that came to their end.
    pub completed: u64,
    /// Pulls that did not.
    pub failed: u64,
    /// Pulls for which the trees did not have to be compared.
    pub deltas: u64,
    /// Queries that were answered.
    pub round_trips: u64,
    /// Bytes of queries.
    pub bytes_sent: u64,
    /// Bytes of answers.
    pub bytes_received: u64,
    /// Cells that were received and not rejected.
    pub cells_received: u64,
    /// Announcements that were made.
    pub announced: u64,
    /// Announcements of others.
    pub heard: u64,
    /// What was rejected.
    pub rejected: Rejections,
}
