//! wip
pub mod cell;
pub mod mst;
