//! A part of the own tree beside what a peer says of the same range.

use std::ops;

use super::place::{Place, Run, list_short, run, run_of, short};
use crate::{
    cell::CellKey,
    mst::Digested,
    replica::{Tree, TreeEntry},
    sync::{
        fragment::{Bounds, Fragment},
        salted::{Salted, Short},
    },
};

/// A part of a tree, compared with a peer's fragment of the same range.
pub(super) struct Part<'a> {
    tree: &'a Tree,
    run: Run<'a>,
    salted: &'a Salted,
    is_sparse: bool,
}

/// The own counterpart of a peer's entry.
pub(super) enum Other<'a> {
    Missing,
    Same,
    Differs(&'a TreeEntry),
}

/// A gap of a peer's fragment, in a [`Part`].
pub(super) struct Gap<'a> {
    bounds: Bounds<'a>,
    /// The part's entries in the gap, if its bounds are among them.
    places: Option<ops::Range<usize>>,
}

impl<'a> Part<'a> {
    /// None if there is nothing in that range.
    pub(super) fn new(
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
    pub(super) fn gaps<'b>(
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
    pub(super) fn other(
        &self,
        key: &CellKey,
        told: Short,
        found: Option<(usize, bool)>,
    ) -> Other<'_> {
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
    pub(super) fn place(&self, gap: &Gap<'_>) -> Place {
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
    pub(super) fn run<'b>(&'b self, gap: &Gap<'b>) -> Option<Run<'b>> {
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
    pub(super) fn short(&self, gap: &Gap<'_>) -> Option<Short> {
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
