//! Pulls: when one begins, goes on and ends, and what follows.

use std::time::Duration;

use super::{
    asked::Asked,
    choosing::is_candidate,
    identity::ReplicaId,
    interface::{Action, Context, Query},
    machine::Machine,
    pace::{Pace, Terms},
    peers::Included,
    pull::{Ask, Brought, Pull},
    pull_state::{Going, Joining, State},
    refused::Refusal,
    rejections::Rejections,
    report::Report,
};
use crate::{cell::CellKey, mst::RootHash};

/// Backoff: the first pause after a pull that failed or brought nothing; it doubles. Also
/// the pause after a pull that brought something, unless the peer announces another root
/// before.
const BACK_OFF: Duration = Duration::from_millis(500);

/// The pause after an unanswered first query to a peer: when its token appears, the way
/// to it is often not known yet.
const RETRY: Duration = Duration::from_millis(50);

/// How often in a row a query is repeated that was dropped on the way, with less asked for each
/// time.
const MAX_DROPS: u32 = 6;

/// Limits of answers in a row of which all cells were rejected, and of which none was
/// newer than what was here: such a pull is not worth its slot. (Answers without cells
/// are no more than the own tree has entries.) An honest peer sends none that are
/// rejected, but may have many that a delete covers here.
const MAX_REJECTED: u32 = 64;
const MAX_USELESS: u32 = 4096;

/// How long a pull goes on while there are others to pull from. Twice as long each time
/// it was too short, so that long pulls complete, too.
const TURN: Duration = Duration::from_secs(60);

/// How often it is doubled, at the most: others wait that long for one that is slow.
const MAX_CUT_SHORT: u32 = 3;

impl Machine {
    /// When pulls need attention, if nothing happens before.
    pub(super) fn pull_due(&self) -> Option<Duration> {
        match &self.state {
            State::Idle => {
                let candidates = self.peers.present().filter(|(_, peer)| is_candidate(peer));
                let soonest = candidates.map(|(_, peer)| peer.not_before).min();
                let soonest = soonest.map(|soonest| soonest.max(self.pull_at.unwrap_or_default()));
                soonest.into_iter().chain(self.catching_due()).min()
            }
            State::Pulling(going) => Some(going.deadline),
            State::Joining(joining) => Some(joining.deadline),
        }
    }

    /// Ends pulls that are over, and begins those that are due.
    pub(super) fn go_on_pulling(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let now = context.now;
        match &self.state {
            State::Pulling(going) if now >= going.deadline => {
                let waited = going.timeout.as_secs();
                self.pace_of_pull().map(Pace::timed_out);
                self.fail(format!("no answer within {waited} s"), context, actions);
            }
            State::Joining(joining)
                if now >= joining.deadline || context.view.joined() >= self.joined =>
            {
                let joining = *joining;
                self.state = State::Idle;
                self.ended(&joining, context);
            }
            _ => {}
        }
        self.begin_pull(context, actions);
    }

    fn begin_pull(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        if !self.is_idle() || self.catch_up(context, actions) {
            return;
        }
        let Some((peer, root)) = self.choose_peer(context) else {
            return;
        };
        if self.is_all_refused(&peer, context) {
            let pause = context.about(self.settings.sync_interval);
            if let Some(peer) = self.peers.get_mut(&peer) {
                // Another root is looked at when it is announced.
                peer.failures = 0;
                peer.not_before = context.now + pause;
            }
            return;
        }
        self.pull_at = None;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.last_turn = Some(context.now);
            // The same pull, if only its first query is repeated.
            self.status.started += u64::from(!peer.is_retried);
        }
        let salt = (context.random)().to_be_bytes();
        let asked_at = self.members.standing.map(|standing| Asked {
            standing,
            is_mirror: false,
        });
        let pull = self.pull_from(peer, salt, context).at(asked_at);
        self.begin(pull, root, context, actions);
    }

    /// Begins a pull.
    pub(super) fn begin(
        &mut self,
        pull: Pull,
        root: RootHash,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let (peer, useful) = (pull.peer, context.view.useful());
        let going = Going {
            pull,
            began: context.now,
            request: 0,
            asked_at: context.now,
            timeout: Duration::ZERO,
            deadline: Duration::MAX,
            rejected: Rejections::default(),
            useful_before: useful,
            useful,
            useless_answers: 0,
            rejected_answers: 0,
            root,
            is_answered: false,
            drops: 0,
            is_wide: self.peers.get(&peer).is_some_and(|peer| peer.failures > 0),
        };
        self.go_on(going, context, actions);
    }

    fn go_on(&mut self, mut going: Going, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let view = context.view;
        let useless = going.useless_answers >= MAX_USELESS;
        if useless || going.rejected_answers >= MAX_REJECTED {
            self.state = State::Pulling(Box::new(going));
            let text = "its answers bring nothing new that this replica may take".to_owned();
            return self.fail(text, context, actions);
        }
        let cut_short = self.peers.get(&going.pull.peer).map_or(0, |p| p.cut_short);
        let turn = TURN * 2u32.saturating_pow(cut_short.min(MAX_CUT_SHORT));
        if context.now >= going.began + turn
            && going.pull.mirror.is_none()
            && self.are_others_ready(going.pull.peer, going.root, context.now)
        {
            if let Some(peer) = self.peers.get_mut(&going.pull.peer) {
                peer.cut_short = peer.cut_short.saturating_add(1);
            }
            // The next pull fetches the rest.
            return self.finish(going, context, actions);
        }
        if let Some(peer) = self.peers.get(&going.pull.peer) {
            going.pull.set_message_bytes(peer.pace.message_bytes());
        }
        let newest = |key: &CellKey| view.newest(key);
        let tree = view.tree();
        going.pull.set_watermark(context.view.watermark());
        let ask = (going.pull).ask(&tree, &newest, &mut self.assembly, context.now);
        let (query, bytes) = match ask {
            Ask::Digests(bytes) => (Query::Digest, bytes),
            Ask::Entries(bytes) => (Query::Entries, bytes),
            Ask::Nothing => {
                if let Some(peer) = self.peers.get_mut(&going.pull.peer) {
                    peer.cut_short = 0;
                }
                if going.pull.mirror.is_some() {
                    return self.end_pass(going, context, actions);
                }
                return self.finish(going, context, actions);
            }
        };
        let bytes = match &going.pull.asked_at {
            Some(asked) => asked.wrap(&bytes),
            None => bytes,
        };
        self.requests += 1;
        self.status.bytes_sent += bytes.len() as u64;
        going.request = self.requests;
        going.asked_at = context.now;
        going.timeout = self.terms(&going.pull.peer).timeout;
        going.deadline = context.now + going.timeout + BACK_OFF;
        actions.push(Action::Ask(self.requests, going.pull.peer, query, bytes));
        self.state = State::Pulling(Box::new(going));
    }

    pub(super) fn answered(
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
            Err(error) => return self.unanswered(error, context, actions),
        };
        going.is_answered = true;
        going.drops = 0;
        if let Some(peer) = self.peers.get_mut(&going.pull.peer) {
            peer.is_retried = false;
        }
        self.status.round_trips += 1;
        self.status.bytes_received += bytes.len() as u64;
        let tree = context.view.tree();
        let answer = (going.pull).answer(&bytes, &tree, &mut self.assembly, context.now);
        let Brought {
            cells,
            notices,
            whole,
            bytes: unpacked,
            lineage,
        } = match answer {
            Ok(brought) => brought,
            Err(error) => {
                self.status.rejected.malformed += 1;
                if let Some(peer) = self.peers.get_mut(&going.pull.peer) {
                    peer.is_walk_due = true;
                }
                let text = format!("its answer was rejected: {error}");
                return self.fail(text, context, actions);
            }
        };
        let took = context.now.saturating_sub(going.asked_at);
        if let Some(pace) = self.pace_of_pull() {
            pace.answered(unpacked, took);
        }
        let State::Pulling(mut going) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        if let Some((_, lineage)) = lineage {
            return self.heard_lineage(going.pull.peer, lineage, context, actions);
        }
        let (peer, rejected) = (going.pull.peer, &mut going.rejected);
        let mut refused = Vec::new();
        if !notices.is_empty() {
            let had_cells = !cells.is_empty();
            let (notices, others) = self.admission.sort_notices(notices, rejected, context.wall);
            if !others.is_empty() && notices.is_empty() && !had_cells {
                going.rejected_answers += 1;
            }
            refused.extend(others);
            for notice in notices {
                if !self.refused.has(&peer, &notice) {
                    going.pull.fetch(notice);
                }
            }
        }
        if let (Some(whole), true) = (&whole, cells.is_empty()) {
            rejected.digest += 1;
            refused.push(Refusal::of(whole, None));
        }
        if !cells.is_empty() {
            let (cells, others) = self.admission.sort(cells, rejected, context.wall);
            if let (Some(whole), true, true) = (&whole, cells.is_empty(), others.is_empty()) {
                refused.push(Refusal::of(whole, None));
            }
            refused.extend(others);
            for (key, _) in &cells {
                self.refused.replaced(&peer, key);
            }
            going.pull.received += cells.len() as u64;
            self.status.cells_received += cells.len() as u64;
            self.joined += cells.len() as u64;
            going.useless_answers += 1;
            going.rejected_answers += 1;
            if let Some(mirror) = &mut going.pull.mirror {
                for (key, cell) in &cells {
                    self.see_lacked(mirror, key, cell.timestamp, context);
                }
            }
            if !cells.is_empty() {
                going.rejected_answers = 0;
                let horizon = self.members.standing.map(|standing| standing.horizon);
                actions.push(match horizon {
                    Some(horizon) => Action::JoinAt(horizon, going.pull.peer, cells),
                    None => Action::Join(going.pull.peer, cells),
                });
            }
        }
        for refusal in refused {
            self.refused.add(peer, refusal, context.now);
        }
        // The report on this answer comes before that on the next.
        if context.view.useful() > going.useful {
            going.useful = context.view.useful();
            going.useless_answers = 0;
        }
        self.go_on(*going, context, actions);
    }

    /// Handles a query without an answer.
    fn unanswered(&mut self, error: String, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let State::Pulling(going) = &mut self.state else {
            return;
        };
        if context.now >= going.asked_at + going.timeout {
            self.pace_of_pull().map(Pace::timed_out);
            return self.fail(error, context, actions);
        }
        going.drops += 1;
        let (is_answered, drops) = (going.is_answered, going.drops);
        match self.peers.get_mut(&going.pull.peer) {
            Some(peer) if !is_answered && !peer.is_retried => {
                peer.is_retried = true;
                peer.not_before = context.now + RETRY;
                self.state = State::Idle;
            }
            // The link could not take it: less is asked for.
            Some(peer) if is_answered && drops <= MAX_DROPS => {
                peer.pace.dropped();
                let State::Pulling(mut going) = std::mem::replace(&mut self.state, State::Idle)
                else {
                    return;
                };
                going.pull.take_back();
                self.go_on(*going, context, actions);
            }
            _ => self.fail(error, context, actions),
        }
    }

    /// The pace of the peer that is being pulled from.
    fn pace_of_pull(&mut self) -> Option<&mut Pace> {
        let State::Pulling(going) = &self.state else {
            return None;
        };
        let peer = self.peers.get_mut(&going.pull.peer);
        peer.map(|peer| &mut peer.pace)
    }

    /// How a query to this peer is to be sent.
    #[must_use]
    pub fn terms(&self, peer: &ReplicaId) -> Terms {
        let peer = self.peers.get(peer);
        peer.map_or(Pace::default(), |peer| peer.pace).terms()
    }

    fn finish(&mut self, going: Going, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        self.status.completed += 1;
        self.status.deltas += u64::from(going.pull.is_delta);
        let peer = going.pull.peer;
        let cells = going.pull.received;
        self.count_rejected(&going, actions);
        actions.push(Action::Report(Report::Pulled { peer, cells }));
        if cells > 0 {
            self.state = State::Joining(going.joining(context.now));
        } else {
            self.state = State::Idle;
            self.ended(&going.joining(context.now), context);
        }
    }

    /// Handles a completed pull.
    fn ended(&mut self, ended: &Joining, context: &mut Context<'_>) {
        let own = context.view.latest().map(|(span, _)| span.root);
        let until = context.now + context.about(self.settings.sync_interval);
        if let (true, Some(ours), Some(peer)) =
            (ended.found_nothing, own, self.peers.get_mut(&ended.peer))
        {
            let theirs = ended.root;
            peer.included = Some(Included {
                theirs,
                ours,
                until,
            });
        }
        self.compare_all(context);
        let was_useful = context.view.useful() > ended.useful_before;
        let pause = context.about(BACK_OFF);
        match self.peers.get_mut(&ended.peer) {
            Some(peer) if was_useful => {
                peer.failures = 0;
                // It may be pulling, too, and has everything when it announces the next
                // root.
                let root = peer.announced.map(|announced| announced.span.root);
                if root == Some(ended.root) {
                    peer.not_before = peer.not_before.max(context.now + pause);
                }
            }
            Some(peer) => {
                // Unless that was by chance, nothing has changed.
                peer.is_walk_due = ended.is_delta && is_candidate(peer);
                self.back_off(&ended.peer, context);
            }
            None => {}
        }
    }

    fn fail(&mut self, error: String, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let State::Pulling(going) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let peer = going.pull.peer;
        self.status.failed += 1;
        self.count_rejected(&going, actions);
        self.back_off(&peer, context);
        actions.push(Action::Report(Report::Failed(peer, error)));
        if going.pull.received > 0 {
            self.state = State::Joining(going.joining(context.now));
        }
    }

    /// Counts and reports what a finished pull rejected, even if it failed, as that may
    /// be why.
    pub(super) fn count_rejected(&mut self, going: &Going, actions: &mut Vec<Action>) {
        if going.rejected != Rejections::default() {
            self.status.rejected.add(&going.rejected);
            let report = Report::Rejected(going.pull.peer, going.rejected);
            actions.push(Action::Report(report));
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
