//! A node storage that keeps nothing of a node but its hash.

use std::{marker::PhantomData, sync::Arc};

use thiserror::Error;

use super::{
    hash::node_hash,
    keys::KeyList,
    level::TreeKey,
    node::{Digested, Node, NodeOf, NodeStore},
};

/// To learn the root of a tree that is too large to be had: a
/// [`Builder`](super::Builder) over this needs memory for the nodes on the right
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

/// The hash of a node, in a node without entries.
#[derive(Debug)]
pub struct HashedNode<K, V>(Arc<Node<K, V, HashedNode<K, V>>>);

impl<K, V> Clone for HashedNode<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The node was not kept.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("only the hash of the node was kept")]
pub struct NotKept;

impl<K: TreeKey, V: Digested + Clone> NodeStore for Digesting<K, V> {
    type Key = K;
    type Value = V;
    type Link = HashedNode<K, V>;
    type Error = NotKept;

    fn load<'a>(&'a self, link: &'a Self::Link) -> Result<&'a NodeOf<Self>, NotKept> {
        Ok(&link.0)
    }

    fn edit<'a>(&'a self, _: &'a mut Self::Link) -> Result<&'a mut NodeOf<Self>, NotKept> {
        Err(NotKept)
    }

    fn take(&self, _: Self::Link) -> Result<NodeOf<Self>, NotKept> {
        Err(NotKept)
    }

    fn keep(&self, node: NodeOf<Self>) -> Self::Link {
        let kept = Node::new(node.level, KeyList::new(Vec::new()), Vec::new(), Vec::new());
        // Its children are kept as hashes, so that it can be hashed.
        if let Ok(hash) = node_hash(self, &node) {
            // It is new, so nobody has set it.
            let _ = kept.hash.set(hash);
        }
        HashedNode(Arc::new(kept))
    }
}
