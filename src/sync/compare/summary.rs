//! Makes fragments: what the own tree has in a range, in a few bytes.

use std::ops;

use super::place::{Link, Run, list_short, node, run, run_of, short};
use crate::{
    cell::CellKey,
    mst::Digested,
    replica::{Tree, TreeEntry},
    sync::{
        fragment::Fragment,
        salted::{Salted, Short},
    },
};

/// The fewest entries of a comparison's first fragment: the topmost node is often narrow,
/// and beginning with one entry would waste a round trip.
const FIRST_ENTRIES: usize = 32;

/// The most entries of which a fragment names each.
const FEW: usize = 8;

/// The distance between the entries that a fragment names, of `entries` in a row.
///
/// Naming all would cost most where nearly all are equal, since a node that a random key
/// is in has about thirty. So a fragment names about the square root of their number; the
/// rest is part of the gaps, whose contents have a digest like those of any range. A
/// later fragment names the few in the gap that differs.
fn stride(entries: usize) -> usize {
    match entries {
        0..=FEW => 1,
        _ => {
            let named = entries.isqrt() + 1;
            let named = named.max(entries.div_ceil(FEW + 1));
            (entries + 1).div_ceil(named + 1)
        }
    }
}

/// A fragment of `run`: some of its entries, and what is between. As many as fit into
/// `room` bytes, but at least one.
pub(in crate::sync) fn fragment(
    tree: &Tree,
    run: &Run<'_>,
    salted: &Salted,
    room: usize,
) -> Fragment {
    let entries: Vec<_> = run.keys().iter().zip(run.values()).collect();
    assemble(&entries, salted, room, |places, is_sparse| {
        let child = || run.child(places.start);
        match (places.is_empty(), is_sparse) {
            (true, false) => child().map(|link| short(tree, link, salted)),
            (true, true) => child().map(|link| list_short(tree, &run_of(tree, link), salted)),
            (false, _) => Some(list_short(tree, &run.part(places), salted)),
        }
    })
}

/// A fragment of `tree`: the entries of the topmost node, and of the nodes below while
/// these are few.
pub(in crate::sync) fn first_fragment(tree: &Tree, salted: &Salted, room: usize) -> Fragment {
    let mut items = vec![Item::Gap(tree.root_link())];
    let mut entries = 0;
    loop {
        let before = entries;
        items = unroll(tree, items, &mut entries);
        if entries >= FIRST_ENTRIES || entries == before {
            break;
        }
    }
    let mut children = Vec::with_capacity(entries + 1);
    let mut named = Vec::with_capacity(entries);
    for item in items {
        match item {
            Item::Gap(link) => children.push(link),
            Item::Entry(key, version) => named.push((key, version)),
        }
    }
    assemble(&named, salted, room, |places, is_sparse| {
        if !is_sparse {
            let child = children.get(places.start).copied().flatten();
            return child.map(|link| short(tree, link, salted));
        }
        let key = |place: usize| named.get(place).map(|(key, _)| *key);
        let low = places.start.checked_sub(1).and_then(key);
        let run = run(tree, (low, key(places.end)))?;
        Some(list_short(tree, &run, salted))
    })
}

/// A fragment that names some of `entries`. For the others `gap` gives the digest, with
/// all that lies around them, and is told whether any entries are left out.
fn assemble(
    entries: &[(&CellKey, &TreeEntry)],
    salted: &Salted,
    room: usize,
    gap: impl Fn(ops::Range<usize>, bool) -> Option<Short>,
) -> Fragment {
    let stride = stride(entries.len());
    let named = entries.len() / stride;
    let mut fragment = Fragment {
        is_sparse: stride > 1,
        entries: Vec::with_capacity(named),
        gaps: Vec::with_capacity(named + 1),
        ..Fragment::default()
    };
    let (mut start, mut bytes) = (0, 0);
    for place in (stride - 1..entries.len()).step_by(stride) {
        let (key, version) = entries[place];
        bytes += key.canonical_len() + salted.entry_bytes();
        if bytes > room && !fragment.entries.is_empty() {
            // It says nothing of what is after the last entry.
            fragment.is_cut = true;
            fragment.gaps.push(None);
            return fragment;
        }
        fragment.gaps.push(gap(start..place, stride > 1));
        let short = salted.short(version.digest());
        fragment.entries.push((key.clone(), short));
        start = place + 1;
    }
    fragment.gaps.push(gap(start..entries.len(), stride > 1));
    fragment
}

/// An item of an unrolled tree.
enum Item<'a> {
    Gap(Option<&'a Link>),
    Entry(&'a CellKey, &'a TreeEntry),
}

/// Replaces each subtree by its topmost node.
fn unroll<'a>(tree: &'a Tree, items: Vec<Item<'a>>, entries: &mut usize) -> Vec<Item<'a>> {
    let mut unrolled = Vec::new();
    for item in items {
        let Item::Gap(Some(link)) = item else {
            unrolled.push(item);
            continue;
        };
        let node = node(tree, link);
        let keys = node.keys();
        unrolled.reserve(2 * keys.len() + 1);
        for (place, (key, version)) in keys.iter().zip(node.values()).enumerate() {
            unrolled.push(Item::Gap(node.child(place)));
            unrolled.push(Item::Entry(key, version));
        }
        unrolled.push(Item::Gap(node.child(keys.len())));
        *entries += keys.len();
    }
    unrolled
}
