//! The status of a storage, as it is written and read: docs/operators.md documents its fields.
//!
//! Whoever reads it takes a field that is missing for nothing, as a router of another version may not
//! have it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::net::Whereabouts;

/// Declares types of the status.
macro_rules! status {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(default)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)+
            }
        )+
    };
}

status! {
    /// The status of a storage. Times are in RFC 3339.
    StorageStatus {
        /// The storage's name in the router's configuration.
        name: String,
        /// The replica's identity.
        identity: String,
        /// Where the replica is.
        router: Whereabouts,
        /// The storage's configuration, as the storage manager or the plugin has it; null in a brief
        /// status.
        configuration: Value,
        /// The root.
        root: String,
        /// The time below which the root covers all updates.
        cut: String,
        /// Keys that have a value.
        keys: u64,
        /// Cells, tombstones among them.
        cells: u64,
        /// Tombstones.
        tombstones: u64,
        /// Puts to patterns and deletes of patterns that are in force.
        wildcard_rules: u64,
        /// Bytes of the engine's files.
        disk_bytes: u64,
        /// What has come and is not in the root, or not on disk.
        queues: Queues,
        /// What the storage has done since it was opened.
        counters: Counters,
        /// The last writes that were refused.
        refused: Vec<RefusedWrite>,
        /// Messages that were left alone, since too many came at a time, by kind.
        dropped: BTreeMap<String, u64>,
        /// What lives for some time.
        lifetimes: Lifetimes,
        /// What is collected of what is old.
        collection: Collection,
        /// The feed of changes that pub/sub did not bring.
        changes: ChangeFeed,
        /// The scrub.
        scrub: Option<Scrub>,
        /// Replication, of a storage that is replicated.
        replication: Option<Replication>,
        /// The folder that a store was moved to that could not be opened.
        recovered: Option<String>,
        /// Why the storage takes no more writes.
        failure: Option<String>,
    }

    /// Queues of a storage.
    Queues {
        /// Updates that are not on disk.
        uncommitted: u64,
        /// Bytes of these.
        uncommitted_bytes: u64,
        /// Cells of which a newer version is not in the tree.
        unsettled: u64,
    }

    /// Counters of a storage.
    Counters {
        /// Puts, outdated ones among them.
        puts: u64,
        /// Deletes, outdated ones among them.
        deletes: u64,
        /// Cells of other replicas.
        merged: u64,
        /// Reads.
        gets: u64,
        /// Writes that changed nothing.
        outdated: u64,
        /// Writes that were refused.
        refused: u64,
        /// Puts to merged keys that a router stamped.
        stamped_by_routers: u64,
        /// Writes that were dropped, since there was no room for them.
        dropped: u64,
        /// Groups that were committed.
        commits: u64,
        /// Cells in these.
        committed_cells: u64,
        /// Queries of operators that were refused.
        refused_queries: u64,
    }

    /// A write that was refused.
    RefusedWrite {
        /// Its key.
        key: String,
        /// Its timestamp.
        timestamp: String,
        /// When it was refused.
        at: String,
        /// Why.
        reason: String,
    }

    /// What lives for some time.
    Lifetimes {
        /// Patterns that have a lifetime.
        patterns: u64,
        /// Cells that have one.
        cells: u64,
        /// Cells that left the tree, as their lifetime was over.
        expired: u64,
        /// Writes whose lifetime was over before they came.
        dead: u64,
        /// Puts with a time to live that were taken without it.
        ttl_without_lifetime: u64,
        /// Seconds by which deaths are behind the clock.
        held_seconds: u64,
    }

    /// How far the collection is, and what it has done.
    Collection {
        /// What it does.
        state: String,
        /// How old is what is collected; nothing if nothing is.
        after_seconds: Option<u64>,
        /// What is older is refused.
        floor: Option<String>,
        /// What is older is collected.
        horizon: Option<String>,
        /// Tombstones that were collected.
        collected_tombstones: u64,
        /// Delete rules that were collected.
        collected_rules: u64,
        /// Writes that were refused, as they are older than the floor.
        refused_late: u64,
        /// Seconds by which the collection waits for the clock to be witnessed.
        held_seconds: u64,
    }

    /// The feed of changes.
    ChangeFeed {
        /// Whether anybody listens.
        heard: bool,
        /// Changes that wait to be published.
        queued: u64,
        /// Changes that were published.
        published: u64,
        /// Changes that were not published although somebody listened.
        dropped: u64,
    }

    /// The scrub.
    Scrub {
        /// `off`, `running` or `paused`.
        state: String,
        /// The pass that is under way.
        pass: Pass,
        /// When the last pass ended.
        last_completed: Option<String>,
        /// Cells checked, in all passes.
        checked_cells: u64,
        /// Cells found damaged.
        damaged_cells: u64,
        /// Damaged cells that were rewritten or replaced.
        repaired_cells: u64,
        /// The last damages that were found.
        damaged: Vec<Damage>,
        /// The first cells in quarantine: they have not been had from another replica.
        quarantined: Vec<QuarantinedCell>,
        /// How many there are in all.
        quarantined_cells: u64,
    }

    /// A pass of the scrub.
    Pass {
        /// Cells that it has checked.
        checked: u64,
        /// Cells that there are.
        of: u64,
        /// When it began.
        started: Option<String>,
    }

    /// A cell that is damaged.
    Damage {
        /// Its key; none if there is none that clients know.
        key: Option<String>,
        /// Its part of the key's value, in hexadecimal digits.
        part: String,
        /// Its timestamp.
        timestamp: String,
        /// What is wrong.
        reason: String,
    }

    /// A cell in quarantine.
    QuarantinedCell {
        /// Its key; none if there is none that clients know.
        key: Option<String>,
        /// Its timestamp.
        timestamp: String,
    }

    /// The status of replication.
    Replication {
        /// The number of the protocol.
        protocol: u8,
        /// The storages that this one is a replica of, as a chunk of a key.
        group: String,
        /// The replica's identity.
        replica: String,
        /// What of the configuration all replicas have to have in common.
        fingerprint: String,
        /// How the session was had.
        session: Option<String>,
        /// Other replicas. In a brief status without those that are there and equal.
        peers: Vec<Peer>,
        /// In a brief status, how many are there and equal.
        #[serde(skip_serializing_if = "Option::is_none")]
        equal_peers: Option<u64>,
        /// In a brief status, how many others are not listed.
        #[serde(skip_serializing_if = "Option::is_none")]
        more_peers: Option<u64>,
        /// What was fetched from others.
        pulls: Pulls,
        /// What others were answered.
        served: Answered,
        /// Announcements of roots.
        announcements: Announcements,
        /// What was rejected.
        rejected: Rejected,
    }

    /// Another replica.
    Peer {
        /// Its identity.
        replica: String,
        /// Whether it can be reached.
        present: bool,
        /// How it stands to this one.
        relation: String,
        /// Why it is isolated.
        reason: Option<String>,
        /// The root that it last announced.
        root: Option<String>,
        /// The time below which that covers all updates.
        cut: Option<String>,
        /// Cells that it has.
        cells: Option<u64>,
        /// By how much its clock is ahead of that of the replica that says so.
        clock_offset_ms: Option<i64>,
        /// Since when it can be reached, or not.
        since: String,
        /// When both last had the same root.
        last_equal: Option<String>,
        /// Cells that it has and the one that says so does not take.
        refused_cells: u64,
    }

    /// Pulls of a replica.
    Pulls {
        /// Pulls begun.
        started: u64,
        /// Pulls that came to their end.
        completed: u64,
        /// Pulls that broke off.
        failed: u64,
        /// Pulls of what had changed since a root that both had had.
        deltas: u64,
        /// Queries that were answered.
        round_trips: u64,
        /// Bytes of queries.
        bytes_sent: u64,
        /// Bytes of answers.
        bytes_received: u64,
        /// Cells that came, and were not rejected.
        cells_received: u64,
        /// Of these, those that were not newer than what was there.
        useless_cells: u64,
    }

    /// What other replicas were answered.
    Answered {
        /// Queries for where trees differ.
        digest_queries: u64,
        /// Queries for cells.
        entries_queries: u64,
        /// Bytes of answers.
        bytes_sent: u64,
        /// Cells that were not sent, as the disk has damaged them.
        damaged_cells: u64,
    }

    /// Announcements.
    Announcements {
        /// How many were sent.
        sent: u64,
        /// How many of others were received.
        received: u64,
    }

    /// What was rejected, by why.
    Rejected {
        /// Messages that cannot be read.
        malformed: u64,
        /// Cells of keys that the storage does not keep.
        key_expr: u64,
        /// Cells that are not what their digest says.
        digest: u64,
        /// Cells from too far ahead of the clock.
        clock: u64,
        /// Cells that are too large.
        too_large: u64,
        /// Cells of a strategy that is not known.
        strategy: u64,
    }
}

impl StorageStatus {
    /// Whether the storage has nothing on disk.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        let configuration = &self.configuration;
        let options = configuration.get("volume").unwrap_or(configuration);
        options.get("persistence").and_then(Value::as_str) == Some("memory")
    }
}

impl Queues {
    /// Whether all that came is in the root, and on disk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uncommitted == 0 && self.unsettled == 0
    }
}
