//! What the state machine sees of its replica.

use crate::{
    cell::{CellKey, Timestamp},
    mst::RootHash,
    replica::{Change, Comparison, Span, Tree},
};

/// A machine's view of its replica.
pub trait View {
    /// The settled tree.
    fn tree(&self) -> Tree;
    /// Whether the tree has or had this root. What was held with it is still held.
    fn has_had(&self, root: &RootHash) -> bool;
    /// Compares a root with the replica's own.
    fn compare(&self, theirs: &Span) -> Comparison;
    /// The latest root and the number of cells, if there is a root.
    fn latest(&self) -> Option<(Span, u64)>;
    /// The timestamp of the newest cell of a key, settled or not.
    fn newest(&self, key: &CellKey) -> Option<Timestamp>;
    /// The clock of another replica shows this: a witness of what time it is.
    fn witness(&self, clock: u64);
    /// The watermark by which what is dead has left the tree, and is not taken: 0 if nothing dies.
    fn watermark(&self) -> u64 {
        0
    }
    /// As [`RootHistory::changes_since`](crate::replica::RootHistory::changes_since).
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>>;
    /// How many of the cells that the machine joined are part of the root, or need not be
    /// because there are newer ones, or their time has not come.
    fn joined(&self) -> u64;
    /// How many of the cells that the machine joined were newer than what was there.
    fn useful(&self) -> u64;
}
