//! Operators' requests to a storage, independent of how they arrive.
//!
//! All of it works on an open storage. There is no network in here, and no clock: `net`
//! serves each request by a queryable, and `mstctl` serves without a router what makes
//! sense there.
//!
//! | part | purpose |
//! |---|---|
//! | `proofs` | proofs of keys |
//! | `listing` | keys, and the cells of a key |
//! | `scrubbing` | the scrub: its progress and pace |
//! | `copies` | backups, restoring them, and verifying what is kept |
//! | `snapshots` | named snapshots, and their quota |
//! | `rollback` | writes an earlier state anew |

mod copies;
mod error;
mod listing;
mod proofs;
mod rollback;
mod scrubbing;
mod snapshots;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{atomic::AtomicBool, Arc},
    time::Duration,
};

pub use copies::{Copied, OnChange, OnProgress, Progress, Restored, Verified};
pub use error::AdminError;
pub use listing::{Listed, Listing, Page};
pub use proofs::KeyProof;
pub use rollback::RolledBack;
pub use scrubbing::{ScrubState, Scrubbing};
pub use snapshots::{SnapshotEntry, MAX_SNAPSHOTS, MAX_SNAPSHOT_BYTES};

use crate::{
    cell::{CellKey, Key},
    replica::{Clock, Replica},
    store::Recovered,
    sync::{Admission, Group},
};

/// A storage, as operators see it.
pub struct Administration {
    /// The name of the storage.
    pub name: String,
    /// Its keys.
    pub group: Group,
    /// Its data.
    pub replica: Arc<Replica>,
    /// The scrub of its cells.
    pub scrubbing: Scrubbing,
    /// The folder of the data; none for a storage in memory.
    folder: Option<PathBuf>,
    /// The rules by which puts are merged, as text.
    rules: String,
    admission: Admission,
    clock: Clock,
    /// The recovery of a store that could not be opened, if there was one.
    recovered: Option<Recovered>,
    /// Whether long work of which there may be only one is going on.
    busy: AtomicBool,
}

/// The storage, for [`Administration::new`].
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub group: Group,
    /// Its data.
    pub replica: Arc<Replica>,
    /// The folder of the data, if there is one.
    pub folder: Option<PathBuf>,
    /// The rules by which puts are merged, as text.
    pub rules: String,
    /// How far ahead of the clock a timestamp may be.
    pub max_clock_drift: Duration,
    /// Tells the time.
    pub clock: Clock,
    /// The recovery of its store, if that could not be opened.
    pub recovered: Option<Recovered>,
}

impl Administration {
    /// Administration of a storage with this scrub.
    #[must_use]
    pub fn new(subject: Subject, scrubbing: Scrubbing) -> Self {
        let Subject {
            name,
            group,
            replica,
            folder,
            rules,
            max_clock_drift,
            clock,
            recovered,
        } = subject;
        Self {
            admission: Admission::new(&group, max_clock_drift),
            name,
            group,
            replica,
            scrubbing,
            folder,
            rules,
            clock,
            recovered,
            busy: AtomicBool::new(false),
        }
    }

    /// The current time, NTP64.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// The folder of the data, if there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The folder of the store that could not be opened, if there was one.
    #[must_use]
    pub fn recovered(&self) -> Option<String> {
        let recovered = self.recovered.as_ref();
        recovered.map(|recovered| recovered.aside.display().to_string())
    }

    /// The storage's key for a key as a client writes it.
    ///
    /// # Errors
    /// If it does not belong to this storage.
    pub fn stored_key(&self, full: &str) -> Result<Key, AdminError> {
        let key = self.group.stored_key(full);
        let key = key.filter(|key| self.admission.includes(&CellKey::own(key.clone())));
        key.ok_or_else(|| AdminError::Key {
            key: full.to_owned(),
            key_expr: self.group.key_expr.clone(),
        })
    }
}
