//! Recognizes timestamps that routers made, by their IDs.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::session::Sessions;

/// The shortest time between two queries of the links for an unknown ID.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most routers that are remembered.
const MAX_ROUTERS: usize = 4096;

/// The routers whose timestamps are not a client's: our own, and those that it is linked
/// with. A timestamp has the ID of the clock that made it.
///
/// Without the companion plugin, and without a session of the volume's own, no router is
/// known.
pub struct Routers {
    sessions: Arc<Sessions>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    ids: HashSet<[u8; 16]>,
    looked_at: Option<Instant>,
}

impl Routers {
    /// The routers that the volume's sessions know.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        let known = Mutex::default();
        Self { sessions, known }
    }

    /// Whether a router has this ID. O(1), except for a query of the links at most once a
    /// second.
    #[must_use]
    pub fn has(&self, id: &[u8; 16]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.ids.contains(id) {
            return true;
        }
        let now = Instant::now();
        if known.looked_at.is_some_and(|at| now < at + LOOK_EVERY) {
            return false;
        }
        known.looked_at = Some(now);
        let room = MAX_ROUTERS.saturating_sub(known.ids.len());
        known
            .ids
            .extend(self.sessions.routers().into_iter().take(room));
        known.ids.contains(id)
    }

    /// Whether another router than our own has this ID: one that has another clock.
    #[must_use]
    pub fn has_other(&self, id: &[u8; 16]) -> bool {
        let own = self.sessions.own_router();
        own.is_some_and(|own| own != *id) && self.has(id)
    }
}
