//! Collection of what is only history: the decisions, without I/O, clocks or locks.
//!
//! A storage that collects promises to take no client's write stamped below its *floor*. What is
//! stamped below it is final then: of a key that was deleted nothing older can come, so its tombstone
//! may go.

pub mod floor;
