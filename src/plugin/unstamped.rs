//! Deletes that the storage manager stamped, and the puts that it turns into them.
//!
//! After a wildcard delete the storage manager gives a put that looks older than the delete's
//! timestamp, with an empty payload (`overriding_wild_update`, eclipse-zenoh/zenoh 2649). What
//! was put is lost there; here it must not look as if something empty had been put.

use std::collections::{HashSet, VecDeque};

use crate::cell::Stamp;

/// Timestamps that are remembered: those of the deletes of some seconds, at the least.
const MAX: usize = 16_384;

/// The timestamps of the last deletes that no client stamped.
#[derive(Default)]
pub(super) struct UnstampedDeletes {
    known: HashSet<Stamp>,
    /// The oldest first.
    order: VecDeque<Stamp>,
}

impl UnstampedDeletes {
    pub(super) fn remember(&mut self, stamp: Stamp) {
        if !self.known.insert(stamp) {
            // A wildcard delete is one of each key.
            return;
        }
        self.order.push_back(stamp);
        if self.order.len() > MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether a put with this timestamp is what the storage manager made of one.
    pub(super) fn overrides(&self, stamp: &Stamp) -> bool {
        self.known.contains(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_each_once() {
        let stamp = |time| Stamp { time, id: [1; 16] };
        let mut deletes = UnstampedDeletes::default();
        for time in 0..2 * MAX as u64 {
            (0..3).for_each(|_| deletes.remember(stamp(time)));
        }
        assert_eq!((deletes.known.len(), deletes.order.len()), (MAX, MAX));
        assert!(!deletes.overrides(&stamp(MAX as u64 - 1)));
        assert!(deletes.overrides(&stamp(MAX as u64)));
        let other = Stamp {
            time: MAX as u64,
            id: [2; 16],
        };
        assert!(!deletes.overrides(&other));
    }
}
