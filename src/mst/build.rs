//! Building from sorted entries, without any search.

use super::{
    Mst,
    hashing::of_node::link_hash,
    structure::{
        edit::{EntryOf, Slot},
        level::{Level, TreeKey},
        node::{Node, NodeStore},
        rank::{MAX_WIDTH, ranks},
    },
};

/// Makes a tree of entries that come in ascending order. O(1) amortised an
/// entry, without hashing but of the keys.
pub struct Builder<S: NodeStore> {
    store: S,
    spine: Spine<S>,
    len: usize,
}

impl<S: NodeStore> Builder<S> {
    /// Nothing yet.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self {
            store,
            spine: Spine::default(),
            len: 0,
        }
    }

    /// Nothing yet; of what is built, each node is hashed as soon as it is complete, and
    /// in the cache of the processor still.
    #[must_use]
    pub fn hashing(store: S) -> Self {
        let mut builder = Self::new(store);
        builder.spine.is_hashing = true;
        builder
    }

    /// Adds an entry, whose key is above all others.
    ///
    /// If it is not, what is built is no tree, as [`Mst::check`] will say. With debug
    /// assertions it panics.
    pub fn push(&mut self, key: S::Key, value: S::Value) {
        let level = Level::of_digit(key.position().leading_zero_digits());
        self.spine.push(&self.store, (key, value), level, None);
        self.len += 1;
    }

    /// The tree.
    #[must_use]
    pub fn finish(self) -> Mst<S> {
        let root = self.spine.finish(&self.store, None);
        Mst::from_parts(self.store, root, self.len)
    }
}

/// The right edge of a tree under construction: nodes of falling level, each
/// with as many children as entries. What hangs after the last entry of the
/// lowest is handed along as `carry`.
struct Spine<S: NodeStore> {
    open: Vec<Node<S::Key, S::Value, S::Link>>,
    is_hashing: bool,
}

impl<S: NodeStore> Default for Spine<S> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            is_hashing: false,
        }
    }
}

impl<S: NodeStore> Spine<S> {
    /// Adds an entry above all others, with `before` as the subtree between it
    /// and the one before.
    fn push(&mut self, store: &S, entry: EntryOf<S>, level: Level, before: Slot<S>) {
        // The entry that came last is the last one of the lowest node.
        debug_assert!(
            self.open
                .last()
                .and_then(|node| node.keys.last())
                .is_none_or(|last| *last < entry.0),
            "the entries ascend strictly"
        );
        let carry = self.close_below(store, Some(level), before);
        match self.open.last_mut() {
            Some(node) if node.level == level => {
                node.keys.push_unfinished(entry.0);
                node.values.push(entry.1);
                node.children.push(carry);
            }
            _ => {
                let mut node = Node::of_one(level, entry, Vec::new());
                node.children.push(carry);
                self.open.push(node);
            }
        }
    }

    fn finish(mut self, store: &S, after: Slot<S>) -> Slot<S> {
        self.close_below(store, None, after)
    }

    fn close_below(&mut self, store: &S, level: Option<Level>, mut carry: Slot<S>) -> Slot<S> {
        while let Some(mut node) = self
            .open
            .pop_if(|node| level.is_none_or(|level| node.level < level))
        {
            node.children.push(carry);
            carry = if node.keys.len() > MAX_WIDTH {
                thin(store, node)
            } else {
                node.keys.finish();
                node.values.shrink_to_fit();
                node.children.shrink_to_fit();
                node.trim_children();
                Some(store.keep(node))
            };
            if let (true, Some(link)) = (self.is_hashing, &carry) {
                // If it fails it is made, or fails, when it is asked for.
                let _ = link_hash(store, link);
            }
        }
        carry
    }
}

/// Gives the entries of an over-wide node their ranks.
fn thin<S: NodeStore>(store: &S, node: Node<S::Key, S::Value, S::Link>) -> Slot<S> {
    let positions: Vec<_> = node.keys.iter().map(TreeKey::position).collect();
    let mut spine = Spine::<S>::default();
    let mut children = node.children.into_iter();
    let entries = node.keys.into_vec().into_iter().zip(node.values);
    for (entry, rank) in entries.zip(ranks(&positions)) {
        let digit = node.level.digit;
        let before = children.next().flatten();
        spine.push(store, entry, Level { digit, rank }, before);
    }
    spine.finish(store, children.next().flatten())
}
