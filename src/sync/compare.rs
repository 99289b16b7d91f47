//! Comparing a tree with what another replica says of its own.

use super::{
    digests::{Bounds, Differing, DigestQuery, DigestReplyWriter, Fragment, Range, Salted, Short},
    entries::Want,
};
use crate::{
    cell::{CellKey, CellMeta},
    mst::{Digested, Mst, NodeOf, NodeStore, Resident},
    replica::Tree,
};

type Link = <Resident<CellKey, CellMeta> as NodeStore>::Link;
type TreeNode = NodeOf<Resident<CellKey, CellMeta>>;

/// Entries that the first fragment of a comparison has, at least: the topmost
/// node is often narrow, and to begin with one entry would waste a round trip.
pub(super) const FIRST_ENTRIES: usize = 32;

fn node<'a>(tree: &'a Tree, link: &'a Link) -> &'a TreeNode {
    let Ok(node) = tree.store().load(link);
    node
}

/// What `tree` has strictly between the bounds of `range`.
pub(super) fn part(tree: &Tree, range: &Range) -> Option<Link> {
    let Ok(part) = tree.between(range.low.as_ref(), range.high.as_ref());
    part
}

/// The digest of a node, and of all below it.
fn short(tree: &Tree, link: &Link, salted: &Salted) -> Short {
    let Ok(hash) = tree.hash_of(link);
    salted.short(&hash.0)
}

/// A part of a tree, to be asked for parts of it in ascending order.
struct Part<'a> {
    top: &'a TreeNode,
    /// The part as a tree of its own.
    whole: Tree,
    /// Entries of the topmost node that are passed.
    passed: usize,
}

impl<'a> Part<'a> {
    fn new(tree: &'a Tree, link: &'a Link) -> Self {
        Self {
            top: node(tree, link),
            whole: Mst::of_part(tree.store().clone(), link.clone()),
            passed: 0,
        }
    }

    /// What lies between two keys; each time above the time before.
    fn between(&mut self, (low, high): Bounds<'_>) -> Option<Link> {
        // Of neighbours in the topmost node, it is a child.
        let keys = self.top.keys();
        if let (Some(low), Some(high)) = (low, high) {
            while keys.get(self.passed).is_some_and(|key| key <= low) {
                self.passed += 1;
            }
            let before = self.passed.checked_sub(1).and_then(|place| keys.get(place));
            if before == Some(low) && keys.get(self.passed) == Some(high) {
                return self.top.child(self.passed).cloned();
            }
        }
        let Ok(part) = self.whole.between(low, high);
        part
    }

    /// The cell of a key, which is above all ranges that were asked for.
    fn get(&self, key: &CellKey) -> Option<&CellMeta> {
        if self.top.keys().get(self.passed) == Some(key) {
            return self.top.values().get(self.passed);
        }
        let Ok(meta) = self.whole.get(key);
        meta
    }
}

/// Entries of which a fragment names each. Of more it names some.
const FEW: usize = 8;

/// Of `entries` in a row, how far apart those are that a fragment names.
///
/// To name all would cost the most where nearly all are equal, since a node that
/// a random key is in has about thirty. So about the root of their number is
/// named, and what is skipped is part of the gaps: their contents have a digest
/// like those of any range. Then the few in the gap that differs are named.
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

/// Says what is in `link`: its topmost node, and nodes below while there are
/// fewer than `least` entries. As far as `room` bytes go, but one entry at the
/// least.
pub(super) fn fragment(
    tree: &Tree,
    link: &Link,
    salted: &Salted,
    least: usize,
    room: usize,
) -> Fragment {
    let mut items = vec![Item::Gap(Some(link))];
    let mut entries = 0;
    loop {
        let before = entries;
        items = unroll(tree, items, &mut entries);
        if entries >= least || entries == before {
            break;
        }
    }
    let whole = Mst::of_part(tree.store().clone(), link.clone());
    let short = |link: &Link| short(tree, link, salted);
    let stride = stride(entries);
    let mut fragment = Fragment::default();
    // The last that was named, how many were skipped since, and what is before
    // the next.
    let (mut low, mut skipped, mut child) = (None, 0, None);
    let gap = |low: Option<&CellKey>, high, skipped, child: Option<&Link>| match skipped {
        0 => child.map(short),
        _ => {
            let Ok(part) = whole.between(low, high);
            part.as_ref().map(short)
        }
    };
    let mut bytes = 0;
    for item in items {
        match item {
            Item::Gap(link) => child = link,
            Item::Entry(..) if skipped + 1 < stride => skipped += 1,
            Item::Entry(key, meta) => {
                bytes += key.canonical_len() + salted.entry_bytes();
                if bytes > room && !fragment.entries.is_empty() {
                    // What is after the last entry is not said.
                    fragment.is_cut = true;
                    fragment.gaps.push(None);
                    return fragment;
                }
                fragment.gaps.push(gap(low, Some(key), skipped, child));
                let entry = (key.clone(), salted.short(meta.digest()));
                fragment.entries.push(entry);
                (low, skipped, child) = (Some(key), 0, None);
            }
        }
    }
    fragment.gaps.push(gap(low, None, skipped, child));
    fragment
}

/// What a tree is unrolled into.
enum Item<'a> {
    Gap(Option<&'a Link>),
    Entry(&'a CellKey, &'a CellMeta),
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
        for (place, (key, meta)) in keys.iter().zip(node.values()).enumerate() {
            unrolled.push(Item::Gap(node.child(place)));
            unrolled.push(Item::Entry(key, meta));
        }
        unrolled.push(Item::Gap(node.child(keys.len())));
        *entries += keys.len();
    }
    unrolled
}

/// Answers a query of digests: where `tree` has something that the asker does
/// not have. In about `max_bytes`; what there is no room for is left for later.
pub(super) fn answer(tree: &Tree, query: &DigestQuery, max_bytes: usize) -> Vec<u8> {
    let salted = query.salted;
    let mut writer = DigestReplyWriter::new(salted);
    for (range, theirs) in &query.fragments {
        if let Some(link) = &part(tree, range) {
            let mut own = Part::new(tree, link);
            for place in 0..theirs.known_gaps() {
                let found = own.between(theirs.gap_bounds(range, place));
                if let Some(link) = &found {
                    let told = theirs.gaps[place];
                    if told != Some(short(tree, link, &salted)) {
                        let room = max_bytes.saturating_sub(writer.len());
                        let has_room = room > 0 && writer.key_text() < super::MAX_KEY_TEXT_SENT;
                        writer.push(&match told {
                            None => Differing::All(place),
                            Some(_) if has_room => {
                                Differing::Fragment(place, fragment(tree, link, &salted, 1, room))
                            }
                            Some(_) => Differing::Later(place),
                        });
                    }
                }
                if let Some((key, told)) = theirs.entries.get(place) {
                    let meta = own.get(key);
                    if meta.is_some_and(|meta| salted.short(meta.digest()) != *told) {
                        writer.push(&Differing::Entry(place));
                    }
                }
            }
        }
        writer.end();
    }
    writer.finish()
}

/// What a peer has and `tree` does not, as far as a fragment of the peer's tells.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Cells to get, ascending.
    pub(super) wants: Vec<Want>,
    /// Where to look further.
    pub(super) open: Vec<Range>,
}

/// Looks at what a peer has in `range`.
pub(super) fn look(tree: &Tree, salted: &Salted, range: &Range, theirs: &Fragment) -> Found {
    let mut found = Found::default();
    let link = part(tree, range);
    let mut own = link.as_ref().map(|link| Part::new(tree, link));
    for place in 0..theirs.gaps.len() {
        let gap = || theirs.gap(range, place);
        if place == theirs.known_gaps() {
            found.open.push(gap());
        } else if let Some(told) = theirs.gaps[place] {
            let bounds = theirs.gap_bounds(range, place);
            let here = own.as_mut().and_then(|own| own.between(bounds));
            match &here {
                Some(link) if short(tree, link, salted) == told => {}
                Some(_) => found.open.push(gap()),
                None => found.wants.push(Want::All(gap())),
            }
        }
        if let Some((key, told)) = theirs.entries.get(place) {
            match own.as_ref().and_then(|own| own.get(key)) {
                None => found.wants.push(Want::Key(key.clone(), None)),
                Some(meta) if salted.short(meta.digest()) == *told => {}
                Some(meta) => {
                    let time = meta.version.stamp.time;
                    found.wants.push(Want::Key(key.clone(), Some(time)));
                }
            }
        }
    }
    found
}
