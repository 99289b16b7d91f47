//! Why an operator does not get what was asked for.

use std::{io, path::Path};

use thiserror::Error;

use crate::{
    backup::BackupError,
    replica::{GetError, ReplicaError},
    store::StoreError,
    sync::MessageError,
};

/// The end of what is said of [`AdminError::DamagedCells`]: to ask again helps.
pub const ASK_AGAIN: &str = "they are mended or in quarantine now; ask again";

/// Why an operator does not get what was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The key is not a key, or not one of this storage.
    #[error(
        "'{key}' is not a key of the storage on '{key_expr}': give the whole key, without wildcards"
    )]
    Key {
        /// The key.
        key: String,
        /// The storage's key expression.
        key_expr: String,
    },
    /// The backup has a key that does not belong to this storage.
    #[error(
        "the backup has the key '{key}', which does not belong to the storage on '{key_expr}': the \
         backup is of another storage, or was made of a closed folder without --strip-prefix"
    )]
    Foreign {
        /// The key, as it is in the backup.
        key: String,
        /// The storage's key expression.
        key_expr: String,
    },
    /// A parameter has an impossible value.
    #[error("the parameter `{name}` cannot be '{value}': allowed is {allowed}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// There is no such parameter.
    #[error("there is no parameter `{name}` here; the parameters are: {allowed}")]
    UnknownParameter {
        /// Its name.
        name: String,
        /// The parameters that there are.
        allowed: String,
    },
    /// The storage has no collection.
    #[error(
        "the storage collects nothing: its configuration has no `collect`, or has it with `enabled: false`"
    )]
    CollectsNothing,
    /// The storage does not do that for operators.
    #[error(
        "`{what}` needs the option `operators: \"{needed}\"` of the storage, which has \"{found}\""
    )]
    NotAllowed {
        /// What was asked for.
        what: &'static str,
        /// The option.
        found: &'static str,
        /// What it has to be.
        needed: &'static str,
    },
    /// What one replica is asked was asked of any.
    #[error(
        "`{0}` is for one replica, by its name: ask without a wildcard, at \
         @mst/2/<group>/<replica>/{0}"
    )]
    Wildcard(&'static str),
    /// What changes something came without the payload that says that it is meant.
    #[error(
        "`{0}` changes the storage, and needs a payload: the replica's identity, 32 hexadecimal \
         digits"
    )]
    NotConfirmed(&'static str),
    /// Nobody is there who asks for what changes something.
    #[error(
        "`{0}` changes the storage, and is done for those who are there: the parameter `asker` \
         has to name a session whose liveliness token is at @mst/2/<group>/<replica>/asker/<id>"
    )]
    NoAsker(&'static str),
    /// The payload is longer than anything that may be in it.
    #[error("the payload has {bytes} bytes, and {max} at the most are taken")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// There are as many snapshots as may be.
    #[error(
        "there are {count} snapshots of {bytes} bytes in all, and no more than {max_count} of \
         {max_bytes} are kept: delete one first, or take a backup to a file"
    )]
    SnapshotQuota {
        /// Snapshots.
        count: usize,
        /// Their bytes.
        bytes: u64,
        /// Snapshots that may be.
        max_count: usize,
        /// Bytes from which on there may be no further one.
        max_bytes: u64,
    },
    /// The requested root is not the current one.
    #[error(
        "the current root is {root}, not the one asked for: data has been written since, or that \
         root is another replica's; ask for a proof under the current root, or ask again"
    )]
    Root {
        /// The current root.
        root: String,
    },
    /// The proof would be too long.
    #[error("the key has more cells than a proof can show")]
    TooManyCells,
    /// A cell cannot be read.
    #[error("the cell of '{0}' is damaged: have the storage scrubbed, and ask again")]
    Damaged(String),
    /// A backup has met cells that cannot be read.
    #[error(
        "{cells} cells are damaged, such as that of '{key}': they are mended or in quarantine now; \
         ask again"
    )]
    DamagedCells {
        /// How many.
        cells: u64,
        /// The key of one of them.
        key: String,
    },
    /// A snapshot lacks what was damaged.
    #[error(
        "snapshot '{name}' lacks what was damaged when it was made, such as '{key}', which a rollback \
         would delete; nothing was changed: roll back to another"
    )]
    Incomplete {
        /// The name of the snapshot.
        name: String,
        /// A key that it lacks.
        key: String,
    },
    /// The storage is not replicated.
    #[error("the storage is not replicated, so there is nothing to compare it with")]
    Unreplicated,
    /// The replica that is to be forgotten is there.
    #[error("replica {0} is there: one that is gone can be forgotten")]
    Present(String),
    /// A peer did not answer as it should.
    #[error("replica {peer}: {reason}")]
    Peer {
        /// Which.
        peer: String,
        /// Why not.
        reason: String,
    },
    /// Other work of this kind is going on.
    #[error("a backup, snapshot, verification or rollback is going on; wait until it is done")]
    Busy,
    /// The client that asked has gone.
    #[error("the client has gone")]
    Gone,
    /// The storage is being closed.
    #[error("the storage is being closed: what went on there has ended")]
    Closing,
    /// There is no folder for snapshots.
    #[error(
        "a storage in memory has no place for snapshots: take a backup to a file, and roll back \
         to that"
    )]
    NoFolder,
    /// There is no such snapshot.
    #[error("there is no snapshot called '{0}'; list the snapshots to see their names")]
    NoSnapshot(String),
    /// The snapshot is damaged.
    #[error("the snapshot '{name}' cannot be used: {source}")]
    Snapshot {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: BackupError,
    },
    /// There is such a snapshot already.
    #[error("there is a snapshot called '{0}' already; delete it, or choose another name")]
    SnapshotExists(String),
    /// The backup is of other keys.
    #[error("the backup is of the storage on '{theirs}', this storage is on '{ours}'")]
    OtherStorage {
        /// Of the backup.
        theirs: String,
        /// Of the storage.
        ours: String,
    },
    /// The message cannot be read.
    #[error("the request cannot be read: {0}")]
    Message(#[from] MessageError),
    /// The backup cannot be read or written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The replica refuses.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The key cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Names the path in an error of the file system.
pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> AdminError + use<> {
    let path = path.display().to_string();
    move |source| AdminError::Io { path, source }
}
