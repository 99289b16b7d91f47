//! A node storage that keeps nothing of a node but its hash.

use std::{marker::PhantomData, sync::OnceLock};

use thiserror::Error;

use super::of_node::compute;
use crate::mst::{
    digest::NodeHash,
    structure::{
        level::TreeKey,
        node::{Digested, NodeOf, NodeStore},
    },
};

/// To learn the root of a tree that is too large to be had: a
/// [`Builder`](crate::mst::Builder) over this needs memory for the nodes on the right
/// edge only. What is built has a root, and nothing else.
#[derive(Debug)]
pub struct Digesting<K, V>(PhantomData<fn() -> (K, V)>);

impl<K, V> Clone for Digesting<K, V> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<K, V> Default for Digesting<K, V> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The hash of a node.
#[derive(Clone, Debug)]
pub struct HashedNode(OnceLock<NodeHash>);

/// The node was not kept.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("only the hash of the node was kept")]
pub struct NotKept;

impl<K: TreeKey, V: Digested + Clone> NodeStore for Digesting<K, V> {
    type Key = K;
    type Value = V;
    type Link = HashedNode;
    type Error = NotKept;

    fn load<'a>(&'a self, _: &'a Self::Link) -> Result<&'a NodeOf<Self>, NotKept> {
        Err(NotKept)
    }

    fn edit<'a>(&'a self, _: &'a mut Self::Link) -> Result<&'a mut NodeOf<Self>, NotKept> {
        Err(NotKept)
    }

    fn take(&self, _: Self::Link) -> Result<NodeOf<Self>, NotKept> {
        Err(NotKept)
    }

    fn keep(&self, node: NodeOf<Self>) -> Self::Link {
        // Its children are kept as hashes, so that it can be hashed.
        HashedNode(compute(self, &node).map_or_else(|_| OnceLock::new(), OnceLock::from))
    }

    fn hash<'a>(&'a self, link: &'a Self::Link) -> &'a OnceLock<NodeHash> {
        &link.0
    }
}
