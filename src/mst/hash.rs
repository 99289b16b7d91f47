//! All hashing of the tree: what a node's hash covers, byte by byte.
//!
//! The layout is written down in docs/formats.md and pinned by golden vectors;
//! the order of the fields is the format.

use sha2::{Digest as _, Sha256};

use super::{
    level::TreeKey,
    node::{Digested, NodeOf, NodeStore},
};

/// Bytes of a hash (SHA-256).
pub const HASH_BYTES: usize = 32;

/// Items hashed together inside a node, and forks of the small Merkle tree
/// above them: a proof shows one group and a few hashes, not the whole node.
pub const GROUP: usize = 4;

/// Domain tags: no input of one kind is ever an input of another.
pub(crate) mod tag {
    pub(crate) const POSITION: &[u8] = b"zenoh-mst/1/position\0";
    pub(crate) const EMPTY: &[u8] = b"zenoh-mst/1/empty\0";
    pub(crate) const NODE: &[u8] = b"zenoh-mst/1/node\0";
    pub(crate) const GROUP: &[u8] = b"zenoh-mst/1/group\0";
    pub(crate) const FORK: &[u8] = b"zenoh-mst/1/fork\0";
}

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
        Self(Sha256::digest(tag::EMPTY).into())
    }
}

macro_rules! hex_display {
    ($($name:ident),+) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )+};
}
pub(crate) use hex_display;
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
    let mut hashes = Vec::with_capacity(node.entries.len().div_ceil(GROUP));
    for (group, entries) in node.entries.chunks(GROUP).enumerate() {
        bytes.clear();
        bytes.extend_from_slice(tag::GROUP);
        for (offset, entry) in entries.iter().enumerate() {
            let length_at = bytes.len();
            bytes.extend_from_slice(&[0; 4]);
            entry.key.write_canonical(&mut bytes);
            let length = (bytes.len() - length_at - 4) as u32;
            bytes[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(entry.value.digest());
            write_child(store, node.child(group * GROUP + offset + 1), &mut bytes)?;
        }
        hashes.push(<[u8; HASH_BYTES]>::from(Sha256::digest(&bytes)));
    }
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(GROUP)
            .map(|forks| {
                let mut hasher = Sha256::new();
                hasher.update(tag::FORK);
                forks.iter().for_each(|hash| hasher.update(hash));
                hasher.finalize().into()
            })
            .collect();
    }
    bytes.clear();
    bytes.extend_from_slice(tag::NODE);
    bytes.push(node.level.digit);
    bytes.push(node.level.rank);
    bytes.extend_from_slice(&(node.entries.len() as u32).to_be_bytes());
    write_child(store, node.child(0), &mut bytes)?;
    hashes.iter().for_each(|hash| bytes.extend_from_slice(hash));
    Ok(NodeHash(Sha256::digest(&bytes).into()))
}
