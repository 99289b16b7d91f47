//! The cells of one strategy at a place.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{MAX_COLLECTED_BYTES, places::Walk};
use crate::{
    cell::{Cell, Part, Timestamp, Value},
    merge::{
        fold::slot::covered_by_base,
        part::Writer,
        strategy::{CollectedCell, PartCell, Strategy},
    },
};

/// Collects cells of a strategy that are not covered, whose parts have `at` bytes before what they
/// are for it.
pub(super) fn collect(
    walk: &mut Walk,
    strategy: &dyn Strategy,
    writer: Writer<'_>,
    at: usize,
    cells: &[PartCell<'_>],
    has_value: bool,
) {
    let covered = covered_by_base(writer, &cells[0].part[at..], cells[0].cell);
    let (mut stable, mut newer) = (Vec::new(), Vec::new());
    for cell in cells {
        let is_base = cell.part.len() == at;
        if !is_base && covered >= Some(cell.cell.timestamp) {
            walk.leave(cell);
            continue;
        }
        let kept = match walk.is_final(cell) {
            true => &mut stable,
            false => &mut newer,
        };
        kept.push(PartCell {
            part: &cell.part[at..],
            cell: cell.cell,
        });
    }
    // A value of the place's own counts as the first put. Sums and documents contain it whatever
    // else there is; a tombstone of another strategy's may hide a piece of it.
    if has_value && !matches!(writer, Writer::Additive | Writer::Automerge) {
        return;
    }
    let Some(collected) = collected(strategy, &stable, &newer) else {
        return;
    };
    let prefix = &cells[0].part[..at];
    for cell in &stable {
        if !collected.contains_key(cell.part) {
            let part = Part::from(&[prefix, cell.part].concat()[..]);
            walk.collection.leave.push(part);
        }
    }
    for (part, cell) in collected {
        if !holds(&stable, &part, &cell) {
            let part = Part::from(&[prefix, &part].concat()[..]);
            walk.collection.come.push((part, cell));
        }
    }
}

/// What a strategy has in the place of final cells; nothing, if it leaves them, or if what it has is
/// not what may be in their place.
fn collected(
    strategy: &dyn Strategy,
    stable: &[PartCell<'_>],
    newer: &[PartCell<'_>],
) -> Option<BTreeMap<Vec<u8>, Cell>> {
    let latest = stable.iter().map(|cell| cell.cell.timestamp).max()?;
    // A strategy of the user's own must not take the storage down.
    let collected = catch_unwind(AssertUnwindSafe(|| strategy.collect(stable, newer)));
    let collected = collected.ok().flatten()?;
    let longest = stable.iter().map(|cell| cell.part.len()).max()?;
    let largest = stable.iter().map(|cell| cell.cell.value_bytes()).max()?;
    let most = largest.max(MAX_COLLECTED_BYTES);
    let mut by_part = BTreeMap::new();
    for CollectedCell { part, cell } in collected {
        let fits = holds(stable, &part, &cell)
            || (part.len() <= longest
                && cell.timestamp <= latest
                && cell.value_bytes() <= most
                && of_part(newer, &part).is_none()
                && catch_unwind(AssertUnwindSafe(|| strategy.check(&part, &cell))).ok()? == Ok(()));
        if !fits || by_part.insert(part, cell).is_some() {
            return None;
        }
    }
    // That the cells are there is read, too: when the newest was written, and in which encoding.
    let after: Vec<_> = by_part
        .iter()
        .map(|(part, cell)| PartCell { part, cell })
        .collect();
    let is_same = shown(stable, newer) == shown(&after, newer);
    is_same.then_some(by_part)
}

/// The cell of a part, of cells ascending by part.
fn of_part<'a>(cells: &[PartCell<'a>], part: &[u8]) -> Option<&'a Cell> {
    let found = cells.binary_search_by(|cell| cell.part.cmp(part));
    found.ok().map(|index| cells[index].cell)
}

fn holds(cells: &[PartCell<'_>], part: &[u8], cell: &Cell) -> bool {
    of_part(cells, part).is_some_and(|held| held == cell)
}

/// What is read of cells beside their fold.
fn shown<'a>(
    stable: &[PartCell<'a>],
    newer: &[PartCell<'a>],
) -> (Option<Timestamp>, Option<(u16, Option<&'a [u8]>)>) {
    let all = || stable.iter().chain(newer);
    let values = all().filter_map(|cell| {
        let value = cell.cell.value()?;
        Some((cell.cell.timestamp, cell.part, value))
    });
    let newest = values.max_by_key(|(timestamp, part, _)| (*timestamp, *part));
    let encoding = |value: &'a Value| (value.encoding_id, value.schema.as_deref());
    (
        all().map(|cell| cell.cell.timestamp).max(),
        newest.map(|(_, _, value)| encoding(value)),
    )
}
