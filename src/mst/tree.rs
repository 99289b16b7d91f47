//! The tree itself: a root, a count, and the operations on them.

use std::ops::{Bound, RangeBounds};

use super::{
    build::Builder,
    digest::RootHash,
    hashing::of_node::{hash_some, link_hash},
    query::{
        between::{Run, between, run_between},
        diff::Differences,
        scan::Range,
    },
    structure::{
        edit::{self, Slot},
        level::{Level, TreeKey},
        node::NodeStore,
        prefetch::{CACHED, PREFETCHED, prefetch, show_all},
        put::Walk,
        rank::MAX_WIDTH,
        repair::repair,
    },
};

/// A Merkle Search Tree. See the [module](super) for what it is.
///
/// A clone is a snapshot: it costs O(1), shares all nodes, and stays as it is
/// when the original changes.
#[derive(Clone)]
pub struct Mst<S: NodeStore> {
    store: S,
    root: Slot<S>,
    len: usize,
    /// Entries above which a batch is prefetched.
    prefetch_above: usize,
}

impl<S: NodeStore + Default> Default for Mst<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: NodeStore> Mst<S> {
    /// The empty tree.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::from_parts(store, None, 0)
    }

    pub(super) fn from_parts(store: S, root: Slot<S>, len: usize) -> Self {
        Self {
            store,
            root,
            len,
            prefetch_above: CACHED,
        }
    }

    /// Prefetches batches when it has more entries than these: tests have small trees.
    #[cfg(test)]
    pub(super) fn prefetching_above(mut self, entries: usize) -> Self {
        self.prefetch_above = entries;
        self
    }

    /// The tree of `entries`, which are strictly ascending by key: see
    /// [`Builder`]. O(n).
    #[must_use]
    pub fn from_sorted(store: S, entries: impl IntoIterator<Item = (S::Key, S::Value)>) -> Self {
        let mut builder = Builder::new(store);
        for (key, value) in entries {
            builder.push(key, value);
        }
        builder.finish()
    }

    /// Keys in the tree. O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the tree holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The node storage.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The topmost node, to be loaded from [`store`](Self::store).
    #[must_use]
    pub fn root_link(&self) -> Option<&S::Link> {
        self.root.as_ref()
    }

    /// The value of `key`. O(log n).
    ///
    /// # Errors
    /// The node storage's.
    pub fn get(&self, key: &S::Key) -> Result<Option<&S::Value>, S::Error> {
        let mut link = self.root.as_ref();
        while let Some(at) = link {
            let node = self.store.load(at)?;
            match node.keys.search(key) {
                Ok(index) => return Ok(node.values.get(index)),
                Err(index) => link = node.child(index),
            }
        }
        Ok(None)
    }

    /// Gives `key` the value, and returns the one that it had. O(log n), and
    /// nothing is hashed but the key, if it is new.
    ///
    /// # Errors
    /// The node storage's; the tree is then in pieces and to be given up.
    pub fn upsert(&mut self, key: S::Key, value: S::Value) -> Result<Option<S::Value>, S::Error> {
        let mut before = None;
        self.put_sorted(&[(key, value)], |_, old, _| {
            before = old.cloned();
            true
        })?;
        Ok(before)
    }

    /// Puts each of `entries`, which are strictly ascending by key, if `wins` says so,
    /// which is asked once for each: with the key, the value that it has, if it has
    /// one, and the new one. O(log n) for each, but less for those that are close
    /// together; and nothing is hashed but keys that are new.
    ///
    /// If the entries do not ascend, what comes of it is no tree, as
    /// [`check`](Self::check) will say. With debug assertions it panics.
    ///
    /// # Errors
    /// The node storage's; the tree is then in pieces and to be given up.
    pub fn put_sorted(
        &mut self,
        entries: &[(S::Key, S::Value)],
        mut wins: impl FnMut(&S::Key, Option<&S::Value>, &S::Value) -> bool,
    ) -> Result<(), S::Error> {
        debug_assert!(
            entries.is_sorted_by(|(a, _), (b, _)| a < b),
            "the entries ascend strictly"
        );
        let is_ahead = entries.len() > 1 && self.len > self.prefetch_above;
        let at_once = if is_ahead {
            PREFETCHED
        } else {
            entries.len().max(1)
        };
        for together in entries.chunks(at_once) {
            if let Some(root) = self.root.as_ref().filter(|_| is_ahead) {
                prefetch(&self.store, root, together)?;
            }
            self.put_together(together, &mut wins)?;
        }
        Ok(())
    }

    /// Puts `entries` in one walk, begun anew after each that changes the shape.
    fn put_together(
        &mut self,
        entries: &[(S::Key, S::Value)],
        wins: impl FnMut(&S::Key, Option<&S::Value>, &S::Value) -> bool,
    ) -> Result<(), S::Error> {
        let mut walk = Walk {
            store: &self.store,
            rest: entries,
            wins,
            inserted: 0,
        };
        while !walk.rest.is_empty() {
            let is_done = match &mut self.root {
                Some(root) => walk.put_below(root, None, None)?,
                None => false,
            };
            let reshaping = walk.rest.split_first().filter(|_| !is_done);
            let Some((entry, others)) = reshaping else {
                break;
            };
            walk.rest = others;
            let (key, value) = entry;
            if (walk.wins)(key, None, value) {
                walk.inserted += 1;
                let digit = key.position().leading_zero_digits();
                let level = Level::of_digit(digit);
                edit::insert(&self.store, &mut self.root, entry.clone(), level)?;
                repair(&self.store, &mut self.root, key, digit)?;
                debug_assert!(self.is_path_narrow(key), "a node is too wide");
            }
        }
        self.len += walk.inserted;
        Ok(())
    }

    /// Whether no node from the root to where `key` is, or would be, has more than
    /// [`MAX_WIDTH`] entries. A node that cannot be loaded is not judged.
    fn is_path_narrow(&self, key: &S::Key) -> bool {
        let mut link = self.root.as_ref();
        while let Some(node) = link.and_then(|link| self.store.load(link).ok()) {
            if node.keys.len() > MAX_WIDTH {
                return false;
            }
            link = match node.keys.search(key) {
                Ok(_) => None,
                Err(index) => node.child(index),
            };
        }
        true
    }

    /// Takes `key` out of the tree, which is then as if it had never been
    /// there, and returns its value. O(log n).
    ///
    /// # Errors
    /// The node storage's; the tree is then in pieces and to be given up.
    pub fn remove(&mut self, key: &S::Key) -> Result<Option<S::Value>, S::Error> {
        if self.get(key)?.is_none() {
            return Ok(None);
        }
        let digit = key.position().leading_zero_digits();
        let removed = edit::remove(&self.store, &mut self.root, key)?;
        self.len -= usize::from(removed.is_some());
        repair(&self.store, &mut self.root, key, digit)?;
        debug_assert!(self.is_path_narrow(key), "a node is too wide");
        Ok(removed.map(|(_, value)| value))
    }

    /// The root hash. O(changed nodes) since it was last asked for, O(1) if
    /// nothing changed.
    ///
    /// # Errors
    /// The node storage's.
    pub fn root(&self) -> Result<RootHash, S::Error> {
        match &self.root {
            None => Ok(RootHash::of_empty()),
            Some(link) => Ok(RootHash(link_hash(&self.store, link)?.0)),
        }
    }

    /// Hashes up to so many nodes that changed since the root was last asked for; true
    /// if there are no more. So that who may not be kept waiting for as long as all of
    /// them take can have the root made piece by piece.
    ///
    /// # Errors
    /// The node storage's.
    pub fn hash_some(&self, nodes: usize) -> Result<bool, S::Error> {
        let mut left = nodes;
        match &self.root {
            None => Ok(true),
            Some(link) => hash_some(&self.store, link, &mut left),
        }
    }

    /// The entries within `range`, ascending by key.
    ///
    /// # Errors
    /// The node storage's, here and from the iterator.
    pub fn range(&self, range: impl RangeBounds<S::Key>) -> Result<Range<'_, S>, S::Error> {
        let end: Bound<S::Key> = range.end_bound().cloned();
        Range::new(&self.store, self.root_link(), range.start_bound(), end)
    }

    /// All entries, ascending by key.
    ///
    /// # Errors
    /// The node storage's, here and from the iterator.
    pub fn iter(&self) -> Result<Range<'_, S>, S::Error> {
        self.range(..)
    }

    /// Shows all entries, ascending by key. O(n). For whoever reads or copies the keys of a
    /// large tree: it waits for memory less often than [`iter`](Self::iter) does.
    ///
    /// # Errors
    /// The node storage's.
    pub fn for_each<'a>(
        &'a self,
        mut visit: impl FnMut(&'a S::Key, &'a S::Value),
    ) -> Result<(), S::Error> {
        match self.root_link() {
            Some(root) => show_all(&self.store, self.store.load(root)?, &mut visit),
            None => Ok(()),
        }
    }

    /// The keys in which this tree, on the left, differs from `other`. The iterator has
    /// the node storage's errors.
    pub fn diff<'a>(&'a self, other: &'a Self) -> Differences<'a, S> {
        Differences::new(&self.store, self.root_link(), other.root_link())
    }

    /// What the tree holds strictly between two keys, as a tree of its own; no
    /// key is no bound. Nothing is there if nothing is between. O(log n).
    ///
    /// Its hash is a function of its content, so that two replicas can compare
    /// what they hold in any range; but for a range that cuts an over-wide run,
    /// where ranks make equal contents look different.
    ///
    /// # Errors
    /// The node storage's.
    pub fn between(
        &self,
        low: Option<&S::Key>,
        high: Option<&S::Key>,
    ) -> Result<Option<S::Link>, S::Error> {
        Ok(between(&self.store, self.root_link(), low, high)?.0)
    }

    /// The topmost entries of what the tree holds strictly between two keys; nothing if
    /// there is nothing. As [`between`](Self::between), but cheaper: nothing is made of
    /// the topmost node. O(log n).
    ///
    /// # Errors
    /// The node storage's.
    pub fn run_between<'a>(
        &'a self,
        low: Option<&'a S::Key>,
        high: Option<&'a S::Key>,
    ) -> Result<Option<Run<'a, S>>, S::Error> {
        run_between(&self.store, self.root_link(), low, high)
    }

    /// As [`run_between`](Self::run_between), of one of the tree's subtrees, perhaps as
    /// it was before.
    ///
    /// # Errors
    /// The node storage's.
    pub fn run_below<'a>(
        &'a self,
        subtree: &'a S::Link,
        low: Option<&'a S::Key>,
        high: Option<&'a S::Key>,
    ) -> Result<Option<Run<'a, S>>, S::Error> {
        run_between(&self.store, Some(subtree), low, high)
    }

    /// The hash of a node of this tree, for proofs and for comparing with
    /// another replica's.
    ///
    /// # Errors
    /// The node storage's.
    pub fn hash_of(&self, link: &S::Link) -> Result<super::NodeHash, S::Error> {
        link_hash(&self.store, link)
    }
}
