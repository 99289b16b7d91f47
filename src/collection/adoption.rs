//! Adoption: whether the horizon may rise, to what, and who is waited for if not.

use std::collections::BTreeMap;

use super::{
    evidence::Evidence,
    lineage::{Eviction, Lineage},
    members::{Lapse, Roster},
};

/// What a replica knows when it decides.
#[derive(Debug)]
pub struct Situation<'a, I, L> {
    /// Its name.
    pub own: I,
    /// Its horizon.
    pub horizon: u64,
    /// Its lineage.
    pub lineage: &'a Lineage<I>,
    /// Its floor: durable, and promised to clients.
    pub floor: u64,
    /// The earliest time of what it accepted and what is not in its tree; [`u64::MAX`] if nothing is.
    pub pending: u64,
    /// Its watermark, by which members lapse.
    pub cut: u64,
    /// Whether anything of it is damaged, and not healed yet.
    pub is_damaged: bool,
    /// Whether it goes on without another member.
    pub alone: bool,
    /// Replicas of the group that are there, and that it exchanges nothing with.
    pub isolated: &'a [I],
    /// Who is a member.
    pub roster: &'a Roster<I>,
    /// What the members have shown.
    pub evidence: &'a Evidence<I, L>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<I> {
    /// The horizon rises to this time, in this lineage.
    Adopt {
        /// The new horizon.
        horizon: u64,
        /// The new lineage.
        lineage: Lineage<I>,
    },
    /// These members have lapsed: first their evictions are written.
    Evict(Vec<I>),
    /// Nothing is below the floor that is not below the horizon.
    Idle,
    /// The horizon stays, for these reasons.
    Wait(Vec<Reason<I>>),
}

/// Why the horizon does not rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason<I> {
    /// This member has shown nothing since the last adoption.
    Silent(I),
    /// This member has lapsed, and too few are left to go on without it.
    NoMajority(I),
    /// This member's floor, or what it is known to have, does not reach beyond the horizon.
    Floor(I),
    /// This member has not shown that it knows of the eviction of the other.
    EvictionUnseen(I, I),
    /// This replica is there, and isolated.
    Isolated(I),
    /// This replica is no member: it did not join, or was evicted.
    NoMember,
    /// No other member is known.
    Alone,
    /// Something here is damaged.
    Damaged,
    /// Updates below the floor are not in the tree yet.
    Pending,
    /// There are more members than a group may have.
    TooManyMembers,
    /// Nobody is known to have joined below the new horizon.
    NoFounder,
}

/// Decides. `grid` rounds a time down to one that is a horizon everywhere.
pub fn decide<I, L>(situation: &Situation<'_, I, L>, grid: impl Fn(u64) -> u64) -> Decision<I>
where
    I: Copy + Ord,
    L: Copy + Ord,
{
    let Situation {
        own,
        horizon,
        roster,
        evidence,
        ..
    } = *situation;
    if grid(situation.floor) <= horizon {
        return Decision::Idle;
    }
    let mut reasons = obstacles(situation);
    match roster.lapse(own, situation.cut) {
        Lapse::None => {}
        Lapse::Evict(lapsed) if reasons.is_empty() => return Decision::Evict(lapsed),
        Lapse::Evict(_) => {}
        Lapse::NoMajority(lapsed) => reasons.extend(lapsed.into_iter().map(Reason::NoMajority)),
    }
    let mut reached = situation.floor;
    for member in roster.members().filter(|member| *member != own) {
        match evidence.bound(member) {
            None => reasons.push(Reason::Silent(member)),
            Some(bound) if grid(bound) <= horizon => reasons.push(Reason::Floor(member)),
            Some(bound) => reached = reached.min(bound),
        }
        let unseen = roster.evicted().filter(|(id, evicted)| {
            let is_new = !situation.lineage.evicted().contains_key(id);
            is_new && !evidence.has_seen(member, evicted.change)
        });
        reasons.extend(unseen.map(|(id, _)| Reason::EvictionUnseen(member, id)));
    }
    let reached = grid(reached);
    let founder = situation.lineage.founder().or(roster.founder(reached));
    if founder.is_none() {
        reasons.push(Reason::NoFounder);
    }
    if situation.pending < reached {
        reasons.push(Reason::Pending);
    }
    if !reasons.is_empty() {
        return Decision::Wait(reasons);
    }
    let evicted: BTreeMap<I, Eviction> = roster.evicted().map(|(id, one)| (id, one.kind)).collect();
    Decision::Adopt {
        horizon: reached,
        lineage: situation.lineage.adopting(founder, &evicted),
    }
}

/// What has nothing to do with evidence.
fn obstacles<I: Copy + Ord, L>(situation: &Situation<'_, I, L>) -> Vec<Reason<I>> {
    let mut reasons: Vec<Reason<I>> = situation
        .isolated
        .iter()
        .map(|id| Reason::Isolated(*id))
        .collect();
    if situation.is_damaged {
        reasons.push(Reason::Damaged);
    }
    if situation.roster.is_too_large() {
        reasons.push(Reason::TooManyMembers);
    }
    if !situation.roster.is_member(situation.own) {
        reasons.push(Reason::NoMember);
    } else if !situation.alone && situation.roster.members().nth(1).is_none() {
        reasons.push(Reason::Alone);
    }
    reasons
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collection::members::{Evicted, Presence, Record};

    fn grid(time: u64) -> u64 {
        time / 10 * 10
    }

    /// Members 1 to 3, of whom 2 was heard at `seen` and may be silent for 100.
    struct Case {
        floor: u64,
        evidence: Evidence<u8, u8>,
        records: BTreeMap<u8, Record>,
        lineage: Lineage<u8>,
    }

    impl Case {
        fn new() -> Self {
            let record = Record {
                joined: Some(1),
                presence: Some(Presence {
                    at: 900,
                    max_absence: 100,
                }),
                evicted: None,
            };
            let mut evidence = Evidence::default();
            evidence.hear(2, 0, 57, 1);
            evidence.hear(3, 0, 90, 1);
            Self {
                floor: 80,
                evidence,
                records: (1..=3).map(|id| (id, record)).collect(),
                lineage: Lineage::default(),
            }
        }

        fn with<T>(&self, change: impl FnOnce(&mut Situation<'_, u8, u8>) -> T) -> Decision<u8> {
            let roster = Roster::new(self.records.clone());
            let mut situation = Situation {
                own: 1,
                horizon: 0,
                lineage: &self.lineage,
                floor: self.floor,
                pending: u64::MAX,
                cut: 950,
                is_damaged: false,
                alone: false,
                isolated: &[],
                roster: &roster,
                evidence: &self.evidence,
            };
            change(&mut situation);
            decide(&situation, grid)
        }

        fn decide(&self) -> Decision<u8> {
            self.with(|_| ())
        }
    }

    fn adopts(decision: &Decision<u8>) -> Option<u64> {
        match decision {
            Decision::Adopt { horizon, .. } => Some(*horizon),
            _ => None,
        }
    }

    #[test]
    fn the_horizon_is_the_least_that_all_are_known_to_have() {
        let mut case = Case::new();
        let Decision::Adopt { horizon, lineage } = case.decide() else {
            panic!("{:?}", case.decide());
        };
        assert_eq!((horizon, lineage.founder()), (50, Some(1)));
        case.evidence.joined(2, 33);
        assert_eq!(adopts(&case.decide()), Some(30));
        case.floor = 20;
        assert_eq!(adopts(&case.decide()), Some(20));
        case.floor = 9;
        assert_eq!(case.decide(), Decision::Idle);
    }

    #[test]
    fn each_obstacle_has_a_name() {
        let case = Case::new();
        let wait = |reason| Decision::Wait(vec![reason]);
        assert_eq!(case.with(|it| it.is_damaged = true), wait(Reason::Damaged));
        assert_eq!(case.with(|it| it.pending = 49), wait(Reason::Pending));
        assert_eq!(adopts(&case.with(|it| it.pending = 50)), Some(50));
        assert_eq!(
            case.with(|it| it.isolated = &[9]),
            wait(Reason::Isolated(9))
        );
        assert_eq!(
            case.with(|it| it.horizon = 50),
            Decision::Wait(vec![Reason::Floor(2)])
        );
        let mut silent = Case::new();
        silent.evidence.clear();
        let reasons = vec![Reason::Silent(2), Reason::Silent(3)];
        assert_eq!(silent.decide(), Decision::Wait(reasons));
        let mut alone = Case::new();
        alone.records.retain(|id, _| *id == 1);
        assert_eq!(alone.decide(), wait(Reason::Alone));
        assert_eq!(adopts(&alone.with(|it| it.alone = true)), Some(80));
        let mut late = Case::new();
        late.records
            .values_mut()
            .for_each(|record| record.joined = Some(70));
        assert_eq!(late.decide(), wait(Reason::NoFounder));
        let mut many = Case::new();
        let none = Record::default();
        many.records.extend((4..=u8::MAX).map(|id| (id, none)));
        assert_eq!(
            adopts(&many.decide()),
            Some(50),
            "who never joined is no member"
        );
    }

    #[test]
    fn an_eviction_counts_when_all_that_are_left_have_shown_it() {
        let mut case = Case::new();
        case.records
            .get_mut(&3)
            .unwrap()
            .presence
            .as_mut()
            .unwrap()
            .at = 800;
        assert_eq!(case.decide(), Decision::Evict(vec![3]));
        let (kind, change) = (Eviction::Lapsed, 2);
        case.records.get_mut(&3).unwrap().evicted = Some(Evicted { kind, change });
        assert_eq!(
            case.decide(),
            Decision::Wait(vec![Reason::EvictionUnseen(2, 3)])
        );
        case.evidence.hear(2, 0, 60, 2);
        let Decision::Adopt { horizon, lineage } = case.decide() else {
            panic!("{:?}", case.decide());
        };
        assert_eq!(horizon, 60);
        assert_eq!(lineage.evicted(), &BTreeMap::from([(3, Eviction::Lapsed)]));
        // Two of two cannot.
        case.records
            .get_mut(&2)
            .unwrap()
            .presence
            .as_mut()
            .unwrap()
            .at = 800;
        assert_eq!(case.decide(), Decision::Wait(vec![Reason::NoMajority(2)]));
        // Whoever is evicted itself decides nothing.
        case.records.get_mut(&1).unwrap().evicted = Some(Evicted { kind, change });
        assert!(
            matches!(case.decide(), Decision::Wait(reasons) if reasons.contains(&Reason::NoMember))
        );
    }

    proptest! {
        /// Whatever is known: a horizon only rises, to the grid, and not beyond what anyone promised.
        #[test]
        fn a_horizon_is_above_the_old_and_below_all_floors(
            floor in 0u64..100, horizon in 0u64..100, floors in prop::array::uniform2(0u64..100),
            late in prop::option::of(0u64..100), pending in 0u64..200,
        ) {
            let mut case = Case::new();
            case.floor = floor;
            case.evidence = Evidence::default();
            for (member, floor) in (2..).zip(floors) {
                case.evidence.hear(member, 0, floor, 1);
            }
            if let Some(late) = late {
                case.evidence.joined(2, late);
            }
            let decision = case.with(|it| {
                it.horizon = horizon;
                it.pending = pending;
            });
            if let Some(adopted) = adopts(&decision) {
                let most = [floor, floors[0], floors[1], late.unwrap_or(u64::MAX), pending];
                prop_assert!(adopted > horizon && adopted % 10 == 0);
                prop_assert!(most.iter().all(|most| adopted <= *most));
            }
        }
    }
}
