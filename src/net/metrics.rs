//! A snapshot of a storage's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{operator::Operator, replicator::Replicator, served::Served};
use crate::{
    metrics::{
        AnnouncementMetrics, ChangeMetrics, CollectionMetrics, LifetimeMetrics, OperationMetrics,
        PeerMetrics, PullMetrics, QueueMetrics, RejectionMetrics, ReplicationMetrics, ScrubMetrics,
        ServedMetrics, StorageMetrics,
    },
    sync::{PeerStatus, Status},
};

/// Seconds since 1970.
fn seconds(ntp64: u64) -> f64 {
    ntp64 as f64 / (1u64 << 32) as f64
}

impl Replicator {
    /// The metrics of replication.
    pub(super) fn metrics(&self) -> ReplicationMetrics {
        let core = self.core();
        let (status, useless) = (core.machine.status(), core.view.joins.useless());
        drop(core);
        replication(&status, &self.served, useless)
    }
}

impl Operator {
    /// All metrics of the storage. They are not of one instant.
    pub(super) fn metrics(&self) -> StorageMetrics {
        let admin = &self.admin;
        let replica = &admin.replica;
        let published = replica.published();
        let (queues, counts) = (replica.queues(), replica.counts());
        let (changes, fading) = (self.changes.counts(), replica.fading());
        let collection = replica.collection();
        // The root of an idle storage is over cuts that go on with the clock.
        let latest = replica.roots().latest(replica.cut());
        StorageMetrics {
            storage: admin.name.clone(),
            replica: self.identity().to_string(),
            key_expr: admin.group.key_expr.clone(),
            group: admin.group.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            root: published.root.0,
            keys: published.keys as u64,
            cells: published.cells as u64,
            tombstones: published.tombstones as u64,
            disk_bytes: replica.disk_bytes(),
            now: seconds(admin.now()),
            cut: seconds(latest.map_or(published.cut, |span| span.to)),
            queues: QueueMetrics {
                uncommitted: queues.uncommitted as u64,
                uncommitted_bytes: queues.uncommitted_bytes as u64,
                unsettled: queues.unsettled as u64,
            },
            is_failed: replica.failure().is_some(),
            quarantined_cells: replica.quarantined_cells() as u64,
            operations: OperationMetrics {
                puts: counts.puts,
                deletes: counts.deletes,
                merged: counts.merged,
                gets: counts.gets,
                outdated: counts.outdated,
                refused: counts.refused,
                stamped_by_routers: counts.stamped_by_routers,
                dropped: counts.dropped,
                commits: counts.commits,
                committed_cells: counts.committed_cells,
            },
            dropped: self.dropped.counts(),
            lifetimes: LifetimeMetrics {
                cells: fading.cells as u64,
                held: seconds(fading.held),
                expired: counts.expired,
                dead: counts.dead,
                ttl_without_lifetime: counts.ttl_without_lifetime,
            },
            collection: CollectionMetrics {
                floor: seconds(collection.floor),
                held: seconds(collection.held),
                tombstones: counts.collected_tombstones,
                rules: counts.collected_rules,
                refused_late: counts.refused_late,
            },
            changes: ChangeMetrics {
                published: changes.published,
                dropped: changes.dropped,
            },
            put_durations: self.put_durations.snapshot(),
            get_durations: self.get_durations.snapshot(),
            replication: self.replicator.as_deref().map(Replicator::metrics),
            scrub: Some(self.scrub_metrics()),
        }
    }

    fn scrub_metrics(&self) -> ScrubMetrics {
        let (state, counts) = (self.admin.scrubbing.state(), self.admin.replica.counts());
        let cells = self.admin.replica.published().cells.max(1);
        ScrubMetrics {
            state: state.name(),
            progress: (state.checked as f64 / cells as f64).min(1.0),
            checked_cells: counts.scrubbed,
            damaged_cells: counts.damaged,
            repaired_cells: counts.repaired,
            last_completed: state.completed.map(seconds),
        }
    }
}

fn peer(peer: &PeerStatus) -> (String, PeerMetrics) {
    let metrics = PeerMetrics {
        is_present: peer.present,
        relation: peer.relation.name(),
        last_equal: peer.last_equal.map(seconds),
        clock_offset: peer.clock_offset_ms.map(|offset| offset as f64 / 1000.0),
        refused_cells: peer.refused_cells as u64,
    };
    (peer.replica.to_string(), metrics)
}

fn replication(status: &Status, served: &Served, useless: u64) -> ReplicationMetrics {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let rejected = &status.rejected;
    ReplicationMetrics {
        peers: status.peers.iter().map(peer).collect(),
        pulls: PullMetrics {
            started: status.started,
            completed: status.completed,
            failed: status.failed,
            deltas: status.deltas,
            round_trips: status.round_trips,
            sent_bytes: status.bytes_sent,
            received_bytes: status.bytes_received,
            cells: status.cells_received,
            useless_cells: useless,
        },
        served: ServedMetrics {
            digest_queries: count(&served.digest_queries),
            entries_queries: count(&served.entries_queries),
            sent_bytes: count(&served.bytes_sent),
            damaged_cells: count(&served.damaged),
        },
        announcements: AnnouncementMetrics {
            sent: status.announced,
            received: status.heard,
        },
        rejected: RejectionMetrics {
            malformed: rejected.malformed + count(&served.malformed),
            key_expr: rejected.key_expr,
            digest: rejected.digest,
            clock: rejected.clock,
            too_large: rejected.too_large,
            strategy: rejected.strategy,
        },
    }
}
