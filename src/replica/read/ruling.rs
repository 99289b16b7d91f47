//! What wildcard rules and lifetimes say of keys at one time.

use std::sync::Arc;

use super::liveness::has_passed;
use crate::{
    cell::{Cell, Key, Timestamp},
    merge::{Lifetimes, shown_until},
    replica::Shared,
    wildcard::{Ruled, WildcardRules},
};

/// The rules, and the time by which keys expire: exactly, before the watermark comes.
pub(in crate::replica) struct Ruling {
    rules: Arc<WildcardRules>,
    lifetimes: Arc<Lifetimes>,
    now: u64,
}

impl Shared {
    pub(in crate::replica) fn ruling(&self) -> Ruling {
        let lifetimes = Arc::clone(&self.state.lifetimes);
        Ruling {
            rules: self.state.queue.rules(),
            now: (self.clock)(),
            lifetimes,
        }
    }

    /// What is not newer than this has expired of a key, by the clock.
    pub(in crate::replica) fn expired(&self, key: &Key) -> Option<Timestamp> {
        let lifetime = self.state.lifetimes.of(key)?;
        lifetime.expired((self.clock)())
    }

    /// Whether what is [shown until](crate::merge::shown_until) then is hidden by now.
    pub(in crate::replica) fn is_hidden(&self, until: u64) -> bool {
        until < u64::MAX && has_passed(until, (self.clock)())
    }

    /// The cell, if it is a value that is shown by now.
    pub(in crate::replica) fn if_shown(&self, cell: Arc<Cell>) -> Option<Arc<Cell>> {
        Some(cell).filter(|cell| !self.is_hidden(shown_until(cell)))
    }
}

impl Ruling {
    /// The time that it is of.
    pub(in crate::replica) fn now(&self) -> u64 {
        self.now
    }

    /// What is said of a key, if anything is.
    pub(in crate::replica) fn of_key(&self, key: &Key) -> Option<Ruled> {
        with_expired(
            self.rules.of_key(key),
            self.lifetimes.expired(key, self.now),
        )
    }

    /// Up to when cells of a key are covered, or have expired.
    pub(in crate::replica) fn deleted(&self, key: &Key) -> Option<Timestamp> {
        let expired = self.lifetimes.expired(key, self.now);
        self.rules.deleted(key).max(expired)
    }
}

/// What rules say of a key of which what is not newer than `expired` has expired.
pub(in crate::replica) fn with_expired(
    ruled: Option<Ruled>,
    expired: Option<Timestamp>,
) -> Option<Ruled> {
    if expired.is_none() {
        return ruled;
    }
    let ruled = ruled.unwrap_or_default();
    Some(Ruled {
        deleted: ruled.deleted.max(expired),
        ..ruled
    })
}
