//! A storage's state in JSON. docs/operators.md documents its fields.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use zenoh::time::NTP64;

use super::{operator::Operator, replicator::Replicator, served::Served, session::Way};
use crate::{
    replica::{Damage, Replica},
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
    pub fn status(&self) -> Value {
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
        storage_status(self, self.configuration.clone())
    }
}

impl Operator {
    /// The status without what grows with the number of replicas, or of cells: those that are there and
    /// equal are counted, and of others there are a few.
    pub(super) fn brief_status(&self) -> Value {
        let mut status = storage_status(self, Value::Null);
        shorten(&mut status);
        status
    }
}

/// Replicas that are listed although a status is to be short.
const MAX_PEERS: usize = 16;

/// Leaves out what may be long.
fn shorten(status: &mut Value) {
    for list in ["/scrub/damaged", "/scrub/quarantined", "/refused"] {
        if let Some(Value::Array(list)) = status.pointer_mut(list) {
            list.truncate(1);
        }
    }
    if let Some(Value::Array(peers)) = status.pointer_mut("/replication/peers") {
        let all = peers.len();
        peers.retain(|peer| peer["present"] == false || peer["relation"] != "equal");
        let equal = all - peers.len();
        let others = peers.len();
        peers.truncate(MAX_PEERS);
        let more = others - peers.len();
        status["replication"]["equal_peers"] = equal.into();
        status["replication"]["more_peers"] = more.into();
    }
}

/// A storage's status, with its configuration.
fn storage_status(operator: &Operator, configuration: Value) -> Value {
    let admin = &operator.admin;
    let replica = &admin.replica;
    let published = replica.published();
    let queues = replica.queues();
    let counts = replica.counts();
    let replication = operator.replicator.as_deref().map(Replicator::status);
    let refused = replica.refused_writes().into_iter().map(|refused| {
        json!({
            "key": refused.key,
            "timestamp": refused.timestamp.to_string(),
            "at": ntp64_text(refused.at),
            "reason": refused.reason,
        })
    });
    json!({
        "name": admin.name,
        "identity": operator.identity().to_string(),
        "router": operator.found.whereabouts(),
        "configuration": configuration,
        "root": published.root.to_string(),
        "cut": ntp64_text(published.cut),
        "keys": published.keys,
        "cells": published.cells,
        "tombstones": published.tombstones,
        "wildcard_rules": replica.wildcard_rules().len(),
        "disk_bytes": replica.disk_bytes(),
        "queues": {
            "uncommitted": queues.uncommitted,
            "uncommitted_bytes": queues.uncommitted_bytes,
            "unsettled": queues.unsettled,
        },
        "counters": {
            "puts": counts.puts,
            "deletes": counts.deletes,
            "merged": counts.merged,
            "gets": counts.gets,
            "outdated": counts.outdated,
            "refused": counts.refused,
            "stamped_by_routers": counts.stamped_by_routers,
            "dropped": counts.dropped,
            "commits": counts.commits,
            "committed_cells": counts.committed_cells,
            "refused_queries": operator.refused.load(Ordering::Relaxed),
        },
        "refused": refused.collect::<Vec<_>>(),
        "dropped": operator.dropped.status(),
        "lifetimes": lifetimes_json(replica),
        "collection": collection_json(replica),
        "changes": operator.changes.status(),
        "scrub": scrub_json(operator),
        "replication": replication,
        "recovered": admin.recovered(),
        "failure": replica.failure().map(|failure| failure.to_string()),
    })
}

/// What lives for some time, and what has died.
fn lifetimes_json(replica: &Replica) -> Value {
    let (counts, fading) = (replica.counts(), replica.fading());
    json!({
        "patterns": replica.lifetimes().len(),
        "cells": fading.cells,
        "expired": counts.expired,
        "dead": counts.dead,
        "ttl_without_lifetime": counts.ttl_without_lifetime,
        "held_seconds": fading.held >> 32,
    })
}

/// How far the collection is, and what it has done.
pub(super) fn collection_json(replica: &Replica) -> Value {
    let (counts, collection) = (replica.counts(), replica.collection());
    let time = |time: u64| (time > 0).then(|| ntp64_text(time));
    json!({
        "state": collection.state_name(),
        "after_seconds": collection.after.map(|after| after.as_secs()),
        "floor": time(collection.floor),
        "horizon": time(collection.horizon),
        "collected_tombstones": counts.collected_tombstones,
        "collected_rules": counts.collected_rules,
        "refused_late": counts.refused_late,
        "held_seconds": collection.held >> 32,
    })
}

/// The state of the scrub, and the damage that was found.
pub(super) fn scrub_json(operator: &Operator) -> Value {
    let admin = &operator.admin;
    let (state, counts) = (admin.scrubbing.state(), admin.replica.counts());
    let damaged = state.damaged.iter();
    let damaged = damaged.map(|damage| damage_json(operator, damage));
    let quarantined = admin.replica.first_quarantined(MAX_LISTED);
    let quarantined = quarantined.iter().map(|(key, version)| {
        json!({
            "key": admin.group.full_key(&key.key),
            "timestamp": version.timestamp.to_string(),
        })
    });
    json!({
        "state": state.name(),
        "pass": {
            "checked": state.checked,
            "of": admin.replica.published().cells,
            "started": state.started.map(ntp64_text),
        },
        "last_completed": state.completed.map(ntp64_text),
        "checked_cells": counts.scrubbed,
        "damaged_cells": counts.damaged,
        "repaired_cells": counts.repaired,
        "damaged": damaged.collect::<Vec<_>>(),
        "quarantined": quarantined.collect::<Vec<_>>(),
        "quarantined_cells": admin.replica.quarantined_cells(),
    })
}

pub(super) fn damage_json(operator: &Operator, damage: &Damage) -> Value {
    json!({
        "key": operator.admin.group.full_key(&damage.key.key),
        "part": crate::hex::encode(damage.key.part.as_bytes()),
        "timestamp": damage.version.timestamp.to_string(),
        "reason": damage.reason,
    })
}

fn peer(peer: &PeerStatus) -> Value {
    let announced = peer.announced.as_ref();
    json!({
        "replica": peer.replica.to_string(),
        "present": peer.present,
        "relation": peer.relation.name(),
        "reason": peer.isolation.as_ref().map(ToString::to_string),
        "root": announced.map(|announced| announced.span.root.to_string()),
        "cut": announced.map(|announced| ntp64_text(announced.span.to)),
        "cells": announced.map(|announced| announced.cells),
        "clock_offset_ms": peer.clock_offset_ms,
        "since": ntp64_text(peer.since),
        "last_equal": peer.last_equal.map(ntp64_text),
        "refused_cells": peer.refused_cells,
    })
}

fn replication_status(
    settings: &Settings,
    status: &Status,
    served: &Served,
    useless: u64,
    way: Option<Way>,
) -> Value {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "protocol": PROTOCOL,
        "group": settings.group.to_string(),
        "replica": settings.replica.to_string(),
        "fingerprint": settings.fingerprint.to_string(),
        "session": way.map(Way::name),
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
        "pulls": {
            "started": status.started,
            "completed": status.completed,
            "failed": status.failed,
            "deltas": status.deltas,
            "round_trips": status.round_trips,
            "bytes_sent": status.bytes_sent,
            "bytes_received": status.bytes_received,
            "cells_received": status.cells_received,
            "useless_cells": useless,
        },
        "served": {
            "digest_queries": count(&served.digest_queries),
            "entries_queries": count(&served.entries_queries),
            "bytes_sent": count(&served.bytes_sent),
            "damaged_cells": count(&served.damaged),
        },
        "announcements": {
            "sent": status.announced,
            "received": status.heard,
        },
        "rejected": {
            "malformed": status.rejected.malformed + count(&served.malformed),
            "key_expr": status.rejected.key_expr,
            "digest": status.rejected.digest,
            "clock": status.rejected.clock,
            "too_large": status.rejected.too_large,
            "strategy": status.rejected.strategy,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_hundred(relation: &str, present: bool) -> Value {
        let peer = json!({
            "replica": "0123456789abcdef0123456789abcdef",
            "present": present,
            "relation": relation,
            "reason": null,
            "root": "ab".repeat(32),
            "cut": "2026-11-24T04:44:34.625000000Z",
            "cells": 1_234_567,
            "clock_offset_ms": -123,
            "since": "2026-11-24T04:44:31.184691107Z",
            "last_equal": "2026-11-24T04:44:31.184691107Z",
            "refused_cells": 0,
        });
        json!({
            "refused": vec![json!({ "key": "k".repeat(200) }); 16],
            "scrub": {
                "damaged": vec![json!({ "key": "k".repeat(200) }); 100],
                "quarantined": vec![json!({ "key": "k".repeat(200) }); 100],
            },
            "replication": { "peers": vec![peer; 99] },
        })
    }

    /// A hundred replicas of ten storages are 1,000 of these.
    #[test]
    fn a_brief_status_is_short_however_many_replicas_there_are() {
        let mut equal = of_a_hundred("equal", true);
        shorten(&mut equal);
        assert!(
            equal.to_string().len() <= 900,
            "{}",
            equal.to_string().len()
        );
        assert_eq!(equal["replication"]["equal_peers"], 99);
        for (relation, present) in [("equal", false), ("divergent", true)] {
            let mut others = of_a_hundred(relation, present);
            shorten(&mut others);
            let replication = &others["replication"];
            assert_eq!(
                replication["peers"].as_array().map(Vec::len),
                Some(MAX_PEERS)
            );
            assert_eq!(
                (&replication["equal_peers"], &replication["more_peers"]),
                (&json!(0), &json!(83))
            );
        }
        let mut alone = json!({ "replication": null });
        shorten(&mut alone);
        assert_eq!(alone, json!({ "replication": null }));
    }
}
