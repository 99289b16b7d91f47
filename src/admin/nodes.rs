//! One node of the tree, for whoever looks at its shape.

use super::{AdminError, Administration};
use crate::{
    cell::{CellKey, Timestamp},
    mst::{Digested, Level, NodeHash, NodeStore, RootHash, SharedNode},
    replica::{Tree, TreeEntry},
};

type Link = SharedNode<CellKey, TreeEntry>;

/// Bytes of keys in an answer, after which it ends: of a wide node with long keys it has
/// the first entries.
const MAX_KEY_BYTES: usize = 1 << 20;

/// Nodes that are looked at to count the cells of all children.
const MAX_COUNTED: usize = 131_072;

/// What a tree has strictly between two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The root of the whole tree.
    pub root: RootHash,
    /// Its last cut.
    pub cut: u64,
    /// The topmost node there; none if there is nothing.
    pub node: Option<BranchNode>,
}

/// A node, with what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchNode {
    /// Its hash. That of a node of the tree, if the bounds are entries beside it.
    pub hash: NodeHash,
    /// The level of its entries.
    pub level: Level,
    /// How many entries it has.
    pub count: usize,
    /// The first of them, ascending: all, but if their keys are very long.
    pub entries: Vec<BranchEntry>,
    /// The children before, between and after these entries; after the last one only if
    /// it is the last of the node.
    pub children: Vec<BranchChild>,
}

/// An entry of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchEntry {
    /// Its key.
    pub key: CellKey,
    /// The digest of its cell.
    pub digest: [u8; crate::hash::HASH_BYTES],
    /// When it was written.
    pub timestamp: Timestamp,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// A child of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchChild {
    /// How many entries are before it.
    pub place: usize,
    /// Its hash.
    pub hash: NodeHash,
    /// Cells in it, or as many as were counted.
    pub cells: usize,
    /// Whether all of them were counted.
    pub is_all: bool,
}

impl Administration {
    /// The topmost node of what the tree holds strictly between two keys; no key is no
    /// bound. O(log n), and what it takes to count cells, which has a limit.
    ///
    /// # Errors
    /// If the replica has failed, or is closed.
    pub fn branch(
        &self,
        low: Option<&CellKey>,
        high: Option<&CellKey>,
    ) -> Result<Branch, AdminError> {
        let snapshot = self.replica.snapshot()?;
        Ok(Branch {
            root: snapshot.root(),
            cut: snapshot.cut,
            node: node(&snapshot.tree, low, high),
        })
    }
}

fn node(tree: &Tree, low: Option<&CellKey>, high: Option<&CellKey>) -> Option<BranchNode> {
    let Ok(run) = tree.run_between(low, high);
    let run = run?;
    let Ok(part) = tree.between(low, high);
    let Ok(hash) = tree.hash_of(&part?);
    let count = run.keys().len();
    let mut bytes = 0;
    let entries = run.keys().iter().zip(run.values());
    let entries = entries.take_while(|(key, _)| {
        // The first one is always there, so that whoever goes on after the last comes on.
        let is_room = bytes < MAX_KEY_BYTES;
        bytes += key.canonical_len();
        is_room
    });
    let entries: Vec<_> = entries
        .map(|(key, entry)| BranchEntry {
            key: key.clone(),
            digest: *entry.digest(),
            timestamp: entry.timestamp(),
            deleted: entry.is_tombstone(),
        })
        .collect();
    let shown = match entries.len() == count {
        true => count + 1,
        false => entries.len(),
    };
    let mut budget = MAX_COUNTED;
    let children = (0..shown).filter_map(|place| {
        let link = run.child(place)?;
        let Ok(hash) = tree.hash_of(link);
        // Each has an equal part of what those before it have left.
        let part = (budget / (shown - place)).max(1);
        let (mut cells, mut left) = (0, part);
        let is_all = count_cells(tree, link, &mut cells, &mut left);
        budget -= part - left;
        Some(BranchChild {
            place,
            hash,
            cells,
            is_all,
        })
    });
    Some(BranchNode {
        hash,
        level: run.level(),
        count,
        children: children.collect(),
        entries,
    })
}

/// Counts the cells of up to `left` nodes; whether these were all.
fn count_cells(tree: &Tree, link: &Link, cells: &mut usize, left: &mut usize) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    let Ok(node) = tree.store().load(link);
    *cells += node.keys().len();
    let mut children = (0..=node.keys().len()).filter_map(|place| node.child(place));
    children.all(|child| count_cells(tree, child, cells, left))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cell::{Cell, Version, tests::key},
        mst::Mst,
    };

    fn entry(name: &str) -> (CellKey, TreeEntry) {
        let key = CellKey::own(key(name));
        let cell = Cell::tombstone(Timestamp {
            time: 1,
            id: [1; 16],
        });
        let version = Version::of(&key, &cell);
        (key, TreeEntry::from(version))
    }

    fn tree(names: &std::collections::BTreeSet<u32>) -> Tree {
        let mut entries: Vec<_> = names.iter().map(|n| entry(&format!("k/{n}"))).collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Mst::from_sorted(crate::mst::Resident::default(), entries)
    }

    /// What is found by opening each child by its bounds; each has the hash and the number
    /// of cells that its parent says.
    fn open(tree: &Tree, low: Option<&CellKey>, high: Option<&CellKey>, keys: &mut Vec<CellKey>) {
        let Some(opened) = node(tree, low, high) else {
            return;
        };
        assert_eq!(opened.entries.len(), opened.count);
        let entry = |place: usize| opened.entries.get(place).map(|entry| &entry.key);
        let mut children = opened.children.iter().peekable();
        for place in 0..=opened.entries.len() {
            if let Some(child) = children.next_if(|child| child.place == place) {
                let before = place.checked_sub(1).and_then(entry).or(low);
                let after = entry(place).or(high);
                let below = node(tree, before, after).expect("a child is not empty");
                assert_eq!(below.hash, child.hash);
                assert!(below.level < opened.level);
                let start = keys.len();
                open(tree, before, after, keys);
                assert!(child.is_all);
                assert_eq!(keys.len() - start, child.cells);
            }
            keys.extend(entry(place).cloned());
        }
        assert!(children.next().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn all_of_a_tree_is_found_by_opening_its_nodes(
            names in prop::collection::btree_set(0u32..5000, 0..400),
        ) {
            let tree = tree(&names);
            let mut found = Vec::new();
            open(&tree, None, None, &mut found);
            let Ok(entries) = tree.iter();
            let expected: Vec<_> = entries.map(|entry| {
                let Ok((key, _)) = entry;
                key.clone()
            }).collect();
            prop_assert_eq!(found, expected);
            let topmost = node(&tree, None, None).map(|node| node.hash.0);
            let Ok(root) = tree.root();
            prop_assert_eq!(topmost, (!names.is_empty()).then_some(root.0));
        }

        /// So two replicas can be compared by bounds that are entries of one of them only.
        #[test]
        fn what_lies_between_two_keys_has_one_hash_in_all_trees(
            inside in prop::collection::btree_set(2000u32..2999, 1..100),
            others in prop::collection::btree_set(5000u32..9000, 0..100),
        ) {
            let bounds = [entry("k/1999").0, entry("k/3").0];
            let (one, two) = (tree(&inside), tree(&inside.union(&others).copied().collect()));
            let hash = |tree| node(tree, Some(&bounds[0]), Some(&bounds[1])).map(|node| node.hash);
            prop_assert!(hash(&one).is_some());
            prop_assert_eq!(hash(&one), hash(&two));
        }
    }

    #[test]
    fn counting_ends_at_its_limit_and_says_so() {
        let tree = tree(&(0..2000).collect());
        let root = tree.root_link().expect("a root");
        let (mut cells, mut left) = (0, 5);
        assert!(!count_cells(&tree, root, &mut cells, &mut left));
        assert!(left == 0 && (5..2000).contains(&cells), "{cells}");
    }

    #[test]
    fn long_keys_end_an_answer_early_and_the_rest_is_found_after_the_last() {
        let long = "x".repeat(50_000);
        let mut entries: Vec<_> = (0..600).map(|n| entry(&format!("{long}/{n}"))).collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let tree: Tree = Mst::from_sorted(crate::mst::Resident::default(), entries.clone());
        // The widest node there is.
        let mut widest = (None, None, 0);
        let keys: Vec<_> = entries.iter().map(|(key, _)| key).collect();
        for (start, low) in keys.iter().enumerate().step_by(7) {
            for high in keys[start..].iter().skip(40).step_by(40) {
                let count = node(&tree, Some(low), Some(high)).map_or(0, |node| node.count);
                if count > widest.2 {
                    widest = (Some(*low), Some(*high), count);
                }
            }
        }
        let (low, high, count) = widest;
        let first = node(&tree, low, high).expect("a node");
        let last = first.entries.last().expect("an entry");
        assert!(count > 25 && first.entries.len() < count, "{count}");
        assert!(
            first
                .children
                .iter()
                .all(|child| child.place <= first.entries.len())
        );
        let bytes: usize = first
            .entries
            .iter()
            .map(|entry| entry.key.canonical_len())
            .sum();
        assert!(bytes <= MAX_KEY_BYTES + 60_000);
        let next = node(&tree, Some(&last.key), high).expect("more");
        assert!(next.entries[0].key > last.key);
    }
}
