//! Taking updates: the queue to the thread that commits, and what is pending.

pub(in crate::replica) mod acks;
pub(in crate::replica) mod batch_gate;
pub(in crate::replica) mod deferral;
mod deleting;
pub(in crate::replica) mod group;
pub(in crate::replica) mod hand_over;
pub(in crate::replica) mod memtable;
mod puts;
pub(in crate::replica) mod queue;
pub(in crate::replica) mod refusals;
pub(in crate::replica) mod request;
pub(in crate::replica) mod state;
