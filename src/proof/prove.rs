//! Making proofs: a walk over the tree, which opens what shows the key.

use std::{ops::Range, sync::Arc};

use super::{MAX_DEPTH, MAX_PROOF_BYTES, ProveError, SHOWN, VERSION, child};
use crate::{
    cell::{Cell, CellKey, CellSummary, Key, Version, digest_of_summary, write_summary},
    mst::{GROUP, NodeMerkle, NodeOf, NodeStore, Resident, SharedNode, part_hash, shared_prefix},
    replica::{Tree, TreeEntry},
};

type Link = SharedNode<CellKey, TreeEntry>;
type Node = NodeOf<Resident<CellKey, TreeEntry>>;

/// The proof of what `tree` holds of `key`, against the root of the tree.
///
/// The cells that it shows, and only those, are asked of `read`, each with the
/// version that it has in the tree: those of the key, the one after them, and the
/// one before them if the key has no cell of its own. The tree should be hashed
/// already; what is not is hashed here.
///
/// # Errors
/// What `read` fails with; if a cell that it returns is another one than in the
/// tree; if the proof would be larger than [`MAX_PROOF_BYTES`].
pub fn prove<E>(
    tree: &Tree,
    key: &Key,
    read: impl FnMut(&CellKey, Version) -> Result<Arc<Cell>, E>,
) -> Result<Vec<u8>, ProveError<E>> {
    let own = CellKey::own(key.clone());
    write(tree, &own, extent(tree, &own), MAX_PROOF_BYTES, read)
}

/// What has to be shown; nothing if the tree is empty.
fn extent<'a>(tree: &'a Tree, own: &CellKey) -> Option<Extent<'a>> {
    let Ok(from_own) = tree.range(own..);
    let (mut first, mut last) = (None, None);
    for entry in from_own {
        let Ok((key, _)) = entry;
        first = first.or(Some(key));
        last = Some(key);
        if key.key != own.key {
            break;
        }
    }
    if first != Some(own) {
        let below = below(tree, own);
        first = below.or(first);
        last = last.or(below);
    }
    first.map(|_| Extent { first, last })
}

/// The last cell before `key`, which is not in the tree.
fn below<'a>(tree: &'a Tree, key: &CellKey) -> Option<&'a CellKey> {
    let mut below = None;
    let mut link = tree.root_link();
    while let Some(at) = link {
        let Ok(node) = tree.store().load(at);
        let (Ok(index) | Err(index)) = node.keys().binary_search(key);
        below = node.keys()[..index].last().or(below);
        link = node.child(index);
    }
    below
}

/// The proof that shows `extent`, of which nothing else is known.
pub(super) fn write<E>(
    tree: &Tree,
    own: &CellKey,
    extent: Option<Extent<'_>>,
    limit: usize,
    read: impl FnMut(&CellKey, Version) -> Result<Arc<Cell>, E>,
) -> Result<Vec<u8>, ProveError<E>> {
    let own = own.to_canonical();
    let mut out = Vec::with_capacity(4096);
    out.push(VERSION);
    out.extend_from_slice(&(own.len() as u16).to_be_bytes());
    out.extend_from_slice(&own);
    let mut walk = Walk {
        tree,
        own,
        limit,
        read,
        out,
        key_bytes: 0,
        depth: 0,
    };
    let root = tree.root_link();
    walk.out.push(what_of(root, extent));
    walk.child(root, extent)?;
    match walk.out.len() > limit {
        true => Err(ProveError::TooLarge),
        false => Ok(walk.out),
    }
}

/// What of a subtree is shown: from the first cell to the last, which are in it; or
/// from its beginning, or to its end.
#[derive(Clone, Copy)]
pub(super) struct Extent<'a> {
    pub(super) first: Option<&'a CellKey>,
    pub(super) last: Option<&'a CellKey>,
}

/// What of a node is shown, by places.
struct Opening<'a> {
    entries: Range<usize>,
    /// The children that have something of it in them, should they be there; and
    /// what in the first and the last of these.
    children: (usize, usize),
    extent: Extent<'a>,
}

impl<'a> Opening<'a> {
    fn new(node: &Node, extent: Extent<'a>) -> Self {
        // What is an entry of this node bounds no child of it any more.
        let search = |key| node.keys().binary_search(key);
        let (start, first_child, first) = match extent.first.map(search) {
            None => (0, 0, None),
            Some(Ok(index)) => (index, index + 1, None),
            Some(Err(index)) => (index, index, extent.first),
        };
        let count = node.keys().len();
        let (end, last_child, last) = match extent.last.map(search) {
            None => (count, count, None),
            Some(Ok(index)) => (index + 1, index, None),
            Some(Err(index)) => (index, index, extent.last),
        };
        Self {
            entries: start..end,
            children: (first_child, last_child),
            extent: Extent { first, last },
        }
    }

    /// What is shown of the child at `index`.
    fn child(&self, index: usize) -> Option<Extent<'a>> {
        let (first, last) = self.children;
        (first..=last).contains(&index).then(|| Extent {
            first: self.extent.first.filter(|_| index == first),
            last: self.extent.last.filter(|_| index == last),
        })
    }

    /// The groups of the node that have something in them that is shown.
    fn groups(&self, node: &Node) -> Range<usize> {
        let is_shown = |index: &usize| {
            let has_child = node.child(index + 1).is_some();
            self.entries.contains(index) || has_child && self.child(index + 1).is_some()
        };
        let mut places = 0..node.keys().len();
        match places.find(is_shown) {
            None => 0..0,
            Some(first) => first / GROUP..places.rfind(is_shown).unwrap_or(first) / GROUP + 1,
        }
    }
}

/// What stands for a child in the proof.
fn what_of(child: Option<&Link>, extent: Option<Extent<'_>>) -> u8 {
    match (child, extent) {
        (None, _) => child::NONE,
        (Some(_), None) => child::HIDDEN,
        (Some(_), Some(_)) => child::OPEN,
    }
}

struct Walk<'a, R> {
    tree: &'a Tree,
    /// Canonical bytes of the key's own cell.
    own: Vec<u8>,
    /// Bytes that the proof may have, and the keys in it.
    limit: usize,
    read: R,
    out: Vec<u8>,
    key_bytes: usize,
    depth: usize,
}

impl<E, R: FnMut(&CellKey, Version) -> Result<Arc<Cell>, E>> Walk<'_, R> {
    fn child(
        &mut self,
        link: Option<&Link>,
        extent: Option<Extent<'_>>,
    ) -> Result<(), ProveError<E>> {
        match (link, extent) {
            (None, _) => {}
            (Some(link), None) => {
                let Ok(hash) = self.tree.hash_of(link);
                self.out.extend_from_slice(&hash.0);
            }
            (Some(link), Some(extent)) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(ProveError::TooLarge);
                }
                let Ok(node) = self.tree.store().load(link);
                self.node(node, extent)?;
                self.depth -= 1;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, extent: Extent<'_>) -> Result<(), ProveError<E>> {
        let opening = Opening::new(node, extent);
        let open = opening.groups(node);
        let (level, entries) = (node.level(), node.keys().len());
        let (first, shown) = (node.child(0), opening.child(0));
        let head = [
            level.digit,
            level.rank,
            entries as u8,
            what_of(first, shown),
        ];
        self.out.extend_from_slice(&head);
        self.child(first, shown)?;
        let open_groups = [open.start as u8, open.len() as u8];
        self.out.extend_from_slice(&open_groups);
        for part in NodeMerkle::top(entries).cover(&open) {
            match part.group() {
                Some(entries) if part.has_one_of(&open) => self.group(node, &opening, entries)?,
                _ => {
                    let Ok(hash) = part_hash(self.tree.store(), node, part);
                    self.out.extend_from_slice(&hash);
                }
            }
        }
        Ok(())
    }

    fn group(
        &mut self,
        node: &Node,
        opening: &Opening<'_>,
        entries: Range<usize>,
    ) -> Result<(), ProveError<E>> {
        for index in entries {
            let (key, version) = (&node.keys()[index], node.values()[index].version());
            let (after, shown) = (node.child(index + 1), opening.child(index + 1));
            let what = what_of(after, shown);
            if opening.entries.contains(&index) {
                self.out.push(what | SHOWN);
                self.cell(key, version)?;
            } else {
                self.out.push(what);
                self.out.extend_from_slice(&version.digest.0);
            }
            self.child(after, shown)?;
        }
        Ok(())
    }

    fn cell(&mut self, key: &CellKey, version: Version) -> Result<(), ProveError<E>> {
        let cell = (self.read)(key, version).map_err(ProveError::Read)?;
        let canonical = key.to_canonical();
        let common = shared_prefix(&canonical, &self.own);
        let further = &canonical[common..];
        for length in [common, further.len()] {
            self.out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        self.out.extend_from_slice(further);
        let start = self.out.len();
        write_summary(
            cell.timestamp,
            &CellSummary::of(&cell.content),
            &mut self.out,
        );
        if digest_of_summary(&canonical, &self.out[start..]) != version.digest {
            return Err(ProveError::Changed(key.clone()));
        }
        self.key_bytes += canonical.len();
        match self.out.len().max(self.key_bytes) > self.limit {
            true => Err(ProveError::TooLarge),
            false => Ok(()),
        }
    }
}
