//! The part of a tree between two keys: as a tree of its own, or as its topmost run.

use std::{borrow::Cow, ops::Range};

use crate::mst::structure::{
    keys::KeyList,
    level::{Level, TreeKey},
    node::{Node, NodeOf, NodeStore},
};

/// A part of a subtree: its topmost node, and whether it is all of the subtree.
type PartOf<S> = (Option<<S as NodeStore>::Link>, bool);

/// Where a node is cut by two bounds: the places of the entries that lie between, and
/// what is left of each bound for the children before the first and after the last.
struct Cut<'a, K> {
    start: usize,
    end: usize,
    low: Option<&'a K>,
    high: Option<&'a K>,
}

impl<'a, K: TreeKey> Cut<'a, K> {
    /// Nothing if the bounds are the wrong way round, or next to each other.
    fn of<S: NodeStore<Key = K>>(
        node: &NodeOf<S>,
        low: Option<&'a K>,
        high: Option<&'a K>,
    ) -> Option<Self> {
        // A bound that is an entry of this node bounds no child of it any more.
        let (start, low) = match low.map(|low| node.keys.search(low)) {
            None => (0, None),
            Some(Ok(index)) => (index + 1, None),
            Some(Err(index)) => (index, low),
        };
        let (end, high) = match high.map(|high| node.keys.search(high)) {
            None => (node.keys.len(), None),
            Some(Ok(index)) => (index, None),
            Some(Err(index)) => (index, high),
        };
        (start <= end).then_some(Self {
            start,
            end,
            low,
            high,
        })
    }
}

/// What `link` holds strictly between `low` and `high`; no bound is no limit.
///
/// A node all of which lies between is shared, hash and all. Those that a bound
/// cuts are made anew, of which there are O(log n). By history independence
/// what results is the tree of the entries that it holds (but for the ranks of
/// an over-wide run that a bound cuts), so its hash tells its content.
pub(in crate::mst) fn between<S: NodeStore>(
    store: &S,
    link: Option<&S::Link>,
    low: Option<&S::Key>,
    high: Option<&S::Key>,
) -> Result<PartOf<S>, S::Error> {
    let Some(link) = link else {
        return Ok((None, true));
    };
    if low.is_none() && high.is_none() {
        return Ok((Some(link.clone()), true));
    }
    let node = store.load(link)?;
    let Some(cut) = Cut::of::<S>(node, low, high) else {
        return Ok((None, false));
    };
    let (start, end) = (cut.start, cut.end);
    if start == end {
        let (part, _) = between(store, node.child(start), cut.low, cut.high)?;
        return Ok((part, false));
    }
    let (first, is_all_first) = between(store, node.child(start), cut.low, None)?;
    let (last, is_all_last) = between(store, node.child(end), None, cut.high)?;
    if start == 0 && end == node.keys.len() && is_all_first && is_all_last {
        return Ok((Some(link.clone()), true));
    }
    let children = std::iter::once(first)
        .chain((start + 1..end).map(|index| node.child(index).cloned()))
        .chain(std::iter::once(last))
        .collect();
    let keys = KeyList::new(node.keys[start..end].to_vec());
    let values = node.values[start..end].to_vec();
    let part: NodeOf<S> = Node::new(node.level, keys, values, children);
    Ok((Some(store.keep(part)), false))
}

/// The topmost entries of a part of a tree, and what lies before, between and after
/// them: its topmost node, without that being made.
pub struct Run<'a, S: NodeStore> {
    link: &'a S::Link,
    node: &'a NodeOf<S>,
    start: usize,
    end: usize,
    first: Option<Cow<'a, S::Link>>,
    last: Option<Cow<'a, S::Link>>,
}

impl<'a, S: NodeStore> Run<'a, S> {
    /// Of a whole subtree.
    ///
    /// # Errors
    /// The node storage's.
    pub fn of(store: &'a S, link: &'a S::Link) -> Result<Self, S::Error> {
        let node = store.load(link)?;
        let end = node.keys.len();
        Ok(Self {
            link,
            node,
            start: 0,
            end,
            first: node.child(0).map(Cow::Borrowed),
            last: node.child(end).map(Cow::Borrowed),
        })
    }

    /// The subtree of whose topmost node these are entries.
    #[must_use]
    pub fn subtree(&self) -> &'a S::Link {
        self.link
    }

    /// The level of the entries.
    #[must_use]
    pub fn level(&self) -> Level {
        self.node.level
    }

    /// The keys of the entries, of which there is one at least.
    #[must_use]
    pub fn keys(&self) -> &'a [S::Key] {
        &self.node.keys[self.start..self.end]
    }

    /// The values, each at the place of its key.
    #[must_use]
    pub fn values(&self) -> &'a [S::Value] {
        &self.node.values[self.start..self.end]
    }

    /// The part of the tree before the entry at `index`, or after the last.
    #[must_use]
    pub fn child(&self, index: usize) -> Option<&S::Link> {
        match self.start + index {
            at if at == self.start => self.first.as_deref(),
            at if at == self.end => self.last.as_deref(),
            at => self.node.child(at),
        }
    }

    /// The place of a key. O(log n) in the entries of the run.
    ///
    /// `is_it` may tell at once, by its place, whether the one entry that looks like it
    /// is it; else keys are compared, which means fetching them.
    #[must_use]
    pub fn find(&self, key: &S::Key, is_it: impl FnOnce(usize) -> bool) -> Option<usize> {
        let alike = self.node.keys.alike(key);
        let index = |at: usize| {
            let is_inside = (self.start..self.end).contains(&at);
            is_inside.then(|| at - self.start)
        };
        let only = (alike.len() == 1).then(|| index(alike.start)).flatten();
        if only.is_some_and(is_it) {
            return only;
        }
        let found = self.node.keys[alike.clone()].binary_search(key).ok()?;
        index(alike.start + found)
    }

    /// The run of the entries at some places, of which there is one at least.
    #[must_use]
    pub fn part(&self, places: Range<usize>) -> Run<'_, S> {
        Run {
            link: self.link,
            node: self.node,
            start: self.start + places.start,
            end: self.start + places.end,
            first: self.child(places.start).map(Cow::Borrowed),
            last: self.child(places.end).map(Cow::Borrowed),
        }
    }
}

/// The topmost run of what is strictly between `low` and `high`. Only what is cut of
/// the children at its ends is made anew.
pub(in crate::mst) fn run_between<'a, S: NodeStore>(
    store: &'a S,
    mut link: Option<&'a S::Link>,
    mut low: Option<&'a S::Key>,
    mut high: Option<&'a S::Key>,
) -> Result<Option<Run<'a, S>>, S::Error> {
    while let Some(at) = link {
        let node = store.load(at)?;
        let Some(cut) = Cut::of::<S>(node, low, high) else {
            return Ok(None);
        };
        let (start, end) = (cut.start, cut.end);
        (low, high) = (cut.low, cut.high);
        if start < end {
            let edge = |index, low: Option<&S::Key>, high: Option<&S::Key>| {
                let whole = node.child(index);
                Ok(match low.or(high) {
                    None => whole.map(Cow::Borrowed),
                    Some(_) => between(store, whole, low, high)?.0.map(Cow::Owned),
                })
            };
            return Ok(Some(Run {
                link: at,
                node,
                start,
                end,
                first: edge(start, low, None)?,
                last: edge(end, None, high)?,
            }));
        }
        link = node.child(start);
    }
    Ok(None)
}
