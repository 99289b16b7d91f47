//! A storage's folder, from when the storage is opened until its store is closed.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use zenoh::Result as ZResult;

use super::{claims::Claim, remembered::remember};
use crate::{
    config::LifetimesConfig,
    store::{destroy, is_made},
};

/// The folder of an open store. Dropped when the store is closed: what is to be deleted then is,
/// before anybody else gets the folder.
pub(crate) struct HeldFolder {
    name: String,
    path: PathBuf,
    is_to_be_destroyed: AtomicBool,
    /// By which lifetimes cells die, if they do, and by which watermark they have, in NTP64.
    died_by: Option<(LifetimesConfig, AtomicU64)>,
    _claim: Claim,
}

impl HeldFolder {
    pub(super) fn new(
        name: &str,
        path: PathBuf,
        claim: Claim,
        died_by: Option<(LifetimesConfig, u64)>,
    ) -> Self {
        let died_by = died_by.map(|(lifetimes, until)| (lifetimes, AtomicU64::new(until)));
        Self {
            name: name.to_owned(),
            path,
            died_by,
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
    let held = HeldFolder::new(name, path, claim, None);
    held.destroy_when_closed();
    Ok(())
}

impl HeldFolder {
    /// Cells have died by this watermark, in NTP64.
    pub(super) fn note_died(&self, watermark: u64) {
        if let Some((_, until)) = &self.died_by {
            until.fetch_max(watermark, Ordering::Relaxed);
        }
    }

    /// Keeps in the folder by which lifetimes cells have died, and until when. Blocks on disk.
    pub(super) fn remember(&self) {
        let Some((lifetimes, until)) = &self.died_by else {
            return;
        };
        // One that was not made, or that somebody took away, is none to write to.
        if !is_made(&self.path) {
            return;
        }
        if let Err(error) = remember(&self.path, lifetimes, until.load(Ordering::Relaxed)) {
            tracing::warn!("storage '{}': {error}", self.name);
        }
    }
}

impl Drop for HeldFolder {
    fn drop(&mut self) {
        if !self.is_to_be_destroyed.load(Ordering::Relaxed) {
            return self.remember();
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
