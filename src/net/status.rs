//! A storage's state in JSON. docs/operators.md documents its fields.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{json, Value};
use zenoh::time::NTP64;

use super::{operator::Operator, replicator::Replicator, served::Served, session::Way};
use crate::{
    replica::Damage,
    sync::{PeerStatus, Settings, Status, PROTOCOL},
};

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

/// A storage's status, with its configuration.
fn storage_status(operator: &Operator, configuration: Value) -> Value {
    let admin = &operator.admin;
    let replica = &admin.replica;
    let published = replica.published();
    let queues = replica.queues();
    let counts = replica.counts();
    let replication = operator.replicator.as_deref().map(Replicator::status);
    json!({
        "name": admin.name,
        "identity": operator.identity().to_string(),
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
            "dropped": counts.dropped,
            "commits": counts.commits,
            "committed_cells": counts.committed_cells,
        },
        "changes": operator.changes.status(),
        "scrub": scrub_json(operator),
        "replication": replication,
        "recovered": admin.recovered(),
        "failure": replica.failure().map(|failure| failure.to_string()),
    })
}

/// The state of the scrub, and the damage that was found.
pub(super) fn scrub_json(operator: &Operator) -> Value {
    let admin = &operator.admin;
    let (state, counts) = (admin.scrubbing.state(), admin.replica.counts());
    let damaged = state.damaged.iter();
    let damaged = damaged.map(|damage| damage_json(operator, damage));
    let quarantined = admin.replica.quarantined();
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
