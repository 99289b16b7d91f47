//! The Merkle Search Tree.
//!
//! After Auvolat and Taïani, *Merkle Search Trees: Efficient State-Based CRDTs
//! in Open Networks* (SRDS 2019): a search tree whose shape is read from the
//! hashes of its keys, so that replicas that hold the same data have the same
//! tree, whatever the order in which it came, and compare it from the root down.
//!
//! **Shape.** A key's *level* is the number of leading zero digits, base 16, of
//! its [`Position`]. The keys of the highest level make the topmost node; what
//! lies between two of them makes the subtree there. Levels that no key has are
//! passed over, so that a tree is at most as deep as it has levels. A node that
//! would have more than [`MAX_WIDTH`] entries is divided by ranks, so that no
//! choice of keys makes a node wide or an update slow (see `structure::rank`).
//!
//! **History independence.** Shape and root are a function of the set of
//! entries: inserting, replacing and removing in any order that ends in the
//! same set ends in the same tree.
//!
//! **Cost.** n entries, d differences, c changed nodes:
//!
//! | operation | cost |
//! |---|---|
//! | [`Mst::get`] | O(log n) |
//! | [`Mst::upsert`], [`Mst::remove`] | O(log n), no node is hashed |
//! | [`Mst::put_sorted`] | O(log n) an entry, less for those that are close together |
//! | [`Mst::root`] | O(c) since the last time, once for a whole batch |
//! | [`Mst::from_sorted`] | O(n) |
//! | [`Mst::range`] | O(log n) and O(1) an entry |
//! | [`Mst::for_each`] | O(n) |
//! | [`Mst::diff`] | O(d log n), once both are hashed |
//! | [`Mst::between`], [`Mst::run_between`] | O(log n) |
//! | `clone` (a snapshot) | O(1); later changes copy the O(log n) nodes they touch |
//!
//! With keys chosen by an adversary a level may lie under O(log n) ranks, and
//! an update then repairs a bounded neighbourhood in each.
//!
//! No I/O, clock or randomness is in here. Nodes are kept behind [`NodeStore`];
//! [`Resident`] keeps them in memory.
//!
//! | part | what it is |
//! |---|---|
//! | `structure` | nodes, levels and ranks, and how a put changes them. Read `level`, `node`, `edit`, `rank`, `repair`, `put` in this order |
//! | `hashing` | what the hash of a node covers; `of_node` first |
//! | `query` | scans, parts of a tree, differences |
//! | `build` | from sorted entries |
//! | `tree` | the operations |
//! | `check` | whether a tree is what it should be |

mod build;
mod check;
mod digest;
mod hashing;
mod query;
mod structure;
mod tree;

#[cfg(test)]
mod tests;

pub use build::Builder;
pub use check::Violation;
pub use digest::{NodeHash, RootHash};
pub use hashing::{
    digesting::{Digesting, HashedNode, NotKept},
    node_merkle::GROUP,
};
pub(crate) use hashing::{
    node_merkle::{groups, NodeMerkle},
    of_node::{group_hash, head_hash, part_hash, write_child},
};
pub use query::{
    between::Run,
    diff::{Difference, Differences},
    scan::Range,
};
pub(crate) use structure::keys::shared_prefix;
pub use structure::{
    level::{Level, Position, TreeKey, MAX_DIGITS},
    node::{Digested, Node, NodeOf, NodeStore, Resident, SharedNode},
    rank::MAX_WIDTH,
    sort::sort_by_tree_key,
};
pub use tree::Mst;
