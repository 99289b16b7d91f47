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
    /// A key that is none, or none of this storage's.
    #[error(
        "'{key}' is not a key of the storage on '{key_expr}': give the whole key, without wildcards"
    )]
    Key {
        /// The key.
        key: String,
        /// The storage's key expression.
        key_expr: String,
    },
    /// A backup has a key that is none of this storage's.
    #[error(
        "the backup has the key '{key}', which is none of the storage on '{key_expr}': it is of \
         another storage, or was made of a closed folder without its --strip-prefix"
    )]
    Foreign {
        /// The key, as it is in the backup.
        key: String,
        /// The storage's key expression.
        key_expr: String,
    },
    /// A parameter that cannot be.
    #[error("the parameter `{name}` cannot be '{value}': allowed is {allowed}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A parameter that there is not.
    #[error("there is no parameter `{name}` here; those that there are: {allowed}")]
    UnknownParameter {
        /// Its name.
        name: String,
        /// Those that there are.
        allowed: String,
    },
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
    /// A root that is not the current one.
    #[error(
        "the root is not the one that was asked for, but {root}: data has been written since, or \
         it is another replica's; ask for a proof against this one, or ask again"
    )]
    Root {
        /// The current root.
        root: String,
    },
    /// What the proof is made of goes on changing.
    #[error("the cells beside the key are being written all the time; ask again")]
    Changing,
    /// A proof that would be longer than one may be.
    #[error("the key has more cells than a proof can show")]
    TooManyCells,
    /// A cell cannot be had.
    #[error("the cell of '{0}' is damaged: have the storage scrubbed, and ask again")]
    Damaged(String),
    /// The storage has no replicas.
    #[error("the storage is not replicated, so there is nothing to compare it with")]
    Unreplicated,
    /// Another replica does not answer as it should.
    #[error("replica {peer}: {reason}")]
    Peer {
        /// Which.
        peer: String,
        /// Why not.
        reason: String,
    },
    /// Something else goes on.
    #[error("a backup, snapshot, verification or rollback is going on; wait until it is done")]
    Busy,
    /// Whoever asked does not listen any more.
    #[error("nobody listens any more")]
    Gone,
    /// There is no folder to keep snapshots in.
    #[error(
        "a storage in memory has no place for snapshots: take a backup to a file, and roll back \
         to that"
    )]
    NoFolder,
    /// There is no such snapshot.
    #[error("there is no snapshot called '{0}'; list those that there are")]
    NoSnapshot(String),
    /// It is not what was written.
    #[error("the snapshot '{name}' cannot be used: {source}")]
    Snapshot {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: BackupError,
    },
    /// There is one already.
    #[error("there is a snapshot called '{0}' already; delete it, or choose another name")]
    SnapshotExists(String),
    /// It is of other keys.
    #[error("it is of the storage on '{theirs}', and this is the one on '{ours}'")]
    OtherStorage {
        /// Of the backup.
        theirs: String,
        /// Of the storage.
        ours: String,
    },
    /// A message that cannot be read.
    #[error("the request cannot be read: {0}")]
    Message(#[from] MessageError),
    /// A backup that cannot be read or written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The replica does not take it.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A key cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}
