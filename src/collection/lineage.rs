//! Lineages: which replicas share the history of their horizons.

use std::collections::BTreeMap;

use crate::hash::{sha256, tag};

/// Why a member was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Eviction {
    /// It was silent for long, and a strict majority was left.
    Lapsed,
    /// An operator said so, at one place.
    Forced,
}

/// The founder of a group, and the members whose eviction counted at some adoption.
///
/// All that adopt horizons on evidence of each other have one lineage; two sides that evicted each
/// other have lineages of which neither continues the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage<I> {
    founder: Option<I>,
    evicted: BTreeMap<I, Eviction>,
}

/// The first eight bytes of a lineage's hash: what announcements and queries say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineageId(pub [u8; 8]);

impl<I> Default for Lineage<I> {
    /// That of a replica that has adopted no horizon.
    fn default() -> Self {
        Self {
            founder: None,
            evicted: BTreeMap::new(),
        }
    }
}

impl<I: Copy + Ord> Lineage<I> {
    /// As it was read from storage, or from another replica.
    #[must_use]
    pub fn new(founder: Option<I>, evicted: BTreeMap<I, Eviction>) -> Self {
        Self { founder, evicted }
    }

    /// The member with the earliest join at the first adoption; none before that.
    #[must_use]
    pub fn founder(&self) -> Option<I> {
        self.founder
    }

    /// The members that were evicted, and why.
    #[must_use]
    pub fn evicted(&self) -> &BTreeMap<I, Eviction> {
        &self.evicted
    }

    /// The lineage after an adoption. Who founded it stays; a group without a founder gets one.
    #[must_use]
    pub fn adopting(&self, founder: Option<I>, evicted: &BTreeMap<I, Eviction>) -> Self {
        let mut next = self.clone();
        next.founder = next.founder.or(founder);
        next.evicted.extend(evicted);
        next
    }

    /// Whether `self` goes on where `earlier` was: it has the same founder, and evicted at least those.
    #[must_use]
    pub fn continues(&self, earlier: &Self) -> bool {
        let is_same = earlier.founder.is_none() || self.founder == earlier.founder;
        is_same
            && earlier
                .evicted
                .keys()
                .all(|id| self.evicted.contains_key(id))
    }

    /// Whether both have the same history. Why a member was evicted is no part of it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.founder == other.founder && self.evicted.keys().eq(other.evicted.keys())
    }
}

impl<I: Copy + Ord + AsRef<[u8]>> Lineage<I> {
    /// What announcements and queries say of it.
    #[must_use]
    pub fn id(&self) -> LineageId {
        let names = self.founder.iter().chain(self.evicted.keys());
        let is_founded = [u8::from(self.founder.is_some())];
        let mut pieces: Vec<&[u8]> = vec![tag::LINEAGE, &is_founded];
        pieces.extend(names.map(AsRef::as_ref));
        let hash = sha256(&pieces);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        LineageId(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Name = [u8; 16];

    fn lineage() -> impl Strategy<Value = Lineage<Name>> {
        let evicted = prop::collection::btree_map(0u8..4, prop::bool::ANY, 0..4);
        (prop::option::of(0u8..3), evicted).prop_map(|(founder, evicted)| {
            let kind = |forced| {
                if forced {
                    Eviction::Forced
                } else {
                    Eviction::Lapsed
                }
            };
            let evicted = evicted
                .into_iter()
                .map(|(id, forced)| ([id; 16], kind(forced)));
            Lineage::new(founder.map(|id| [id; 16]), evicted.collect())
        })
    }

    proptest! {
        #[test]
        fn two_that_continue_each_other_are_the_same_and_have_one_id(a in lineage(), b in lineage()) {
            let both = a.continues(&b) && b.continues(&a);
            // Who has no founder has adopted nothing: only the other of the two can continue it.
            prop_assert_eq!(both && a.founder.is_some() == b.founder.is_some(), a.is_same(&b));
            prop_assert_eq!(a.id() == b.id(), a.is_same(&b));
        }

        #[test]
        fn an_adoption_continues(a in lineage(), b in lineage()) {
            let next = a.adopting(b.founder, &b.evicted);
            prop_assert!(next.continues(&a));
            prop_assert!(a.founder.is_none() || next.founder == a.founder);
        }

        #[test]
        fn continuing_is_transitive(a in lineage(), b in lineage(), c in lineage()) {
            if b.continues(&a) && c.continues(&b) && b.founder.is_some() {
                prop_assert!(c.continues(&a));
            }
        }
    }

    #[test]
    fn ids_are_pinned() {
        let evicted = BTreeMap::from([([2; 16], Eviction::Forced)]);
        let lineage = Lineage::new(Some([1u8; 16]), evicted);
        let hash = sha256(&[b"mst1line", &[1], &[1; 16], &[2; 16]]);
        assert_eq!(lineage.id().0, hash[..8]);
    }
}
