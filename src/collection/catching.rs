//! Catching up: what a replica does that hears of a horizon which is not its own, and what becomes of
//! each of its cells.

use super::lineage::{Eviction, Lineage};

/// What a replica knows of another, and of itself, when the other's horizon or lineage is not its own.
#[derive(Clone, Copy, Debug)]
pub struct Meeting<'a, I> {
    /// Its name.
    pub own: I,
    /// Its horizon.
    pub horizon: u64,
    /// Its lineage.
    pub lineage: &'a Lineage<I>,
    /// Its clock.
    pub clock: u64,
    /// The horizon of the other.
    pub theirs: u64,
    /// The lineage of the other.
    pub their_lineage: &'a Lineage<I>,
    /// The evictions in its tree. Others may count on it: they have gone on because it showed them.
    pub evicted: &'a [I],
    /// Whether the other is a member here, or was one.
    pub is_known: bool,
    /// Whether an operator said here that this replica is to join the other, whatever it has.
    pub joins: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approach {
    /// Horizon and lineage are the same: they exchange data.
    Equal,
    /// The other is behind: it has to catch up.
    Ahead,
    /// This replica catches up.
    CatchUp {
        /// The time below which both are known to have had all that this replica has.
        common: u64,
    },
    /// They exchange nothing.
    Apart(Apart),
}

/// Why two replicas exchange nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Apart {
    /// Both went on without the other, or have nothing in common; or one was evicted by force.
    #[error("its lineage does not go on where ours was")]
    Lineage,
    /// No clock here says that this horizon can be.
    #[error("its horizon is ahead of our clock")]
    Clock,
}

/// Decides what follows from a meeting. Only one whose history goes on where the own one was makes
/// this replica let go of anything by itself: an operator's word at one place does not make others drop
/// what they have.
#[must_use]
pub fn approach<I: Copy + Ord>(meeting: &Meeting<'_, I>) -> Approach {
    let Meeting {
        lineage,
        their_lineage,
        horizon,
        theirs,
        ..
    } = *meeting;
    if meeting.joins {
        return match theirs <= meeting.clock {
            true => Approach::CatchUp { common: 0 },
            false => Approach::Apart(Apart::Clock),
        };
    }
    if horizon == theirs && lineage.is_same(their_lineage) {
        return Approach::Equal;
    }
    let is_continued = |later: &Lineage<I>, earlier: &Lineage<I>| later.continues(earlier);
    if horizon > theirs && is_continued(lineage, their_lineage) {
        return Approach::Ahead;
    }
    let is_forced = their_lineage.evicted().get(&meeting.own) == Some(&Eviction::Forced);
    let is_counted = |id| their_lineage.evicted().contains_key(id);
    let is_bound = !meeting.evicted.iter().all(is_counted);
    let is_stranger = lineage.founder().is_none() && !meeting.is_known;
    if theirs <= horizon
        || is_bound
        || is_forced
        || is_stranger
        || !is_continued(their_lineage, lineage)
    {
        return Approach::Apart(Apart::Lineage);
    }
    match theirs <= meeting.clock {
        true => Approach::CatchUp { common: horizon },
        false => Approach::Apart(Apart::Clock),
    }
}

/// A cell of a replica that catches up, and that the other does not have.
#[derive(Clone, Copy, Debug)]
pub struct OwnCell {
    /// Its time.
    pub time: u64,
    /// Whether it is a tombstone that covers nothing of what the other has.
    pub is_void: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays: it is above the new horizon, where all is joined as ever.
    Keep,
    /// It goes: the other had it, and removed it since; or it says nothing that the other does not.
    Drop,
    /// It goes from the tree and is set aside, for an operator to look at: nobody may have known it.
    SetAside,
}

/// By what a replica that catches up judges its cells.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The horizon of the other.
    pub horizon: u64,
    /// The time below which all members had what this replica has: its own horizon, if the other goes
    /// on in its lineage; else 0.
    pub common: u64,
    /// The time below which *this* other, in *this* life of it, is known to have had what this replica
    /// has; else 0. Who sets something aside begins a new life: it has that no more, and nobody
    /// removed it.
    pub known: u64,
}

impl Bounds {
    /// What becomes of a cell that the other does not have.
    #[must_use]
    pub fn fate(&self, cell: OwnCell) -> Fate {
        if cell.time >= self.horizon {
            Fate::Keep
        } else if cell.time < self.common.max(self.known) || cell.is_void {
            Fate::Drop
        } else {
            Fate::SetAside
        }
    }
}

/// Stops a catch-up that would set aside much: then it is more likely that the group lost something
/// than that this replica has so much that nobody knows.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    left: u64,
}

/// Cells that any catch-up may set aside.
pub const LEAST_ASIDE: u64 = 1000;

/// The share of all cells that a catch-up may set aside: one of so many.
pub const ASIDE_SHARE: u64 = 100;

impl Breaker {
    /// For a replica with this many cells.
    #[must_use]
    pub fn new(cells: u64) -> Self {
        Self {
            left: (cells / ASIDE_SHARE).max(LEAST_ASIDE),
        }
    }

    /// Whether so many more cells may be set aside. Once they may not, none may.
    #[must_use]
    pub fn admits(&mut self, cells: u64) -> bool {
        let left = self.left.checked_sub(cells);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn lineage(founder: Option<u8>, evicted: &[(u8, Eviction)]) -> Lineage<u8> {
        Lineage::new(founder, evicted.iter().copied().collect::<BTreeMap<_, _>>())
    }

    fn meet(own: (u64, &Lineage<u8>), other: (u64, &Lineage<u8>)) -> Approach {
        approach(&Meeting {
            own: 1,
            horizon: own.0,
            lineage: own.1,
            clock: 100,
            theirs: other.0,
            their_lineage: other.1,
            evicted: &[],
            is_known: true,
            joins: false,
        })
    }

    #[test]
    fn one_that_is_behind_catches_up_only_in_its_lineage() {
        let plain = lineage(Some(1), &[]);
        let lapsed = lineage(Some(1), &[(1, Eviction::Lapsed)]);
        let forced = lineage(Some(1), &[(1, Eviction::Forced)]);
        let other = lineage(Some(1), &[(2, Eviction::Forced)]);
        let foreign = lineage(Some(9), &[]);
        let none = Lineage::default();
        let apart = Approach::Apart(Apart::Lineage);
        let catch_up = |common| Approach::CatchUp { common };
        assert_eq!(meet((30, &plain), (30, &plain)), Approach::Equal);
        assert_eq!(meet((30, &plain), (50, &plain)), catch_up(30));
        assert_eq!(meet((50, &plain), (30, &plain)), Approach::Ahead);
        assert_eq!(meet((0, &none), (30, &plain)), catch_up(0));
        assert_eq!(meet((30, &plain), (0, &none)), Approach::Ahead);
        assert_eq!(meet((30, &plain), (50, &lapsed)), catch_up(30));
        for (own, theirs) in [
            ((30, &plain), (50, &forced)),
            ((30, &plain), (50, &foreign)),
            ((30, &plain), (30, &lapsed)),
            ((30, &plain), (30, &foreign)),
            ((30, &other), (50, &forced)),
            ((30, &other), (50, &plain)),
        ] {
            assert_eq!(meet(own, theirs), apart, "{own:?} {theirs:?}");
        }
        assert_eq!(
            meet((30, &plain), (101, &plain)),
            Approach::Apart(Apart::Clock)
        );
    }

    /// Who showed an eviction does not follow one that adopted without it: others may have adopted with.
    #[test]
    fn one_that_showed_an_eviction_follows_only_who_counted_it() {
        let plain = lineage(Some(1), &[]);
        let lapsed = lineage(Some(1), &[(7, Eviction::Lapsed)]);
        let none = Lineage::default();
        let meets = |theirs| {
            approach(&Meeting {
                own: 1,
                horizon: 0,
                lineage: &none,
                clock: 100,
                theirs: 50,
                their_lineage: theirs,
                evicted: &[7],
                is_known: true,
                joins: false,
            })
        };
        assert_eq!(meets(&plain), Approach::Apart(Apart::Lineage));
        assert_eq!(meets(&lapsed), Approach::CatchUp { common: 0 });
    }

    #[test]
    fn a_stranger_joins_by_hand() {
        let (none, plain) = (Lineage::default(), lineage(Some(2), &[]));
        let mut meeting = Meeting {
            own: 1,
            horizon: 0,
            lineage: &none,
            clock: 100,
            theirs: 50,
            their_lineage: &plain,
            evicted: &[],
            is_known: false,
            joins: false,
        };
        assert_eq!(approach(&meeting), Approach::Apart(Apart::Lineage));
        meeting.joins = true;
        assert_eq!(approach(&meeting), Approach::CatchUp { common: 0 });
        meeting.clock = 49;
        assert_eq!(approach(&meeting), Approach::Apart(Apart::Clock));
    }

    #[test]
    fn the_breaker_stops_for_good() {
        let mut breaker = Breaker::new(5);
        assert!(breaker.admits(LEAST_ASIDE));
        assert!(!breaker.admits(1));
        let mut breaker = Breaker::new(1_000_000);
        assert!(!breaker.admits(10_001) && !breaker.admits(1));
    }

    proptest! {
        /// Nothing that is above what is known of the other goes without being set aside.
        #[test]
        fn only_what_was_known_goes_unseen(
            time in 0u64..100, horizon in 0u64..100, common in 0u64..100, known in 0u64..100,
        ) {
            let bounds = Bounds { horizon, common, known };
            let fate = |is_void| bounds.fate(OwnCell { time, is_void });
            prop_assert_eq!(fate(false) == Fate::Keep, time >= horizon);
            prop_assert_eq!(fate(true) == Fate::Keep, time >= horizon);
            let unknown = time >= common && time >= known && time < horizon;
            prop_assert_eq!(fate(false) == Fate::SetAside, unknown);
            prop_assert!(fate(true) != Fate::SetAside);
        }

        /// Of two that meet at most one lets go of anything, and if one is ahead the other is not.
        #[test]
        fn two_never_both_catch_up(
            horizons in prop::array::uniform2(0u64..3), founders in prop::array::uniform2(0u8..2),
            evictions in prop::array::uniform2(prop::collection::btree_map(0u8..3, prop::bool::ANY, 0..3)),
        ) {
            let kind = |forced: &bool| if *forced { Eviction::Forced } else { Eviction::Lapsed };
            let sides: Vec<Lineage<u8>> = (0..2).map(|side| {
                let evicted = evictions[side].iter().map(|(id, forced)| (*id, kind(forced)));
                // Only who adopted something has a founder.
                Lineage::new((horizons[side] > 0).then_some(founders[side]), evicted.collect())
            }).collect();
            let met = |own: usize, other: usize| approach(&Meeting {
                own: u8::try_from(own).unwrap(),
                horizon: horizons[own], lineage: &sides[own], clock: 9,
                theirs: horizons[other], their_lineage: &sides[other],
                evicted: &[], is_known: true, joins: false,
            });
            let (a, b) = (met(0, 1), met(1, 0));
            let catches_up = |it| matches!(it, Approach::CatchUp { .. });
            prop_assert!(!(catches_up(a) && catches_up(b)));
            prop_assert_eq!(a == Approach::Equal, b == Approach::Equal);
            prop_assert!(!(a == Approach::Ahead && b == Approach::Ahead));
        }
    }
}
