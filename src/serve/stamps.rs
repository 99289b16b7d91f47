//! Who stamped a put.
//!
//! A strategy that merges tells puts apart by their timestamps. The first router that a put comes
//! to stamps it, if its client did not; the same put by two routers has two.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    cell::{Cell, Key},
    config::Unstamped,
    net::Routers,
    replica::{Replica, ReplicaError},
};

/// Looks at the timestamps of a storage's puts.
pub(crate) struct Stamps {
    name: String,
    routers: Arc<Routers>,
    unstamped: Unstamped,
    was_told: AtomicBool,
}

impl Stamps {
    pub(crate) fn new(name: String, routers: Arc<Routers>, unstamped: Unstamped) -> Self {
        Self {
            name,
            routers,
            unstamped,
            was_told: AtomicBool::new(false),
        }
    }

    /// Whether a router has this ID of a timestamp.
    pub(crate) fn is_of_router(&self, id: &[u8; 16]) -> bool {
        self.routers.has(id)
    }

    /// The time at which another router stamped a put: while the own clock is
    /// ahead of what anything confirms, that may confirm it. The clocks of clients are often our own.
    fn witness(&self, replica: &Replica, cell: &Cell) {
        if replica.are_deaths_held() && self.routers.has_other(&cell.timestamp.id) {
            replica.witness(cell.timestamp.time);
        }
    }

    /// Counts a put that a router stamped and a strategy merges.
    ///
    /// # Errors
    /// If the storage refuses such puts.
    pub(crate) fn check(
        &self,
        replica: &Replica,
        key: &Key,
        cell: &Cell,
    ) -> Result<(), ReplicaError> {
        self.witness(replica, cell);
        let Some(value) = cell.value() else {
            return Ok(());
        };
        if replica.is_lww() || !self.is_of_router(&cell.timestamp.id) || !replica.merges(key, value)
        {
            return Ok(());
        }
        let is_refused = self.unstamped == Unstamped::Refuse;
        replica.note_stamp_of_router(key, cell.timestamp, is_refused)?;
        if !self.was_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "storage '{}': a router stamped a put of '{key}', which is merged; if its client \
                 reaches two routers, it counts twice: let clients stamp their puts \
                 (`timestamping`), or refuse such puts by `unstamped: \"refuse\"` (told once; the \
                 status counts them)",
                self.name
            );
        }
        Ok(())
    }
}
