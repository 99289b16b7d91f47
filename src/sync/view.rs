//! What the state machine sees of its replica.

use crate::{
    cell::{CellKey, Key, Timestamp, Version},
    collection::{evidence::Evidence, kept::MemberId},
    mst::RootHash,
    replica::{Change, Comparison, Life, MemberState, Span, Tree},
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
    /// How the replica's collection is, if it collects.
    fn member_state(&self) -> Option<MemberState> {
        None
    }
    /// As [`RootHistory::floor_of`](crate::replica::RootHistory::floor_of).
    fn floor_of(&self, _: &RootHash) -> u64 {
        0
    }
    /// As [`RootHistory::change_of`](crate::replica::RootHistory::change_of).
    fn change_of(&self, _: &RootHash) -> Option<u64> {
        None
    }
    /// As [`RootHistory::hear`](crate::replica::RootHistory::hear).
    fn hear(&self, _: MemberId, _: Life, _: &RootHash, _floor: u64) {}
    /// As [`RootHistory::met`](crate::replica::RootHistory::met).
    fn met(&self, _: MemberId, _: Life) {}
    /// Shows what members have shown.
    fn evidence(&self, _read: &mut dyn FnMut(&Evidence<MemberId, Life>)) {}
    /// The tree as it would be if it were collected at a horizon.
    fn collected(&self, _horizon: u64) -> Tree {
        self.tree()
    }
    /// The delete rules in the tree.
    fn delete_rules(&self) -> Vec<(CellKey, Version)> {
        Vec::new()
    }
    /// Whether cells of a key are kept for a time.
    fn has_lifetime(&self, _: &Key) -> bool {
        false
    }
    /// How many of the cells that the machine joined are part of the root, or need not be
    /// because there are newer ones, or their time has not come.
    fn joined(&self) -> u64;
    /// How many of the cells that the machine joined were newer than what was there.
    fn useful(&self) -> u64;
}
