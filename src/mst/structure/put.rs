//! Putting entries where they belong, many in one walk.

use super::{
    edit::EntryOf,
    keys::KeyList,
    level::{Level, TreeKey},
    node::{Node, NodeStore},
    rank::MAX_WIDTH,
};

/// Entries on their way into the tree, ascending by key.
///
/// One walk goes down to the first of them and, for each of the others, no further up
/// than to where both are below one node. So the entries of a batch that lie close to
/// each other, and in a large one many do, cost less than if each were looked for from
/// the top.
pub(in crate::mst) struct Walk<'a, S: NodeStore, W> {
    pub(in crate::mst) store: &'a S,
    /// Those that are not there yet.
    pub(in crate::mst) rest: &'a [EntryOf<S>],
    /// Whether an entry is to be put in the place of what is there.
    pub(in crate::mst) wins: W,
    /// How many there are more.
    pub(in crate::mst) inserted: usize,
}

/// A key that bounds a subtree, by where it stands: mostly it need not be looked at.
type Bound<'a, S> = (&'a KeyList<<S as NodeStore>::Key>, usize);

impl<S, W> Walk<'_, S, W>
where
    S: NodeStore,
    W: FnMut(&S::Key, Option<&S::Value>, &S::Value) -> bool,
{
    /// Puts what needs no change of shape, which is nearly everything: the key is
    /// there, or it belongs into or below the very node where the search for it ended,
    /// and neither makes that too wide nor changes ranks. False if the next entry does.
    ///
    /// The next entry is below `high`, if that is a bound, and above what bounds the
    /// subtree on the other side. `ranked` is the digit of the lowest node above that
    /// has ranks.
    pub(in crate::mst) fn put_below(
        &mut self,
        link: &mut S::Link,
        high: Option<Bound<'_, S>>,
        mut ranked: Option<u8>,
    ) -> Result<bool, S::Error> {
        let node = self.store.edit(link)?;
        if node.level.rank > 0 {
            ranked = Some(node.level.digit);
        }
        while let Some((entry, others)) = self.rest.split_first() {
            let (key, value) = entry;
            match node.keys.search(key) {
                Ok(index) => {
                    if (self.wins)(key, Some(&node.values[index]), value) {
                        node.values[index] = value.clone();
                    }
                    self.rest = others;
                }
                Err(index) => {
                    if let Some(Some(child)) = node.children.get_mut(index) {
                        let bound = (index < node.keys.len()).then_some((&node.keys, index));
                        if !self.put_below(child, bound.or(high), ranked)? {
                            return Ok(false);
                        }
                    } else if self.insert(node, index, ranked, entry) {
                        self.rest = others;
                    } else {
                        return Ok(false);
                    }
                }
            }
            if let (Some((next, _)), Some((keys, index))) = (self.rest.first(), high)
                && !keys.is_above(index, next)
            {
                break;
            }
        }
        Ok(true)
    }

    /// Puts an entry to a place where there is none and no subtree; false if the shape
    /// is to change.
    fn insert(
        &mut self,
        node: &mut Node<S::Key, S::Value, S::Link>,
        index: usize,
        ranked: Option<u8>,
        entry: &EntryOf<S>,
    ) -> bool {
        let (key, value) = entry;
        let digit = key.position().leading_zero_digits();
        let own = node.level.digit;
        let is_here = digit == own && ranked != Some(own) && node.keys.len() < MAX_WIDTH;
        if !is_here && digit >= own {
            return false;
        }
        if !(self.wins)(key, None, value) {
            return true;
        }
        self.inserted += 1;
        if is_here {
            node.insert(index, entry.clone(), None, None);
        } else {
            let leaf = Node::of_one(Level::of_digit(digit), entry.clone(), vec![]);
            *node.child_mut(index) = Some(self.store.keep(leaf));
        }
        true
    }
}
