//! wip
pub mod cell;
pub mod config;
pub mod mst;
pub mod plugin;
pub mod replica;
pub mod store;
mod hash;
pub use hash::HASH_BYTES;
