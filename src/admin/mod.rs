//! What an operator can ask of a storage, apart from how it is asked.
//!
//! Everything works on a storage in use. No network is in here, and no clock: `net`
//! declares a queryable for each, and so does `mstctl` without a router where that
//! makes sense.
//!
//! | part | what it is |
//! |---|---|
//! | `proofs` | proofs of keys |
//! | `listing` | keys and the cells that they are made of |
//! | `scrubbing` | the scrub: how far, how fast |
//! | `copies` | backups, snapshots with a name, and restoring them |
//! | `snapshots` | how many snapshots are kept, and for whom |
//! | `rollback` | what was, again, as new writes |

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

pub use copies::{Copied, OnProgress, Progress, Restored, SnapshotEntry, Verified};
pub use error::AdminError;
pub use listing::{Listed, Listing, Page};
pub use proofs::KeyProof;
pub use rollback::RolledBack;
pub use scrubbing::{ScrubState, Scrubbing};
pub use snapshots::{MAX_SNAPSHOTS, MAX_SNAPSHOT_BYTES};

use crate::{
    cell::{CellKey, Key},
    replica::{Clock, Replica},
    store::Recovered,
    sync::{Admission, Group},
};

/// What an operator sees of a storage.
pub struct Administration {
    /// The name of the storage.
    pub name: String,
    /// Its keys.
    pub group: Group,
    /// Its data.
    pub replica: Arc<Replica>,
    /// How its cells are compared with what is on the disk.
    pub scrubbing: Scrubbing,
    /// The folder of the data; nothing if it is gone with the process.
    folder: Option<PathBuf>,
    /// The rules by which puts are merged, as text.
    rules: String,
    admission: Admission,
    clock: Clock,
    /// What became of a store that could not be opened.
    recovered: Option<Recovered>,
    /// Whether something is going on that takes long and is done one at a time.
    busy: AtomicBool,
}

/// What [`Administration::new`] needs to know of a storage.
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
    /// What became of its store, if it could not be opened.
    pub recovered: Option<Recovered>,
}

impl Administration {
    /// Of a storage, whose scrub this is.
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

    /// What the clock shows, NTP64.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// The folder of the data, if there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Where the store is that could not be opened, if there was one.
    #[must_use]
    pub fn recovered(&self) -> Option<String> {
        let recovered = self.recovered.as_ref();
        recovered.map(|recovered| recovered.aside.display().to_string())
    }

    /// The storage's key for one that a client uses.
    ///
    /// # Errors
    /// If it is none of this storage's.
    pub fn stored_key(&self, full: &str) -> Result<Key, AdminError> {
        let key = self.group.stored_key(full);
        let key = key.filter(|key| self.admission.includes(&CellKey::own(key.clone())));
        key.ok_or_else(|| AdminError::Key {
            key: full.to_owned(),
            key_expr: self.group.key_expr.clone(),
        })
    }
}
