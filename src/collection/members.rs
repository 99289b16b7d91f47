//! Members: who has to agree before a horizon rises. They are data, system cells of the tree, so two
//! replicas with one root have one roster.

use std::collections::BTreeMap;

use super::lineage::Eviction;

/// The most members of a group, evicted ones included. A group with more does not collect.
pub const MAX_MEMBERS: usize = 4096;

/// What the system cells say of one replica. Times are those of the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it joined.
    pub joined: Option<u64>,
    /// When it last said that it is there, and how long it may be silent.
    pub presence: Option<Presence>,
    /// Its eviction.
    pub evicted: Option<Evicted>,
}

/// A replica's last sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// When.
    pub at: u64,
    /// How long it may be silent; [`u64::MAX`] for ever.
    pub max_absence: u64,
}

/// The eviction of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Why.
    pub kind: Eviction,
    /// The change of the own tree that brought the cell.
    pub change: u64,
}

/// Who is a member, as the own tree says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster<I> {
    records: BTreeMap<I, Record>,
}

/// Members that have been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lapse<I> {
    /// None has.
    None,
    /// These have, and a strict majority is left without them: they are to be evicted.
    Evict(Vec<I>),
    /// These have, and too few are left: they are waited for.
    NoMajority(Vec<I>),
}

impl<I: Copy + Ord> Roster<I> {
    /// The roster of these records.
    #[must_use]
    pub fn new(records: BTreeMap<I, Record>) -> Self {
        Self { records }
    }

    /// Whether there are more than [`MAX_MEMBERS`].
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.records.len() > MAX_MEMBERS
    }

    /// Those that joined and were not evicted.
    pub fn members(&self) -> impl Iterator<Item = I> {
        let is_member = |record: &Record| record.joined.is_some() && record.evicted.is_none();
        let records = self.records.iter();
        records.filter_map(move |(id, record)| is_member(record).then_some(*id))
    }

    /// Whether it joined and was not evicted.
    #[must_use]
    pub fn is_member(&self, id: I) -> bool {
        let record = self.records.get(&id);
        record.is_some_and(|record| record.joined.is_some() && record.evicted.is_none())
    }

    /// Those that were evicted.
    pub fn evicted(&self) -> impl Iterator<Item = (I, Evicted)> {
        let records = self.records.iter();
        records.filter_map(|(id, record)| Some((*id, record.evicted?)))
    }

    /// Who joined first, and below `horizon`: the founder of a group that adopts it first.
    #[must_use]
    pub fn founder(&self, horizon: u64) -> Option<I> {
        let joins = self.records.iter();
        let joins = joins.filter_map(|(id, record)| Some((record.joined?, *id)));
        joins
            .filter(|(joined, _)| *joined < horizon)
            .min()
            .map(|(_, id)| id)
    }

    /// Who has been silent for too long when the watermark is `cut`, and whether the others may go on
    /// without. `own` is never among them.
    #[must_use]
    pub fn lapse(&self, own: I, cut: u64) -> Lapse<I> {
        let is_silent = |id: &I| {
            let record = self.records.get(id).copied().unwrap_or_default();
            let (at, max) = match record.presence {
                Some(presence) => (presence.at, presence.max_absence),
                // It joined and has said nothing yet; how long it may be silent is not known.
                None => return false,
            };
            *id != own && at.saturating_add(max) < cut
        };
        let all = self.members().count();
        let silent: Vec<I> = self.members().filter(is_silent).collect();
        match silent.len() {
            0 => Lapse::None,
            lapsed if is_strict_majority(all - lapsed, all) => Lapse::Evict(silent),
            _ => Lapse::NoMajority(silent),
        }
    }
}

/// Whether `some` are more than half of `all`: no two disjoint sets of members are.
fn is_strict_majority(some: usize, all: usize) -> bool {
    some > all / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn roster(seen: &[(u8, u64)]) -> Roster<u8> {
        let record = |at| Record {
            joined: Some(1),
            presence: Some(Presence {
                at,
                max_absence: 10,
            }),
            evicted: None,
        };
        Roster::new(seen.iter().map(|(id, at)| (*id, record(*at))).collect())
    }

    #[test]
    fn of_two_none_lapses_and_of_three_one_does() {
        let two = roster(&[(1, 100), (2, 5)]);
        assert_eq!(two.lapse(1, 100), Lapse::NoMajority(vec![2]));
        let three = roster(&[(1, 100), (2, 5), (3, 95)]);
        assert_eq!(three.lapse(1, 100), Lapse::Evict(vec![2]));
        assert_eq!(three.lapse(1, 15), Lapse::None);
        // Whoever decides does not evict itself, however old its own cell is.
        assert_eq!(three.lapse(2, 100), Lapse::None);
    }

    #[test]
    fn the_founder_is_the_first_to_join_evicted_or_not() {
        let mut records = roster(&[(1, 9), (2, 9)]).records;
        records.get_mut(&1).unwrap().joined = Some(5);
        records.get_mut(&2).unwrap().joined = Some(4);
        let (kind, change) = (Eviction::Forced, 7);
        records.get_mut(&2).unwrap().evicted = Some(Evicted { kind, change });
        let roster = Roster::new(records);
        assert_eq!(roster.founder(4), None);
        assert_eq!(roster.founder(5), Some(2));
        assert_eq!(roster.members().collect::<Vec<_>>(), [1]);
        assert!(!roster.is_member(2) && !roster.is_member(3));
    }

    proptest! {
        /// Two sides of a group that do not hear each other never both go on without the other.
        #[test]
        fn only_one_side_of_a_partition_evicts(sides in prop::collection::vec(prop::bool::ANY, 1..9)) {
            let side = |fresh: bool| {
                let seen = sides.iter().zip(0u8..);
                let seen = seen.map(|(side, id)| (id, if *side == fresh { 100 } else { 0 }));
                roster(&seen.collect::<Vec<_>>())
            };
            let decides = |fresh: bool| {
                let own = sides.iter().position(|side| *side == fresh);
                let lapse = own.map(|own| side(fresh).lapse(u8::try_from(own).unwrap(), 100));
                matches!(lapse, Some(Lapse::Evict(_)))
            };
            prop_assert!(!(decides(true) && decides(false)));
        }
    }
}
