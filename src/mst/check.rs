//! The invariant checker: one for the tests, the fuzz targets and the tools.

use thiserror::Error;

use super::{
    Mst,
    hashing::of_node,
    structure::{level::TreeKey, node::NodeStore, rank::MAX_WIDTH},
};

/// What is wrong with a tree.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A node holds nothing.
    #[error("a node of level {0}.{1} has no entries")]
    Empty(u8, u8),
    /// A node does not have a value and a search word for each key.
    #[error("a node's keys, search words and values do not belong together")]
    Values,
    /// A node holds more than [`MAX_WIDTH`] entries.
    #[error("a node has {0} entries, more than {MAX_WIDTH}")]
    TooWide(usize),
    /// A node has neither no children nor one more than it has entries, or it
    /// keeps a list of children that are all absent.
    #[error("a node of {entries} entries has room for {children} children")]
    Children {
        /// Entries of the node.
        entries: usize,
        /// Length of its list of children.
        children: usize,
    },
    /// Keys do not ascend strictly.
    #[error("the entry at place {0} of an ordered scan is not above the one before")]
    Order(usize),
    /// A key is on another level than its position says.
    #[error("a key whose position has {expected} leading zero digits is on level {found}")]
    Digit {
        /// Digits of the key's position.
        expected: u8,
        /// Digit of its node.
        found: u8,
    },
    /// A child's level is not below its parent's.
    #[error("a child is not on a lower level than its parent")]
    ChildLevel,
    /// A cached hash is not that of the node.
    #[error("a node's cached hash is not the hash of its content")]
    Hash,
    /// The tree does not have the one shape that its content has.
    #[error("the tree has another shape than one built from its content")]
    Shape,
    /// A node counts other entries than there are.
    #[error("the tree counts {counted} entries and holds {found}")]
    Count {
        /// What the tree says.
        counted: usize,
        /// What a scan finds.
        found: usize,
    },
}

impl<S: NodeStore + Clone> Mst<S> {
    /// Verifies every invariant of the tree, its shape and its cached hashes.
    /// O(n), with the hashing of the whole tree.
    ///
    /// # Errors
    /// The node storage's.
    pub fn check(&self) -> Result<Result<(), Violation>, S::Error> {
        let mut entries = Vec::new();
        if let Some(link) = self.root_link()
            && let Err(violation) = self.check_node(link, &mut entries)?
        {
            return Ok(Err(violation));
        }
        if entries.len() != self.len() {
            return Ok(Err(Violation::Count {
                counted: self.len(),
                found: entries.len(),
            }));
        }
        let ordered = entries.windows(2).position(|two| two[0].0 >= two[1].0);
        if let Some(index) = ordered {
            return Ok(Err(Violation::Order(index + 1)));
        }
        let entries = entries.into_iter();
        let entries = entries.map(|(key, value)| (key.clone(), value.clone()));
        let rebuilt = Mst::from_sorted(self.store().clone(), entries);
        let same = self.same_shape(self.root_link(), rebuilt.root_link())?;
        Ok(if same { Ok(()) } else { Err(Violation::Shape) })
    }

    fn check_node<'a>(
        &'a self,
        link: &'a S::Link,
        entries: &mut Vec<(&'a S::Key, &'a S::Value)>,
    ) -> Result<Result<(), Violation>, S::Error> {
        let node = self.store().load(link)?;
        if node.keys.is_empty() {
            return Ok(Err(Violation::Empty(node.level.digit, node.level.rank)));
        }
        if node.keys.len() != node.values.len() || !node.keys.is_consistent() {
            return Ok(Err(Violation::Values));
        }
        if node.keys.len() > MAX_WIDTH {
            return Ok(Err(Violation::TooWide(node.keys.len())));
        }
        let leaf = node.children.is_empty();
        let branch =
            node.children.len() == node.keys.len() + 1 && node.children.iter().any(Option::is_some);
        if !(leaf || branch) {
            return Ok(Err(Violation::Children {
                entries: node.keys.len(),
                children: node.children.len(),
            }));
        }
        for index in 0..=node.keys.len() {
            if let Some(link) = node.child(index) {
                if self.store().load(link)?.level >= node.level {
                    return Ok(Err(Violation::ChildLevel));
                }
                if let Err(violation) = self.check_node(link, entries)? {
                    return Ok(Err(violation));
                }
            }
            if let (Some(key), Some(value)) = (node.keys.get(index), node.values.get(index)) {
                let expected = key.position().leading_zero_digits();
                if expected != node.level.digit {
                    let found = node.level.digit;
                    return Ok(Err(Violation::Digit { expected, found }));
                }
                entries.push((key, value));
            }
        }
        match self.store().hash(link).get() {
            Some(cached) if *cached != of_node::compute(self.store(), node)? => {
                Ok(Err(Violation::Hash))
            }
            _ => Ok(Ok(())),
        }
    }

    fn same_shape(&self, a: Option<&S::Link>, b: Option<&S::Link>) -> Result<bool, S::Error> {
        let (a, b) = match (a, b) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) => (self.store().load(a)?, self.store().load(b)?),
            _ => return Ok(false),
        };
        if a.level != b.level || a.keys.len() != b.keys.len() {
            return Ok(false);
        }
        for index in 0..=a.keys.len() {
            if !self.same_shape(a.child(index), b.child(index))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            NodeHash,
            structure::{
                keys::KeyList,
                level::Level,
                node::{Node, NodeOf, Resident},
            },
            tests::{MockKey, MockTree, MockValue},
        },
        *,
    };

    type Store = Resident<MockKey, MockValue>;

    fn value(id: u32) -> MockValue {
        MockValue::new(id, 0)
    }

    /// A tree of two levels, at least.
    fn sound() -> MockTree {
        let entries = (0..200).map(|id| (MockKey::honest(id), value(id)));
        MockTree::from_sorted(Store::default(), entries)
    }

    /// A tree of one node, of keys that are on level 0.
    fn one_node(ids: impl Iterator<Item = u32>, level: Level) -> MockTree {
        let ids: Vec<u32> = ids.collect();
        let keys = ids.iter().map(|id| MockKey::mined(*id, 0)).collect();
        let values = ids.iter().map(|id| value(*id)).collect();
        let node = Node::new(level, KeyList::new(keys), values, Vec::new());
        let store = Store::default();
        let root = store.keep(node);
        Mst::from_parts(store, Some(root), ids.len())
    }

    /// What is found when the topmost node was changed so.
    fn found(change: impl FnOnce(&mut NodeOf<Store>)) -> Result<(), Violation> {
        let tree = sound();
        let mut root = tree.root_link().cloned().expect("a root");
        let Ok(node) = tree.store().edit(&mut root);
        change(node);
        let Ok(found) = Mst::from_parts(Store::default(), Some(root), tree.len()).check();
        found
    }

    #[test]
    fn each_violation_is_found() {
        assert_eq!(found(|_| ()), Ok(()));
        let top = sound().root_link().map(|root| {
            let Ok(node) = Store::default().load(root).cloned();
            node
        });
        let top = top.expect("a root");
        let (digit, rank) = (top.level.digit, top.level.rank);
        let (entries, children) = (top.keys.len(), top.children.len());

        let empty = |node: &mut NodeOf<Store>| node.keys = KeyList::new(Vec::new());
        assert_eq!(found(empty), Err(Violation::Empty(digit, rank)));
        let lacks_value = |node: &mut NodeOf<Store>| node.values.truncate(node.keys.len() - 1);
        assert_eq!(found(lacks_value), Err(Violation::Values));
        let lacks_child = |node: &mut NodeOf<Store>| node.children.truncate(node.keys.len());
        let children = children - 1;
        let expected = Violation::Children { entries, children };
        assert_eq!(found(lacks_child), Err(expected));
        let lowered = |node: &mut NodeOf<Store>| node.level = Level::of_digit(0);
        assert_eq!(found(lowered), Err(Violation::ChildLevel));
        let raised = |node: &mut NodeOf<Store>| node.level = Level::of_digit(digit + 1);
        let expected = Violation::Digit {
            expected: digit,
            found: digit + 1,
        };
        assert_eq!(found(raised), Err(expected));
        let ranked = |node: &mut NodeOf<Store>| node.level.rank += 1;
        assert_eq!(found(ranked), Err(Violation::Shape));

        let level = Level::of_digit(0);
        let Ok(found) = one_node(0..129, level).check();
        assert_eq!(found, Err(Violation::TooWide(129)));
        let Ok(found) = one_node([2, 1, 3].into_iter(), level).check();
        assert_eq!(found, Err(Violation::Order(1)));
    }

    #[test]
    fn a_wrong_count_and_a_wrong_hash_are_found() {
        let tree = sound();
        let root = tree.root_link().cloned();
        let counted = tree.len() + 1;
        let Ok(found) = Mst::from_parts(Store::default(), root, counted).check();
        let held = tree.len();
        let expected = Violation::Count {
            counted,
            found: held,
        };
        assert_eq!(found, Err(expected));

        let root = tree.root_link().expect("a root");
        let forged = tree.store().hash(root).set(NodeHash([7; 32]));
        assert_eq!(forged, Ok(()), "nothing was hashed before");
        let Ok(found) = tree.check();
        assert_eq!(found, Err(Violation::Hash));
    }
}
