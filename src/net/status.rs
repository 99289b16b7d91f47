//! The state of replication in JSON. Documented, field by field, in
//! docs/operators.md.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{json, Value};
use zenoh::time::NTP64;

use super::{serve::Served, session::Way};
use crate::sync::{PeerStatus, Settings, Status, PROTOCOL};

fn time(ntp64: u64) -> String {
    NTP64(ntp64).to_string_rfc3339_lossy()
}

fn peer(peer: &PeerStatus) -> Value {
    let announced = peer.announced.as_ref();
    json!({
        "replica": peer.replica.to_string(),
        "present": peer.present,
        "relation": peer.relation.name(),
        "reason": peer.isolation.as_ref().map(ToString::to_string),
        "root": announced.map(|announced| announced.span.root.to_string()),
        "cut": announced.map(|announced| time(announced.span.to)),
        "cells": announced.map(|announced| announced.cells),
        "since": time(peer.since),
        "last_equal": peer.last_equal.map(time),
    })
}

pub(super) fn replication_status(
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
