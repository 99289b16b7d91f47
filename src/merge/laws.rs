//! Checks whether a strategy keeps the laws, on puts that one gives it.
//!
//! To be used from the tests of a strategy of one's own, with puts that are made
//! at random: the law that is broken says on which ones.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    collect::group,
    strategy::{Applied, Fold, Form, PartCell, Put, Reading, Strategy},
};
use crate::cell::{Cell, CellKey, Key, Part, Timestamp, Value, Version};

/// A law that a strategy does not keep.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// What a put writes depends on more than the put.
    #[error("the put {put} wrote something else when it was written again")]
    Impure {
        /// Which of the puts.
        put: usize,
    },
    /// A put writes no cell, or two of one part.
    #[error("the put {put} wrote no cell, or two cells of one part")]
    Parts {
        /// Which of the puts.
        put: usize,
    },
    /// A cell that was written is refused when it comes from another replica.
    #[error("a cell that the put {put} wrote was refused: {reason}")]
    Refused {
        /// Which of the puts.
        put: usize,
        /// Why it was refused.
        reason: String,
    },
    /// Folding all reads otherwise than applying some.
    #[error("read {applied} after cells were applied one by one, {folded} when all were folded")]
    Applied {
        /// What the cells that were applied read.
        applied: String,
        /// What all cells, folded, read.
        folded: String,
    },
    /// What is collected may not be in the place of what was there.
    #[error("what was collected cannot be held: {reason}")]
    Collected {
        /// Why.
        reason: String,
    },
    /// What was collected reads otherwise.
    #[error("read {collected} of what was collected {when}, {folded} of all")]
    CollectedReads {
        /// Collected before or after what.
        when: &'static str,
        /// What is read of it.
        collected: String,
        /// What is read of all cells.
        folded: String,
    },
    /// Other cells are left when cells are collected otherwise.
    #[error("other cells were left when they were collected {when}")]
    CollectedCells {
        /// How.
        when: &'static str,
    },
}

/// The join of cells of one key, for one strategy: of each part the newest.
#[derive(Clone, Default, PartialEq)]
struct Cells(BTreeMap<Vec<u8>, (Version, Cell)>);

impl Cells {
    /// True if it is new, or newer than the one that there was.
    fn join(&mut self, part: &[u8], cell: &Cell) -> bool {
        let key = CellKey {
            key: Key::NONE,
            part: Part::from(part),
        };
        let version = Version::of(&key, cell);
        let is_newer = self.0.get(part).is_none_or(|(old, _)| *old < version);
        if is_newer {
            self.0.insert(part.to_vec(), (version, cell.clone()));
        }
        is_newer
    }

    fn of<'a>(cells: impl Iterator<Item = &'a (Vec<u8>, Cell)>) -> Self {
        let mut joined = Self::default();
        for (part, cell) in cells {
            joined.join(part, cell);
        }
        joined
    }

    /// What is left of them when those before a time are collected.
    fn collected(&self, strategy: &dyn Strategy, horizon: u64) -> Result<Self, Violation> {
        let broken = |reason: &str| Violation::Collected {
            reason: reason.to_owned(),
        };
        let (mut stable, mut newer) = (Vec::new(), Vec::new());
        for (part, (_, cell)) in &self.0 {
            let kept = match cell.timestamp.time < horizon {
                true => &mut stable,
                false => &mut newer,
            };
            kept.push(PartCell { part, cell });
        }
        let collected = group::collected(strategy, &stable, &newer).map_err(broken)?;
        let Some(collected) = collected else {
            return Ok(self.clone());
        };
        if !strategy.may_collect() {
            return Err(broken("`may_collect` says that there is nothing"));
        }
        let newer = newer.iter();
        let newer: Vec<_> = newer
            .map(|cell| (cell.part.to_vec(), cell.cell.clone()))
            .collect();
        let collected: Vec<_> = collected.into_iter().collect();
        Ok(Self::of(newer.iter().chain(&collected)))
    }

    fn fold(&self, strategy: &dyn Strategy) -> Box<dyn Fold> {
        let cells = self.0.iter();
        let cells: Vec<_> = cells
            .map(|(part, (_, cell))| PartCell { part, cell })
            .collect();
        strategy.fold(&cells)
    }
}

/// A number that follows another, of a sequence that looks random.
fn next(state: &mut u64) -> u64 {
    // splitmix64.
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for last in (1..items.len()).rev() {
        let other = next(state) % (last as u64 + 1);
        items.swap(last, other as usize);
    }
}

fn show(readings: &[Reading; 2]) -> String {
    let show = |reading: &Reading| String::from_utf8_lossy(&reading.payload).into_owned();
    match readings[0] == readings[1] {
        true => show(&readings[0]),
        false => format!("{} ({})", show(&readings[0]), show(&readings[1])),
    }
}

fn readings(fold: &dyn Fold) -> [Reading; 2] {
    [fold.read(Form::Native), fold.read(Form::Json)]
}

/// Checks the [laws](Strategy#laws) on these puts to one key, in some orders that
/// follow from `seed`. Puts that the strategy refuses are left out.
///
/// # Errors
/// The law that is broken.
pub fn check(
    strategy: &dyn Strategy,
    puts: &[(Timestamp, Value)],
    seed: u64,
) -> Result<(), Violation> {
    let mut state = seed;
    let mut cells = Vec::new();
    for (number, (timestamp, value)) in puts.iter().enumerate() {
        let put = Put {
            timestamp: *timestamp,
            value,
        };
        let writes = strategy.write(&put);
        if strategy.write(&put) != writes {
            return Err(Violation::Impure { put: number });
        }
        let Ok(writes) = writes else {
            continue;
        };
        let mut parts: Vec<_> = writes.iter().map(|write| &write.part).collect();
        parts.sort_unstable();
        parts.dedup();
        if writes.is_empty() || parts.len() < writes.len() {
            return Err(Violation::Parts { put: number });
        }
        for write in writes {
            let cell = Cell {
                timestamp: *timestamp,
                content: write.content,
            };
            strategy
                .check(&write.part, &cell)
                .map_err(|reason| Violation::Refused {
                    put: number,
                    reason: reason.to_string(),
                })?;
            cells.push((write.part, cell));
        }
    }
    // Each comes once or twice, in any order; some are folded at once, and the
    // others applied to that.
    let mut coming = cells.clone();
    coming.retain(|_| next(&mut state).is_multiple_of(4));
    coming.extend(cells.iter().cloned());
    shuffle(&mut coming, &mut state);
    let first = next(&mut state) % (coming.len() as u64 + 1);
    let mut joined = Cells::default();
    for (part, cell) in &coming[..first as usize] {
        joined.join(part, cell);
    }
    let mut fold = joined.fold(strategy);
    for (part, cell) in &coming[first as usize..] {
        // Two different cells of one timestamp are for the caller of a fold, who
        // folds anew.
        let is_tied = joined.0.get(part);
        let is_tied = is_tied.is_some_and(|(_, old)| old.timestamp == cell.timestamp);
        if joined.join(part, cell) && (is_tied || fold.apply(part, cell) == Applied::NeedsRefold) {
            fold = joined.fold(strategy);
        }
    }
    let (applied, folded) = (readings(&*fold), readings(&*joined.fold(strategy)));
    if applied != folded {
        return Err(Violation::Applied {
            applied: show(&applied),
            folded: show(&folded),
        });
    }
    check_collection(strategy, &cells, &mut state)
}

/// Checks the laws of collecting, at a time that is that of one of the cells, or at the end of all.
fn check_collection(
    strategy: &dyn Strategy,
    cells: &[(Vec<u8>, Cell)],
    state: &mut u64,
) -> Result<(), Violation> {
    let mut horizon = || match next(state) as usize % (cells.len() + 1) {
        last if last == cells.len() => u64::MAX,
        one => cells[one].1.timestamp.time,
    };
    let (one, other) = (horizon(), horizon());
    let (first, horizon) = (one.min(other), one.max(other));
    // What is final has come; of what is newer, some.
    let (mut there, mut coming) = (Vec::new(), Vec::new());
    for cell in cells {
        let has_come = cell.1.timestamp.time < horizon || next(state).is_multiple_of(2);
        (if has_come { &mut there } else { &mut coming }).push(cell);
    }
    let all = Cells::of(cells.iter());
    let there = Cells::of(there.into_iter());
    let early = there.collected(strategy, horizon)?;
    let mut joined = early.clone();
    for (part, cell) in &coming {
        joined.join(part, cell);
    }
    let late = all.collected(strategy, horizon)?;
    for (when, collected, of) in [
        ("with nothing that is newer", &early, &there),
        ("before newer cells came", &joined, &all),
        ("after newer cells came", &late, &all),
    ] {
        let collected = readings(&*collected.fold(strategy));
        let folded = readings(&*of.fold(strategy));
        if collected != folded {
            return Err(Violation::CollectedReads {
                when,
                collected: show(&collected),
                folded: show(&folded),
            });
        }
    }
    let in_steps = there.collected(strategy, first)?;
    for (when, left, expected) in [
        ("twice", early.collected(strategy, horizon)?, &early),
        ("in steps", in_steps.collected(strategy, horizon)?, &early),
        (
            "before newer cells came, and then with these",
            joined.collected(strategy, u64::MAX)?,
            &late.collected(strategy, u64::MAX)?,
        ),
    ] {
        if left != *expected {
            return Err(Violation::CollectedCells { when });
        }
    }
    Ok(())
}
