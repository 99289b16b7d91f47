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
//! ```text
//! level 2                     [ h ]
//!                     ┌─────────┴─────────┐
//! level 1          [ c   f ]            [ m ]
//!               ┌─────┼────┐          ┌───┴───┐
//! level 0    [ a b ] [ d ] [ g ]   [ i k ]  [ p ]
//! ```
//!
//! Here the position of `h` begins with two zero digits, those of `c`, `f` and `m` with one,
//! and all others with none. Between `c` and `f` lies `d` alone, and nothing else can: so the
//! node of `d` has one hash wherever these three keys are all that lies there.
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
//! ```
//! use zenoh_backend_mst::{
//!     cell::{Cell, CellKey, Key, Timestamp, Version},
//!     mst::{Mst, Resident},
//! };
//! use zenoh_keyexpr::OwnedKeyExpr;
//!
//! let entry = |key: &str, time| {
//!     let key = OwnedKeyExpr::new(key).expect("a key expression");
//!     let key = CellKey::own(Key::from(Some(key)));
//!     let cell = Cell::tombstone(Timestamp { time, id: [1; 16] });
//!     let version = Version::of(&key, &cell);
//!     (key, version)
//! };
//!
//! // Build a tree, and take a snapshot of it.
//! let mut tree = Mst::from_sorted(Resident::default(), [entry("a", 1), entry("b", 1)]);
//! let snapshot = tree.clone();
//!
//! // A put changes the root.
//! let (key, version) = entry("b", 2);
//! let Ok(_) = tree.upsert(key.clone(), version);
//! assert_ne!(tree.root(), snapshot.root());
//!
//! // The trees differ in one key.
//! let differing: Vec<&CellKey> = snapshot
//!     .diff(&tree)
//!     .map(|difference| {
//!         let Ok(difference) = difference;
//!         difference.key
//!     })
//!     .collect();
//! assert_eq!(differing, [&key]);
//!
//! // The same entries make the same tree, in whatever order they come.
//! let mut other = Mst::new(Resident::default());
//! for (key, version) in [entry("b", 2), entry("a", 1)] {
//!     let Ok(_) = other.upsert(key, version);
//! }
//! assert_eq!(other.root(), tree.root());
//! ```
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
    node_merkle::{NodeMerkle, groups},
    of_node::{group_hash, head_hash, part_hash, write_child},
};
pub use query::{
    between::Run,
    diff::{Difference, Differences},
    scan::Range,
};
pub(crate) use structure::keys::shared_prefix;
pub use structure::{
    level::{Level, MAX_DIGITS, Position, TreeKey},
    node::{Digested, Node, NodeOf, NodeStore, Resident, SharedNode},
    rank::MAX_WIDTH,
    sort::sort_by_tree_key,
};
pub use tree::Mst;
