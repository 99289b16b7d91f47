//! Taking updates: the queue to the thread that commits, and what is pending.

pub(in crate::replica) mod acks;
pub(in crate::replica) mod deferral;
mod deleting;
pub(in crate::replica) mod memtable;
pub(in crate::replica) mod queue;
