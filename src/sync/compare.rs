//! Compares a tree with what another replica says of its own.

use super::{
    digests::{Bounds, Differing, DigestQueryReader, DigestReplyWriter, Fragment, Range},
    entries::Want,
    salted::{Salted, Short},
    wire::MessageError,
};
use crate::{
    cell::CellKey,
    mst::{self, Digested, NodeOf, NodeStore, Resident},
    replica::{Tree, TreeEntry},
};

type Cells = Resident<CellKey, TreeEntry>;
type Link = <Cells as NodeStore>::Link;

/// The topmost entries of a part of a tree.
pub(super) type Run<'a> = mst::Run<'a, Cells>;

/// The fewest entries of a comparison's first fragment: the topmost node is often narrow,
/// and beginning with one entry would waste a round trip.
const FIRST_ENTRIES: usize = 32;

fn node<'a>(tree: &'a Tree, link: &'a Link) -> &'a NodeOf<Cells> {
    let Ok(node) = tree.store().load(link);
    node
}

/// The part of `tree` strictly between two bounds.
fn run<'a>(tree: &'a Tree, (low, high): Bounds<'a>) -> Option<Run<'a>> {
    let Ok(run) = tree.run_between(low, high);
    run
}

/// The place of a range's content in a tree when it was last looked up. It does no harm
/// that the tree has changed since: newer cells need not be looked for.
#[derive(Clone, Debug, Default)]
pub(super) enum Place {
    #[default]
    Anywhere,
    /// In this subtree, which may have more.
    Within(Link),
    /// Exactly this subtree.
    Whole(Link),
}

impl Place {
    /// The content of `tree` there.
    pub(super) fn run<'a>(&'a self, tree: &'a Tree, bounds: Bounds<'a>) -> Option<Run<'a>> {
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

fn run_of<'a>(tree: &'a Tree, link: &'a Link) -> Run<'a> {
    let Ok(run) = Run::of(tree.store(), link);
    run
}

/// The digest of a subtree.
fn short(tree: &Tree, link: &Link, salted: &Salted) -> Short {
    let Ok(hash) = tree.hash_of(link);
    salted.short(&hash.0)
}

/// The digest of a part of a tree as a list: the hash of what is before the first of its
/// topmost entries, the digest of that entry, the hash of what is between it and the
/// second, and so on. So no node has to be made and hashed of a part of a node.
fn list_short(tree: &Tree, run: &Run<'_>, salted: &Salted) -> Short {
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

/// A part of a tree, compared with a peer's fragment of the same range.
struct Part<'a> {
    tree: &'a Tree,
    run: Run<'a>,
    salted: &'a Salted,
    is_sparse: bool,
}

/// The own counterpart of a peer's entry.
enum Other<'a> {
    Missing,
    Same,
    Differs(&'a TreeEntry),
}

/// A gap of a peer's fragment, in a [`Part`].
struct Gap<'a> {
    bounds: Bounds<'a>,
    /// The part's entries in the gap, if its bounds are among them.
    places: Option<std::ops::Range<usize>>,
}

impl<'a> Part<'a> {
    /// None if there is nothing in that range.
    fn new(
        tree: &'a Tree,
        place: &'a Place,
        bounds: Bounds<'a>,
        theirs: &Fragment,
        salted: &'a Salted,
    ) -> Option<Self> {
        Some(Self {
            tree,
            run: place.run(tree, bounds)?,
            salted,
            is_sparse: theirs.is_sparse,
        })
    }

    /// The gaps of `theirs` and, after each, the entry there, if the part has it: its
    /// index, and whether it is the same.
    fn gaps<'b>(
        &'b self,
        bounds: Bounds<'b>,
        theirs: &'b Fragment,
    ) -> impl Iterator<Item = (Gap<'b>, Option<(usize, bool)>)> {
        let mut low = Some(0);
        (0..theirs.gaps.len()).map(move |place| {
            let entry = theirs.entries.get(place);
            let found = entry.and_then(|(key, told)| self.find(key, *told));
            let at = found.map(|(place, _)| place);
            let high = match entry {
                Some(_) => at,
                None => Some(self.run.keys().len()),
            };
            let start = std::mem::replace(&mut low, at.map(|place| place + 1));
            let gap = Gap {
                bounds: theirs.gap_bounds(bounds, place),
                places: start.zip(high).map(|(start, end)| start..end),
            };
            (gap, found)
        })
    }

    /// The index of a peer's entry, and whether it is the same here. If its digest is,
    /// then so is its key, which the digest covers.
    fn find(&self, key: &CellKey, told: Short) -> Option<(usize, bool)> {
        let values = self.run.values();
        let is_same = |place: usize| {
            let value = values.get(place);
            value.is_some_and(|value| self.salted.short(value.digest()) == told)
        };
        let mut is_told = false;
        let place = self.run.find(key, |place| {
            is_told = is_same(place);
            is_told
        })?;
        Some((place, is_told || is_same(place)))
    }

    /// The own cell of a peer's key, if there is one and it differs.
    fn other(&self, key: &CellKey, told: Short, found: Option<(usize, bool)>) -> Other<'_> {
        let version = match found {
            Some((_, true)) => return Other::Same,
            Some((place, false)) => self.run.values().get(place),
            None => {
                let Ok(version) = self.tree.get(key);
                version
            }
        };
        match version {
            None => Other::Missing,
            Some(version) if self.salted.short(version.digest()) == told => Other::Same,
            Some(version) => Other::Differs(version),
        }
    }

    /// The place of a gap's content.
    fn place(&self, gap: &Gap<'_>) -> Place {
        match &gap.places {
            Some(places) if places.is_empty() => {
                let child = self.run.child(places.start).cloned();
                child.map_or(Place::Anywhere, Place::Whole)
            }
            Some(_) => Place::Within(self.run.subtree().clone()),
            None => Place::Anywhere,
        }
    }

    /// The content of a gap.
    fn run<'b>(&'b self, gap: &Gap<'b>) -> Option<Run<'b>> {
        match &gap.places {
            Some(places) if places.is_empty() => {
                let link = self.run.child(places.start)?;
                Some(run_of(self.tree, link))
            }
            Some(places) => Some(self.run.part(places.clone())),
            None => run(self.tree, gap.bounds),
        }
    }

    /// The digest of a gap's content, computed as the peer's is; none if the gap is
    /// empty.
    fn short(&self, gap: &Gap<'_>) -> Option<Short> {
        if self.is_sparse {
            let run = self.run(gap)?;
            return Some(list_short(self.tree, &run, self.salted));
        }
        let child = gap.places.as_ref().filter(|places| places.is_empty());
        if let Some(places) = child {
            let link = self.run.child(places.start)?;
            return Some(short(self.tree, link, self.salted));
        }
        let (low, high) = gap.bounds;
        let Ok(part) = self.tree.between(low, high);
        part.map(|link| short(self.tree, &link, self.salted))
    }
}

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
pub(super) fn fragment(tree: &Tree, run: &Run<'_>, salted: &Salted, room: usize) -> Fragment {
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
pub(super) fn first_fragment(tree: &Tree, salted: &Salted, room: usize) -> Fragment {
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
    gap: impl Fn(std::ops::Range<usize>, bool) -> Option<Short>,
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

/// Answers a digest query: where `tree` has something that the asker lacks. In about
/// `max_bytes`; what does not fit is left for later.
///
/// # Errors
/// If the query cannot be read.
pub(super) fn answer(
    tree: &Tree,
    mut query: DigestQueryReader<'_>,
    max_bytes: usize,
) -> Result<Vec<u8>, MessageError> {
    let salted = &{ query.salted };
    let mut writer = DigestReplyWriter::new(*salted);
    while let Some((range, theirs)) = query.next()? {
        if let Some(own) = Part::new(tree, &Place::Anywhere, range.bounds(), &theirs, salted) {
            for (place, (gap, found)) in own.gaps(range.bounds(), &theirs).enumerate() {
                let told = theirs.gaps[place];
                if place < theirs.known_gaps() {
                    let differing = match told {
                        None => own.run(&gap).map(|_| Differing::All(place)),
                        Some(_) if own.short(&gap) == told => None,
                        Some(_) => own.run(&gap).map(|run| {
                            let room = max_bytes.saturating_sub(writer.len());
                            match room > 0 && writer.key_text() < super::MAX_KEY_TEXT_SENT {
                                false => Differing::Later(place),
                                true => {
                                    let fragment = fragment(tree, &run, salted, room);
                                    Differing::Fragment(place, fragment)
                                }
                            }
                        }),
                    };
                    differing
                        .iter()
                        .for_each(|differing| writer.push(differing));
                }
                if let Some((key, told)) = theirs.entries.get(place) {
                    if let Other::Differs(_) = own.other(key, *told, found) {
                        writer.push(&Differing::Entry(place));
                    }
                }
            }
        }
        writer.end();
    }
    Ok(writer.finish())
}

/// What a peer has and the own tree lacks, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Wanted cells, ascending.
    pub(super) wants: Vec<Want>,
    /// Ranges to look into.
    pub(super) open: Vec<(Range, Place)>,
}

/// Compares a peer's fragment between two bounds with that place of `tree`.
pub(super) fn look(
    tree: &Tree,
    salted: &Salted,
    (bounds, place): (Bounds<'_>, &Place),
    theirs: &Fragment,
    found: &mut Found,
) {
    let Some(own) = Part::new(tree, place, bounds, theirs, salted) else {
        found.wants.push(Want::All(Range::of(bounds)));
        return;
    };
    for (place, (gap, at)) in own.gaps(bounds, theirs).enumerate() {
        let all = || Range::of(theirs.gap_bounds(bounds, place));
        if place == theirs.known_gaps() {
            found.open.push((all(), Place::Anywhere));
        } else if let Some(told) = theirs.gaps[place] {
            match own.short(&gap) {
                Some(here) if here == told => {}
                Some(_) => found.open.push((all(), own.place(&gap))),
                None => found.wants.push(Want::All(all())),
            }
        }
        if let Some((key, told)) = theirs.entries.get(place) {
            match own.other(key, *told, at) {
                Other::Missing => found.wants.push(Want::Key(key.clone(), None)),
                Other::Same => {}
                Other::Differs(version) => {
                    let time = version.timestamp().time;
                    found.wants.push(Want::Key(key.clone(), Some(time)));
                }
            }
        }
    }
}
