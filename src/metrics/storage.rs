//! The metrics of a storage, and the whole text.

use super::{
    histogram::Snapshot, openmetrics::Writer, replication::ReplicationMetrics, scrub::ScrubMetrics,
};

/// Hexadecimal digits of a root that a floating-point number holds exactly.
const ROOT_DIGITS: u32 = 13;

/// The kinds of messages that are left alone when too many come at a time.
pub const DROPPED: [&str; 4] = ["events", "replica_queries", "operator_queries", "gets"];

/// The metrics of a storage, as the caller found them; times are in seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct StorageMetrics {
    /// Its name: the label `storage` of every series.
    pub storage: String,
    /// The name of its replica: the label `replica` of every series.
    pub replica: String,
    /// Its key expression.
    pub key_expr: String,
    /// Its group, as a chunk of a key expression.
    pub group: String,
    /// The version of this backend.
    pub version: String,
    /// The latest root.
    pub root: [u8; 32],
    /// Keys that have a value, in the root.
    pub keys: u64,
    /// Cells in the root, including tombstones.
    pub cells: u64,
    /// Tombstones in the root.
    pub tombstones: u64,
    /// Length of the storage engine's files.
    pub disk_bytes: u64,
    /// When the numbers were read.
    pub now: f64,
    /// The cut: the root holds all updates with an earlier time. It has to be the end of
    /// the root's latest span, which follows the clock while nothing waits, and not the
    /// cut at which the root was made, which stands still then.
    pub cut: f64,
    /// The queues to the disk and into the root.
    pub queues: QueueMetrics,
    /// Whether it takes no more writes.
    pub is_failed: bool,
    /// Cells in quarantine.
    pub quarantined_cells: u64,
    /// The counts of operations.
    pub operations: OperationMetrics,
    /// What there was no room for, of each of [`DROPPED`].
    pub dropped: [u64; DROPPED.len()],
    /// What lives for some time.
    pub lifetimes: LifetimeMetrics,
    /// What is collected.
    pub collection: CollectionMetrics,
    /// The feed of changes.
    pub changes: ChangeMetrics,
    /// How long puts and deletes took.
    pub put_durations: Snapshot,
    /// How long gets took.
    pub get_durations: Snapshot,
    /// None if it is not replicated.
    pub replication: Option<ReplicationMetrics>,
    /// None if it has no scrub.
    pub scrub: Option<ScrubMetrics>,
}

/// The lengths of queues.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueMetrics {
    /// Updates that are not on disk.
    pub uncommitted: u64,
    /// Bytes of these.
    pub uncommitted_bytes: u64,
    /// Cells whose newest update is not in the tree.
    pub unsettled: u64,
}

/// Counts of operations since the storage was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OperationMetrics {
    /// Puts that passed the checks.
    pub puts: u64,
    /// Deletes that passed the checks.
    pub deletes: u64,
    /// Cells of other replicas that were joined.
    pub merged: u64,
    /// Keys looked up.
    pub gets: u64,
    /// Puts, deletes and cells that changed nothing, as they came too late.
    pub outdated: u64,
    /// Puts and deletes that were refused.
    pub refused: u64,
    /// Puts to merged keys that a router stamped.
    pub stamped_by_routers: u64,
    /// Puts and deletes that were dropped, since there was no room for them.
    pub dropped: u64,
    /// Groups written.
    pub commits: u64,
    /// Cells in these groups.
    pub committed_cells: u64,
}

/// What lives for some time.
#[derive(Clone, Copy, Debug, Default)]
pub struct LifetimeMetrics {
    /// Cells in the tree that have a lifetime.
    pub cells: u64,
    /// Seconds by which deaths are behind a clock that leapt.
    pub held: f64,
    /// Cells whose lifetime was over.
    pub expired: u64,
    /// Writes whose lifetime was over when they came.
    pub dead: u64,
    /// Puts that are hidden after some time, and whose key has no lifetime.
    pub ttl_without_lifetime: u64,
}

/// What was deleted, and is collected.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollectionMetrics {
    /// Unix time below which no write is taken; 0 if all are.
    pub floor: f64,
    /// Seconds by which the floor is behind a clock that leapt.
    pub held: f64,
    /// Tombstones that were collected.
    pub tombstones: u64,
    /// Delete rules that were collected.
    pub rules: u64,
    /// Writes that were refused since they were stamped below the floor.
    pub refused_late: u64,
}

/// The feed of changes that pub/sub did not bring.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeMetrics {
    /// Samples published.
    pub published: u64,
    /// Changes that were not published, though somebody listened.
    pub dropped: u64,
}

impl StorageMetrics {
    /// The text, with [`CONTENT_TYPE`](super::CONTENT_TYPE). About 16 kB, and 1 kB more
    /// for each peer.
    #[must_use]
    pub fn to_openmetrics(&self) -> String {
        let mut writer = Writer::new(&[
            ("storage", self.storage.as_str()),
            ("replica", self.replica.as_str()),
        ]);
        self.write_state(&mut writer);
        self.queues.write(&mut writer);
        self.operations.write(&mut writer);
        writer.counters(
            "zenoh_mst_dropped_messages",
            "Messages that were left alone, since too many came at a time.",
            "kind",
            DROPPED.into_iter().zip(self.dropped),
        );
        self.lifetimes.write(&mut writer);
        self.collection.write(&mut writer);
        self.changes.write(&mut writer);
        writer.histogram(
            "zenoh_mst_put_duration_seconds",
            "How long puts and deletes took.",
            &self.put_durations,
        );
        writer.histogram(
            "zenoh_mst_get_duration_seconds",
            "How long gets of a key took.",
            &self.get_durations,
        );
        if let Some(replication) = &self.replication {
            replication.write(&mut writer);
        }
        if let Some(scrub) = &self.scrub {
            scrub.write(&mut writer);
        }
        writer.finish()
    }

    fn write_state(&self, writer: &mut Writer) {
        writer.info(
            "zenoh_mst_storage",
            "What the storage is.",
            &[
                ("key_expr", self.key_expr.as_str()),
                ("group", self.group.as_str()),
                ("version", self.version.as_str()),
            ],
        );
        writer.gauge(
            "zenoh_mst_storage_failed",
            "Whether the storage takes no more writes.",
            self.is_failed,
        );
        writer.gauge(
            "zenoh_mst_root_number",
            "The first 13 hexadecimal digits of the root, as a number.",
            self.root_number(),
        );
        writer.gauge(
            "zenoh_mst_cut_lag_seconds",
            "How long ago the time is below which the root holds all updates.",
            self.now - self.cut,
        );
        writer.gauge(
            "zenoh_mst_keys",
            "Keys that have a value, in the root.",
            self.keys,
        );
        writer.gauge(
            "zenoh_mst_cells",
            "Cells in the root, tombstones among them.",
            self.cells,
        );
        writer.gauge(
            "zenoh_mst_tombstones",
            "Tombstones in the root.",
            self.tombstones,
        );
        writer.gauge(
            "zenoh_mst_quarantined_cells",
            "Cells that are damaged and set aside.",
            self.quarantined_cells,
        );
        writer.gauge(
            "zenoh_mst_disk_bytes",
            "Length of the files of the storage engine.",
            self.disk_bytes,
        );
    }

    /// The root as a number: a series whose value changes, where a label with the root
    /// would make a new series each time.
    fn root_number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.root;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> (u64::BITS - 4 * ROOT_DIGITS)
    }
}

impl QueueMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.gauge(
            "zenoh_mst_uncommitted_updates",
            "Updates that are not on disk.",
            self.uncommitted,
        );
        writer.gauge(
            "zenoh_mst_uncommitted_bytes",
            "Bytes of the updates that are not on disk.",
            self.uncommitted_bytes,
        );
        writer.gauge(
            "zenoh_mst_unsettled_cells",
            "Cells of which the newest update is not part of the tree.",
            self.unsettled,
        );
    }
}

impl LifetimeMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.gauge(
            "zenoh_mst_fading_cells",
            "Cells in the tree that have a lifetime.",
            self.cells,
        );
        writer.gauge(
            "zenoh_mst_held_deaths_seconds",
            "How far the clock is ahead of what anything else confirms, so that deaths wait.",
            self.held,
        );
        writer.counter(
            "zenoh_mst_expired_cells",
            "Cells whose lifetime was over.",
            self.expired,
        );
        writer.counter(
            "zenoh_mst_dead_updates",
            "Puts, deletes and cells of other replicas whose lifetime was over when they came.",
            self.dead,
        );
        writer.counter(
            "zenoh_mst_ttl_without_lifetime",
            "Puts with a ttl in their encoding to keys without a lifetime: hidden, and never freed.",
            self.ttl_without_lifetime,
        );
    }
}

impl CollectionMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.gauge(
            "zenoh_mst_floor_timestamp_seconds",
            "The time before which no write is taken, since what was deleted is collected; 0 if all are.",
            self.floor,
        );
        writer.gauge(
            "zenoh_mst_held_floor_seconds",
            "How far the clock is ahead of what the floor has followed.",
            self.held,
        );
        writer.counters(
            "zenoh_mst_collected_cells",
            "Cells that were collected.",
            "kind",
            [("tombstone", self.tombstones), ("rule", self.rules)],
        );
        writer.counter(
            "zenoh_mst_refused_late_updates",
            "Puts and deletes that were refused since they were stamped before the floor.",
            self.refused_late,
        );
    }
}

impl ChangeMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.counter(
            "zenoh_mst_changes_published",
            "Changes that came by repair, restore, rollback or the end of a lifetime and were published.",
            self.published,
        );
        writer.counter(
            "zenoh_mst_changes_dropped",
            "Changes that were not published, though somebody listened.",
            self.dropped,
        );
    }
}

impl OperationMetrics {
    fn write(&self, writer: &mut Writer) {
        writer.counter("zenoh_mst_puts", "Puts that passed the checks.", self.puts);
        writer.counter(
            "zenoh_mst_deletes",
            "Deletes that passed the checks.",
            self.deletes,
        );
        writer.counter("zenoh_mst_gets", "Keys looked up.", self.gets);
        writer.counter(
            "zenoh_mst_merged_cells",
            "Cells of other replicas that were joined.",
            self.merged,
        );
        writer.counter(
            "zenoh_mst_outdated_updates",
            "Puts, deletes and cells of other replicas that came too late to change anything.",
            self.outdated,
        );
        writer.counter(
            "zenoh_mst_refused_updates",
            "Puts and deletes that were refused.",
            self.refused,
        );
        writer.counter(
            "zenoh_mst_router_stamped_puts",
            "Puts to merged keys that a router stamped, refused ones among them.",
            self.stamped_by_routers,
        );
        writer.counter(
            "zenoh_mst_dropped_puts",
            "Puts and deletes that were dropped, since there was no room for them.",
            self.dropped,
        );
        writer.counter(
            "zenoh_mst_commits",
            "Groups of updates that were written.",
            self.commits,
        );
        writer.counter(
            "zenoh_mst_committed_cells",
            "Cells in the groups that were written.",
            self.committed_cells,
        );
    }
}
