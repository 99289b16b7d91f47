//! What two trees differ in.

use std::cmp::Ordering;

use crate::mst::{
    hashing::of_node::link_hash,
    structure::node::{Digested, NodeStore},
};

/// A key whose entries differ in two trees.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// Its value in the first tree, if it is there.
    pub left: Option<&'a V>,
    /// Its value in the second tree, if it is there.
    pub right: Option<&'a V>,
}

/// The differences of two trees, ascending by key. Made by
/// [`Mst::diff`](crate::mst::Mst::diff).
///
/// Both trees are unrolled from the left, and only as far as they have to be:
/// where the next thing on both sides is a subtree and the hashes are equal,
/// both are passed over. O(d log n) for d differences.
pub struct Differences<'a, S: NodeStore> {
    store: &'a S,
    left: Unrolled<'a, S>,
    right: Unrolled<'a, S>,
}

enum Item<'a, S: NodeStore> {
    Subtree(&'a S::Link),
    Entry(&'a S::Key, &'a S::Value),
}

/// What is left of a tree; the next thing is last.
struct Unrolled<'a, S: NodeStore>(Vec<Item<'a, S>>);

impl<'a, S: NodeStore> Unrolled<'a, S> {
    fn push_link(&mut self, link: Option<&'a S::Link>) {
        self.0.extend(link.map(Item::Subtree));
    }

    /// Replaces the subtree that is next by its parts.
    fn unroll(&mut self, store: &'a S) -> Result<(), S::Error> {
        if let Some(Item::Subtree(link)) = self.0.pop() {
            let node = store.load(link)?;
            let entries = node.keys.iter().zip(&node.values).enumerate();
            for (index, (key, value)) in entries.rev() {
                self.push_link(node.child(index + 1));
                self.0.push(Item::Entry(key, value));
            }
            self.push_link(node.child(0));
        }
        Ok(())
    }
}

impl<'a, S: NodeStore> Differences<'a, S> {
    pub(in crate::mst) fn new(
        store: &'a S,
        left: Option<&'a S::Link>,
        right: Option<&'a S::Link>,
    ) -> Self {
        let mut differences = Self {
            store,
            left: Unrolled(Vec::new()),
            right: Unrolled(Vec::new()),
        };
        differences.left.push_link(left);
        differences.right.push_link(right);
        differences
    }

    #[allow(clippy::type_complexity)]
    fn step(&mut self) -> Result<Option<Difference<'a, S::Key, S::Value>>, S::Error> {
        loop {
            let (key, left, right) = match (self.left.0.last(), self.right.0.last()) {
                (Some(Item::Subtree(left)), Some(Item::Subtree(right))) => {
                    let store = self.store;
                    if link_hash(store, left)? == link_hash(store, right)? {
                        self.left.0.pop();
                        self.right.0.pop();
                        continue;
                    }
                    let order = store.load(left)?.level.cmp(&store.load(right)?.level);
                    if order != Ordering::Less {
                        self.left.unroll(store)?;
                    }
                    if order != Ordering::Greater {
                        self.right.unroll(store)?;
                    }
                    continue;
                }
                (Some(Item::Subtree(_)), _) => {
                    self.left.unroll(self.store)?;
                    continue;
                }
                (_, Some(Item::Subtree(_))) => {
                    self.right.unroll(self.store)?;
                    continue;
                }
                (None, None) => return Ok(None),
                (Some(&Item::Entry(key, left)), None) => (key, Some(left), None),
                (None, Some(&Item::Entry(key, right))) => (key, None, Some(right)),
                (Some(&Item::Entry(key, left)), Some(&Item::Entry(right_key, right))) => {
                    match key.cmp(right_key) {
                        Ordering::Less => (key, Some(left), None),
                        Ordering::Greater => (right_key, None, Some(right)),
                        Ordering::Equal => (key, Some(left), Some(right)),
                    }
                }
            };
            if left.is_some() {
                self.left.0.pop();
            }
            if right.is_some() {
                self.right.0.pop();
            }
            if left.map(Digested::digest) != right.map(Digested::digest) {
                return Ok(Some(Difference { key, left, right }));
            }
        }
    }
}

impl<'a, S: NodeStore> Iterator for Differences<'a, S> {
    type Item = Result<Difference<'a, S::Key, S::Value>, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
