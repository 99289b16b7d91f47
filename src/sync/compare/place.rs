//! Parts of a tree, and their digests.

use crate::{
    cell::CellKey,
    mst::{self, Digested, NodeOf, NodeStore, Resident},
    replica::{Tree, TreeEntry},
    sync::{
        fragment::Bounds,
        salted::{Salted, Short},
    },
};

type Cells = Resident<CellKey, TreeEntry>;
pub(super) type Link = <Cells as NodeStore>::Link;

/// The topmost entries of a part of a tree.
pub(in crate::sync) type Run<'a> = mst::Run<'a, Cells>;

pub(super) fn node<'a>(tree: &'a Tree, link: &'a Link) -> &'a NodeOf<Cells> {
    let Ok(node) = tree.store().load(link);
    node
}

/// The part of `tree` strictly between two bounds.
pub(super) fn run<'a>(tree: &'a Tree, (low, high): Bounds<'a>) -> Option<Run<'a>> {
    let Ok(run) = tree.run_between(low, high);
    run
}

/// The place of a range's content in a tree when it was last looked up. It does no harm
/// that the tree has changed since: newer cells need not be looked for.
#[derive(Clone, Debug, Default)]
pub(in crate::sync) enum Place {
    #[default]
    Anywhere,
    /// In this subtree, which may have more.
    Within(Link),
    /// Exactly this subtree.
    Whole(Link),
}

impl Place {
    /// The content of `tree` there.
    pub(in crate::sync) fn run<'a>(
        &'a self,
        tree: &'a Tree,
        bounds: Bounds<'a>,
    ) -> Option<Run<'a>> {
        match self {
            Self::Anywhere => run(tree, bounds),
            Self::Within(link) => {
                let Ok(run) = tree.run_below(link, bounds.0, bounds.1);
                run
            }
            Self::Whole(link) => Some(run_of(tree, link)),
        }
    }
}

pub(super) fn run_of<'a>(tree: &'a Tree, link: &'a Link) -> Run<'a> {
    let Ok(run) = Run::of(tree.store(), link);
    run
}

/// The digest of a subtree.
pub(super) fn short(tree: &Tree, link: &Link, salted: &Salted) -> Short {
    let Ok(hash) = tree.hash_of(link);
    salted.short(&hash.0)
}

/// The digest of a part of a tree as a list: the hash of what is before the first of its
/// topmost entries, the digest of that entry, the hash of what is between it and the
/// second, and so on. So no node has to be made and hashed of a part of a node.
pub(super) fn list_short(tree: &Tree, run: &Run<'_>, salted: &Salted) -> Short {
    let mut list = salted.list();
    let values = run.values();
    for place in 0..=values.len() {
        let hash = run.child(place).map(|link| {
            let Ok(hash) = tree.hash_of(link);
            hash.0
        });
        list.push(hash.as_ref());
        if let Some(value) = values.get(place) {
            list.push(Some(value.digest()));
        }
    }
    list.finish()
}
