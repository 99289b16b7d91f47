//! Evidence: up to which time each member is known to have what this replica has.
//!
//! An announcement says a root and a floor, and that every update below the floor that its sender ever
//! takes from a client is in the tree of that root. If this replica had that root at change `n` of its
//! tree, both had the same then. It stays evidence of what is below the floor as long as nothing below
//! is joined here; and if something is, of what is below that.

use std::collections::{BTreeMap, VecDeque};

/// The most late joins that are remembered. Evidence from before the oldest of them is none any more.
pub const MAX_LATE: usize = 1024;

/// What an announcement showed of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen<L> {
    floor: u64,
    /// The change of the own tree after which it had the announced root.
    change: u64,
    life: L,
}

/// The earliest times that were joined after each change: suffix minima, so both change and time
/// ascend.
#[derive(Clone, Debug, Default)]
pub struct LateJoins {
    minima: VecDeque<(u64, u64)>,
    /// The last change of which nothing is known any more.
    forgotten: Option<u64>,
}

impl LateJoins {
    /// Change `change` joined cells, the earliest of them with this time.
    pub fn joined(&mut self, change: u64, earliest: u64) {
        while self
            .minima
            .back()
            .is_some_and(|(_, time)| *time >= earliest)
        {
            self.minima.pop_back();
        }
        self.minima.push_back((change, earliest));
        while self.minima.len() > MAX_LATE {
            self.forgotten = self.minima.pop_front().map(|(change, _)| change);
        }
    }

    /// The earliest time that was joined after a change: [`u64::MAX`] if nothing was, 0 if that is not
    /// known.
    #[must_use]
    pub fn earliest_after(&self, change: u64) -> u64 {
        if self.forgotten.is_some_and(|last| change < last) {
            return 0;
        }
        let first = self.minima.partition_point(|(joined, _)| *joined <= change);
        self.minima.get(first).map_or(u64::MAX, |(_, time)| *time)
    }
}

/// The evidence since the last adoption, of members named `I` whose lives are told apart by `L`. It is
/// in memory alone: after a restart there is none.
#[derive(Clone, Debug)]
pub struct Evidence<I, L> {
    seen: BTreeMap<I, Seen<L>>,
    late: LateJoins,
}

impl<I, L> Default for Evidence<I, L> {
    fn default() -> Self {
        Self {
            seen: BTreeMap::new(),
            late: LateJoins::default(),
        }
    }
}

impl<I: Copy + Ord, L: Copy + Ord> Evidence<I, L> {
    /// A member announced a root that the own tree had after `change`, and a floor. Of an older life
    /// than is known nothing is taken; a newer one voids what was seen of the older.
    pub fn hear(&mut self, member: I, life: L, floor: u64, change: u64) {
        self.met(member, life);
        let reach = |seen: &Seen<L>| (self.reach(seen), seen.change);
        let new = Seen {
            floor,
            change,
            life,
        };
        let is_better = match self.seen.get(&member) {
            Some(known) if known.life > life => false,
            Some(known) => reach(&new) > reach(known),
            None => true,
        };
        if is_better {
            self.seen.insert(member, new);
        }
    }

    /// A member was heard in this life, whatever it said. A folder may have been put back to an older
    /// state between two lives, so what an earlier one had says nothing of this one.
    pub fn met(&mut self, member: I, life: L) {
        if self.seen.get(&member).is_some_and(|seen| seen.life < life) {
            let (floor, change) = (0, 0);
            let none = Seen {
                floor,
                change,
                life,
            };
            self.seen.insert(member, none);
        }
    }

    /// Change `change` of the own tree joined cells, the earliest of them with this time.
    pub fn joined(&mut self, change: u64, earliest: u64) {
        self.late.joined(change, earliest);
    }

    /// All is void: a horizon was adopted, or something was lost. Which life of a member was met last
    /// is not forgotten.
    pub fn clear(&mut self) {
        for seen in self.seen.values_mut() {
            (seen.floor, seen.change) = (0, 0);
        }
    }

    /// The time below which this member has all that this replica has, and takes no client's write
    /// any more; none if it has shown nothing.
    #[must_use]
    pub fn bound(&self, member: I) -> Option<u64> {
        let reach = self.reach(self.seen.get(&member)?);
        (reach > 0).then_some(reach)
    }

    /// Whether what the member showed has what change `change` of the own tree brought.
    #[must_use]
    pub fn has_seen(&self, member: I, change: u64) -> bool {
        self.seen
            .get(&member)
            .is_some_and(|seen| seen.change >= change)
    }

    fn reach(&self, seen: &Seen<L>) -> u64 {
        seen.floor.min(self.late.earliest_after(seen.change))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_join_lowers_what_was_seen_before_it_and_nothing_after() {
        let mut evidence = Evidence::default();
        evidence.hear('a', 1, 50, 3);
        evidence.joined(4, 20);
        evidence.hear('b', 1, 50, 4);
        assert_eq!(
            (evidence.bound('a'), evidence.bound('b')),
            (Some(20), Some(50))
        );
        // Heard late: the join came before the announcement, and after its root.
        evidence.hear('c', 1, 50, 3);
        assert_eq!(evidence.bound('c'), Some(20));
        evidence.hear('a', 1, 40, 4);
        assert_eq!(evidence.bound('a'), Some(40));
        // What says less does not replace what says more.
        evidence.hear('a', 1, 30, 4);
        assert_eq!(evidence.bound('a'), Some(40));
    }

    #[test]
    fn a_new_life_voids_and_an_old_one_is_not_heard() {
        let mut evidence = Evidence::default();
        evidence.hear('a', 1, 50, 3);
        evidence.met('a', 2);
        assert_eq!(evidence.bound('a'), None);
        evidence.hear('a', 1, 50, 3);
        assert_eq!(evidence.bound('a'), None);
        evidence.hear('a', 2, 30, 3);
        assert_eq!(evidence.bound('a'), Some(30));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgetting_is_no_evidence() {
        let mut late = LateJoins::default();
        for change in 1..=3000 {
            late.joined(change, change);
        }
        assert_eq!(late.minima.len(), MAX_LATE);
        assert_eq!(late.earliest_after(0), 0);
        assert_eq!(late.earliest_after(2999), 3000);
        assert_eq!(late.earliest_after(3000), u64::MAX);
    }

    proptest! {
        #[test]
        fn suffix_minima_are_those_of_all_joins(
            joins in prop::collection::vec(1u64..50, 0..60), after in 0u64..60,
        ) {
            let mut late = LateJoins::default();
            for (change, time) in (1..).zip(&joins) {
                late.joined(change, *time);
            }
            let skip = usize::try_from(after).unwrap();
            let expected = joins.iter().skip(skip).copied().min().unwrap_or(u64::MAX);
            prop_assert_eq!(late.earliest_after(after), expected);
        }
    }
}
