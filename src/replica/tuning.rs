//! Sizes and spans that trade memory, latency and processor time. Tests, which write little, make
//! them small, so that they come to the same places.

use std::time::Duration;

/// How much is done at a time, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Updates that are committed without waiting for more.
    pub group: usize,
    /// Updates that may be queued; a writer then waits until its own is committed.
    pub max_queued: usize,
    /// The same, in bytes.
    pub max_queued_bytes: usize,
    /// Bytes of updates that may be pending. Beyond that nothing is committed until some are
    /// applied, so the queue fills, and writers wait.
    pub max_pending_bytes: usize,
    /// Bytes of updates in the buckets at which those that lost are looked for.
    pub sift_bytes: usize,
    /// Cells that are joined into the tree at a time, while readers of the tree wait.
    pub joined_at_once: usize,
    /// Rows that are written or removed at a time, while commits wait.
    pub applied_at_once: usize,
    /// Nodes of the tree that are hashed at a time.
    pub hashed_at_once: usize,
    /// Updates within [`burst_window`](Self::burst_window) that are a burst.
    pub burst_updates: usize,
    /// See [`burst_updates`](Self::burst_updates).
    pub burst_window: Duration,
    /// The longest that a burst puts off what need not be done at once.
    pub max_deferral: Duration,
    /// Updates beyond which a burst puts off nothing.
    pub max_deferred: usize,
    /// The same, in bytes.
    pub max_deferred_bytes: usize,
    /// When nothing was applied for this long, and nothing waits, the root is made.
    pub root_when_quiet: Duration,
    /// While the watermark stands still the root is made this long after the tree has changed.
    pub root_when_standing: Duration,
    /// The longest sleep until the watermark moves, should the clock be set meanwhile.
    pub max_sleep: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        const GROUP: usize = 4096;
        Self {
            group: GROUP,
            max_queued: 65_536,
            max_queued_bytes: 64 << 20,
            max_pending_bytes: 256 << 20,
            sift_bytes: 64 << 20,
            joined_at_once: 128,
            applied_at_once: 1024,
            hashed_at_once: 128,
            burst_updates: GROUP,
            burst_window: Duration::from_millis(100),
            max_deferral: Duration::from_secs(2),
            max_deferred: 64 * GROUP,
            max_deferred_bytes: 128 << 20,
            root_when_quiet: Duration::from_millis(50),
            root_when_standing: Duration::from_secs(1),
            max_sleep: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
impl Tuning {
    /// For tests: bursts of a few updates, steps of a few cells.
    pub(crate) fn small() -> Self {
        Self {
            sift_bytes: 32,
            joined_at_once: 16,
            applied_at_once: 16,
            hashed_at_once: 8,
            burst_updates: 8,
            max_deferred: 64 * 8,
            ..Self::default()
        }
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// What the clock shows, in NTP64. It may be set.
    pub(crate) clock: u64,
    /// Since the replica was opened. Never goes back.
    pub(crate) monotonic: Duration,
}
