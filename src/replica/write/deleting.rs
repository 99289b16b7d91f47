//! Deletes that no client has stamped.
//!
//! Zenoh's routers timestamp puts, but not deletes: each storage timestamps them itself, when it gets round
//! to it, which may be after a put that a client sent later was stamped. So such a delete deletes
//! what the replica knows, and nothing that comes after: its tombstone bears the very timestamp of
//! the newest version of the key, and wins over that, since of one timestamp a tombstone wins. (A
//! later one could be that of the next put: a clock that follows another counts up by ones.)
//! Replicas that know the same make the same tombstone, and need not compare.

use smallvec::smallvec;

use super::queue::Fence;
use crate::{
    cell::{Cell, CellKey, Key, Timestamp},
    replica::{Outcome, Replica, ReplicaError, Shared},
};

impl Replica {
    /// Deletes what is known of `key`. Nothing is written if it has no value. O(log n).
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn delete_known(&self, key: Key) -> Result<Outcome, ReplicaError> {
        let counter = &self.shared.state.counters.deletes;
        let Some(timestamp) = self.last_write(&key) else {
            self.shared.state.commits.check()?;
            counter.add();
            self.shared.state.counters.outdated.add();
            return Ok(Outcome {
                is_newest: false,
                committed: None,
                is_full: false,
            });
        };
        self.delete_version(key, timestamp)
    }

    /// Counts a put that lost before it came here.
    pub fn count_lost_put(&self) {
        self.shared.state.counters.puts.add();
        self.shared.state.counters.outdated.add();
    }
}

impl Replica {
    /// When the value of `key` was last written; nothing if it has none. O(log n).
    #[must_use]
    pub fn last_write(&self, key: &Key) -> Option<Timestamp> {
        self.shared.last_write(key)
    }

    /// Counts a cell that was not written anew, since its lifetime is over.
    pub fn count_dead(&self) {
        self.shared.state.counters.dead.add();
    }

    /// Counts a put or delete that was dropped, since there was no room for it.
    pub fn count_dropped(&self) {
        self.shared.state.counters.dropped.add();
    }

    /// Deletes a version of `key` that a [`Listing`](crate::replica::Listing) told of, and
    /// what is older.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn delete_version(&self, key: Key, timestamp: Timestamp) -> Result<Outcome, ReplicaError> {
        let tombstone = (CellKey::own(key), Cell::tombstone(timestamp).into(), None);
        self.write(
            smallvec![tombstone],
            Fence::Floor,
            &self.shared.state.counters.deletes,
        )
    }
}

impl Shared {
    /// When the value of `key` was last written, of what is pending, settled and in quarantine;
    /// nothing if it has none.
    fn last_write(&self, key: &Key) -> Option<Timestamp> {
        let ruling = self.ruling();
        let (ruled, now) = (ruling.of_key(key), ruling.now());
        let shown = self.state.liveness(key).last_write_by(ruled.as_ref(), now);
        shown.max(self.missing(key))
    }
}
