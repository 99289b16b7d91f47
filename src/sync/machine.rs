//! When to announce, whom to compare with, whom to pull from.

use std::{collections::BTreeMap, time::Duration};

use super::{
    admission::Admission,
    announcement::Announcement,
    digests::{Salted, WIDTHS},
    identity::{Incarnation, ReplicaId, Token, PROTOCOL},
    interface::{Action, Context, Event, Query, Settings, Status, View},
    peers::{Isolation, Peer, Peers, Relation},
    pull::{Ask, Pull, Rejections},
    report::Report,
};
use crate::mst::RootHash;

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
    admission: Admission,
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
            admission: Admission::new(&settings.group, settings.max_clock_drift),
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
            Event::SyncNow => {
                for (_, peer) in self.peers.iter_mut() {
                    peer.failures = 0;
                    peer.unanswered = 0;
                    peer.not_before = Duration::ZERO;
                    peer.ask_root_at = context.now;
                }
                self.announce_at = context.now;
            }
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
        let theirs = &token.group.key_expr;
        if *theirs != own.key_expr {
            let has_common = self.admission.intersects(theirs);
            return has_common.then(|| Isolation::KeyExpr(theirs.clone()));
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
        let Some(announcement) = self.own_announcement(context.view) else {
            // A root is being made.
            self.announce_at = context.now + GREETING;
            return;
        };
        self.announced = Some((context.now, announcement.span.root));
        self.status.announced += 1;
        actions.push(Action::Announce(announcement.encode()));
    }

    /// What this replica has to say of itself now, if it has a root.
    #[must_use]
    pub fn announcement(&self, view: &dyn View) -> Option<Vec<u8>> {
        let announcement = self.own_announcement(view)?;
        Some(announcement.encode())
    }

    fn own_announcement(&self, view: &dyn View) -> Option<Announcement> {
        let (span, cells) = view.latest()?;
        Some(Announcement {
            fingerprint: self.settings.fingerprint,
            incarnation: self.settings.incarnation,
            span,
            cells,
        })
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
            let rejected = &mut going.rejected;
            let cells = self.admission.admit(received, rejected, context.wall);
            going.pull.received += cells.len() as u64;
            self.status.cells_received += cells.len() as u64;
            self.joined += cells.len() as u64;
            if !cells.is_empty() {
                actions.push(Action::Join(cells));
            }
        }
        self.go_on(*going, context, actions);
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
