//! Deletes that the storage manager stamped, and the puts that it turns into them.
//!
//! After a wildcard delete the storage manager passes on a put that looks older, with the
//! delete's timestamp and an empty payload (`overriding_wild_update`, eclipse-zenoh/zenoh
//! 2649). The value is lost there; the storage must not take the empty payload for a
//! value.

use std::collections::{HashSet, VecDeque};

use crate::cell::Timestamp;

/// Timestamps that are remembered: at least those of the deletes of some seconds.
const MAX: usize = 16_384;

/// The timestamps of the last deletes that no client stamped.
#[derive(Default)]
pub(super) struct UnstampedDeletes {
    known: HashSet<Timestamp>,
    /// The oldest first.
    order: VecDeque<Timestamp>,
}

impl UnstampedDeletes {
    pub(super) fn remember(&mut self, timestamp: Timestamp) {
        if !self.known.insert(timestamp) {
            // A wildcard delete deletes each key with the same timestamp.
            return;
        }
        self.order.push_back(timestamp);
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether a put with this timestamp stems from a remembered wildcard delete.
    pub(super) fn overrides(&self, timestamp: &Timestamp) -> bool {
        self.known.contains(timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_each_once() {
        let timestamp = |time| Timestamp { time, id: [1; 16] };
        let mut deletes = UnstampedDeletes::default();
        for time in 0..2 * MAX as u64 {
            (0..3).for_each(|_| deletes.remember(timestamp(time)));
        }
        assert_eq!((deletes.known.len(), deletes.order.len()), (MAX, MAX));
        assert!(!deletes.overrides(&timestamp(MAX as u64 - 1)));
        assert!(deletes.overrides(&timestamp(MAX as u64)));
        let other = Timestamp {
            time: MAX as u64,
            id: [2; 16],
        };
        assert!(!deletes.overrides(&other));
    }
}
