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
//! | `nodes` | one node of the tree |
//! | `scrubbing` | the scrub: its progress and pace |
//! | `copies` | backups, restoring them, and verifying what is kept |
//! | `snapshots` | named snapshots, and their quota |
//! | `rollback` | writes an earlier state anew |

mod copies;
mod error;
mod listing;
mod nodes;
mod proofs;
mod rollback;
mod scrubbing;
mod snapshots;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

pub use copies::{Copied, OnChange, OnProgress, Progress, Restored, Verified};
pub use error::{ASK_AGAIN, AdminError};
pub use listing::{Listed, Listing, Page};
pub use nodes::{Branch, BranchChild, BranchEntry, BranchNode};
pub use proofs::KeyProof;
pub use rollback::RolledBack;
pub use scrubbing::{ScrubState, Scrubbing};
pub use snapshots::{MAX_SNAPSHOT_BYTES, MAX_SNAPSHOTS, SnapshotEntry};

use crate::{
    cell::{CellKey, Key},
    replica::{Clock, Replica},
    store::Sidecar,
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
    /// The folder of the damaged store of which this one was saved, until somebody acknowledges it.
    recovered: Mutex<Option<String>>,
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
    /// The folder of the damaged store of which it was saved, if nobody has acknowledged that.
    pub recovered: Option<String>,
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
            recovered: Mutex::new(recovered),
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

    /// The folder of the damaged store of which this one was saved, until somebody acknowledges it.
    #[must_use]
    pub fn recovered(&self) -> Option<String> {
        self.recovered_lock().clone()
    }

    /// Takes note that somebody knows of it: returns what [`recovered`](Self::recovered) was. Blocks on
    /// disk.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn acknowledge(&self) -> Result<Option<String>, AdminError> {
        let mut recovered = self.recovered_lock();
        if let (Some(folder), true) = (&self.folder, recovered.is_some()) {
            Sidecar::Recovered.remove(folder)?;
        }
        Ok(recovered.take())
    }

    fn recovered_lock(&self) -> MutexGuard<'_, Option<String>> {
        self.recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
