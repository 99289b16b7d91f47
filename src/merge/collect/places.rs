//! The walk over the places of a key.

use super::{Collection, group, walk::Walk};
use crate::{
    cell::{TIMESTAMP_ID_BYTES, Timestamp},
    merge::{
        part::{Nesting, Writer, split_field},
        strategy::{PartCell, StrategyOf},
    },
};

/// What is around a place, or in the place itself, for what is within it.
#[derive(Clone, Copy)]
struct Around {
    /// An own tombstone of the place that is final and not newer goes: what it covers has gone, and
    /// that there is an object, and since when, is said elsewhere.
    marked: Option<Timestamp>,
    /// There is an own value, which counts as the first put to what is within: tombstones hide
    /// pieces of it.
    has_value: bool,
}

/// As [`collect`](super::collect).
pub(super) fn collect(cells: &[PartCell<'_>], horizon: u64, strategy_of: StrategyOf) -> Collection {
    let mut walk = Walk {
        horizon,
        strategy_of,
        collection: Collection::default(),
    };
    // A key that was deleted is as one that never was.
    let latest = Timestamp {
        time: u64::MAX,
        id: [u8::MAX; TIMESTAMP_ID_BYTES],
    };
    let around = Around {
        marked: Some(latest),
        has_value: false,
    };
    walk.place(Nesting::KEY, 0, cells, around);
    let mut collection = walk.collection;
    collection.come.sort_by(|(a, _), (b, _)| a.cmp(b));
    collection.leave.sort();
    collection
}

impl Walk {
    /// A place whose parts have `at` bytes before what they are in it. No deeper than [`Nesting`]
    /// goes.
    fn place(&mut self, nesting: Nesting, at: usize, cells: &[PartCell<'_>], around: Around) {
        let (own, parts) = match cells.split_first() {
            Some((first, rest)) if first.part.len() == at => (Some(first), rest),
            _ => (None, cells),
        };
        let covered = own.map(|own| own.cell.timestamp);
        let mut visible = Vec::with_capacity(parts.len());
        for cell in parts {
            match Some(cell.cell.timestamp) > covered {
                true => visible.push(*cell),
                false => self.leave(cell),
            }
        }
        let mut has_value = around.has_value;
        if let Some(own) = own {
            has_value |= own.cell.value().is_some();
            let is_marked = !around.has_value && around.marked >= covered;
            if own.cell.value().is_none() && self.is_final(own) && is_marked {
                self.leave(own);
            }
        }
        let prefix = |cell: &PartCell<'_>| {
            let tagged = nesting.split(&cell.part[at..]);
            tagged.map_or(0, |tagged| tagged.prefix.len())
        };
        // No prefix is the beginning of another, so cells of one strategy follow each other.
        let alike = |a: &PartCell<'_>, b: &PartCell<'_>| {
            let (of_a, of_b) = (at + prefix(a), at + prefix(b));
            a.part[..of_a] == b.part[..of_b]
        };
        for cells in visible.chunk_by(alike) {
            let Some(tagged) = nesting.split(&cells[0].part[at..]) else {
                continue;
            };
            let at = at + tagged.prefix.len();
            match tagged.writer {
                Writer::Object => self.object(nesting.object(), at, cells, has_value),
                Writer::Unknown | Writer::TooDeep => {}
                writer => {
                    if let Some(strategy) = (self.strategy_of)(writer, nesting) {
                        group::collect(self, &*strategy, writer, at, cells, has_value);
                    }
                }
            }
        }
    }

    fn object(&mut self, nesting: Nesting, at: usize, cells: &[PartCell<'_>], has_value: bool) {
        let marker = cells.first();
        let marker = marker.filter(|first| first.part.len() == at && first.cell.value().is_some());
        let around = Around {
            marked: marker.map(|marker| marker.cell.timestamp),
            has_value,
        };
        let name = |cell: &PartCell<'_>| {
            let rest = &cell.part[at..];
            split_field(rest).map_or(0, |(_, within)| rest.len() - within.len())
        };
        let alike = |a: &PartCell<'_>, b: &PartCell<'_>| {
            let (of_a, of_b) = (at + name(a), at + name(b));
            a.part[..of_a] == b.part[..of_b]
        };
        for field in cells.chunk_by(alike) {
            match name(&field[0]) {
                0 => {}
                name => self.place(nesting, at + name, field, around),
            }
        }
    }
}
