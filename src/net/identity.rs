//! The replica's identity, kept with its data.

use std::path::Path;

use super::random;
use crate::{
    store::{Sidecar, StoreError},
    sync::ReplicaId,
};

/// The identity of the replica whose data is in `folder`, created if there is none;
/// without a folder a new one each time. `name` is the storage's, for the log. Blocks on
/// disk.
pub(super) fn load(name: &str, folder: Option<&Path>) -> Result<ReplicaId, StoreError> {
    let Some(folder) = folder else {
        return Ok(random::identity());
    };
    let kept = Sidecar::Identity.read(folder)?;
    if let Some(Ok(identity)) = kept.as_deref().map(str::parse) {
        return Ok(identity);
    }
    if kept.is_some() {
        tracing::warn!("storage '{name}': its identity is damaged, and a new one is made");
    }
    let identity = random::identity();
    keep(folder, identity)?;
    Ok(identity)
}

/// Stores the identity of the replica whose data is in `folder`. Blocks on disk.
pub(super) fn keep(folder: &Path, identity: ReplicaId) -> Result<(), StoreError> {
    Sidecar::Identity.write(folder, &identity.to_string())
}
