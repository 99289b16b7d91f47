//! The shape of the tree, and how it changes: nothing here is hashed.

pub(in crate::mst) mod edit;
pub(in crate::mst) mod keys;
pub(in crate::mst) mod level;
pub(in crate::mst) mod node;
pub(in crate::mst) mod prefetch;
pub(in crate::mst) mod put;
pub(in crate::mst) mod rank;
pub(in crate::mst) mod repair;
pub(in crate::mst) mod sort;
