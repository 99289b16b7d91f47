//! What a storage measures of itself, as text for Prometheus.
//!
//! Whoever has the numbers fills a [`StorageMetrics`], and
//! [`StorageMetrics::to_openmetrics`] writes them down. There is no clock and no
//! I/O in here: times are given, in seconds since 1970.
//!
//! | module | what it is |
//! |---|---|
//! | `histogram` | how long something takes, counted while it goes on |
//! | `openmetrics` | the text format |
//! | `storage`, `replication`, `scrub` | the metrics, with their names |
//!
//! Each metric is explained in docs/metrics.md. A test keeps that, the dashboard
//! and the alerts in `config` to the names that there are.

mod histogram;
mod openmetrics;
mod replication;
mod scrub;
mod storage;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod tests;

pub use histogram::{Histogram, Snapshot};
pub use openmetrics::CONTENT_TYPE;
pub use replication::{
    AnnouncementMetrics, PeerMetrics, PullMetrics, RejectionMetrics, ReplicationMetrics,
    ServedMetrics, RELATIONS,
};
pub use scrub::{ScrubMetrics, SCRUB_STATES};
pub use storage::{OperationMetrics, QueueMetrics, StorageMetrics};
