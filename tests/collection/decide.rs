//! What the model asks of the shipped decisions: translations, nothing else.

use std::collections::BTreeMap;

use zenoh_backend_mst::collection::{
    adoption::{Decision, Situation, decide},
    catching::{Approach, Meeting, approach},
    evidence::Evidence,
    gate::Standing,
    lineage::{Eviction, Lineage},
    members::{Evicted, Presence, Record, Roster},
};

use crate::{
    content::{NEVER, earliest},
    world::{Bounds, Bug, Durable, Line, NOBODY, REPLICAS, Replica, grid},
};

/// Names: one for each replica, and one that it may take later.
const NAMES: u8 = 6;

pub fn names(set: u8) -> impl Iterator<Item = u8> {
    (0..NAMES).filter(move |name| set >> name & 1 == 1)
}

pub fn lineage(line: &Line) -> Lineage<u8> {
    let lapsed = names(line.lapsed).map(|name| (name, Eviction::Lapsed));
    let forced = names(line.forced).map(|name| (name, Eviction::Forced));
    let founder = (line.founder != NOBODY).then_some(line.founder);
    Lineage::new(founder, lapsed.chain(forced).collect())
}

pub fn line(lineage: &Lineage<u8>) -> Line {
    let of = |kind| {
        let evicted = lineage.evicted().iter().filter(|(_, why)| **why == kind);
        evicted.fold(0, |all, (name, _)| all | 1 << name)
    };
    Line {
        founder: lineage.founder().unwrap_or(NOBODY),
        lapsed: of(Eviction::Lapsed),
        forced: of(Eviction::Forced),
    }
}

/// The standing of a replica; the lineage without the reasons of evictions, as the hash has it.
pub fn standing(horizon: u8, line: &Line, bug: Option<Bug>) -> Standing<(u8, u8)> {
    let lineage = match bug {
        Some(Bug::GateWithoutLineage) => (0, 0),
        _ => (line.founder, line.lapsed | line.forced),
    };
    Standing {
        horizon: horizon.into(),
        lineage,
    }
}

/// What `replica` has seen, with numbers of changes again: the model keeps the earliest joins since
/// instead, which ascend with the changes.
fn evidence(replica: &Replica) -> (Evidence<u8, u8>, BTreeMap<u8, u64>) {
    let mut seen: Vec<_> = replica.seen.iter().filter(|seen| seen.floor > 0).collect();
    seen.sort_by_key(|seen| (seen.since, seen.evicted.count_ones()));
    let mut evidence = Evidence::default();
    let mut brought = BTreeMap::new();
    for (seen, change) in seen.iter().zip(1..) {
        evidence.hear(seen.name, seen.life, seen.floor.into(), 2 * change);
        for name in names(seen.evicted) {
            brought.entry(name).or_insert(2 * change);
        }
        if seen.since < NEVER {
            evidence.joined(2 * change + 1, seen.since.into());
        }
    }
    (evidence, brought)
}

/// Asks for the decision of `replica` when the names `silent` have been so for too long.
pub fn adoption(replica: &Replica, silent: u8, bounds: &Bounds) -> Decision<u8> {
    let durable = &replica.durable;
    let (mut evidence, brought) = evidence(replica);
    let mut joins = durable.tree.joins;
    if bounds.bug == Some(Bug::UnknownMemberIgnored) {
        let heard = |name: &u8| evidence.bound(*name).is_some() || *name == durable.name;
        joins = names(joins)
            .filter(heard)
            .fold(0, |all, name| all | 1 << name);
    }
    if bounds.bug == Some(Bug::TimeAlone) {
        for name in names(joins) {
            evidence.hear(name, u8::MAX, durable.floor.into(), u64::MAX);
        }
    }
    let record = |name: u8| {
        let kind = match (
            durable.tree.lapsed >> name & 1,
            durable.tree.forced >> name & 1,
        ) {
            (0, 0) => None,
            (1, 0) => Some(Eviction::Lapsed),
            _ => Some(Eviction::Forced),
        };
        let change = match bounds.bug {
            Some(Bug::EvictionCountsAtOnce) => 0,
            _ => brought.get(&name).copied().unwrap_or(u64::MAX),
        };
        Record {
            joined: (joins >> name & 1 == 1).then_some(if name < 3 { 0 } else { 4 }),
            presence: Some(Presence {
                at: if silent >> name & 1 == 1 { 0 } else { 10 },
                max_absence: 5,
            }),
            evicted: kind.map(|kind| Evicted { kind, change }),
        }
    };
    let roster = Roster::new((0..NAMES).map(|name| (name, record(name))).collect());
    if bounds.bug == Some(Bug::LapseWithoutMajority) && silent & !durable.tree.evicted() != 0 {
        return Decision::Evict(names(silent & joins).collect());
    }
    let situation = Situation {
        own: durable.name,
        horizon: durable.horizon.into(),
        lineage: &lineage(&durable.line),
        floor: durable.floor.into(),
        pending: earliest(durable.queue).into(),
        cut: 10,
        is_damaged: durable.is_fresh,
        alone: bounds.alone || bounds.bug == Some(Bug::LapseWithoutMajority),
        isolated: &[],
        roster: &roster,
        evidence: &evidence,
    };
    decide(&situation, grid)
}

/// Asks what `own` does about `other`.
pub fn meeting(own: &Durable, other: &Durable, joins: bool, bug: Option<Bug>) -> Approach {
    let mut theirs = other.line;
    match bug {
        Some(Bug::AnyHorizonObeyed) if other.horizon > own.horizon => {
            let common = other.horizon.into();
            return Approach::CatchUp { common };
        }
        Some(Bug::ForcedResetsItself) => {
            theirs.lapsed |= theirs.forced;
            theirs.forced = 0;
        }
        _ => {}
    }
    let (lineage, theirs) = (lineage(&own.line), lineage(&theirs));
    let evicted: Vec<u8> = match bug {
        Some(Bug::ShownEvictionForgotten) => Vec::new(),
        _ => names(own.tree.evicted()).collect(),
    };
    approach(&Meeting {
        own: own.name,
        horizon: own.horizon.into(),
        lineage: &lineage,
        clock: 10,
        theirs: other.horizon.into(),
        their_lineage: &theirs,
        evicted: &evicted,
        is_known: own.tree.joins >> other.name & 1 == 1,
        joins,
    })
}

/// Whether a member that replica `i` counts on may still take something below `horizon`.
pub fn is_promised(replicas: &[Replica; REPLICAS], i: usize, horizon: u8) -> bool {
    let own = &replicas[i].durable;
    replicas
        .iter()
        .enumerate()
        .filter(|(j, _)| *j != i)
        .all(|(_, other)| {
            let theirs = &other.durable;
            let counts = own.tree.joins & !own.tree.evicted();
            let is_member = counts >> theirs.name & 1 == 1;
            !is_member || other.is_restored || theirs.floor >= horizon
        })
}
