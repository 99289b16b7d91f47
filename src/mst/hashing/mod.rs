//! What the hash of a node covers.

pub(in crate::mst) mod digesting;
pub(in crate::mst) mod node_merkle;
pub(in crate::mst) mod of_node;
