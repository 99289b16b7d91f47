//! The cells of one strategy at a place.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{MAX_COLLECTED_BYTES, walk::Walk};
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
    // What may not be in their place does not come, as if there were nothing to collect.
    let Ok(Some(collected)) = collected(strategy, &stable, &newer) else {
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

/// Cells, by their parts.
type ByPart = BTreeMap<Vec<u8>, Cell>;

/// What a strategy has in the place of final cells; nothing, if it leaves them.
///
/// # Errors
/// If what it has is not what may be in their place, in words.
pub(in crate::merge) fn collected(
    strategy: &dyn Strategy,
    stable: &[PartCell<'_>],
    newer: &[PartCell<'_>],
) -> Result<Option<ByPart>, &'static str> {
    let Some(latest) = stable.iter().map(|cell| cell.cell.timestamp).max() else {
        return Ok(None);
    };
    // A strategy of the user's own must not take the storage down.
    let collected = catch_unwind(AssertUnwindSafe(|| strategy.collect(stable, newer)));
    let Some(collected) = collected.map_err(|_| "it panicked")? else {
        return Ok(None);
    };
    let longest = stable.iter().map(|cell| cell.part.len()).max().unwrap_or(0);
    let largest = stable.iter().map(|cell| cell.cell.value_bytes()).max();
    let most = largest.max(Some(MAX_COLLECTED_BYTES));
    let judge = |part: &[u8], cell: &Cell| {
        let takes = || strategy.check(part, cell) == Ok(());
        let broken = if holds(stable, part, cell) {
            return Ok(());
        } else if part.len() > longest {
            "a part is longer than all that there were"
        } else if cell.timestamp > latest {
            "a timestamp is later than all that there were"
        } else if Some(cell.value_bytes()) > most {
            "a value is too large"
        } else if of_part(newer, part).is_some() {
            "a part is that of a newer cell"
        } else if !catch_unwind(AssertUnwindSafe(takes)).unwrap_or(false) {
            "a cell is refused"
        } else {
            return Ok(());
        };
        Err(broken)
    };
    let mut by_part = ByPart::new();
    for CollectedCell { part, cell } in collected {
        judge(&part, &cell)?;
        if by_part.insert(part, cell).is_some() {
            return Err("two cells have one part");
        }
    }
    // That the cells are there is read, too: when the newest was written, and in which encoding.
    let after = by_part.iter();
    let after: Vec<_> = after.map(|(part, cell)| PartCell { part, cell }).collect();
    match shown(stable, newer) == shown(&after, newer) {
        true => Ok(Some(by_part)),
        false => Err("the latest timestamp, or the encoding of the newest value, is another one"),
    }
}

/// The cell of a part, of cells ascending by part.
fn of_part<'a>(cells: &[PartCell<'a>], part: &[u8]) -> Option<&'a Cell> {
    let found = cells.binary_search_by(|cell| cell.part.cmp(part));
    found.ok().map(|index| cells[index].cell)
}

fn holds(cells: &[PartCell<'_>], part: &[u8], cell: &Cell) -> bool {
    of_part(cells, part).is_some_and(|held| held == cell)
}

/// The identifier of an encoding, and its schema.
type Encoding<'a> = (u16, Option<&'a [u8]>);

/// What is read of cells beside their fold.
fn shown<'a>(
    stable: &[PartCell<'a>],
    newer: &[PartCell<'a>],
) -> (Option<Timestamp>, Option<Encoding<'a>>) {
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
