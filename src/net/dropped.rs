//! Counts what came and was left alone, because too much came at a time.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::metrics::DROPPED;

/// What there was no room for, by kind.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Tokens and announcements of other replicas.
    pub(super) events: AtomicU64,
    /// Queries of other replicas.
    pub(super) replica_queries: AtomicU64,
    /// Queries of operators.
    pub(super) operator_queries: AtomicU64,
    /// Gets, which are told so.
    pub(crate) gets: AtomicU64,
}

/// One more; how many there are now.
pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

impl Dropped {
    /// How many there were of each of [`DROPPED`].
    pub(super) fn counts(&self) -> [u64; DROPPED.len()] {
        let kinds = [
            &self.events,
            &self.replica_queries,
            &self.operator_queries,
            &self.gets,
        ];
        kinds.map(|counter| counter.load(Ordering::Relaxed))
    }

    /// For the status.
    pub(super) fn status(&self) -> BTreeMap<String, u64> {
        let counts = DROPPED.into_iter().zip(self.counts());
        counts
            .map(|(kind, count)| (kind.to_owned(), count))
            .collect()
    }
}
