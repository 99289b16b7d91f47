//! A storage's metrics, as text for Prometheus.
//!
//! The caller fills a [`StorageMetrics`], and [`StorageMetrics::to_openmetrics`] writes
//! it. There is no clock and no I/O in here: the caller passes times, in seconds since
//! 1970.
//!
//! | module | purpose |
//! |---|---|
//! | `histogram` | latency histograms |
//! | `openmetrics` | the text format |
//! | `storage`, `replication`, `scrub` | the metrics, with their names |
//!
//! docs/metrics.md explains each metric. A test compares it, the dashboard and the alerts
//! in `config` with the names in the code.

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
    AnnouncementMetrics, PeerMetrics, PullMetrics, RELATIONS, RejectionMetrics, ReplicationMetrics,
    ServedMetrics,
};
pub use scrub::{SCRUB_STATES, ScrubMetrics};
pub use storage::{
    ChangeMetrics, CollectionMetrics, DROPPED, LifetimeMetrics, OperationMetrics, QueueMetrics,
    StorageMetrics,
};
