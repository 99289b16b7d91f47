//! Collection among replicas: who is a member, what the members have shown, and when the own horizon
//! rises. The decisions are those of [`collection`](crate::collection).

use std::{collections::BTreeMap, time::Duration};

use super::{
    announcement::{Announcement, Stand},
    identity::ReplicaId,
    interface::{Action, Context},
    lineages::standing_of,
    machine::Machine,
    peers::Isolation,
    pull_state::State,
    view::View,
};
use crate::{
    cell::ntp64_span,
    collection::{
        adoption::{Decision, Reason, Situation, decide},
        catching::Breaker,
        cells::{self, Told, cell_of, key_of, read_key},
        gate::Standing,
        kept::MemberId,
        lineage::{Eviction, LineageId},
        members::Roster,
    },
    replica::{Adoption, MemberState, Order},
};

/// What members of a group that collects have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// How long a member may be silent.
    pub max_absence: Duration,
}

/// A member says so many times that it is there, in the time that it may be silent.
const PRESENT_TIMES: u32 = 30;

/// How long an order may take before it is given again.
pub(super) const ORDER_AGAIN: Duration = Duration::from_secs(2);

/// Why the horizon does not rise, and since when (NTP64).
pub type Waits = Vec<(Reason<MemberId>, u64)>;

/// What a machine knows of the members.
#[derive(Default)]
pub(super) struct Members {
    /// The own standing, as it was looked at last.
    pub(super) standing: Option<Standing<LineageId>>,
    /// Evictions in the own tree, and the change of a root that has them.
    evictions: BTreeMap<MemberId, u64>,
    pub(super) waits: BTreeMap<Reason<MemberId>, u64>,
    /// When something was ordered last, and how the replica was then.
    pub(super) ordered: Option<(Duration, MemberState)>,
    /// What may be set aside yet to catch up with a standing.
    pub(super) breaker: Option<(Standing<LineageId>, Breaker)>,
    /// Whether catching up would set aside too much: an operator has to look.
    pub(super) is_stopped: bool,
}

impl Members {
    /// Whether the replica is still at what was ordered.
    pub(super) fn is_ordered(&self, own: &MemberState, now: Duration) -> bool {
        let ordered = self.ordered.as_ref();
        ordered.is_some_and(|(at, before)| before == own && now < *at + ORDER_AGAIN)
    }
}

/// The identities of the members' own cells, and of those that were evicted.
fn roster_cells(view: &dyn View) -> Vec<(crate::cell::CellKey, u64)> {
    let tree = view.tree();
    let Ok(found) = tree.range(cells::first()..);
    let found = found.map(|entry| {
        let Ok((key, held)) = entry;
        (key, held)
    });
    let of_members = found.take_while(|(key, _)| cells::is_of_members(&key.key));
    let values = of_members.filter(|(_, held)| !held.is_tombstone());
    values
        .map(|(key, held)| (key.clone(), held.timestamp().time))
        .collect()
}

impl Machine {
    /// Looks at the own standing. What is known of roots is void if it is another than before.
    pub(super) fn look_at_standing(
        &mut self,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Some(own) = self.own_state(context.view) else {
            return;
        };
        let standing = standing_of(&own.kept);
        if self.members.standing.replace(standing) == Some(standing) {
            return;
        }
        if matches!(self.state, State::Pulling(_)) {
            self.state = State::Idle;
        }
        self.members.ordered = None;
        self.members.is_stopped = false;
        self.refused.clear();
        for (_, peer) in self.peers.iter_mut() {
            peer.forget_roots();
        }
        self.announce_at = self.announce_at.min(context.now);
        self.take_all_stances(context, actions);
        let now = context.now;
        self.peers
            .iter_mut()
            .for_each(|(_, peer)| peer.hear_again(now));
    }

    /// How the own collection is, if there is one.
    pub(super) fn own_state(&self, view: &dyn View) -> Option<MemberState> {
        self.settings.members?;
        view.member_state()
    }

    pub(super) fn take_all_stances(
        &mut self,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) {
        let peers: Vec<ReplicaId> = self.peers.iter().map(|(id, _)| *id).collect();
        for id in peers {
            self.take_stance(id, context, actions);
        }
    }

    /// What the own announcement says of the collection, with a root.
    pub(super) fn own_stand(&self, view: &dyn View, announced: &Announcement) -> Option<Stand> {
        let own = self.own_state(view)?;
        let standing = standing_of(&own.kept);
        Some(Stand {
            standing,
            floor: view.floor_of(&announced.span.root).max(standing.horizon),
            is_source: !own.is_busy && !own.kept.is_catching && !own.is_damaged,
        })
    }

    /// Lets the own horizon rise, if it may; and says what other members have to know.
    pub(super) fn collect(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        let (Some(settings), Some(own)) = (self.settings.members, self.own_state(context.view))
        else {
            return;
        };
        if self.tell_of_itself(settings, &own, context, actions) {
            return;
        }
        let below = own.drained / own.grid * own.grid;
        let garbage = own.garbage_from.filter(|from| *from < below);
        if own.is_busy || own.kept.is_catching || below <= own.kept.horizon || garbage.is_none() {
            self.members.waits.clear();
            return;
        }
        for (id, peer) in self.peers.iter() {
            if let Some((stand, announced)) = peer.evidence() {
                let Announcement {
                    incarnation, span, ..
                } = announced;
                let life = (incarnation.started, incarnation.nonce);
                context.view.hear(id.0, life, &span.root, stand.floor);
            }
        }
        if self.members.is_ordered(&own, context.now) {
            return;
        }
        let roster = self.roster(settings, context.view);
        let isolated: Vec<MemberId> = self.isolated().map(|id| id.0).collect();
        let id = self.settings.replica.0;
        let mut decision = Decision::Idle;
        context.view.evidence(&mut |evidence| {
            let situation = Situation {
                own: id,
                horizon: own.kept.horizon,
                lineage: &own.kept.lineage,
                floor: own.drained,
                // What is below the drained floor is in the tree.
                pending: u64::MAX,
                cut: context.wall,
                is_damaged: own.is_damaged,
                alone: false,
                isolated: &isolated,
                roster: &roster,
                evidence,
            };
            decision = decide(&situation, |time| time / own.grid * own.grid);
        });
        let mut waits = Vec::new();
        match decision {
            Decision::Idle => {}
            Decision::Wait(reasons) => waits = reasons,
            Decision::Evict(lapsed) => {
                let kind = Told::Evicted(Eviction::Lapsed);
                let cells = lapsed.iter();
                let cells = cells.map(|lapsed| cell_of(kind, lapsed, context.wall, &id));
                actions.push(Action::Write(cells.collect()));
            }
            Decision::Adopt { horizon, lineage } if garbage < Some(horizon) => {
                let members = roster.members().filter(|member| *member != id);
                self.members.ordered = Some((context.now, own.clone()));
                actions.push(Action::Order(Order::Adopt(Adoption {
                    from: own.kept.horizon,
                    horizon,
                    lineage,
                    members: members.collect(),
                    is_catch_up: false,
                })));
            }
            Decision::Adopt { .. } => {}
        }
        let known = std::mem::take(&mut self.members.waits);
        let since = |reason: &Reason<MemberId>| known.get(reason).copied().unwrap_or(context.wall);
        self.members.waits = waits
            .into_iter()
            .map(|reason| (reason, since(&reason)))
            .collect();
    }

    /// What it knows of its peers' horizons, for a test that fails.
    #[cfg(test)]
    pub(super) fn describe_members(&self) -> String {
        let peers = self.peers.iter().map(|(_, peer)| {
            let stand = peer.stand();
            format!("{:?} {stand:?} {:?}", peer.stance, peer.not_before)
        });
        let state = match self.state {
            State::Idle => "idle",
            State::Pulling(_) => "pulling",
            State::Joining(_) => "joining",
        };
        format!("{state} {:?}", peers.collect::<Vec<_>>())
    }

    /// Who is a member, as the own tree says.
    pub(super) fn roster(&mut self, settings: MemberSettings, view: &dyn View) -> Roster<MemberId> {
        let found = roster_cells(view);
        let evictions = &mut self.members.evictions;
        // The root that is shown has them if it is that of the tree.
        let mut shown = None;
        let told = found.iter().map(|(key, at)| (key, *at));
        let max_absence = ntp64_span(settings.max_absence);
        let records = cells::records(told, max_absence, |id| {
            if let Some(change) = evictions.get(id) {
                return *change;
            }
            let change = *shown.get_or_insert_with(|| {
                let tree = view.tree();
                let Ok(root) = tree.root();
                view.change_of(&root)
            });
            if let Some(change) = change {
                evictions.insert(*id, change);
            }
            change.unwrap_or(u64::MAX)
        });
        Roster::new(records)
    }

    /// Those that the own tree says were evicted.
    pub(super) fn evicted(&self, view: &dyn View) -> Vec<MemberId> {
        let found = roster_cells(view).into_iter();
        let evicted = found.filter_map(|(key, _)| match read_key(&key)? {
            (Told::Evicted(_), id) => Some(id),
            _ => None,
        });
        evicted.collect()
    }

    /// Replicas of the group that are there, and whose configuration or protocol is another.
    fn isolated(&self) -> impl Iterator<Item = ReplicaId> {
        let own = self.peers.iter().filter(|(_, peer)| {
            let isolation = peer.isolation.as_ref();
            peer.present && matches!(isolation, Some(Isolation::Fingerprint { .. }))
        });
        let foreign = self.foreign.iter().filter(|(_, peer)| {
            let isolation = peer.isolation.as_ref();
            peer.present && matches!(isolation, Some(Isolation::Protocol(_)))
        });
        own.chain(foreign).map(|(id, _)| *id)
    }

    /// Says that this replica joined, and is there. One that was evicted goes on under another name:
    /// then nothing else is to be done.
    fn tell_of_itself(
        &mut self,
        settings: MemberSettings,
        own: &MemberState,
        context: &mut Context<'_>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let id = self.settings.replica.0;
        let view = context.view;
        let newest = |told| view.newest(&key_of(told, &id)).map(|at| at.time);
        let kinds = [Eviction::Lapsed, Eviction::Forced];
        let is_evicted = kinds
            .iter()
            .any(|kind| newest(Told::Evicted(*kind)).is_some());
        if is_evicted && !own.kept.is_catching && !own.is_busy {
            actions.push(Action::TakeNewIdentity);
            return true;
        }
        let again = ntp64_span(settings.max_absence / PRESENT_TIMES);
        let is_told = |told, for_long: u64| {
            newest(told).is_some_and(|at| at.saturating_add(for_long) > context.wall)
        };
        let mut cells = Vec::new();
        if newest(Told::Joined).is_none() {
            cells.push(cell_of(Told::Joined, &id, context.wall, &id));
        }
        if !is_told(Told::Present, again) {
            cells.push(cell_of(Told::Present, &id, context.wall, &id));
        }
        if !cells.is_empty() && !is_evicted {
            actions.push(Action::Write(cells));
        }
        false
    }
}
