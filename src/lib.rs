//! A storage backend for [Eclipse Zenoh](https://zenoh.io) that keeps its data
//! in a Merkle Search Tree.
//!
//! `zenohd` loads this library as a volume of its storage manager. Each storage
//! is a map of key expressions to values, of which the last write wins, or which are
//! merged by a strategy that it names; its tree gives it a root hash that two
//! storages have in common exactly if they hold the same data.
//!
//! # Layers
//!
//! Each layer knows those above it in this table, and none below. But for the last three there is no
//! network, no async runtime and no clock in them: time is a parameter. Whoever wants some of them
//! alone names the feature, and gets no crate that only others need.
//!
//! | layer | what it is | feature |
//! |---|---|---|
//! | [`mst`] | the Merkle Search Tree | |
//! | [`cell`] | the record: key, part, timestamp, value or tombstone; its bytes and its digest | |
//! | [`config`] | typed configuration | `replica` |
//! | [`merge`] | the strategies: how a put becomes cells, and cells become a value | `replica`; `automerge_crdt` is `automerge` |
//! | [`wildcard`] | rules: a put or delete of a pattern, as one cell | `replica` |
//! | [`collection`] | what of the history may go, and when: decisions alone | `replica` |
//! | [`store`] | where cells are kept, in memory or on disk | `replica`; on disk `durable` |
//! | [`replica`] | the replicated map: local writes, settling, snapshots | `replica` |
//! | [`proof`] | proofs that a key has these cells, or none, under a root | verifying: none; making: `replica` |
//! | [`sync`] | anti-entropy: when to compare with whom, and what to fetch | `replica` |
//! | [`backup`] | the file of a backup: written, read and verified | `replica` |
//! | [`admin`] | what an operator can ask of a storage in use | `durable` |
//! | [`metrics`] | what a storage measures of itself, as text for Prometheus | `replica` |
//! | `net` | the Zenoh session: does what `sync` decides, and answers others and operators | `plugin` |
//! | `serve` | a storage on a Zenoh session: takes puts, answers gets | `plugin` |
//! | `plugin` | what zenohd sees: a volume, and the plugin `mst` with storages of its own | `plugin` |
//!
//! # Invariants
//!
//! Each is stated again where it is relied on.
//!
//! 1. *History independence.* The tree's shape and root depend on the set of
//!    cells it holds, and on nothing else.
//! 2. *Hashes cover everything.* No two different cells have one digest, and no
//!    two different trees one root.
//! 3. *Merging is a join.* Last writer wins is commutative, associative and
//!    idempotent, and its ties are decided by what is written alone.
//! 4. *A root is a function of the updates up to a cut*, whatever the order and
//!    the load in which they came.
//! 5. *Nothing acknowledged is lost* that the durability setting promises.
//! 6. *Deletes stay deleted.* A tombstone is a cell like any other.
//! 7. *What comes from outside is checked* before it is believed.
//! 8. *Work is bounded.* Every queue, cache and wait has a limit with a name.

#![warn(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![forbid(unsafe_op_in_unsafe_fn)]
// What only layers that are left out use of those that are there.
#![cfg_attr(not(feature = "durable"), allow(dead_code))]
#![cfg_attr(not(feature = "replica"), allow(unused_imports))]

#[cfg(feature = "durable")]
pub mod admin;
#[cfg(feature = "replica")]
pub mod backup;
pub mod cell;
#[cfg(feature = "replica")]
pub mod collection;
#[cfg(feature = "replica")]
pub mod config;
mod hash;
pub mod hex;
#[cfg(feature = "replica")]
pub mod merge;
#[cfg(feature = "replica")]
pub mod metrics;
pub mod mst;
#[cfg(feature = "plugin")]
pub mod net;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod proof;
#[cfg(feature = "replica")]
pub mod replica;
#[cfg(feature = "plugin")]
pub mod serve;
#[cfg(feature = "replica")]
pub mod store;
#[cfg(feature = "replica")]
pub mod sync;
#[cfg(feature = "replica")]
pub mod wildcard;

pub use hash::HASH_BYTES;
