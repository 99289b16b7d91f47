//! Why an operator does not get what was asked for.

use thiserror::Error;

use crate::{
    backup::BackupError,
    replica::{GetError, ReplicaError},
    store::StoreError,
    sync::MessageError,
};

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
    /// The storage is not replicated.
    #[error("the storage is not replicated, so there is nothing to compare it with")]
    Unreplicated,
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
