//! The inputs and outputs of the state machine.

use std::time::Duration;

use super::{
    identity::{Fingerprint, Group, Incarnation, ReplicaId, Token},
    members::{MemberSettings, Waits},
    peers::PeerStatus,
    rejections::Rejections,
    report::Report,
    view::View,
};
use crate::{
    cell::{Cell, CellKey},
    replica::Order,
};

/// The settings of a machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The replica's identity.
    pub replica: ReplicaId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its group.
    pub group: Group,
    /// The fingerprint of its merge rules.
    pub fingerprint: Fingerprint,
    /// The time between two announcements of an unchanged root.
    pub sync_interval: Duration,
    /// How far ahead of the clock a timestamp may be.
    pub max_clock_drift: Duration,
    /// If the group collects.
    pub members: Option<MemberSettings>,
}

/// The time, and other inputs of each call.
pub struct Context<'a> {
    /// The time since some fixed instant; never goes back.
    pub now: Duration,
    /// The wall clock, in NTP64.
    pub wall: u64,
    /// Gives a random number.
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

    /// `span`, varied by up to a fifth.
    pub(super) fn about(&mut self, span: Duration) -> Duration {
        span - span / 5 + self.up_to(span * 2 / 5)
    }
}

/// An event for a machine.
#[derive(Debug)]
pub enum Event {
    /// The token of a replica, perhaps of another group, appeared.
    Appeared(Token),
    /// A token disappeared, which may be this replica's own.
    Gone(Token),
    /// Tokens may have come and gone unseen: those that are there will appear anew.
    TokensMissed,
    /// A replica of the group sent an announcement.
    Announced(ReplicaId, Vec<u8>),
    /// The replica made a root.
    Root,
    /// An answer to a query, or why there is none.
    Answer(u64, Result<Vec<u8>, String>),
    /// An operator wants a comparison with all peers, now.
    SyncNow,
    /// The time has come: see [`wake_at`](super::Machine::wake_at).
    Tick,
}

/// The queryable to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// For digests.
    Digest,
    /// For cells.
    Entries,
}

/// An action of a machine; to be carried out in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish this announcement.
    Announce(Vec<u8>),
    /// Query a replica's root.
    AskRoot(ReplicaId),
    /// Query a replica; the answer bears the number.
    Ask(u64, ReplicaId, Query, Vec<u8>),
    /// Join these cells, which this replica sent. When they are part of the root, [`View::joined`] has to count
    /// them, and [`Event::Root`] has to follow.
    Join(ReplicaId, Vec<(CellKey, Cell)>),
    /// As [`Join`](Self::Join), where replicas collect: what this replica sent when it was asked at
    /// this horizon.
    JoinAt(u64, ReplicaId, Vec<(CellKey, Cell)>),
    /// Write these cells, which say something of members.
    Write(Vec<(CellKey, Cell)>),
    /// Have the replica do this. [`Event::Root`] has to follow when it is done.
    Order(Order),
    /// An older replica has this identity: take a new one, and make a new machine.
    TakeNewIdentity,
    /// A replica with this identity has given it up: declare again what that undeclared,
    /// since routers take the one for the other.
    DeclareAgain,
    /// Look at all tokens anew: [`Event::TokensMissed`] has to follow, and then those that are there.
    LookAtTokens,
    /// Tell the operator.
    Report(Report),
}

/// The status of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The other replicas.
    pub peers: Vec<PeerStatus>,
    /// Pulls begun.
    pub started: u64,
    /// Pulls completed.
    pub completed: u64,
    /// Pulls failed.
    pub failed: u64,
    /// Pulls that did not compare the trees.
    pub deltas: u64,
    /// Answered queries.
    pub round_trips: u64,
    /// Bytes of queries.
    pub bytes_sent: u64,
    /// Bytes of answers.
    pub bytes_received: u64,
    /// Cells that were received and not rejected.
    pub cells_received: u64,
    /// Announcements made.
    pub announced: u64,
    /// Announcements heard.
    pub heard: u64,
    /// Rejections.
    pub rejected: Rejections,
    /// Why the horizon does not rise, if it does not.
    pub waits: Waits,
    /// Whether catching up has stopped, since it would set aside too much.
    pub is_stopped: bool,
}
