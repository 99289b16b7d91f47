//! A storage's status: what is in it, which `mstctl` reads as the same types, and how it is made.

mod types;

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde_json::{Value, json};
use zenoh::time::NTP64;

pub use self::types::*;
use super::{operator::Operator, replicator::Replicator, served::Served, session::Way};
use crate::{
    replica::Replica,
    sync::{PROTOCOL, PeerStatus, Settings, Status},
};

/// Cells in quarantine that the status lists: a damaged disk may have any number.
const MAX_LISTED: usize = 100;

/// A time in RFC 3339.
pub(super) fn ntp64_text(ntp64: u64) -> String {
    NTP64(ntp64).to_string_rfc3339_lossy()
}

impl Replicator {
    /// The status of replication.
    pub fn status(&self) -> Replication {
        let core = self.core();
        let (settings, status) = (core.machine.settings().clone(), core.machine.status());
        let useless = core.view.joins.useless();
        drop(core);
        replication_status(
            &settings,
            &status,
            &self.served,
            useless,
            self.session.get().map(|(_, way)| *way),
        )
    }
}

impl Operator {
    /// The status of the storage. Documented, field by field, in docs/operators.md.
    #[must_use]
    pub fn status(&self) -> Value {
        written(&storage_status(self, self.configuration.clone()))
    }

    /// A status of about a kilobyte, however many replicas and cells there are: what is to be known of
    /// a thousand storages at a time. What is nothing is left out, as whoever reads it takes it for that.
    pub(super) fn brief_status(&self) -> Value {
        brief(storage_status(self, Value::Null))
    }
}

/// A status that is short.
fn brief(mut status: StorageStatus) -> Value {
    shorten(&mut status);
    let mut status = written(&status);
    leave_out_nothing(&mut status);
    status
}

/// Takes out fields that say nothing, but for those of lists.
fn leave_out_nothing(value: &mut Value) {
    let Value::Object(fields) = value else {
        return;
    };
    fields.values_mut().for_each(leave_out_nothing);
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::Bool(is_so) => *is_so,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    });
}

/// A part of a status in JSON.
pub(super) fn written(status: &impl Serialize) -> Value {
    // Names are texts, and there are no numbers that JSON has not: it never happens.
    serde_json::to_value(status).unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

/// Replicas that are listed although a status is to be short.
const MAX_PEERS: usize = 16;

/// Leaves out what may be long: of peers those that are there and equal are counted, and of others there
/// are a few. Leaves out, too, what nobody asks a thousand storages for.
fn shorten(status: &mut StorageStatus) {
    status.configuration = Value::Null;
    status.refused.truncate(1);
    status.dropped.clear();
    status.lifetimes = Lifetimes::default();
    status.collection = Collection::default();
    status.changes = ChangeFeed::default();
    let counters = &status.counters;
    status.counters = Counters {
        puts: counters.puts,
        deletes: counters.deletes,
        gets: counters.gets,
        refused: counters.refused,
        ..Counters::default()
    };
    if let Some(scrub) = &mut status.scrub {
        scrub.damaged.clear();
        scrub.quarantined.truncate(1);
    }
    if let Some(replication) = &mut status.replication {
        let mut peers = std::mem::take(&mut replication.peers);
        let all = peers.len();
        peers.retain(|peer| !peer.present || peer.relation != "equal");
        let others = peers.len();
        peers.truncate(MAX_PEERS);
        *replication = Replication {
            protocol: replication.protocol,
            session: replication.session.take(),
            equal_peers: Some((all - others) as u64),
            more_peers: Some((others - peers.len()) as u64),
            peers,
            pulls: Pulls {
                failed: replication.pulls.failed,
                bytes_received: replication.pulls.bytes_received,
                ..Pulls::default()
            },
            ..Replication::default()
        };
    }
}

/// A storage's status, with its configuration.
fn storage_status(operator: &Operator, configuration: Value) -> StorageStatus {
    let admin = &operator.admin;
    let replica = &admin.replica;
    let published = replica.published();
    let queues = replica.queues();
    let counts = replica.counts();
    let refused = replica.refused_writes().into_iter();
    let refused = refused.map(|refused| RefusedWrite {
        key: refused.key.to_string(),
        timestamp: refused.timestamp.to_string(),
        at: ntp64_text(refused.at),
        reason: refused.reason.to_string(),
    });
    StorageStatus {
        name: admin.name.clone(),
        identity: operator.identity().to_string(),
        router: operator.found.whereabouts(),
        configuration,
        root: published.root.to_string(),
        cut: ntp64_text(published.cut),
        keys: published.keys as u64,
        cells: published.cells as u64,
        tombstones: published.tombstones as u64,
        wildcard_rules: replica.wildcard_rules().len() as u64,
        disk_bytes: replica.disk_bytes(),
        queues: Queues {
            uncommitted: queues.uncommitted as u64,
            uncommitted_bytes: queues.uncommitted_bytes as u64,
            unsettled: queues.unsettled as u64,
        },
        counters: Counters {
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
            refused_queries: operator.refused.load(Ordering::Relaxed),
        },
        refused: refused.collect(),
        dropped: operator.dropped.status(),
        lifetimes: lifetimes_status(replica),
        collection: collection_status(replica),
        changes: operator.changes.status(),
        scrub: Some(scrub_status(operator)),
        replication: operator.replicator.as_deref().map(Replicator::status),
        recovered: admin.recovered(),
        failure: replica.failure().map(|failure| failure.to_string()),
    }
}

/// What lives for some time, and what has died.
fn lifetimes_status(replica: &Replica) -> Lifetimes {
    let (counts, fading) = (replica.counts(), replica.fading());
    Lifetimes {
        patterns: replica.lifetimes().len() as u64,
        cells: fading.cells as u64,
        expired: counts.expired,
        dead: counts.dead,
        ttl_without_lifetime: counts.ttl_without_lifetime,
        held_seconds: fading.held >> 32,
    }
}

/// How far the collection is, and what it has done.
pub(super) fn collection_status(replica: &Replica) -> Collection {
    let (counts, collection) = (replica.counts(), replica.collection());
    let time = |time: u64| (time > 0).then(|| ntp64_text(time));
    Collection {
        state: collection.state_name().to_owned(),
        after_seconds: collection.after.map(|after| after.as_secs()),
        floor: time(collection.floor),
        horizon: time(collection.horizon),
        collected_tombstones: counts.collected_tombstones,
        collected_rules: counts.collected_rules,
        refused_late: counts.refused_late,
        held_seconds: collection.held >> 32,
    }
}

/// The state of the scrub, and the damage that was found.
pub(super) fn scrub_status(operator: &Operator) -> Scrub {
    let admin = &operator.admin;
    let (state, counts) = (admin.scrubbing.state(), admin.replica.counts());
    let damaged = state.damaged.iter();
    let damaged = damaged.map(|damage| damage_status(operator, damage));
    let quarantined = admin.replica.first_quarantined(MAX_LISTED);
    let quarantined = quarantined.iter().map(|(key, version)| QuarantinedCell {
        key: admin.group.full_key(&key.key),
        timestamp: version.timestamp.to_string(),
    });
    Scrub {
        state: state.name().to_owned(),
        pass: Pass {
            checked: state.checked,
            of: admin.replica.published().cells as u64,
            started: state.started.map(ntp64_text),
        },
        last_completed: state.completed.map(ntp64_text),
        checked_cells: counts.scrubbed,
        damaged_cells: counts.damaged,
        repaired_cells: counts.repaired,
        damaged: damaged.collect(),
        quarantined: quarantined.collect(),
        quarantined_cells: admin.replica.quarantined_cells() as u64,
    }
}

pub(super) fn damage_status(operator: &Operator, damage: &crate::replica::Damage) -> Damage {
    Damage {
        key: operator.admin.group.full_key(&damage.key.key),
        part: crate::hex::encode(damage.key.part.as_bytes()),
        timestamp: damage.version.timestamp.to_string(),
        reason: damage.reason.to_string(),
    }
}

fn peer(peer: &PeerStatus) -> Peer {
    let announced = peer.announced.as_ref();
    Peer {
        replica: peer.replica.to_string(),
        present: peer.present,
        relation: peer.relation.name().to_owned(),
        reason: peer.isolation.as_ref().map(ToString::to_string),
        root: announced.map(|announced| announced.span.root.to_string()),
        cut: announced.map(|announced| ntp64_text(announced.span.to)),
        cells: announced.map(|announced| announced.cells),
        clock_offset_ms: peer.clock_offset_ms,
        since: ntp64_text(peer.since),
        last_equal: peer.last_equal.map(ntp64_text),
        refused_cells: peer.refused_cells as u64,
    }
}

fn replication_status(
    settings: &Settings,
    status: &Status,
    served: &Served,
    useless: u64,
    way: Option<Way>,
) -> Replication {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Replication {
        protocol: PROTOCOL,
        group: settings.group.to_string(),
        replica: settings.replica.to_string(),
        fingerprint: settings.fingerprint.to_string(),
        session: way.map(|way| way.name().to_owned()),
        peers: status.peers.iter().map(peer).collect(),
        equal_peers: None,
        more_peers: None,
        pulls: Pulls {
            started: status.started,
            completed: status.completed,
            failed: status.failed,
            deltas: status.deltas,
            round_trips: status.round_trips,
            bytes_sent: status.bytes_sent,
            bytes_received: status.bytes_received,
            cells_received: status.cells_received,
            useless_cells: useless,
        },
        served: Answered {
            digest_queries: count(&served.digest_queries),
            entries_queries: count(&served.entries_queries),
            bytes_sent: count(&served.bytes_sent),
            damaged_cells: count(&served.damaged),
        },
        announcements: Announcements {
            sent: status.announced,
            received: status.heard,
        },
        rejected: Rejected {
            malformed: status.rejected.malformed + count(&served.malformed),
            key_expr: status.rejected.key_expr,
            digest: status.rejected.digest,
            clock: status.rejected.clock,
            too_large: status.rejected.too_large,
            strategy: status.rejected.strategy,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;
    use crate::net::Whereabouts;

    fn of_a_hundred(relation: &str, present: bool) -> StorageStatus {
        let key = "k".repeat(200);
        let peer = Peer {
            replica: "0123456789abcdef0123456789abcdef".to_owned(),
            present,
            relation: relation.to_owned(),
            root: Some("ab".repeat(32)),
            cut: Some("2026-11-24T04:44:34.625000000Z".to_owned()),
            cells: Some(1_234_567),
            clock_offset_ms: Some(-123),
            since: "2026-11-24T04:44:31.184691107Z".to_owned(),
            last_equal: Some("2026-11-24T04:44:31.184691107Z".to_owned()),
            ..Peer::default()
        };
        StorageStatus {
            refused: vec![
                RefusedWrite {
                    key: key.clone(),
                    ..RefusedWrite::default()
                };
                16
            ],
            scrub: Some(Scrub {
                damaged: vec![
                    Damage {
                        key: Some(key.clone()),
                        ..Damage::default()
                    };
                    100
                ],
                quarantined: vec![
                    QuarantinedCell {
                        key: Some(key),
                        ..QuarantinedCell::default()
                    };
                    100
                ],
                ..Scrub::default()
            }),
            replication: Some(Replication {
                peers: vec![peer; 99],
                ..Replication::default()
            }),
            ..StorageStatus::default()
        }
    }

    /// A storage that has all that one can have.
    fn busy() -> StorageStatus {
        let cut = "2026-11-24T04:44:34.625000000Z".to_owned();
        let mut status = of_a_hundred("equal", true);
        status.name = "positions-of-all-robots".to_owned();
        status.identity = "0123456789abcdef0123456789abcdef".to_owned();
        status.router = Whereabouts {
            zid: Some("0123456789abcdef0123456789abcdef".to_owned()),
            name: Some("robot-0017".to_owned()),
            host: "robot-0017.fleet.example".to_owned(),
        };
        status.configuration = json!({ "key_expr": "k".repeat(2000) });
        status.root = "ab".repeat(32);
        status.cut.clone_from(&cut);
        for count in [
            &mut status.keys,
            &mut status.cells,
            &mut status.tombstones,
            &mut status.disk_bytes,
            &mut status.queues.uncommitted,
            &mut status.queues.unsettled,
            &mut status.counters.puts,
            &mut status.counters.gets,
            &mut status.counters.merged,
            &mut status.counters.commits,
        ] {
            *count = 1_234_567_890;
        }
        let refused = &mut status.refused;
        refused.clear();
        let scrub = status.scrub.as_mut().expect("it has one");
        scrub.state = "running".to_owned();
        (scrub.pass.checked, scrub.pass.of) = (1_234_567, 12_345_678);
        scrub.checked_cells = 1_234_567_890;
        scrub.last_completed = Some(cut);
        scrub.quarantined.clear();
        let replication = status.replication.as_mut().expect("it is replicated");
        replication.group = "positions%2f%2a%2a".to_owned();
        replication.pulls.bytes_received = 1_234_567_890;
        replication.pulls.cells_received = 1_234_567_890;
        status
    }

    /// A hundred replicas of ten storages are 1,000 of these, and are to be a megabyte.
    #[test]
    fn a_brief_status_is_short_however_many_replicas_there_are() {
        let length = brief(busy()).to_string().len();
        assert!(length <= 1000, "{length}");
        let mut equal = busy();
        shorten(&mut equal);
        let replication = equal.replication.expect("it is replicated");
        assert_eq!(replication.equal_peers, Some(99));
        for (relation, present) in [("equal", false), ("divergent", true)] {
            let mut others = of_a_hundred(relation, present);
            shorten(&mut others);
            let replication = others.replication.expect("it is replicated");
            assert_eq!(replication.peers.len(), MAX_PEERS);
            assert_eq!(
                (replication.equal_peers, replication.more_peers),
                (Some(0), Some(83))
            );
        }
        let mut alone = StorageStatus::default();
        shorten(&mut alone);
        assert_eq!(alone, StorageStatus::default());
    }

    #[test]
    fn what_a_brief_status_leaves_out_is_read_as_nothing() {
        let read = |status: Value| StorageStatus::deserialize(status).expect("a status");
        let mut shortened = busy();
        shorten(&mut shortened);
        let replication = shortened.replication.as_mut().expect("it is replicated");
        // Whoever reads it takes none for nought.
        assert_eq!(replication.more_peers.take(), Some(0));
        assert_eq!(read(brief(busy())), shortened);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for mut status in [of_a_hundred("equal", true), StorageStatus::default()] {
            let read = |status: &StorageStatus| StorageStatus::deserialize(written(status));
            assert_eq!(read(&status).expect("a status"), status);
            shorten(&mut status);
            assert_eq!(read(&status).expect("a status"), status);
        }
        // Of another version.
        let other = json!({ "keys": 3, "more": [1], "replication": { "peers": [{}] } });
        let read = StorageStatus::deserialize(other).expect("a status");
        assert_eq!(read.keys, 3);
        assert_eq!(read.replication.expect("it is there").peers.len(), 1);
    }
}
