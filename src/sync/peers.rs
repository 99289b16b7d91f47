//! What is known of the other replicas.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use thiserror::Error;

use super::{
    announcement::Announcement, identity::ReplicaId, interface::View, Fingerprint, MESSAGE_BYTES,
};
use crate::{
    mst::RootHash,
    replica::{Comparison, Span},
};

/// For how long roots may have no cut in common before they count as different.
const UNCOMPARED: Duration = Duration::from_secs(3);

/// Announced spans of a replica that are remembered.
const MAX_SPANS: usize = 16;

/// Replicas that are remembered.
pub(super) const MAX_PEERS: usize = 1024;

/// Why a replica and this one exchange no data.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// It merges by other rules.
    #[error("its merge configuration {theirs} is not ours, {ours}")]
    Fingerprint {
        /// Of its configuration.
        theirs: Fingerprint,
        /// Of our own.
        ours: Fingerprint,
    },
    /// It holds other keys, some of which are ours too.
    #[error("its key expression '{0}' is not ours, but has keys in common with it")]
    KeyExpr(String),
    /// It holds the same keys under other names.
    #[error("its strip_prefix {} is not ours", .0.as_deref().map_or("(none)".to_owned(), |prefix| format!("'{prefix}'")))]
    StripPrefix(Option<String>),
    /// It speaks another version of the protocol.
    #[error("it speaks protocol {0}, we speak {ours}", ours = super::PROTOCOL)]
    Protocol(u8),
}

/// How a replica stands to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Nothing is known yet, or nothing that can be compared.
    Unknown,
    /// Both hold the same.
    Equal,
    /// It holds what this one held before.
    Behind,
    /// It may hold what this one does not.
    Divergent,
    /// They exchange no data.
    Isolated,
}

impl Relation {
    /// As it is called in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Equal => "equal",
            Self::Behind => "behind",
            Self::Divergent => "divergent",
            Self::Isolated => "isolated",
        }
    }
}

impl From<Comparison> for Relation {
    fn from(comparison: Comparison) -> Self {
        match comparison {
            Comparison::Equal => Self::Equal,
            Comparison::Behind => Self::Behind,
            Comparison::Divergent => Self::Divergent,
            Comparison::Unknown => Self::Unknown,
        }
    }
}

/// What the status says of a peer. Times are NTP64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which it is.
    pub replica: ReplicaId,
    /// Whether its token is there.
    pub present: bool,
    /// How it stands to this one.
    pub relation: Relation,
    /// Why it is isolated, if it is.
    pub isolation: Option<Isolation>,
    /// What it said last.
    pub announced: Option<Announcement>,
    /// Since when the relation is as it is.
    pub since: u64,
    /// When both were last known to hold the same.
    pub last_equal: Option<u64>,
}

/// What is known of a replica.
pub(super) struct Peer {
    pub(super) present: bool,
    pub(super) relation: Relation,
    pub(super) isolation: Option<Isolation>,
    /// What it said last.
    pub(super) announced: Option<Announcement>,
    /// The last spans that it announced, the latest last: its cut may be ahead
    /// of ours, and a span has to be there still when ours has come so far.
    spans: VecDeque<Span>,
    /// Since when none of them can be compared.
    pub(super) uncompared: Option<Duration>,
    pub(super) since: u64,
    pub(super) last_equal: Option<u64>,
    /// When to ask for its root, should it not say it by itself.
    pub(super) ask_root_at: Duration,
    /// Times that it was asked and did not answer.
    pub(super) unanswered: u32,
    /// Pulls in a row that failed, or that brought nothing.
    pub(super) failures: u32,
    /// No pull before this.
    pub(super) not_before: Duration,
    /// Whether a query to it got no answer, and was repeated soon.
    pub(super) is_retried: bool,
    /// The last root that both are known to have had.
    pub(super) common: Option<RootHash>,
    /// Whether what has changed since was asked for in vain, so that the trees have to
    /// be compared.
    pub(super) is_walk_due: bool,
    /// Times in a row that a pull from it gave way to others before its end.
    pub(super) cut_short: u32,
    /// Bytes that messages between the two are to have, about: fewer if they did not
    /// get through in time.
    pub(super) message_bytes: usize,
}

impl Peer {
    pub(super) fn new(wall: u64) -> Self {
        Self {
            present: false,
            relation: Relation::Unknown,
            isolation: None,
            announced: None,
            spans: VecDeque::new(),
            uncompared: None,
            since: wall,
            last_equal: None,
            ask_root_at: Duration::MAX,
            unanswered: 0,
            failures: 0,
            not_before: Duration::ZERO,
            is_retried: false,
            common: None,
            is_walk_due: false,
            cut_short: 0,
            message_bytes: MESSAGE_BYTES,
        }
    }

    pub(super) fn set_relation(&mut self, relation: Relation, wall: u64) {
        if relation == Relation::Equal {
            self.last_equal = Some(wall);
        }
        if self.relation != relation {
            self.relation = relation;
            self.since = wall;
        }
    }

    pub(super) fn heard(&mut self, announcement: Announcement) {
        self.announced = Some(announcement);
        let span = announcement.span;
        // One root over more cuts than before replaces what it continues.
        match self.spans.back_mut() {
            Some(last) if last.root == span.root && last.from == span.from => *last = span,
            _ => self.spans.push_back(span),
        }
        while self.spans.len() > MAX_SPANS {
            self.spans.pop_front();
        }
    }

    /// Compares the latest of its roots that can be compared. The relation stays
    /// what it was while none can; but not for ever.
    pub(super) fn compare(&mut self, view: &dyn View, now: Duration, wall: u64) {
        if !self.present || self.isolation.is_some() || self.spans.is_empty() {
            return;
        }
        let compared = self
            .spans
            .iter()
            .rev()
            .map(|span| (span.root, view.compare(span)));
        let mut known = compared.filter(|(_, comparison)| *comparison != Comparison::Unknown);
        match known.next() {
            Some((root, comparison)) => {
                if matches!(comparison, Comparison::Equal | Comparison::Behind) {
                    self.common = Some(root);
                    self.is_walk_due = false;
                }
                self.uncompared = None;
                self.set_relation(comparison.into(), wall);
            }
            None => {
                let since = *self.uncompared.get_or_insert(now);
                if now >= since + UNCOMPARED {
                    self.set_relation(Relation::Divergent, wall);
                }
            }
        }
        if self.relation == Relation::Equal {
            self.failures = 0;
        }
    }

    /// When to compare again, if no root is made and nothing is heard before.
    pub(super) fn compare_at(&self) -> Option<Duration> {
        let is_waiting = self.relation != Relation::Divergent;
        self.uncompared
            .filter(|_| is_waiting)
            .map(|since| since + UNCOMPARED)
    }

    pub(super) fn status(&self, replica: ReplicaId) -> PeerStatus {
        PeerStatus {
            replica,
            present: self.present,
            relation: self.relation,
            isolation: self.isolation.clone(),
            announced: self.announced,
            since: self.since,
            last_equal: self.last_equal,
        }
    }
}

/// The replicas that are remembered.
#[derive(Default)]
pub(super) struct Peers(BTreeMap<ReplicaId, Peer>);

impl Peers {
    /// The peer, made known if it was not; nothing if there are too many.
    pub(super) fn entry(&mut self, id: ReplicaId, wall: u64) -> Option<&mut Peer> {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&id) {
            let absent = self.0.iter().filter(|(_, peer)| !peer.present);
            let oldest = absent.min_by_key(|(_, peer)| peer.since);
            let oldest = oldest.map(|(id, _)| *id)?;
            self.0.remove(&oldest);
        }
        Some(self.0.entry(id).or_insert_with(|| Peer::new(wall)))
    }

    pub(super) fn get(&self, id: &ReplicaId) -> Option<&Peer> {
        self.0.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ReplicaId) -> Option<&mut Peer> {
        self.0.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ReplicaId, &mut Peer)> {
        self.0.iter_mut()
    }

    /// Those of our group that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        let is_present = |peer: &Peer| peer.present && peer.isolation.is_none();
        self.iter().filter(move |(_, peer)| is_present(peer))
    }
}
