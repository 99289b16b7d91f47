//! Nodes, and the small trait behind which they are kept.

use std::{
    convert::Infallible,
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

use super::{
    keys::{KeyList, ROOM, reserve_tightly},
    level::{Level, TreeKey},
};
use crate::{hash::HASH_BYTES, mst::digest::NodeHash};

/// A value that has a digest, which is all that the tree reads of it.
pub trait Digested {
    /// The digest of the value *and of the key that it belongs to*: equal digests
    /// mean that both are equal.
    fn digest(&self) -> &[u8; HASH_BYTES];
}

/// A node: a run of entries of one level, and the subtrees between them.
///
/// Invariants, relied on everywhere and verified by
/// [`Mst::check`](crate::mst::Mst::check): `keys` is not empty and strictly
/// ascending; `values` is as long; `children` is empty, or has one place more;
/// what stands at place `i` has keys between those at `i - 1` and `i`, and a
/// level below this one.
///
/// What a search needs stands at the beginning: most of its time is spent on waiting
/// for memory.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Node<K, V, L> {
    pub(in crate::mst) level: Level,
    pub(in crate::mst) keys: KeyList<K>,
    pub(in crate::mst) children: Vec<Option<L>>,
    pub(in crate::mst) values: Vec<V>,
}

/// The node type that a store keeps.
pub type NodeOf<S> = Node<<S as NodeStore>::Key, <S as NodeStore>::Value, <S as NodeStore>::Link>;

impl<K: TreeKey, V, L> Node<K, V, L> {
    pub(in crate::mst) fn new(
        level: Level,
        keys: KeyList<K>,
        values: Vec<V>,
        children: Vec<Option<L>>,
    ) -> Self {
        let mut node = Self {
            level,
            keys,
            children,
            values,
        };
        node.trim_children();
        node
    }

    pub(in crate::mst) fn of_one(
        level: Level,
        (key, value): (K, V),
        children: Vec<Option<L>>,
    ) -> Self {
        let mut keys = Vec::with_capacity(ROOM);
        keys.push(key);
        let mut values = Vec::with_capacity(ROOM);
        values.push(value);
        Self::new(level, KeyList::new(keys), values, children)
    }

    /// The level that all entries of this node have.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The keys, ascending; never empty.
    #[must_use]
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// The values, each at the place of its key.
    #[must_use]
    pub fn values(&self) -> &[V] {
        &self.values
    }

    /// The subtree before the key at `index`, or after the last one where
    /// `index` is their number.
    #[must_use]
    pub fn child(&self, index: usize) -> Option<&L> {
        self.children.get(index).and_then(Option::as_ref)
    }

    /// The child's place for writing, made if the node had no children.
    pub(in crate::mst) fn child_mut(&mut self, index: usize) -> &mut Option<L> {
        if self.children.is_empty() {
            self.children.resize_with(self.keys.len() + 1, || None);
        }
        &mut self.children[index]
    }

    pub(in crate::mst) fn take_child(&mut self, index: usize) -> Option<L> {
        self.children.get_mut(index).and_then(Option::take)
    }

    /// Puts an entry at `index`, with `left` and `right` as the subtrees beside
    /// it. The caller has taken the subtree that stood there.
    pub(in crate::mst) fn insert(
        &mut self,
        index: usize,
        (key, value): (K, V),
        left: Option<L>,
        right: Option<L>,
    ) {
        self.keys.insert(index, key);
        reserve_tightly(&mut self.values);
        self.values.insert(index, value);
        if !self.children.is_empty() {
            reserve_tightly(&mut self.children);
            self.children[index] = left;
            self.children.insert(index + 1, right);
        } else if left.is_some() || right.is_some() {
            self.children.resize_with(self.keys.len() + 1, || None);
            self.children[index] = left;
            self.children[index + 1] = right;
        }
    }

    /// Drops the list of children if it names none, as in a leaf.
    pub(in crate::mst) fn trim_children(&mut self) {
        if self.children.iter().all(Option::is_none) {
            self.children = Vec::new();
        }
    }
}

/// Where nodes are kept. The tree asks for them by link; what a link is, and
/// whether its node is in memory or elsewhere, is the store's affair.
///
/// A link is cheap to clone, and a clone goes on to show the node as it was:
/// that is what makes a clone of a tree a snapshot.
pub trait NodeStore {
    /// The keys of the tree.
    type Key: TreeKey;
    /// The values of the tree.
    type Value: Digested + Clone;
    /// Names a node.
    type Link: Clone;
    /// Why a node cannot be had.
    type Error;

    /// The node to read.
    ///
    /// # Errors
    /// If the node cannot be had.
    fn load<'a>(&'a self, link: &'a Self::Link) -> Result<&'a NodeOf<Self>, Self::Error>;

    /// The node to change: a copy of its own, if other links share it. The hash
    /// beside the link is forgotten.
    ///
    /// # Errors
    /// If the node cannot be had.
    fn edit<'a>(&'a self, link: &'a mut Self::Link) -> Result<&'a mut NodeOf<Self>, Self::Error>;

    /// The node itself, to be taken apart; copied if other links share it.
    ///
    /// # Errors
    /// If the node cannot be had.
    fn take(&self, link: Self::Link) -> Result<NodeOf<Self>, Self::Error>;

    /// Keeps a new node.
    fn keep(&self, node: NodeOf<Self>) -> Self::Link;

    /// Where the hash of the node is kept, once it is made. It stands beside the link,
    /// so that the parent can be hashed, or compared, without the node being loaded: a
    /// parent has some thirty children, which lie anywhere in memory.
    fn hash<'a>(&'a self, link: &'a Self::Link) -> &'a OnceLock<NodeHash>;
}

/// The node storage in memory: a link is a shared pointer.
#[derive(Debug)]
pub struct Resident<K, V>(PhantomData<fn() -> (K, V)>);

impl<K, V> Clone for Resident<K, V> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<K, V> Default for Resident<K, V> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// A node in memory, shared by all trees that hold it, and its hash.
#[derive(Debug)]
pub struct SharedNode<K, V> {
    node: Arc<Node<K, V, SharedNode<K, V>>>,
    hash: OnceLock<NodeHash>,
}

impl<K, V> Clone for SharedNode<K, V> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            hash: self.hash.clone(),
        }
    }
}

impl<K: TreeKey, V: Digested + Clone> NodeStore for Resident<K, V> {
    type Key = K;
    type Value = V;
    type Link = SharedNode<K, V>;
    type Error = Infallible;

    fn load<'a>(&'a self, link: &'a Self::Link) -> Result<&'a NodeOf<Self>, Infallible> {
        Ok(&link.node)
    }

    fn edit<'a>(&'a self, link: &'a mut Self::Link) -> Result<&'a mut NodeOf<Self>, Infallible> {
        link.hash.take();
        Ok(Arc::make_mut(&mut link.node))
    }

    fn take(&self, link: Self::Link) -> Result<NodeOf<Self>, Infallible> {
        Ok(Arc::unwrap_or_clone(link.node))
    }

    fn keep(&self, node: NodeOf<Self>) -> Self::Link {
        SharedNode {
            node: Arc::new(node),
            hash: OnceLock::new(),
        }
    }

    fn hash<'a>(&'a self, link: &'a Self::Link) -> &'a OnceLock<NodeHash> {
        &link.hash
    }
}
