//! Checks whether a strategy keeps the laws, on puts that one gives it.
//!
//! To be used from the tests of a strategy of one's own, with puts that are made
//! at random: the law that is broken says on which ones.

use std::collections::BTreeMap;

use thiserror::Error;

use super::strategy::{Applied, Fold, Form, PartCell, Put, Reading, Strategy};
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
}

/// The join of cells of one key, for one strategy: of each part the newest.
#[derive(Clone, Default)]
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
    coming.extend(cells);
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
    match applied == folded {
        true => Ok(()),
        false => Err(Violation::Applied {
            applied: show(&applied),
            folded: show(&folded),
        }),
    }
}
