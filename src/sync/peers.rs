//! The state of other replicas.

use std::{collections::VecDeque, time::Duration};

use thiserror::Error;

use super::{
    Fingerprint,
    announcement::{Announcement, Stand},
    catching::Stance,
    identity::ReplicaId,
    pace::Pace,
    view::View,
};
use crate::{
    collection::{catching::Apart, kept::MemberId, lineage::Lineage},
    mst::RootHash,
    replica::{Comparison, Span},
};

/// How long a peer's newest root may be incomparable before it counts as different.
const UNCOMPARED: Duration = Duration::from_secs(3);

/// The shortest pause before a comparison is tried again.
const COMPARE_EVERY: Duration = Duration::from_millis(10);

/// The most spans of a replica that are remembered.
const MAX_SPANS: usize = 16;

/// Why a replica and this one exchange no data.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// It merges by other rules.
    #[error("its merge configuration {theirs} is not ours, {ours}")]
    Fingerprint {
        /// The fingerprint of its configuration.
        theirs: Fingerprint,
        /// Our fingerprint.
        ours: Fingerprint,
    },
    /// It holds other keys that overlap ours.
    #[error("its key expression '{0}' is not ours, but overlaps it")]
    KeyExpr(String),
    /// It holds the same keys with another prefix.
    #[error("its strip_prefix {} is not ours", .0.as_deref().map_or("(none)".to_owned(), |prefix| format!("'{prefix}'")))]
    StripPrefix(Option<String>),
    /// Its horizon cannot be ours.
    #[error("{0}: neither lets go of anything for the other; `mstctl members` says more")]
    Horizon(Apart),
    /// It speaks another version of the protocol.
    #[error("it speaks protocol {0}, we speak {ours}", ours = super::PROTOCOL)]
    Protocol(u8),
}

/// The relation of a replica to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Unknown yet, or not comparable.
    Unknown,
    /// Both hold the same.
    Equal,
    /// It holds what this one held before.
    Behind,
    /// It may hold what this one does not.
    Divergent,
    /// One of both has to catch up with the other's horizon.
    OtherHorizon,
    /// They exchange no data.
    Isolated,
}

impl Relation {
    /// Its name in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Equal => "equal",
            Self::Behind => "behind",
            Self::Divergent => "divergent",
            Self::OtherHorizon => "other_horizon",
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

/// The status of a peer. Times are NTP64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its identity.
    pub replica: ReplicaId,
    /// Whether its token is there.
    pub present: bool,
    /// Its relation to this one.
    pub relation: Relation,
    /// Why it is isolated, if it is.
    pub isolation: Option<Isolation>,
    /// Its last announcement.
    pub announced: Option<Announcement>,
    /// By how many milliseconds its clock was ahead of this replica's at its last
    /// announcement; negative if it was behind. The time that the message took counts as
    /// behind.
    pub clock_offset_ms: Option<i64>,
    /// Since when the relation is as it is.
    pub since: u64,
    /// When both were last known to hold the same.
    pub last_equal: Option<u64>,
    /// Cells that it has and this one rejected, as far as they are remembered.
    pub refused_cells: usize,
}

/// A root that a replica announced.
struct Heard {
    span: Span,
    /// When it was first heard.
    at: Duration,
}

/// An inclusion: this replica holds all that the peer holds with a root, as far as a pull
/// could tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Included {
    /// The root of the peer.
    pub(super) theirs: RootHash,
    /// The own root at that time. As long as its content is held, so is the peer's.
    pub(super) ours: RootHash,
    /// When to pull again: the peer may not have sent damaged cells.
    pub(super) until: Duration,
}

/// The own root, for comparisons.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnRoot {
    /// None if it was voided, and none has been made since.
    pub(super) root: Option<RootHash>,
    /// The last cut of this root.
    pub(super) cut: u64,
    /// Since when the root has been this one.
    pub(super) since: Duration,
}

impl OwnRoot {
    /// How long until the own cut reaches `cut`, if the tree does not change.
    fn until_cut(&self, cut: u64) -> Duration {
        let left = milliseconds_between(cut, self.cut).max(0);
        let left = Duration::from_millis(left.unsigned_abs());
        // A tree that changes gets a root soon, and then everything is compared.
        match left.is_zero() {
            true => UNCOMPARED,
            false => left.max(COMPARE_EVERY),
        }
    }
}

/// The state of a replica.
pub(super) struct Peer {
    pub(super) present: bool,
    /// Since when its token is not there, or it was not heard.
    pub(super) absent_since: Duration,
    /// Whether it was heard while its token was not there, and how often tokens were looked at anew
    /// for that.
    pub(super) is_heard_without_token: bool,
    pub(super) looks: u32,
    pub(super) relation: Relation,
    pub(super) isolation: Option<Isolation>,
    /// Its last announcement.
    pub(super) announced: Option<Announcement>,
    /// The last spans that it announced, the newest last: its cut may be ahead of ours,
    /// and a span has to be there still when ours has come so far.
    heard: VecDeque<Heard>,
    /// When to compare again, if no root is made and no announcement heard before.
    pub(super) compare_at: Option<Duration>,
    pub(super) clock_offset_ms: Option<i64>,
    pub(super) since: u64,
    pub(super) last_equal: Option<u64>,
    /// When to query its root, if it does not announce it.
    pub(super) ask_root_at: Duration,
    /// Unanswered queries of its root.
    pub(super) unanswered: u32,
    /// How often in a row it was heard because it was asked: what it announces does not come.
    pub(super) only_answers: u32,
    /// Consecutive pulls that failed, or that brought nothing.
    pub(super) failures: u32,
    /// Backoff: the earliest time for a pull.
    pub(super) not_before: Duration,
    /// Whether a query to it got no answer, and was repeated soon.
    pub(super) is_retried: bool,
    /// The last root that both are known to have had.
    pub(super) common: Option<RootHash>,
    /// A root of the peer whose content this replica holds. The roots may differ for
    /// good: this replica may hold what the peer rejects.
    pub(super) included: Option<Included>,
    /// Whether a delta brought nothing, so that the trees have to be compared.
    pub(super) is_walk_due: bool,
    /// When the last pull from it began, if there was one.
    pub(super) last_turn: Option<Duration>,
    /// Consecutive pulls from it that gave way to others before their end.
    pub(super) cut_short: u32,
    /// The pace of pulls from it.
    pub(super) pace: Pace,
    /// What its horizon is to the own; and the lineage that it told last.
    pub(super) stance: Stance,
    pub(super) lineage: Option<Lineage<MemberId>>,
}

impl Peer {
    pub(super) fn new(now: Duration, wall: u64) -> Self {
        Self {
            present: false,
            absent_since: now,
            is_heard_without_token: false,
            looks: 0,
            relation: Relation::Unknown,
            isolation: None,
            announced: None,
            heard: VecDeque::new(),
            compare_at: None,
            clock_offset_ms: None,
            since: wall,
            last_equal: None,
            ask_root_at: Duration::MAX,
            unanswered: 0,
            only_answers: 0,
            failures: 0,
            not_before: Duration::ZERO,
            is_retried: false,
            common: None,
            included: None,
            is_walk_due: false,
            last_turn: None,
            cut_short: 0,
            pace: Pace::default(),
            stance: Stance::Same,
            lineage: None,
        }
    }

    /// How far its collection is, as it announced last.
    pub(super) fn stand(&self) -> Option<Stand> {
        self.announced?.stand
    }

    /// Whether it may be pulled from.
    pub(super) fn is_source(&self) -> bool {
        self.stand().is_none_or(|stand| stand.is_source)
    }

    /// What it announced last, if that is evidence.
    pub(super) fn evidence(&self) -> Option<(Stand, Announcement)> {
        let announced = self.announced?;
        let stand = announced.stand.filter(|stand| stand.is_source)?;
        let is_same = self.stance == Stance::Same && self.isolation.is_none();
        is_same.then_some((stand, announced))
    }

    /// The own horizon is another than it was: what is known of roots means nothing any more.
    pub(super) fn forget_roots(&mut self) {
        self.heard.clear();
        self.common = None;
        self.included = None;
        self.is_walk_due = false;
        self.failures = 0;
        self.not_before = Duration::ZERO;
        if self.isolation.is_none() {
            self.relation = Relation::Unknown;
        }
        self.compare_at = None;
    }

    /// What it announced last is compared once more.
    pub(super) fn hear_again(&mut self, now: Duration) {
        let is_same = self.stance == Stance::Same;
        if let (Some(announced), true) = (self.announced, is_same && self.heard.is_empty()) {
            let span = announced.span;
            self.heard.push_back(Heard { span, at: now });
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

    /// Its token is gone.
    pub(super) fn gone(&mut self, now: Duration) {
        if std::mem::take(&mut self.present) {
            self.absent_since = now;
        }
    }

    pub(super) fn heard(&mut self, announcement: Announcement, now: Duration, wall: u64) {
        self.absent_since = now;
        let standing = |announced: &Announcement| announced.stand.map(|stand| stand.standing);
        if self
            .announced
            .is_some_and(|before| standing(&before) != standing(&announcement))
        {
            self.forget_roots();
        }
        self.announced = Some(announcement);
        self.clock_offset_ms = Some(milliseconds_between(announcement.clock, wall));
        let span = announcement.span;
        // A span that continues the last one replaces it.
        match self.heard.back_mut() {
            Some(last) if last.span.root == span.root && last.span.from == span.from => {
                last.span = span;
            }
            _ => self.heard.push_back(Heard { span, at: now }),
        }
        while self.heard.len() > MAX_SPANS {
            self.heard.pop_front();
        }
    }

    /// Compares the peer's roots with the own ones. Its newest root decides. If that cannot be
    /// compared yet the relation is unknown, and after [`UNCOMPARED`] they count as different,
    /// whatever clocks show. Older roots only say two things: that there was a difference, which
    /// stands until a newer root is known not to have it; and which root both have had.
    pub(super) fn compare(&mut self, own: &OwnRoot, view: &dyn View, now: Duration, wall: u64) {
        let newest = self.heard.back().map(|heard| heard.span);
        let is_same = self.present && self.isolation.is_none() && self.stance == Stance::Same;
        let Some(newest) = newest.filter(|_| is_same) else {
            return;
        };
        // Since when the newest root, and perhaps some before it, cannot be compared.
        let mut unknown_since = None;
        let mut known = None;
        for heard in self.heard.iter().rev() {
            match self.compare_root(&heard.span, view, now) {
                Comparison::Unknown => unknown_since = Some(heard.at),
                comparison => {
                    known = Some((heard.span.root, comparison));
                    break;
                }
            }
        }
        if let Some((root, Comparison::Equal | Comparison::Behind)) = known {
            if view.has_had(&root) {
                self.common = Some(root);
            }
            self.is_walk_due &= unknown_since.is_some();
        }
        // It has not announced the own current root.
        let is_older = own.root.is_some_and(|root| root != newest.root);
        let decided_at = unknown_since.unwrap_or(own.since) + UNCOMPARED;
        let relation = match known.map(|(_, comparison)| comparison) {
            Some(Comparison::Divergent) => Relation::Divergent,
            _ if unknown_since.is_some() && now >= decided_at => Relation::Divergent,
            _ if unknown_since.is_some() => Relation::Unknown,
            // They were equal at a cut that has passed. If the peer had what came here
            // since, it would have announced that.
            Some(Comparison::Equal) if is_older && now >= decided_at => Relation::Behind,
            Some(comparison) => comparison.into(),
            None => Relation::Unknown,
        };
        self.set_relation(relation, wall);
        if relation == Relation::Equal {
            self.failures = 0;
        }
        self.compare_at = match relation {
            Relation::Unknown => Some(decided_at.min(now + own.until_cut(newest.from))),
            Relation::Equal if is_older => Some(decided_at),
            Relation::Behind => {
                let until = self.included.map(|included| included.until);
                until.filter(|until| now < *until)
            }
            _ => None,
        };
    }

    fn compare_root(&self, span: &Span, view: &dyn View, now: Duration) -> Comparison {
        let is_included = self.included.is_some_and(|known| {
            known.theirs == span.root && view.has_had(&known.ours) && now < known.until
        });
        match view.compare(span) {
            Comparison::Unknown | Comparison::Divergent if is_included => Comparison::Behind,
            comparison => comparison,
        }
    }

    pub(super) fn status(&self, replica: ReplicaId) -> PeerStatus {
        PeerStatus {
            replica,
            present: self.present,
            relation: self.relation,
            isolation: self.isolation.clone(),
            announced: self.announced,
            clock_offset_ms: self.clock_offset_ms,
            since: self.since,
            last_equal: self.last_equal,
            refused_cells: 0,
        }
    }
}

/// Milliseconds that the NTP64 time `a` is ahead of `b`.
fn milliseconds_between(a: u64, b: u64) -> i64 {
    let difference = (i128::from(a) - i128::from(b)) * 1000;
    // It is less than 2^32 seconds either way.
    (difference >> 32) as i64
}
