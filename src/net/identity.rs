//! The identity that is kept with the data.

use std::path::Path;

use super::random;
use crate::{
    store::{Sidecar, StoreError},
    sync::ReplicaId,
};

/// The identity of the replica whose data is in `folder`, made if there is none; a
/// new one each time, where the data is gone with the process. `name` is that of the
/// storage, for the log. Blocks on disk.
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

/// Names the replica whose data is in `folder`, for good. Blocks on disk.
pub(super) fn keep(folder: &Path, identity: ReplicaId) -> Result<(), StoreError> {
    Sidecar::Identity.write(folder, &identity.to_string())
}
