//! Counts what other replicas were answered.

use std::sync::atomic::AtomicU64;

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) digest_queries: AtomicU64,
    pub(super) entries_queries: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    /// Queries that could not be read.
    pub(super) malformed: AtomicU64,
    /// Cells that were not served, because they are not what the tree says.
    pub(super) damaged: AtomicU64,
}
