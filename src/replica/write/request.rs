//! What the storage's thread is asked for, in turn with the updates that are handed over.

use std::sync::mpsc;

use crate::{
    cell::{CellKey, Version},
    replica::{Order, ReplicaError, Snapshot},
};

/// Where a snapshot is sent to.
pub(in crate::replica) type Receiver = mpsc::SyncSender<Result<Snapshot, ReplicaError>>;

/// What the thread is asked for beside updates.
pub(in crate::replica) enum Request {
    /// A snapshot that has all that was acknowledged before.
    Checkpoint(Receiver),
    /// To look at cells of which the tree says this, and to mend what is damaged.
    Mend(Vec<(CellKey, Version)>),
    /// To collect what may be, by the clock as it is.
    Collect,
    /// A change of the collection of replicas.
    Order(Order),
    /// To say that all before this is done.
    #[cfg(test)]
    Answer(mpsc::SyncSender<()>),
}
