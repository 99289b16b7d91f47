//! Ordered scans.

use std::ops::Bound;

use crate::mst::structure::node::{NodeOf, NodeStore};

/// The entries of a tree in a range of keys, ascending. Made by
/// [`Mst::range`](crate::mst::Mst::range); O(log n) to start, O(1) amortised a step.
pub struct Range<'a, S: NodeStore> {
    store: &'a S,
    /// The path to the next entry: nodes with the place of their next entry.
    path: Vec<(&'a NodeOf<S>, usize)>,
    end: Bound<S::Key>,
}

impl<'a, S: NodeStore> Range<'a, S> {
    pub(in crate::mst) fn new(
        store: &'a S,
        root: Option<&'a S::Link>,
        start: Bound<&S::Key>,
        end: Bound<S::Key>,
    ) -> Result<Self, S::Error> {
        let mut range = Self {
            store,
            path: Vec::new(),
            end,
        };
        let mut link = root;
        while let Some(at) = link {
            let node = store.load(at)?;
            let (index, child) = match start {
                Bound::Unbounded => (0, node.child(0)),
                Bound::Included(key) => match node.keys.search(key) {
                    Ok(index) => (index, None),
                    Err(index) => (index, node.child(index)),
                },
                Bound::Excluded(key) => match node.keys.search(key) {
                    Ok(index) => (index + 1, node.child(index + 1)),
                    Err(index) => (index, node.child(index)),
                },
            };
            range.path.push((node, index));
            link = child;
        }
        Ok(range)
    }

    fn descend(&mut self, mut link: Option<&'a S::Link>) -> Result<(), S::Error> {
        while let Some(at) = link {
            let node = self.store.load(at)?;
            self.path.push((node, 0));
            link = node.child(0);
        }
        Ok(())
    }
}

impl<'a, S: NodeStore> Iterator for Range<'a, S> {
    type Item = Result<(&'a S::Key, &'a S::Value), S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (node, index) = self.path.last_mut()?;
            let node: &'a NodeOf<S> = node;
            let (Some(key), Some(value)) = (node.keys.get(*index), node.values.get(*index)) else {
                self.path.pop();
                continue;
            };
            *index += 1;
            let after = node.child(*index);
            let inside = match &self.end {
                Bound::Unbounded => true,
                Bound::Included(end) => key <= end,
                Bound::Excluded(end) => key < end,
            };
            if !inside {
                self.path.clear();
                return None;
            }
            return Some(self.descend(after).map(|()| (key, value)));
        }
    }
}
