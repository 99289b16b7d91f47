//! What the admin space shows.

use serde_json::{json, Value};
use zenoh::time::NTP64;

use crate::{net::Replicator, replica::Replica};

/// The status of a storage, beside its configuration. Documented, field by
/// field, in docs/operators.md.
pub(super) fn storage_status(
    replica: &Replica,
    configuration: Value,
    replicator: Option<&Replicator>,
) -> Value {
    let published = replica.published();
    let queues = replica.queues();
    let counts = replica.counts();
    json!({
        "configuration": configuration,
        "root": published.root.to_string(),
        "cut": NTP64(published.cut).to_string_rfc3339_lossy(),
        "keys": published.keys,
        "cells": published.cells,
        "tombstones": published.tombstones,
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
            "commits": counts.commits,
            "committed_cells": counts.committed_cells,
        },
        "replication": replicator.map(Replicator::status),
        "failure": replica.failure().map(|failure| failure.to_string()),
    })
}
