//! The hash of a node, and of a tree.

use crate::hash::{HASH_BYTES, hex_display, sha256, tag};

/// The hash of a node and of all that hangs below it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeHash(pub [u8; HASH_BYTES]);

/// The hash of a whole tree: that of its topmost node, or a constant if the
/// tree is empty. Two trees have equal roots exactly if they hold the same
/// keys with the same digests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootHash(pub [u8; HASH_BYTES]);

impl RootHash {
    /// The root of the tree that holds nothing.
    #[must_use]
    pub fn of_empty() -> Self {
        Self(sha256(&[tag::EMPTY]))
    }
}

hex_display!(NodeHash, RootHash);
