//! All hashing of the tree: what a node's hash covers, byte by byte.
//!
//! The layout is written down in docs/formats.md and pinned by golden vectors;
//! the order of the fields is the format. A key is not written out: the digest
//! of its value covers it.

use super::node_merkle::{Forks, GROUP, NodeMerkle, fork_hash};
use crate::{
    hash::{HASH_BYTES, sha256, tag},
    mst::{
        digest::NodeHash,
        structure::{
            level::Level,
            node::{Digested, NodeOf, NodeStore},
        },
    },
};

/// The hash of the node that `link` names, computed if it is not known. O(dirty nodes
/// below it).
///
/// # Errors
/// The node storage's, where a node cannot be loaded.
pub(in crate::mst) fn link_hash<S: NodeStore>(
    store: &S,
    link: &S::Link,
) -> Result<NodeHash, S::Error> {
    let kept = store.hash(link);
    if let Some(hash) = kept.get() {
        return Ok(*hash);
    }
    let hash = compute(store, store.load(link)?)?;
    // A racing thread computed the same value from the same node.
    Ok(*kept.get_or_init(|| hash))
}

/// Hashes up to `left` nodes of a subtree, from below; true if that is all of it.
pub(in crate::mst) fn hash_some<S: NodeStore>(
    store: &S,
    link: &S::Link,
    left: &mut usize,
) -> Result<bool, S::Error> {
    if store.hash(link).get().is_some() {
        return Ok(true);
    }
    let node = store.load(link)?;
    for child in node.children.iter().flatten() {
        if !hash_some(store, child, left)? {
            return Ok(false);
        }
    }
    let Some(others) = left.checked_sub(1) else {
        return Ok(false);
    };
    *left = others;
    link_hash(store, link)?;
    Ok(true)
}

/// Appends what is covered of a child: a presence byte and, if it is there, its
/// hash.
pub(crate) fn write_child(child: Option<&NodeHash>, out: &mut Vec<u8>) {
    match child {
        None => out.push(0),
        Some(hash) => {
            out.push(1);
            out.extend_from_slice(&hash.0);
        }
    }
}

/// The hash of a group, from its items: of each entry the digest, and the
/// [child](write_child) after it.
pub(crate) fn group_hash(items: &[u8]) -> [u8; HASH_BYTES] {
    sha256(&[tag::GROUP, items])
}

/// The hash of a node of so many entries, from the child before them and the hash
/// at the top of its forks.
pub(crate) fn head_hash(
    level: Level,
    entries: usize,
    first_child: Option<&NodeHash>,
    top: &[u8; HASH_BYTES],
) -> NodeHash {
    let mut head = Vec::with_capacity(2 + 4 + 1 + 2 * HASH_BYTES);
    head.extend_from_slice(&[level.digit, level.rank]);
    head.extend_from_slice(&(entries as u32).to_be_bytes());
    write_child(first_child, &mut head);
    head.extend_from_slice(top);
    NodeHash(sha256(&[tag::NODE, &head]))
}

/// The hash of a part of a node's forks.
pub(crate) fn part_hash<S: NodeStore>(
    store: &S,
    node: &NodeOf<S>,
    part: NodeMerkle,
) -> Result<[u8; HASH_BYTES], S::Error> {
    if let Some(entries) = part.group() {
        let mut items = Vec::with_capacity(GROUP * (HASH_BYTES + 1 + HASH_BYTES));
        for index in entries {
            items.extend_from_slice(node.values[index].digest());
            write_child(child_hash(store, node, index + 1)?.as_ref(), &mut items);
        }
        return Ok(group_hash(&items));
    }
    let parts = part.parts().map(|part| part_hash(store, node, part));
    Ok(fork_hash(&parts.collect::<Result<Forks, _>>()?))
}

fn child_hash<S: NodeStore>(
    store: &S,
    node: &NodeOf<S>,
    index: usize,
) -> Result<Option<NodeHash>, S::Error> {
    let link = node.child(index);
    link.map(|link| link_hash(store, link)).transpose()
}

/// The hash from the node's content, even if it is known.
pub(in crate::mst) fn compute<S: NodeStore>(
    store: &S,
    node: &NodeOf<S>,
) -> Result<NodeHash, S::Error> {
    let entries = node.values.len();
    let first_child = child_hash(store, node, 0)?;
    let top = part_hash(store, node, NodeMerkle::top(entries))?;
    Ok(head_hash(node.level, entries, first_child.as_ref(), &top))
}
