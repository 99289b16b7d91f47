//! Names: what a replica does when another has its own, and when one is heard whose token is not
//! there; and how one that is gone is forgotten.

use std::time::Duration;

use super::{
    identity::{Incarnation, PROTOCOL, ReplicaId, Token},
    interface::{Action, Context},
    known::{Forgotten, Peers},
    machine::{GREETING, Machine, is_due},
    pauses::MAX_LOOKS,
    peers::Peer,
    report::Report,
};

/// How long to hear nothing of another replica with this identity before concluding that
/// it has taken another.
const RENAMING: Duration = Duration::from_secs(1);

/// How often in a row a replica is heard only because it was asked, until all is declared again. Between two
/// times it had three sync intervals to announce itself.
const MUTE_AFTER: u32 = 2;

impl Peer {
    /// It is heard: whether its token is not there, and is to be looked for.
    pub(super) fn is_to_be_looked_for(&mut self) -> bool {
        self.is_heard_without_token = !self.present && self.looks < MAX_LOOKS;
        self.is_heard_without_token
    }

    /// It is heard: whether it answers, but nothing comes that it announces. Its router knows nothing of
    /// what this replica has declared, as Zenoh does not tell a router that was away for a moment; so it does
    /// not pull from here either.
    pub(super) fn is_mute(&mut self) -> bool {
        let is_answer = std::mem::take(&mut self.unanswered) > 0;
        self.only_answers = match is_answer && self.present {
            true => self.only_answers.saturating_add(1),
            false => 0,
        };
        self.only_answers >= MUTE_AFTER
    }
}

impl Machine {
    /// Forgets a replica that is gone. One that comes back is known again.
    pub fn forget(&mut self, id: &ReplicaId) -> Forgotten {
        let of_group = self.peers.forget(id);
        match (of_group, self.foreign.forget(id)) {
            (Forgotten::Present, _) | (_, Forgotten::Present) => Forgotten::Present,
            (Forgotten::Done, _) | (_, Forgotten::Done) => Forgotten::Done,
            (Forgotten::Unknown, Forgotten::Unknown) => Forgotten::Unknown,
        }
    }

    /// One that is there with one description is not missed with another, as after an upgrade.
    pub(super) fn is_known_once(&mut self, id: &ReplicaId) {
        let is_there = |peers: &Peers| peers.get(id).is_some_and(|peer| peer.present);
        match (is_there(&self.peers), is_there(&self.foreign)) {
            (true, false) => self.foreign.remove(id),
            (false, true) => self.peers.remove(id),
            _ => {}
        }
    }

    /// Whether it is the token of this replica.
    pub(super) fn is_own(&self, token: &Token) -> bool {
        let is_of_group = token.group == self.settings.group && token.protocol == PROTOCOL;
        is_of_group && token.replica == self.settings.replica
    }

    /// What it has declared is not known where it has to be.
    pub(super) fn declare_soon(&mut self, now: Duration) {
        let at = (now + GREETING).max(self.declarations.not_before);
        self.declare_at = Some(self.declare_at.map_or(at, |known| known.min(at)));
    }

    /// Handles an announcement with this replica's identity.
    pub(super) fn heard_own_name(
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

    /// Looks at all tokens anew if there are replicas that are heard, and whose token is not seen: it
    /// was missed, or that of a double was taken for it.
    pub(super) fn look_for_tokens(&mut self, actions: &mut Vec<Action>) {
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
}
