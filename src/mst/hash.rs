//! All hashing of the tree: what a node's hash covers, byte by byte.
//!
//! The layout is written down in docs/formats.md and pinned by golden vectors;
//! the order of the fields is the format. A key is not written out: the digest
//! of its value covers it.

use super::node::{Digested, NodeOf, NodeStore};
use crate::hash::{hex_display, sha256, tag, HASH_BYTES};

/// Items hashed together inside a node, and forks of the small Merkle tree
/// above them: a proof shows one group and a few hashes, not the whole node.
pub const GROUP: usize = 4;

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

/// The hash of `node`, computed if it is not cached. O(dirty nodes below it).
///
/// # Errors
/// The node storage's, where a node cannot be loaded.
pub(super) fn node_hash<S: NodeStore>(store: &S, node: &NodeOf<S>) -> Result<NodeHash, S::Error> {
    if let Some(hash) = node.hash.get() {
        return Ok(*hash);
    }
    let hash = compute(store, node)?;
    // A racing thread computed the same value from the same node.
    Ok(*node.hash.get_or_init(|| hash))
}

fn link_hash<S: NodeStore>(store: &S, link: &S::Link) -> Result<NodeHash, S::Error> {
    node_hash(store, store.load(link)?)
}

/// Child links are written as a presence byte and, if present, the hash.
fn write_child<S: NodeStore>(
    store: &S,
    child: Option<&S::Link>,
    out: &mut Vec<u8>,
) -> Result<(), S::Error> {
    match child {
        None => out.push(0),
        Some(link) => {
            out.push(1);
            out.extend_from_slice(&link_hash(store, link)?.0);
        }
    }
    Ok(())
}

/// The hash from the node's content, the node's own cache left aside.
pub(super) fn compute<S: NodeStore>(store: &S, node: &NodeOf<S>) -> Result<NodeHash, S::Error> {
    let mut bytes = Vec::with_capacity(512);
    let mut hashes = Vec::with_capacity(node.values.len().div_ceil(GROUP));
    for (group, values) in node.values.chunks(GROUP).enumerate() {
        bytes.clear();
        bytes.extend_from_slice(tag::GROUP);
        for (offset, value) in values.iter().enumerate() {
            bytes.extend_from_slice(value.digest());
            write_child(store, node.child(group * GROUP + offset + 1), &mut bytes)?;
        }
        hashes.push(sha256(&[&bytes]));
    }
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(GROUP)
            .map(|forks| {
                bytes.clear();
                bytes.extend_from_slice(tag::FORK);
                forks.iter().for_each(|hash| bytes.extend_from_slice(hash));
                sha256(&[&bytes])
            })
            .collect();
    }
    bytes.clear();
    bytes.extend_from_slice(tag::NODE);
    bytes.push(node.level.digit);
    bytes.push(node.level.rank);
    bytes.extend_from_slice(&(node.keys.len() as u32).to_be_bytes());
    write_child(store, node.child(0), &mut bytes)?;
    hashes.iter().for_each(|hash| bytes.extend_from_slice(hash));
    Ok(NodeHash(sha256(&[&bytes])))
}
