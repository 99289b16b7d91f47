//! The metrics of replication.

use std::collections::BTreeMap;

use super::openmetrics::{Writer, place};

/// The relations of a peer to the replica, as the status names them.
pub const RELATIONS: [&str; 5] = ["unknown", "equal", "behind", "divergent", "isolated"];

/// The metrics of a replicated storage. Counters start at 0 when it is opened, and when
/// it takes a new name.
#[derive(Clone, Debug, Default)]
pub struct ReplicationMetrics {
    /// The other replicas, by their names.
    pub peers: BTreeMap<String, PeerMetrics>,
    /// Pulls from others.
    pub pulls: PullMetrics,
    /// Answers to others.
    pub served: ServedMetrics,
    /// Announcements.
    pub announcements: AnnouncementMetrics,
    /// Rejections.
    pub rejected: RejectionMetrics,
}

/// Another replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerMetrics {
    /// Whether it can be reached.
    pub is_present: bool,
    /// Its relation to this one: one of [`RELATIONS`]; anything else counts as the first
    /// of them.
    pub relation: &'static str,
    /// When both were last known to hold the same, in seconds since 1970.
    pub last_equal: Option<f64>,
    /// Seconds that its clock was ahead of this one's when it last announced a root; negative if
    /// it was behind.
    pub clock_offset: Option<f64>,
    /// Cells that it has and this one does not take, as far as they are remembered.
    pub refused_cells: u64,
}

/// Pulls from peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct PullMetrics {
    /// Pulls begun.
    pub started: u64,
    /// Pulls completed.
    pub completed: u64,
    /// Pulls that broke off.
    pub failed: u64,
    /// Pulls that did not compare the trees.
    pub deltas: u64,
    /// Answered queries.
    pub round_trips: u64,
    /// Bytes of queries.
    pub sent_bytes: u64,
    /// Bytes of answers.
    pub received_bytes: u64,
    /// Cells that came and were not rejected.
    pub cells: u64,
    /// Of these, cells that were not newer than what was there.
    pub useless_cells: u64,
}

/// Queries of peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServedMetrics {
    /// Queries for where trees differ.
    pub digest_queries: u64,
    /// Queries for cells.
    pub entries_queries: u64,
    /// Bytes of the answers.
    pub sent_bytes: u64,
    /// Cells that were not sent, because they are damaged.
    pub damaged_cells: u64,
}

/// Announcements of roots.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnnouncementMetrics {
    /// Those of this replica.
    pub sent: u64,
    /// Those of others.
    pub received: u64,
}

/// Rejected messages and cells, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct RejectionMetrics {
    /// Messages that could not be read.
    pub malformed: u64,
    /// Cells of keys that the storage does not hold.
    pub key_expr: u64,
    /// Cells that do not match the digest that their sender gave.
    pub digest: u64,
    /// Cells stamped too far ahead of the clock.
    pub clock: u64,
    /// Cells that are too long.
    pub too_large: u64,
    /// Cells that no strategy writes.
    pub strategy: u64,
}

impl ReplicationMetrics {
    pub(super) fn write(&self, writer: &mut Writer) {
        self.write_peers(writer);
        self.pulls.write(writer);
        self.served.write(writer);
        writer.counter(
            "zenoh_mst_announcements_sent",
            "Times that this replica said what its root is.",
            self.announcements.sent,
        );
        writer.counter(
            "zenoh_mst_announcements_received",
            "Times that others said what their root is.",
            self.announcements.received,
        );
        self.rejected.write(writer);
    }

    fn write_peers(&self, writer: &mut Writer) {
        let peers = || self.peers.iter().map(|(name, peer)| (name.as_str(), peer));
        let mut counts = RELATIONS.map(|relation| (relation, 0));
        for peer in self.peers.values().filter(|peer| peer.is_present) {
            counts[place(&RELATIONS, peer.relation)].1 += 1;
        }
        writer.gauges(
            "zenoh_mst_peers",
            "Other replicas that can be reached, by how they stand to this one.",
            "relation",
            counts,
        );
        writer.gauges(
            "zenoh_mst_peer_present",
            "Whether the peer can be reached.",
            "peer",
            peers().map(|(name, peer)| (name, peer.is_present)),
        );
        writer.states_of(
            "zenoh_mst_peer_relation",
            "How the peer stood to this replica when it last said something.",
            &RELATIONS,
            "peer",
            peers().map(|(name, peer)| (name, peer.relation)),
        );
        writer.gauges(
            "zenoh_mst_peer_last_equal_timestamp_seconds",
            "When the peer was last found to hold the same.",
            "peer",
            peers().filter_map(|(name, peer)| Some((name, peer.last_equal?))),
        );
        writer.gauges(
            "zenoh_mst_peer_clock_offset_seconds",
            "How far the peer's clock was ahead of this replica's when it last said something.",
            "peer",
            peers().filter_map(|(name, peer)| Some((name, peer.clock_offset?))),
        );
        writer.gauges(
            "zenoh_mst_peer_refused_cells",
            "Cells that the peer has and this replica rejected.",
            "peer",
            peers().map(|(name, peer)| (name, peer.refused_cells)),
        );
    }
}

impl PullMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.counter(
            "zenoh_mst_pulls_started",
            "Pulls that were begun.",
            self.started,
        );
        writer.counter(
            "zenoh_mst_pulls_completed",
            "Pulls that came to their end.",
            self.completed,
        );
        writer.counter(
            "zenoh_mst_pulls_failed",
            "Pulls that broke off.",
            self.failed,
        );
        writer.counter(
            "zenoh_mst_pull_deltas",
            "Pulls that got what had changed since a root that both had had.",
            self.deltas,
        );
        writer.counter(
            "zenoh_mst_pull_round_trips",
            "Queries of pulls that were answered.",
            self.round_trips,
        );
        writer.counter(
            "zenoh_mst_pull_sent_bytes",
            "Bytes of the queries of pulls.",
            self.sent_bytes,
        );
        writer.counter(
            "zenoh_mst_pull_received_bytes",
            "Bytes of the answers to pulls.",
            self.received_bytes,
        );
        writer.counter(
            "zenoh_mst_pull_cells",
            "Cells that pulls brought and that were not rejected.",
            self.cells,
        );
        writer.counter(
            "zenoh_mst_pull_useless_cells",
            "Of the cells that pulls brought, those that were not newer than what was there.",
            self.useless_cells,
        );
    }
}

impl ServedMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.counters(
            "zenoh_mst_served_queries",
            "Queries of other replicas.",
            "kind",
            [
                ("digest", self.digest_queries),
                ("entries", self.entries_queries),
            ],
        );
        writer.counter(
            "zenoh_mst_served_bytes",
            "Bytes of the answers to other replicas.",
            self.sent_bytes,
        );
        writer.counter(
            "zenoh_mst_served_damaged_cells",
            "Cells that were not sent to others, because they are damaged.",
            self.damaged_cells,
        );
    }
}

impl RejectionMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.counters(
            "zenoh_mst_rejections",
            "Cells, and if malformed messages, of other replicas that were not taken.",
            "reason",
            [
                ("malformed", self.malformed),
                ("key_expr", self.key_expr),
                ("digest", self.digest),
                ("clock", self.clock),
                ("too_large", self.too_large),
                ("strategy", self.strategy),
            ],
        );
    }
}
