//! A replica that hears of a horizon which is not its own: what it is to the other, and how it catches
//! up.
//!
//! It catches up in passes. Each compares the own tree, as it would be if it were collected, with that
//! of the other; joins what the other has; and lets go of what the other does not have, below the
//! other's horizon, by [`Bounds::fate`]. When a pass finds no difference there, it adopts the horizon.
//! Mostly the first comparison, of roots, finds none. Meanwhile it is nobody's source, takes what
//! clients write, which is above that horizon, and shows what it has.

use std::time::Duration;

use super::{
    asked::Asked,
    identity::ReplicaId,
    interface::{Action, Context},
    lineages::{id_of, standing_of},
    machine::Machine,
    members::ORDER_AGAIN,
    mirror::Mirror,
    peers::{Isolation, Relation},
    pull::Pull,
    pull_state::{Going, State},
    report::Report,
    salted::{Salted, WIDTHS},
};
use crate::{
    cell::{CellKey, Part, Timestamp},
    collection::{
        catching::{Apart, Approach, Bounds, Breaker, Fate, Meeting, OwnCell, approach},
        cells::is_of_members,
        gate::Standing,
        kept::MemberId,
        lineage::{Lineage, LineageId},
    },
    merge::fields_around,
    replica::{Adoption, Discarded, MemberState, Order},
};

/// Whether a new replica has nothing that it could lose to one with this horizon.
fn has_nothing_below(horizon: u64, context: &Context<'_>) -> bool {
    let tree = context.view.tree();
    let Ok(mut cells) = tree.iter();
    cells.all(|entry| {
        let Ok((key, held)) = entry;
        is_of_members(&key.key) || held.timestamp().time >= horizon
    })
}

/// Between two passes.
const PASS_EVERY: Duration = Duration::from_millis(100);

/// What another replica's horizon is to this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stance {
    /// It is the same, or neither collects.
    #[default]
    Same,
    /// It is another, and its lineage is not known yet.
    Unasked,
    /// It has to catch up.
    Behind,
    /// This replica has to. Both are known to have had all that it has below this time.
    Ahead { common: u64 },
    /// They exchange nothing.
    Apart,
}

impl Machine {
    /// Decides what a peer's horizon is to this replica.
    pub(super) fn take_stance(
        &mut self,
        id: ReplicaId,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Some(own) = self.own_state(context.view) else {
            return;
        };
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let is_other = matches!(peer.isolation, Some(Isolation::Fingerprint { .. }));
        let Some(announced) = peer.announced.filter(|_| !is_other) else {
            return;
        };
        let stance = match announced.stand {
            None => Err(Apart::Lineage),
            Some(stand) => {
                let known = peer.lineage.clone();
                self.stance_to(id, stand.standing, known, &own, context)
            }
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let isolation = stance.err().map(Isolation::Horizon);
        peer.stance = stance.unwrap_or(Stance::Apart);
        if peer.stance != Stance::Same {
            let relation = match peer.stance {
                Stance::Apart => Relation::Isolated,
                _ => Relation::OtherHorizon,
            };
            peer.set_relation(relation, context.wall);
        }
        let before = std::mem::replace(&mut peer.isolation, isolation.clone());
        if let Some(isolation) = isolation.filter(|isolation| before.as_ref() != Some(isolation)) {
            actions.push(Action::Report(Report::Isolated(id, isolation)));
        }
    }

    fn stance_to(
        &self,
        id: ReplicaId,
        theirs: Standing<LineageId>,
        known: Option<Lineage<MemberId>>,
        own: &MemberState,
        context: &Context<'_>,
    ) -> Result<Stance, Apart> {
        let kept = &own.kept;
        if standing_of(kept) == theirs {
            return Ok(Stance::Same);
        }
        let own_lineage = Some(kept.lineage.clone());
        let lineages = own_lineage.into_iter().chain(known);
        let mut lineages = lineages.filter(|lineage| id_of(lineage) == theirs.lineage);
        let Some(their_lineage) = lineages.next() else {
            return Ok(Stance::Unasked);
        };
        let evicted = self.evicted(context.view);
        let joined =
            crate::collection::cells::key_of(crate::collection::cells::Told::Joined, &id.0);
        let approach = approach(&Meeting {
            own: self.settings.replica.0,
            horizon: kept.horizon,
            lineage: &kept.lineage,
            clock: context.wall,
            theirs: theirs.horizon,
            their_lineage: &their_lineage,
            evicted: &evicted,
            is_known: context.view.newest(&joined).is_some(),
            joins: kept.horizon == 0 && has_nothing_below(theirs.horizon, context),
        });
        match approach {
            Approach::Equal => Ok(Stance::Same),
            Approach::Ahead => Ok(Stance::Behind),
            Approach::CatchUp { common } => Ok(Stance::Ahead { common }),
            Approach::Apart(apart) => Err(apart),
        }
    }

    /// The replica to catch up with, or to be asked for its lineage, if there is one: that with the
    /// highest horizon.
    fn ahead(&self) -> Option<(ReplicaId, Duration)> {
        let ahead = self.peers.iter().filter(|(_, peer)| {
            let is_ahead = matches!(peer.stance, Stance::Unasked | Stance::Ahead { .. });
            peer.present && is_ahead && peer.is_source() && peer.isolation.is_none()
        });
        let horizon = |peer: &super::peers::Peer| peer.stand().map(|stand| stand.standing.horizon);
        let ahead = ahead.max_by_key(|(id, peer)| (horizon(peer), **id));
        ahead.map(|(id, peer)| (*id, peer.not_before))
    }

    /// When something of that is due.
    pub(super) fn catching_due(&self) -> Option<Duration> {
        let (_, not_before) = self.ahead()?;
        let ordered = self.members.ordered.as_ref();
        let again = ordered.map_or(Duration::ZERO, |(at, _)| *at + ORDER_AGAIN);
        Some(not_before.max(again))
    }

    /// Goes on to catch up, if there is anyone to catch up with. True if nothing else is to be pulled.
    pub(super) fn catch_up(
        &mut self,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(own) = self.own_state(context.view) else {
            return false;
        };
        let is_busy = own.is_busy || own.kept.is_catching;
        let Some((id, not_before)) = self.ahead() else {
            return is_busy;
        };
        if own.is_busy || context.now < not_before || self.members.is_ordered(&own, context.now) {
            return is_busy;
        }
        let Some(peer) = self.peers.get(&id) else {
            return is_busy;
        };
        let Some((stand, announced)) = peer.stand().zip(peer.announced) else {
            return is_busy;
        };
        let horizon = stand.standing.horizon;
        let Stance::Ahead { common } = peer.stance else {
            let salt = (context.random)().to_be_bytes();
            let salted = Salted::new(salt, *WIDTHS.end());
            let pull = Pull::new(id, salted, peer.pace.message_bytes()).of_lineage();
            self.begin(pull, announced.span.root, context, actions);
            return true;
        };
        let order = if own.drained < horizon {
            Order::Raise(horizon)
        } else {
            let collected = context.view.collected(horizon);
            let Ok(root) = collected.root();
            if root == announced.span.root {
                self.adopt_theirs(id, &own, horizon)
            } else if own.kept.is_catching {
                let salt = (context.random)().to_be_bytes();
                let salted = Salted::new(salt, *WIDTHS.end());
                let asked = Asked {
                    standing: stand.standing,
                    is_mirror: true,
                };
                let pull = Pull::new(id, salted, peer.pace.message_bytes())
                    .beside(Some(collected))
                    .at(Some(asked))
                    .mirroring(Mirror::new(horizon, common));
                self.begin(pull, announced.span.root, context, actions);
                return true;
            } else {
                Order::Catch
            }
        };
        self.members.ordered = Some((context.now, own));
        actions.push(Action::Order(order));
        true
    }

    fn adopt_theirs(&self, id: ReplicaId, own: &MemberState, horizon: u64) -> Order {
        let theirs = self.peers.get(&id).and_then(|peer| {
            let lineage = peer.lineage.clone();
            let stand = peer.stand()?;
            lineage.filter(|lineage| id_of(lineage) == stand.standing.lineage)
        });
        Order::Adopt(Adoption {
            from: own.kept.horizon,
            horizon,
            // If it was not asked for it is the own.
            lineage: theirs.unwrap_or_else(|| own.kept.lineage.clone()),
            members: Vec::new(),
            is_catch_up: true,
        })
    }

    /// The peer's lineage was told.
    pub(super) fn heard_lineage(
        &mut self,
        id: ReplicaId,
        lineage: Lineage<MemberId>,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.lineage = Some(lineage);
        }
        self.take_stance(id, context, actions);
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.stance == Stance::Unasked
        {
            // It has gone on since, and announces that.
            peer.not_before = context.now + context.about(ORDER_AGAIN);
        }
    }

    /// A cell came that the peer has below its horizon: what here keeps it from being joined is let go
    /// of.
    pub(super) fn see_lacked(
        &self,
        mirror: &mut Mirror,
        key: &CellKey,
        timestamp: Timestamp,
        context: &Context<'_>,
    ) {
        if timestamp.time >= mirror.horizon || is_of_members(&key.key) {
            return;
        }
        let tree = context.view.tree();
        let mut keys = vec![key.clone()];
        let fields = fields_around(key.part.as_bytes()).map(Part::from);
        let parts = fields.chain((!key.part.is_empty()).then_some(Part::EMPTY));
        keys.extend(parts.map(|part| CellKey {
            key: key.key.clone(),
            part,
        }));
        let mut is_kept = false;
        let mut in_the_way = Vec::new();
        for own in keys {
            let Ok(held) = tree.get(&own);
            let Some(held) = held.filter(|held| held.timestamp() >= timestamp) else {
                continue;
            };
            match held.timestamp().time < mirror.horizon {
                true => in_the_way.push(own),
                false => is_kept = true,
            }
        }
        if is_kept {
            // What is newer than the horizon covers it, as it will there.
            return;
        }
        let newest = context.view.newest(key);
        if in_the_way.is_empty() && newest < Some(timestamp) {
            mirror.lacked += 1;
        } else if in_the_way.is_empty() {
            // A rule covers it: one below the horizon is let go of with the others.
            let rules = context.view.delete_rules().into_iter();
            let mut rules = rules.filter(|(rule, version)| {
                let pattern = rule.key.as_key_expr();
                let matches = pattern.is_some_and(|it| crate::wildcard::matches(it, &key.key));
                matches && version.timestamp >= timestamp
            });
            let is_new = |version: &crate::cell::Version| version.timestamp.time >= mirror.horizon;
            if !rules.any(|(_, version)| is_new(&version)) {
                mirror.lacked += 1;
            }
        }
        in_the_way.iter().for_each(|own| mirror.see(own, &tree));
    }

    /// A pass is over.
    pub(super) fn end_pass(
        &mut self,
        going: Going,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let id = going.pull.peer;
        let (peer, cells) = (id, going.pull.received);
        self.status.completed += 1;
        self.count_rejected(&going, actions);
        actions.push(Action::Report(Report::Pulled { peer, cells }));
        self.state = State::Idle;
        let (Some(mirror), Some(own)) = (going.pull.mirror.as_ref(), self.own_state(context.view))
        else {
            return;
        };
        let pause = context.now + context.about(PASS_EVERY);
        if mirror.is_done() {
            let order = self.adopt_theirs(id, &own, mirror.horizon);
            self.members.ordered = Some((context.now, own));
            self.members.is_stopped = false;
            actions.push(Action::Order(order));
            return;
        }
        let discarded = self.judge(mirror, context);
        let aside = discarded.iter().filter(|cell| cell.is_aside).count() as u64;
        if !self.may_set_aside(&going, aside, context) {
            self.members.is_stopped = true;
            let pause = context.about(self.settings.sync_interval);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.not_before = context.now + pause;
            }
            actions.push(Action::Report(Report::TooMuchAside {
                peer: id,
                cells: aside,
            }));
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.not_before = peer.not_before.max(pause);
        }
        if !discarded.is_empty() {
            self.members.ordered = Some((context.now, own));
            actions.push(Action::Order(Order::Discard(discarded)));
        }
        if going.pull.received > 0 {
            self.state = State::Joining(going.joining(context.now));
        }
    }

    /// Whether so much may be set aside.
    fn may_set_aside(&mut self, going: &Going, aside: u64, context: &Context<'_>) -> bool {
        let Some(asked) = going.pull.asked_at else {
            return false;
        };
        let cells = context.view.tree().len() as u64;
        let breaker = match self.members.breaker.take() {
            Some((standing, breaker)) if standing == asked.standing => breaker,
            _ => Breaker::new(cells),
        };
        let mut left = breaker;
        let admits = left.admits(aside);
        // What was refused is asked for again, as a whole.
        let breaker = if admits { left } else { breaker };
        self.members.breaker = Some((asked.standing, breaker));
        admits
    }

    /// What becomes of the cells that a pass found.
    fn judge(&self, mirror: &Mirror, context: &Context<'_>) -> Vec<Discarded> {
        let bounds = Bounds {
            horizon: mirror.horizon,
            common: mirror.common,
            // What one member was known to have is not remembered: more is set aside.
            known: 0,
        };
        let tree = context.view.tree();
        let fate = |time| {
            let is_void = false;
            bounds.fate(OwnCell { time, is_void })
        };
        let own = mirror.own.iter().filter_map(|key| {
            let Ok(held) = tree.get(key);
            let version = held?.version();
            // What has a lifetime is joined as ever, and goes when that is over.
            (!context.view.has_lifetime(&key.key)).then(|| (key.clone(), version))
        });
        // A rule covers what the other may have, be it known or not.
        let rules = context.view.delete_rules().into_iter();
        own.chain(rules)
            .filter_map(|(key, version)| {
                let is_aside = match fate(version.timestamp.time) {
                    Fate::Keep => return None,
                    Fate::Drop => false,
                    Fate::SetAside => true,
                };
                Some(Discarded {
                    key,
                    version,
                    is_aside,
                })
            })
            .collect()
    }
}
