//! When to announce, whom to compare with, whom to pull from.

use std::{collections::BTreeMap, fmt, time::Duration};

use zenoh_keyexpr::{keyexpr, OwnedKeyExpr};

use super::{
    announcement::Announcement,
    digests::{Salted, WIDTHS},
    entries::Received,
    identity::{Fingerprint, Group, Incarnation, ReplicaId, Token, PROTOCOL},
    peers::{Isolation, Peer, PeerStatus, Peers, Relation},
    pull::{Ask, Pull, Rejections},
    wire::MessageError,
};
use crate::{
    cell::{ntp64_span, Cell, CellKey, Stamp, MAX_KEY_BYTES},
    mst::RootHash,
    replica::{Comparison, Span, Tree, MAX_VALUE_BYTES},
};

/// The shortest time between two announcements, but to those who appear.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// The longest time after which a root is announced to a replica that appears.
/// Not at once: after a partition many appear together.
const GREETING: Duration = Duration::from_millis(50);

/// For how long nothing may be heard of another replica with this one's identity,
/// to be sure that it has taken another.
const RENAMING: Duration = Duration::from_secs(1);

/// The first announcements come faster: when a router starts it is not linked
/// yet, and another with the same identity should hear of it soon.
const EARLY: u64 = 4;
const EARLY_PAUSE: Duration = Duration::from_secs(1);

/// For how long a replica that appeared may be silent before it is asked.
const SILENCE: Duration = Duration::from_millis(500);

/// The longest wait for an answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait until cells that were joined are part of the root.
const JOINING: Duration = Duration::from_secs(10);

/// The first pause after a pull that failed or brought nothing; it doubles.
const BACK_OFF: Duration = Duration::from_millis(500);

/// What one replica has alone, all others pull at once: each spreads its pull
/// over this time for every other one beside itself and the peer, up to a bound.
const SPREAD_EACH: Duration = Duration::from_millis(2);
const MAX_SPREAD: Duration = Duration::from_millis(500);

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
    /// Compares a root with one's own.
    fn compare(&self, theirs: &Span) -> Comparison;
    /// The latest root and the number of cells, if there is a root.
    fn latest(&self) -> Option<(Span, u64)>;
    /// The stamp of the newest cell of a key, settled or not.
    fn newest(&self, key: &CellKey) -> Option<Stamp>;
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
    fn up_to(&mut self, span: Duration) -> Duration {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos((self.random)() % nanos.saturating_add(1))
    }

    /// `span`, give or take a fifth.
    fn about(&mut self, span: Duration) -> Duration {
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
    /// A replica of the group said something of itself.
    Announced(ReplicaId, Vec<u8>),
    /// A root was made.
    Root,
    /// An answer to a query, or why there is none.
    Answer(u64, Result<Vec<u8>, String>),
    /// It is time: see [`Machine::wake_at`].
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

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A replica and this one exchange no data.
    Isolated(ReplicaId, Isolation),
    /// A replica with this one's identity is there.
    SameIdentity {
        /// Whether this one is the younger.
        is_younger: bool,
    },
    /// A message could not be read.
    Malformed(ReplicaId, MessageError),
    /// Cells were rejected.
    Rejected(ReplicaId, Rejections),
    /// A pull failed.
    Failed(ReplicaId, String),
    /// A pull is over.
    Pulled {
        /// From whom.
        peer: ReplicaId,
        /// Cells that it brought.
        cells: u64,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolated(peer, isolation) => {
                write!(f, "no data is exchanged with replica {peer}: {isolation}")
            }
            Self::SameIdentity { is_younger: true } => f.write_str(
                "another replica has this one's identity, as after copying its folder, and is \
                 older: this one takes a new identity",
            ),
            Self::SameIdentity { is_younger: false } => f.write_str(
                "another replica has this one's identity, as after copying its folder, and is \
                 younger: it has to take a new identity",
            ),
            Self::Malformed(peer, error) => {
                write!(f, "a message of replica {peer} was rejected: {error}")
            }
            Self::Rejected(peer, rejections) => {
                let Rejections {
                    key_expr,
                    digest,
                    clock,
                    too_large,
                    ..
                } = rejections;
                write!(
                    f,
                    "cells of replica {peer} were rejected: {key_expr} outside of the key \
                     expression, {digest} damaged, {clock} too far ahead of the clock, \
                     {too_large} too large"
                )
            }
            Self::Failed(peer, error) => write!(f, "a pull from replica {peer} failed: {error}"),
            Self::Pulled { peer, cells } => {
                write!(f, "a pull from replica {peer} brought {cells} cells")
            }
        }
    }
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

/// A pull that is going on.
struct Going {
    pull: Pull,
    request: u64,
    deadline: Duration,
    rejected: Rejections,
    /// How many cells had been useful before.
    useful_before: u64,
}

impl Going {
    /// What follows when all has been asked for, or nothing more will come.
    fn joining(&self, now: Duration) -> Joining {
        Joining {
            peer: self.pull.peer,
            useful_before: self.useful_before,
            deadline: now + JOINING,
        }
    }
}

/// Waiting for cells to be part of the root.
struct Joining {
    /// From whom they came.
    peer: ReplicaId,
    /// How many cells had been useful before.
    useful_before: u64,
    /// Until when, at the most.
    deadline: Duration,
}

enum State {
    Idle,
    Pulling(Box<Going>),
    /// The cells of a pull are on their way into the tree.
    Joining(Joining),
}

/// The state machine of one replica.
pub struct Machine {
    settings: Settings,
    key_expr: Option<OwnedKeyExpr>,
    peers: Peers,
    /// Replicas of other groups, and why they are not of ours.
    foreign: BTreeMap<ReplicaId, Peer>,
    state: State,
    requests: u64,
    /// Cells that were given to be joined.
    joined: u64,
    /// When to announce, and when that was done last, with which root.
    announce_at: Duration,
    announced: Option<(Duration, RootHash)>,
    /// When to declare again what another with this identity undeclared.
    declare_at: Option<Duration>,
    /// When a pull may begin.
    pull_at: Option<Duration>,
    status: Status,
}

impl Machine {
    /// A machine that announces itself at once.
    #[must_use]
    pub fn new(settings: Settings, context: &mut Context<'_>) -> Self {
        Self {
            key_expr: OwnedKeyExpr::try_from(settings.group.key_expr.as_str()).ok(),
            settings,
            peers: Peers::default(),
            foreign: BTreeMap::new(),
            state: State::Idle,
            requests: 0,
            joined: 0,
            announce_at: context.now,
            announced: None,
            declare_at: None,
            pull_at: None,
            status: Status::default(),
        }
    }

    /// Which replica this is, and how it is set up.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What has happened, and how the peers stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = self.peers.iter().chain(&self.foreign);
        Status {
            peers: peers.map(|(id, peer)| peer.status(*id)).collect(),
            ..self.status.clone()
        }
    }

    /// Whether nothing is being pulled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// When to be told that it is time.
    #[must_use]
    pub fn wake_at(&self) -> Duration {
        let of_state = match &self.state {
            State::Idle => self.next_pull(),
            State::Pulling(going) => Some(going.deadline),
            State::Joining(joining) => Some(joining.deadline),
        };
        let asks = self.peers.present().map(|(_, peer)| peer.ask_root_at);
        let compares = self
            .peers
            .present()
            .filter_map(|(_, peer)| peer.compare_at());
        let all = asks.chain(compares).chain(of_state);
        let all = all.chain(self.declare_at);
        all.chain([self.announce_at]).min().unwrap_or(Duration::MAX)
    }

    fn next_pull(&self) -> Option<Duration> {
        let candidates = self.peers.present().filter(|(_, peer)| is_candidate(peer));
        let soonest = candidates.map(|(_, peer)| peer.not_before).min()?;
        Some(soonest.max(self.pull_at.unwrap_or_default()))
    }

    /// Handles an event.
    pub fn handle(&mut self, event: Event, context: &mut Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Appeared(token) => self.appeared(token, context, &mut actions),
            Event::Gone(token) => {
                let peer = match token.group == self.settings.group && token.protocol == PROTOCOL {
                    true => self.peers.get_mut(&token.replica),
                    false => self.foreign.get_mut(&token.replica),
                };
                if let Some(peer) = peer {
                    peer.present = false;
                }
            }
            Event::Announced(from, bytes) => self.heard(from, &bytes, context, &mut actions),
            Event::Root => {
                self.compare_all(context);
                let root = context.view.latest().map(|(span, _)| span.root);
                if let (Some(root), Some((at, announced))) = (root, self.announced) {
                    if root != announced {
                        self.announce_at = self.announce_at.min(at + ANNOUNCE_EVERY);
                    }
                }
            }
            Event::Answer(request, answer) => self.answered(request, answer, context, &mut actions),
            Event::Tick => {}
        }
        self.time_passes(context, &mut actions);
        actions
    }

    fn appeared(&mut self, token: Token, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let id = token.replica;
        if let Some(isolation) = self.isolation(&token) {
            if self.foreign.len() >= super::peers::MAX_PEERS || id == self.settings.replica {
                return;
            }
            let mut peer = Peer::new(context.wall);
            peer.present = true;
            peer.relation = Relation::Isolated;
            peer.isolation = Some(isolation.clone());
            self.foreign.insert(id, peer);
            actions.push(Action::Report(Report::Isolated(id, isolation)));
            return;
        }
        if token.group != self.settings.group || id == self.settings.replica {
            return;
        }
        let silence = SILENCE + context.up_to(SILENCE);
        let greeting = context.up_to(GREETING);
        let Some(peer) = self.peers.entry(id, context.wall) else {
            return;
        };
        peer.present = true;
        peer.failures = 0;
        peer.unanswered = 0;
        peer.not_before = Duration::ZERO;
        peer.ask_root_at = context.now + silence;
        peer.compare(context.view, context.now, context.wall);
        self.announce_at = self.announce_at.min(context.now + greeting);
    }

    /// Why the replica of this token is none of ours, if it might be taken for one.
    fn isolation(&self, token: &Token) -> Option<Isolation> {
        let own = &self.settings.group;
        let theirs = keyexpr::new(token.group.key_expr.as_str()).ok()?;
        if token.group.key_expr != own.key_expr {
            let ours = self.key_expr.as_ref()?;
            let has_common = ours.intersects(theirs);
            return has_common.then(|| Isolation::KeyExpr(token.group.key_expr.clone()));
        }
        if token.group.strip_prefix != own.strip_prefix {
            return Some(Isolation::StripPrefix(token.group.strip_prefix.clone()));
        }
        (token.protocol != PROTOCOL).then_some(Isolation::Protocol(token.protocol))
    }

    fn heard(
        &mut self,
        from: ReplicaId,
        bytes: &[u8],
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let announcement = match Announcement::decode(bytes) {
            Ok(announcement) => announcement,
            Err(error) => {
                self.status.rejected.malformed += 1;
                actions.push(Action::Report(Report::Malformed(from, error)));
                return;
            }
        };
        if from == self.settings.replica {
            self.heard_own_name(announcement.incarnation, context, actions);
            return;
        }
        self.status.heard += 1;
        let stale = context.about(self.settings.sync_interval * 3);
        let Some(peer) = self.peers.entry(from, context.wall) else {
            return;
        };
        peer.unanswered = 0;
        peer.ask_root_at = context.now + stale;
        peer.heard(announcement);
        let (theirs, ours) = (announcement.fingerprint, self.settings.fingerprint);
        if theirs == ours {
            peer.isolation = None;
            peer.compare(context.view, context.now, context.wall);
        } else {
            peer.relation = Relation::Isolated;
            let isolation = Isolation::Fingerprint { theirs, ours };
            if peer.isolation.replace(isolation.clone()) != Some(isolation.clone()) {
                peer.since = context.wall;
                actions.push(Action::Report(Report::Isolated(from, isolation)));
            }
        }
    }

    /// Someone with this replica's identity is there.
    fn heard_own_name(
        &mut self,
        other: Incarnation,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let own = self.settings.incarnation;
        if other == own {
            return;
        }
        let is_younger = own > other;
        actions.push(Action::Report(Report::SameIdentity { is_younger }));
        if is_younger {
            // So that the other hears of this one, while it has the name.
            actions.extend(self.announcement(context.view).map(Action::Announce));
            actions.push(Action::TakeNewIdentity);
        } else {
            // So that the other hears of this one.
            let last = self.announced.map_or(Duration::ZERO, |(at, _)| at);
            self.announce_at = self.announce_at.min((last + GREETING).max(context.now));
            self.declare_at = Some(context.now + RENAMING);
        }
    }

    fn compare_all(&mut self, context: &mut Context<'_>) {
        for (_, peer) in self.peers.iter_mut() {
            peer.compare(context.view, context.now, context.wall);
        }
    }

    fn time_passes(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let now = context.now;
        if now >= self.announce_at {
            self.announce(context, actions);
        }
        if self.declare_at.take_if(|at| now >= *at).is_some() {
            actions.push(Action::DeclareAgain);
        }
        let mut asks = Vec::new();
        for (id, peer) in self.peers.iter_mut() {
            if peer.compare_at().is_some_and(|at| now >= at) {
                peer.compare(context.view, now, context.wall);
            }
            if peer.present && peer.isolation.is_none() && now >= peer.ask_root_at {
                asks.push(*id);
                let pause = SILENCE * 2u32.saturating_pow(peer.unanswered.min(16));
                peer.unanswered += 1;
                let pause = pause.min(self.settings.sync_interval);
                peer.ask_root_at = now + context.about(pause);
            }
        }
        actions.extend(asks.into_iter().map(Action::AskRoot));
        match &self.state {
            State::Pulling(going) if now >= going.deadline => {
                let waited = REQUEST_TIMEOUT.as_secs();
                self.fail(format!("no answer within {waited} s"), context, actions);
            }
            State::Joining(joining)
                if now >= joining.deadline || context.view.joined() >= self.joined =>
            {
                let (peer, before) = (joining.peer, joining.useful_before);
                self.state = State::Idle;
                self.ended(&peer, context.view.useful() > before, context);
            }
            _ => {}
        }
        self.begin_pull(context, actions);
    }

    fn announce(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let pause = match self.status.announced {
            0..EARLY => EARLY_PAUSE.min(self.settings.sync_interval),
            _ => self.settings.sync_interval,
        };
        self.announce_at = context.now + context.about(pause);
        let latest = context.view.latest();
        let (Some((span, _)), Some(bytes)) = (latest, self.announcement(context.view)) else {
            // A root is being made.
            self.announce_at = context.now + GREETING;
            return;
        };
        self.announced = Some((context.now, span.root));
        self.status.announced += 1;
        actions.push(Action::Announce(bytes));
    }

    /// What this replica has to say of itself now, if it has a root.
    #[must_use]
    pub fn announcement(&self, view: &dyn View) -> Option<Vec<u8>> {
        let (span, cells) = view.latest()?;
        let announcement = Announcement {
            fingerprint: self.settings.fingerprint,
            incarnation: self.settings.incarnation,
            span,
            cells,
        };
        Some(announcement.encode())
    }

    fn begin_pull(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        if !self.is_idle() {
            return;
        }
        let present = self.peers.present();
        let candidates: Vec<(ReplicaId, RootHash, Duration)> = present
            .filter(|(_, peer)| is_candidate(peer))
            .filter_map(|(id, peer)| {
                Some((*id, peer.announced.as_ref()?.span.root, peer.not_before))
            })
            .collect();
        if candidates.is_empty() {
            self.pull_at = None;
            return;
        }
        let others = self.peers.present().count().saturating_sub(2);
        let spread = (SPREAD_EACH * others as u32).min(MAX_SPREAD);
        let pull_at = match self.pull_at {
            Some(pull_at) => pull_at,
            None => *self.pull_at.insert(context.now + context.up_to(spread)),
        };
        if context.now < pull_at {
            return;
        }
        let ready = candidates.iter().filter(|(.., at)| *at <= context.now);
        // One root of those that differ, and one of those that have it.
        let mut by_root: BTreeMap<RootHash, Vec<ReplicaId>> = BTreeMap::new();
        ready.for_each(|(id, root, _)| by_root.entry(*root).or_default().push(*id));
        let roots = by_root.len() as u64;
        if roots == 0 {
            return;
        }
        let place = ((context.random)() % roots) as usize;
        let Some(peers) = by_root.into_values().nth(place) else {
            return;
        };
        let peer = peers[((context.random)() % peers.len() as u64) as usize];
        self.pull_at = None;
        let failures = self.peers.get_mut(&peer).map_or(0, |peer| peer.failures);
        let width = *WIDTHS.start() << failures.min(1);
        let salt = (context.random)().to_be_bytes();
        self.status.started += 1;
        let going = Going {
            pull: Pull::new(peer, Salted::new(salt, width)),
            request: 0,
            deadline: Duration::MAX,
            rejected: Rejections::default(),
            useful_before: context.view.useful(),
        };
        self.go_on(going, context, actions);
    }

    fn go_on(&mut self, mut going: Going, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let view = context.view;
        let (query, bytes) = match going.pull.ask(&view.tree(), &|key| view.newest(key)) {
            Ask::Digests(bytes) => (Query::Digest, bytes),
            Ask::Entries(bytes) => (Query::Entries, bytes),
            Ask::Nothing => return self.finish(going, context, actions),
        };
        self.requests += 1;
        self.status.bytes_sent += bytes.len() as u64;
        going.request = self.requests;
        going.deadline = context.now + REQUEST_TIMEOUT + BACK_OFF;
        actions.push(Action::Ask(self.requests, going.pull.peer, query, bytes));
        self.state = State::Pulling(Box::new(going));
    }

    fn answered(
        &mut self,
        request: u64,
        answer: Result<Vec<u8>, String>,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let State::Pulling(going) = &mut self.state else {
            return;
        };
        if going.request != request {
            return;
        }
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(error) => return self.fail(error, context, actions),
        };
        self.status.round_trips += 1;
        self.status.bytes_received += bytes.len() as u64;
        let received = match going.pull.answer(&bytes, &context.view.tree()) {
            Ok(received) => received,
            Err(error) => {
                self.status.rejected.malformed += 1;
                let text = format!("its answer was rejected: {error}");
                return self.fail(text, context, actions);
            }
        };
        let State::Pulling(mut going) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        if !received.is_empty() {
            let cells = self.admit(received, &mut going.rejected, context);
            going.pull.received += cells.len() as u64;
            self.status.cells_received += cells.len() as u64;
            self.joined += cells.len() as u64;
            if !cells.is_empty() {
                actions.push(Action::Join(cells));
            }
        }
        self.go_on(*going, context, actions);
    }

    /// What may be believed of what was received.
    fn admit(
        &self,
        received: Vec<Received>,
        rejected: &mut Rejections,
        context: &Context<'_>,
    ) -> Vec<(CellKey, Cell)> {
        let latest = context
            .wall
            .saturating_add(ntp64_span(self.settings.max_clock_drift));
        let is_admitted = |received: &Received| {
            let counter = if !self.is_within(&received.key) {
                &mut rejected.key_expr
            } else if received.cell.value_bytes() > MAX_VALUE_BYTES
                || received.key.canonical_len() > MAX_KEY_BYTES
            {
                &mut rejected.too_large
            } else if received.cell.stamp.time > latest {
                &mut rejected.clock
            } else if !received.is_intact() {
                &mut rejected.digest
            } else {
                return true;
            };
            *counter += 1;
            false
        };
        let mut admitted = received;
        admitted.retain(is_admitted);
        let cells = admitted.into_iter();
        cells
            .map(|received| (received.key, received.cell))
            .collect()
    }

    /// Whether a key, with its prefix, is within the storage's key expression.
    fn is_within(&self, key: &CellKey) -> bool {
        let Some(storage) = &self.key_expr else {
            return false;
        };
        let prefix = self.settings.group.strip_prefix.as_deref();
        let full = match (prefix, key.key.as_str()) {
            (None, None) => return false,
            (None, Some(key)) => key.to_owned(),
            (Some(prefix), None) => prefix.to_owned(),
            (Some(prefix), Some(key)) => format!("{prefix}/{key}"),
        };
        keyexpr::new(full.as_str()).is_ok_and(|full| storage.includes(full))
    }

    fn finish(&mut self, going: Going, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        self.status.completed += 1;
        let peer = going.pull.peer;
        let cells = going.pull.received;
        if going.rejected != Rejections::default() {
            self.status.rejected.add(&going.rejected);
            actions.push(Action::Report(Report::Rejected(peer, going.rejected)));
        }
        actions.push(Action::Report(Report::Pulled { peer, cells }));
        if cells > 0 {
            self.state = State::Joining(going.joining(context.now));
        } else {
            self.state = State::Idle;
            self.ended(&peer, false, context);
        }
    }

    /// A pull that came to its end was of use, or not.
    fn ended(&mut self, peer: &ReplicaId, was_useful: bool, context: &mut Context<'_>) {
        self.compare_all(context);
        match self.peers.get_mut(peer) {
            Some(peer) if was_useful => peer.failures = 0,
            _ => self.back_off(peer, context),
        }
    }

    fn fail(&mut self, error: String, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        if let State::Pulling(going) = std::mem::replace(&mut self.state, State::Idle) {
            self.status.failed += 1;
            let peer = going.pull.peer;
            self.status.rejected.add(&going.rejected);
            self.back_off(&peer, context);
            actions.push(Action::Report(Report::Failed(peer, error)));
            if going.pull.received > 0 {
                self.state = State::Joining(going.joining(context.now));
            }
        }
    }

    fn back_off(&mut self, peer: &ReplicaId, context: &mut Context<'_>) {
        let longest = self.settings.sync_interval;
        if let Some(peer) = self.peers.get_mut(peer) {
            let pause = BACK_OFF * 2u32.saturating_pow(peer.failures.min(16));
            peer.failures = peer.failures.saturating_add(1);
            peer.not_before = context.now + context.about(pause.min(longest));
        }
    }
}

fn is_candidate(peer: &Peer) -> bool {
    peer.relation == Relation::Divergent
}
