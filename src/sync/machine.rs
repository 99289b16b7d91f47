//! The state machine: announcements, queries of roots, the relations of peers.

use std::time::Duration;

use super::{
    admission::Admission,
    announcement::{Announcement, Stand},
    identity::{Incarnation, PROTOCOL, ReplicaId, Token},
    interface::{Action, Context, Event, Settings, Status},
    known::Peers,
    members::Members,
    pauses::{Doubling, look_after},
    peers::{Isolation, OwnRoot, PeerStatus, Relation},
    pieces::Assembly,
    pull_state::State,
    refused::Refused,
    report::Report,
};
use crate::mst::RootHash;

/// The shortest time between two announcements, except to replicas that appear.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// The longest delay of an announcement to a replica that appears. There is a delay
/// because after a partition many appear together.
pub(super) const GREETING: Duration = Duration::from_millis(50);

/// The number and pause of the first announcements, which come faster: a starting router
/// is not linked yet, and a double should hear of this replica soon.
pub(super) const EARLY: u64 = 4;
pub(super) const EARLY_PAUSE: Duration = Duration::from_secs(1);

/// The shortest time between two reports that others can provoke at any rate.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long a replica that appeared may be silent before it is asked.
const SILENCE: Duration = Duration::from_millis(500);

/// The state machine of one replica.
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) admission: Admission,
    pub(super) peers: Peers,
    /// Replicas of other groups, and why they are isolated.
    pub(super) foreign: Peers,
    pub(super) state: State,
    /// What peers have that this replica does not take.
    pub(super) refused: Refused,
    /// The value that is being put together of pieces.
    pub(super) assembly: Option<Assembly>,
    pub(super) requests: u64,
    /// The number of cells given out to be joined.
    pub(super) joined: u64,
    /// When to announce next; when the last announcement was, and of which root.
    pub(super) announce_at: Duration,
    pub(super) announced: Option<(Duration, RootHash)>,
    /// What was said then of the collection.
    pub(super) announced_stand: Option<Stand>,
    /// What is known of the members, if the group collects.
    pub(super) members: Members,
    /// The latest root of the replica, and since when it has it.
    own_root: Option<(Duration, RootHash)>,
    /// New names, and declarations of what a double undeclared, and how they follow each other.
    pub(super) renames: Doubling,
    pub(super) declarations: Doubling,
    /// When an unreadable message, and a double, were last reported.
    told_malformed: Option<Duration>,
    pub(super) told_identity: Option<Duration>,
    /// When to declare again what a double undeclared.
    pub(super) declare_at: Option<Duration>,
    /// When to look at all tokens anew, because one without a token is heard, and how often that was.
    pub(super) look_at: Option<Duration>,
    pub(super) looks: u32,
    /// The earliest time for a pull.
    pub(super) pull_at: Option<Duration>,
    pub(super) status: Status,
    /// Announcements since it has its name.
    pub(super) early: u64,
}

impl Machine {
    /// A machine that announces itself at once.
    #[must_use]
    pub fn new(settings: Settings, context: &mut Context<'_>) -> Self {
        Self {
            admission: Admission::new(&settings.group, settings.max_clock_drift)
                .of_members(settings.members.is_some()),
            settings,
            peers: Peers::default(),
            foreign: Peers::default(),
            state: State::Idle,
            refused: Refused::default(),
            assembly: None,
            requests: 0,
            joined: 0,
            announce_at: context.now,
            announced: None,
            announced_stand: None,
            members: Members::default(),
            own_root: None,
            renames: Doubling::default(),
            declarations: Doubling::default(),
            told_malformed: None,
            told_identity: None,
            declare_at: None,
            look_at: None,
            looks: 0,
            pull_at: None,
            status: Status::default(),
            early: 0,
        }
    }

    /// A machine like this that has just taken the new name in `settings`.
    #[must_use]
    pub fn renamed(&self, settings: Settings, context: &mut Context<'_>) -> Self {
        let mut renames = self.renames;
        renames.happens(context.now);
        Self {
            renames,
            // An answer to one that was asked before is not taken for one to another.
            requests: self.requests,
            // Counters only grow.
            status: self.status.clone(),
            ..Self::new(settings, context)
        }
    }

    /// The machine's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The status, with the relations of peers.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = self.peers.iter().chain(self.foreign.iter());
        Status {
            peers: peers
                .map(|(id, peer)| PeerStatus {
                    refused_cells: self.refused.count(id),
                    ..peer.status(*id)
                })
                .collect(),
            waits: self
                .members
                .waits
                .iter()
                .map(|(why, at)| (*why, *at))
                .collect(),
            is_stopped: self.members.is_stopped,
            ..self.status.clone()
        }
    }

    /// Whether no pull is going on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// When to be told that it is time.
    #[must_use]
    pub fn wake_at(&self) -> Duration {
        let of_state = self.pull_due();
        let asks = self.peers.present().map(|(_, peer)| peer.ask_root_at);
        let compares = self.peers.present().filter_map(|(_, peer)| peer.compare_at);
        let all = asks.chain(compares).chain(of_state);
        let all = all.chain(self.declare_at).chain(self.look_at);
        all.chain([self.announce_at]).min().unwrap_or(Duration::MAX)
    }

    /// Handles an event.
    pub fn handle(&mut self, event: Event, context: &mut Context<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.look_at_standing(context, &mut actions);
        match event {
            Event::Appeared(token) => {
                let id = token.replica;
                self.appeared(token, context, &mut actions);
                self.is_known_once(&id);
            }
            Event::Gone(token) if self.is_own(&token) => {
                // A double has given the name up, and routers take the one token for the other.
                self.declare_soon(context.now);
            }
            Event::Gone(token) => {
                let peer = match token.group == self.settings.group && token.protocol == PROTOCOL {
                    true => self.peers.get_mut(&token.replica),
                    false => self.foreign.get_mut(&token.replica),
                };
                if let Some(peer) = peer {
                    peer.gone(context.now);
                }
                self.is_known_once(&token.replica);
            }
            Event::TokensMissed => {
                let all = self.peers.iter_mut().chain(self.foreign.iter_mut());
                all.for_each(|(_, peer)| peer.gone(context.now));
            }
            Event::Announced(from, bytes) => self.heard(from, &bytes, context, &mut actions),
            Event::Root => {
                self.compare_all(context);
                let root = context.view.latest().map(|(span, _)| span.root);
                if let (Some(root), Some((at, announced))) = (root, self.announced)
                    && (root != announced || self.has_new_stand(context))
                {
                    self.announce_at = self.announce_at.min(at + ANNOUNCE_EVERY);
                }
            }
            Event::Answer(request, answer) => self.answered(request, answer, context, &mut actions),
            Event::SyncNow => {
                for (_, peer) in self.peers.iter_mut() {
                    peer.failures = 0;
                    peer.unanswered = 0;
                    peer.only_answers = 0;
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
            if id == self.settings.replica {
                return;
            }
            if let Some(peer) = self.foreign.entry(id, context.now, context.wall) {
                peer.present = true;
                peer.relation = Relation::Isolated;
                if peer.isolation.replace(isolation.clone()) != Some(isolation.clone()) {
                    peer.since = context.wall;
                    actions.push(Action::Report(Report::Isolated(id, isolation)));
                }
            }
            return;
        }
        if token.group != self.settings.group || id == self.settings.replica {
            return;
        }
        let own = self.own_root(context);
        let silence = SILENCE + context.up_to(SILENCE);
        let greeting = context.up_to(GREETING);
        let Some(peer) = self.peers.entry(id, context.now, context.wall) else {
            return;
        };
        peer.present = true;
        peer.is_heard_without_token = false;
        peer.looks = 0;
        peer.failures = 0;
        peer.unanswered = 0;
        peer.only_answers = 0;
        peer.is_retried = false;
        peer.not_before = Duration::ZERO;
        peer.ask_root_at = context.now + silence;
        peer.compare(&own, context.view, context.now, context.wall);
        self.announce_at = self.announce_at.min(context.now + greeting);
    }

    /// Why the replica of this token is isolated, if it might have been meant for this
    /// group.
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
                if is_due(&mut self.told_malformed, context.now) {
                    actions.push(Action::Report(Report::Malformed(from, error)));
                }
                return;
            }
        };
        if from == self.settings.replica {
            self.heard_own_name(announcement.incarnation, context, actions);
            return;
        }
        self.status.heard += 1;
        if self.foreign.get(&from).is_some_and(|peer| peer.present) {
            // It was on its way when the token changed.
            return;
        }
        self.foreign.remove(&from);
        let own = self.own_root(context);
        let stale = context.about(self.settings.sync_interval * 3);
        let Some(peer) = self.peers.entry(from, context.now, context.wall) else {
            return;
        };
        let is_mute = peer.is_mute();
        peer.ask_root_at = context.now + stale;
        if peer.is_to_be_looked_for() {
            let pause = look_after(self.looks).min(self.settings.sync_interval);
            self.look_at.get_or_insert(context.now + pause);
        }
        let known = peer.announced.map(|known| known.span.root);
        if peer.failures == 0 && known != Some(announcement.span.root) {
            peer.not_before = Duration::ZERO;
        }
        peer.heard(announcement, context.now, context.wall);
        let (theirs, ours) = (announcement.fingerprint, self.settings.fingerprint);
        if theirs == ours {
            if !matches!(peer.isolation, Some(Isolation::Horizon(_))) {
                peer.isolation = None;
            }
            context.view.witness(announcement.clock);
            let Incarnation { started, nonce } = announcement.incarnation;
            context.view.met(from.0, (started, nonce));
            self.take_stance(from, context, actions);
            let Some(peer) = self.peers.get_mut(&from) else {
                return;
            };
            peer.hear_again(context.now);
            peer.compare(&own, context.view, context.now, context.wall);
        } else {
            peer.relation = Relation::Isolated;
            let isolation = Isolation::Fingerprint { theirs, ours };
            if peer.isolation.replace(isolation.clone()) != Some(isolation.clone()) {
                peer.since = context.wall;
                actions.push(Action::Report(Report::Isolated(from, isolation)));
            }
        }
        if is_mute {
            self.declare_soon(context.now);
        }
    }

    /// Whether it is other than was announced how far the own collection is.
    fn has_new_stand(&self, context: &Context<'_>) -> bool {
        if self.settings.members.is_none() {
            return false;
        }
        let own = self.own_announcement(context.view, context.wall);
        own.is_some_and(|own| own.stand != self.announced_stand)
    }

    pub(super) fn compare_all(&mut self, context: &mut Context<'_>) {
        let own = self.own_root(context);
        for (_, peer) in self.peers.iter_mut() {
            peer.compare(&own, context.view, context.now, context.wall);
        }
    }

    fn own_root(&mut self, context: &Context<'_>) -> OwnRoot {
        let latest = context.view.latest().map(|(span, _)| span);
        let root = latest.map(|span| span.root);
        if root.is_some_and(|root| self.own_root.is_none_or(|(_, known)| known != root)) {
            self.own_root = root.map(|root| (context.now, root));
        }
        OwnRoot {
            root,
            cut: latest.map_or(0, |span| span.to),
            since: self.own_root.map_or(context.now, |(since, _)| since),
        }
    }

    fn time_passes(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let now = context.now;
        self.assembly.take_if(|assembly| assembly.is_stale(now));
        self.peers.tidy(now);
        self.foreign.tidy(now);
        // Who is found to have nothing has nothing that was refused.
        let peers = &self.peers;
        self.refused.retain(|peer| {
            let relation = peers.get(peer).map(|peer| peer.relation);
            matches!(relation, Some(Relation::Divergent | Relation::Unknown))
        });
        let own = self.own_root(context);
        if now >= self.announce_at {
            self.announce(context, actions);
        }
        if self.declare_at.take_if(|at| now >= *at).is_some() {
            self.declarations.happens(now);
            actions.push(Action::DeclareAgain);
        }
        if self.look_at.take_if(|at| now >= *at).is_some() {
            self.look_for_tokens(actions);
        }
        let mut asks = Vec::new();
        for (id, peer) in self.peers.iter_mut() {
            if peer.compare_at.is_some_and(|at| now >= at) {
                peer.compare(&own, context.view, now, context.wall);
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
        self.collect(context, actions);
        self.go_on_pulling(context, actions);
    }
}

/// Whether a report is due, the last having been made at `told`.
pub(super) fn is_due(told: &mut Option<Duration>, now: Duration) -> bool {
    let is_due = told.is_none_or(|told| now >= told + TELL_EVERY);
    if is_due {
        *told = Some(now);
    }
    is_due
}
