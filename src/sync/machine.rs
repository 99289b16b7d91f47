//! The state machine: announcements, queries of roots, the relations of peers.

use std::time::Duration;

use super::{
    admission::Admission,
    announcement::Announcement,
    identity::{Incarnation, ReplicaId, Token, PROTOCOL},
    interface::{Action, Context, Event, Settings, Status},
    peers::{Isolation, OwnRoot, PeerStatus, Peers, Relation},
    pieces::Assembly,
    pull_state::State,
    refused::Refused,
    report::Report,
    view::View,
};
use crate::mst::RootHash;

/// The shortest time between two announcements, except to replicas that appear.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// The longest delay of an announcement to a replica that appears. There is a delay
/// because after a partition many appear together.
const GREETING: Duration = Duration::from_millis(50);

/// How long to hear nothing of another replica with this identity before concluding that
/// it has taken another.
const RENAMING: Duration = Duration::from_secs(1);

/// The number and pause of the first announcements, which come faster: a starting router
/// is not linked yet, and a double should hear of this replica soon.
const EARLY: u64 = 4;
const EARLY_PAUSE: Duration = Duration::from_secs(1);

/// The time between two new names of this replica, and between two declarations of what a double
/// undeclared; it doubles each time, up to the longest: anyone who may announce can claim its name.
const RENAME_EVERY: Duration = Duration::from_secs(10);
const LONGEST_RENAMING: Duration = Duration::from_secs(3600);

/// How long after an announcement of a replica without a token to look at all tokens anew; it doubles
/// each time, up to the sync interval. And how often for a replica whose token is not seen then.
const LOOK: Duration = Duration::from_secs(2);
const MAX_LOOKS: u32 = 6;

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
    foreign: Peers,
    pub(super) state: State,
    /// What peers have that this replica does not take.
    pub(super) refused: Refused,
    /// The value that is being put together of pieces.
    pub(super) assembly: Option<Assembly>,
    pub(super) requests: u64,
    /// The number of cells given out to be joined.
    pub(super) joined: u64,
    /// When to announce next; when the last announcement was, and of which root.
    announce_at: Duration,
    announced: Option<(Duration, RootHash)>,
    /// The latest root of the replica, and since when it has it.
    own_root: Option<(Duration, RootHash)>,
    /// New names, and declarations of what a double undeclared, and how they follow each other.
    renames: Doubling,
    declarations: Doubling,
    /// When an unreadable message, and a double, were last reported.
    told_malformed: Option<Duration>,
    told_identity: Option<Duration>,
    /// When to declare again what a double undeclared.
    declare_at: Option<Duration>,
    /// When to look at all tokens anew, because one without a token is heard, and how often that was.
    look_at: Option<Duration>,
    looks: u32,
    /// The earliest time for a pull.
    pub(super) pull_at: Option<Duration>,
    pub(super) status: Status,
}

impl Machine {
    /// A machine that announces itself at once.
    #[must_use]
    pub fn new(settings: Settings, context: &mut Context<'_>) -> Self {
        Self {
            admission: Admission::new(&settings.group, settings.max_clock_drift),
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
        match event {
            Event::Appeared(token) => self.appeared(token, context, &mut actions),
            Event::Gone(token) if self.is_own(&token) => {
                // A double has given the name up, and routers take the one token for the other.
                let at = (context.now + GREETING).max(self.declarations.not_before);
                self.declare_at = Some(self.declare_at.map_or(at, |known| known.min(at)));
            }
            Event::Gone(token) => {
                let peer = match token.group == self.settings.group && token.protocol == PROTOCOL {
                    true => self.peers.get_mut(&token.replica),
                    false => self.foreign.get_mut(&token.replica),
                };
                if let Some(peer) = peer {
                    peer.present = false;
                }
            }
            Event::TokensMissed => {
                let all = self.peers.iter_mut().chain(self.foreign.iter_mut());
                all.for_each(|(_, peer)| peer.present = false);
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

    fn is_own(&self, token: &Token) -> bool {
        let is_of_group = token.group == self.settings.group && token.protocol == PROTOCOL;
        is_of_group && token.replica == self.settings.replica
    }

    fn appeared(&mut self, token: Token, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let id = token.replica;
        if let Some(isolation) = self.isolation(&token) {
            if id == self.settings.replica {
                return;
            }
            if let Some(peer) = self.foreign.entry(id, context.wall) {
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
        let Some(peer) = self.peers.entry(id, context.wall) else {
            return;
        };
        peer.present = true;
        peer.is_heard_without_token = false;
        peer.looks = 0;
        peer.failures = 0;
        peer.unanswered = 0;
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
        let own = self.own_root(context);
        let stale = context.about(self.settings.sync_interval * 3);
        let Some(peer) = self.peers.entry(from, context.wall) else {
            return;
        };
        peer.unanswered = 0;
        peer.ask_root_at = context.now + stale;
        if !peer.present && peer.looks < MAX_LOOKS {
            peer.is_heard_without_token = true;
            let pause = LOOK * 2u32.saturating_pow(self.looks.min(16));
            let at = context.now + pause.min(self.settings.sync_interval);
            self.look_at.get_or_insert(at);
        }
        let known = peer.announced.map(|known| known.span.root);
        if peer.failures == 0 && known != Some(announcement.span.root) {
            peer.not_before = Duration::ZERO;
        }
        peer.heard(announcement, context.now, context.wall);
        let (theirs, ours) = (announcement.fingerprint, self.settings.fingerprint);
        if theirs == ours {
            peer.isolation = None;
            peer.compare(&own, context.view, context.now, context.wall);
        } else {
            peer.relation = Relation::Isolated;
            let isolation = Isolation::Fingerprint { theirs, ours };
            if peer.isolation.replace(isolation.clone()) != Some(isolation.clone()) {
                peer.since = context.wall;
                actions.push(Action::Report(Report::Isolated(from, isolation)));
            }
        }
    }

    /// Handles an announcement with this replica's identity.
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
        let pause = self.renames.not_before.saturating_sub(context.now);
        let report = match is_younger && !pause.is_zero() {
            true => Report::NameClaimed {
                pause: pause.as_secs() + 1,
            },
            false => Report::SameIdentity { is_younger },
        };
        let is_renaming = is_younger && pause.is_zero();
        if is_renaming || is_due(&mut self.told_identity, context.now) {
            actions.push(Action::Report(report));
        }
        if is_renaming {
            // Announces this one to the double, under the name that they share.
            let announcement = self.announcement(context.view, context.wall);
            actions.extend(announcement.map(Action::Announce));
            actions.push(Action::TakeNewIdentity);
        } else if !is_younger {
            // Announces this one to the double.
            let last = self.announced.map_or(Duration::ZERO, |(at, _)| at);
            self.announce_at = self.announce_at.min((last + GREETING).max(context.now));
            let at = (context.now + RENAMING).max(self.declarations.not_before);
            self.declare_at = Some(at);
        }
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
        self.go_on_pulling(context, actions);
    }

    /// Looks at all tokens anew if there are replicas that are heard, and whose token is not seen: it
    /// was missed, or that of a double was taken for it.
    fn look_for_tokens(&mut self, actions: &mut Vec<Action>) {
        let peers = self.peers.iter_mut().map(|(_, peer)| peer);
        let mut is_any = false;
        for peer in peers.filter(|peer| !peer.present && peer.is_heard_without_token) {
            peer.is_heard_without_token = false;
            peer.looks += 1;
            is_any = true;
        }
        self.looks = match is_any {
            true => self.looks.saturating_add(1),
            false => 0,
        };
        actions.extend(is_any.then_some(Action::LookAtTokens));
    }

    fn announce(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let pause = match self.status.announced {
            0..EARLY => EARLY_PAUSE.min(self.settings.sync_interval),
            _ => self.settings.sync_interval,
        };
        self.announce_at = context.now + context.about(pause);
        let Some(announcement) = self.own_announcement(context.view, context.wall) else {
            // A root is being made.
            self.announce_at = context.now + GREETING;
            return;
        };
        self.announced = Some((context.now, announcement.span.root));
        self.status.announced += 1;
        actions.push(Action::Announce(announcement.encode()));
    }

    /// This replica's announcement when its clock shows `wall`, if it has a root.
    #[must_use]
    pub fn announcement(&self, view: &dyn View, wall: u64) -> Option<Vec<u8>> {
        let announcement = self.own_announcement(view, wall)?;
        Some(announcement.encode())
    }

    fn own_announcement(&self, view: &dyn View, wall: u64) -> Option<Announcement> {
        let (span, cells) = view.latest()?;
        Some(Announcement {
            fingerprint: self.settings.fingerprint,
            incarnation: self.settings.incarnation,
            clock: wall,
            span,
            cells,
        })
    }
}

/// What others can provoke, and so has longer and longer pauses.
#[derive(Clone, Copy, Default)]
struct Doubling {
    /// The earliest time for the next.
    not_before: Duration,
    /// The pause after the last.
    pause: Duration,
}

impl Doubling {
    /// It happens now. The pause after it is twice that before, unless it was long ago.
    fn happens(&mut self, now: Duration) {
        let is_long_ago = now >= self.not_before + LONGEST_RENAMING;
        self.pause = match self.pause.is_zero() || is_long_ago {
            true => RENAME_EVERY,
            false => (self.pause * 2).min(LONGEST_RENAMING),
        };
        self.not_before = now + self.pause;
    }
}

/// Whether a report is due, the last having been made at `told`.
fn is_due(told: &mut Option<Duration>, now: Duration) -> bool {
    let is_due = told.is_none_or(|told| now >= told + TELL_EVERY);
    if is_due {
        *told = Some(now);
    }
    is_due
}
