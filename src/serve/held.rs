//! A storage's folder, from when the storage is opened until its store is closed.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use zenoh::Result as ZResult;

use super::claims::Claim;
use crate::store::destroy;

/// The folder of an open store. Dropped when the store is closed: what is to be deleted then is,
/// before anybody else gets the folder.
#[derive(Debug)]
pub(super) struct HeldFolder {
    name: String,
    path: PathBuf,
    is_to_be_destroyed: AtomicBool,
    _claim: Claim,
}

impl HeldFolder {
    pub(super) fn new(name: &str, path: PathBuf, claim: Claim) -> Self {
        Self {
            name: name.to_owned(),
            path,
            is_to_be_destroyed: AtomicBool::new(false),
            _claim: claim,
        }
    }

    /// Has the folder deleted when the store is closed.
    pub(super) fn destroy_when_closed(&self) {
        self.is_to_be_destroyed.store(true, Ordering::Relaxed);
    }
}

/// Deletes the folder of a storage that is closed, and had to be kept until now. Blocks on disk.
///
/// # Errors
/// If somebody else has it.
pub(crate) fn destroy_closed(name: &str, path: PathBuf) -> ZResult<()> {
    let claim = Claim::wait_for(&path)?;
    let held = HeldFolder::new(name, path, claim);
    held.destroy_when_closed();
    Ok(())
}

impl Drop for HeldFolder {
    fn drop(&mut self) {
        if !self.is_to_be_destroyed.load(Ordering::Relaxed) {
            return;
        }
        let (name, path) = (&self.name, self.path.display());
        match destroy(&self.path) {
            Ok(true) => tracing::info!("storage '{name}': {path} was deleted"),
            Ok(false) => tracing::warn!(
                "storage '{name}': its files in {path} were deleted; the folder stays, as there is \
                 something else in it"
            ),
            Err(error) => tracing::error!("storage '{name}': {path} was not deleted: {error}"),
        }
    }
}
