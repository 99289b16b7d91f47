//! Building from sorted entries, without any search.

use super::{
    edit::{EntryOf, Slot},
    level::{Level, TreeKey},
    node::{Node, NodeStore},
    rank::{ranks, MAX_WIDTH},
};

/// The right edge of a tree under construction: nodes of falling level, each
/// with as many children as entries. What hangs after the last entry of the
/// lowest is handed along as `carry`.
struct Spine<'a, S: NodeStore> {
    store: &'a S,
    open: Vec<Node<S::Key, S::Value, S::Link>>,
}

impl<'a, S: NodeStore> Spine<'a, S> {
    fn new(store: &'a S) -> Self {
        Self {
            store,
            open: Vec::new(),
        }
    }

    /// Adds an entry above all others, with `before` as the subtree between it
    /// and the one before.
    fn push(&mut self, entry: EntryOf<S>, level: Level, before: Slot<S>) {
        let carry = self.close_below(Some(level), before);
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

    fn finish(mut self, after: Slot<S>) -> Slot<S> {
        self.close_below(None, after)
    }

    fn close_below(&mut self, level: Option<Level>, mut carry: Slot<S>) -> Slot<S> {
        while let Some(mut node) = self
            .open
            .pop_if(|node| level.is_none_or(|level| node.level < level))
        {
            node.children.push(carry);
            carry = if node.keys.len() > MAX_WIDTH {
                thin(self.store, node)
            } else {
                node.keys.finish();
                node.values.shrink_to_fit();
                node.children.shrink_to_fit();
                node.trim_children();
                Some(self.store.keep(node))
            };
        }
        carry
    }
}

/// Gives the entries of an over-wide node their ranks.
fn thin<S: NodeStore>(store: &S, node: Node<S::Key, S::Value, S::Link>) -> Slot<S> {
    let positions: Vec<_> = node.keys.iter().map(TreeKey::position).collect();
    let mut spine = Spine::new(store);
    let mut children = node.children.into_iter();
    let entries = node.keys.into_vec().into_iter().zip(node.values);
    for (entry, rank) in entries.zip(ranks(&positions)) {
        let digit = node.level.digit;
        spine.push(entry, Level { digit, rank }, children.next().flatten());
    }
    spine.finish(children.next().flatten())
}

/// The tree of `entries`, which are strictly ascending by key. O(n).
pub(super) fn build<S: NodeStore>(
    store: &S,
    entries: impl IntoIterator<Item = EntryOf<S>>,
) -> Slot<S> {
    let mut spine = Spine::new(store);
    for entry in entries {
        let digit = entry.0.position().leading_zero_digits();
        spine.push(entry, Level::of_digit(digit), None);
    }
    spine.finish(None)
}
