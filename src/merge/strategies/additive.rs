//! Counters: the value is the sum of all that was put.
//!
//! A put writes one cell, whose part is the put's timestamp: so each put counts
//! once, however often and by whichever way it arrives.
//!
//! What is final is one cell, the *base*: the sum of what was put until its timestamp, which is that
//! of the newest of these puts. Its part is empty. It covers what it is the sum of, see
//! [`covered_by_base`](crate::merge::fold::slot::covered_by_base).

use bytes::Bytes;

use crate::{
    cell::{Cell, Content, TIMESTAMP_ID_BYTES, Timestamp, Value},
    merge::{
        strategy::{
            Applied, CollectedCell, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading,
            Strategy,
        },
        values::decimal::{DIGITS, Decimal, SUM_DIGITS, Sum},
    },
};

/// Adds numbers, exactly.
///
/// A number is written as in JSON, with at most 18 digits before the point and
/// 18 after; the sum of any number of these is exact. A get returns the sum, in
/// the encoding of the newest put.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additive;

/// In the order of timestamps.
fn part_of(timestamp: Timestamp) -> Vec<u8> {
    let mut part = Vec::with_capacity(8 + TIMESTAMP_ID_BYTES);
    part.extend_from_slice(&timestamp.time.to_be_bytes());
    part.extend_from_slice(&timestamp.id);
    part
}

/// The part of the base.
const BASE: &[u8] = &[];

/// The sum that a base holds.
fn sum(cell: &Cell) -> Option<Sum> {
    Sum::parse(std::str::from_utf8(&cell.value()?.payload).ok()?)
}

fn number(payload: &[u8]) -> Option<Decimal> {
    Decimal::parse(std::str::from_utf8(payload).ok()?.trim_ascii())
}

impl Strategy for Additive {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        let Some(number) = number(&put.value.payload) else {
            return Err(InvalidPut::new(format!(
                "found {}, allowed is a number with at most {DIGITS} digits before the point \
                 and {DIGITS} after it",
                excerpt(&put.value.payload)
            )));
        };
        Ok(vec![PartWrite {
            part: part_of(put.timestamp),
            content: Content::Value(Value {
                payload: Bytes::from(number.to_string()),
                ..put.value.clone()
            }),
        }])
    }

    fn may_fade(&self) -> bool {
        true
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        if part == BASE {
            return match sum(cell) {
                Some(_) => Ok(()),
                None => Err(InvalidPut::new(format!(
                    "the base is not a sum in its one form, with at most {SUM_DIGITS} digits before \
                     the point"
                ))),
            };
        }
        if part != part_of(cell.timestamp) {
            return Err(InvalidPut::new("the part is not the timestamp"));
        }
        match cell.value().and_then(|value| number(&value.payload)) {
            Some(_) => Ok(()),
            None => Err(InvalidPut::new("the value is not a number")),
        }
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let mut sum = AdditiveFold(Sum::default());
        for PartCell { part, cell } in cells {
            sum.add(part, cell);
        }
        Box::new(sum)
    }

    fn may_collect(&self) -> bool {
        true
    }

    /// The base of all. Of what cannot be read nothing is made.
    fn collect(&self, stable: &[PartCell<'_>], _: &[PartCell<'_>]) -> Option<Vec<CollectedCell>> {
        let newest = stable.iter().max_by_key(|cell| cell.cell.timestamp)?;
        if newest.part == BASE {
            return None;
        }
        let mut total = Sum::default();
        for PartCell { part, cell } in stable {
            total = match *part == BASE {
                true => total.plus_sum(sum(cell)?),
                false => total.plus(number(&cell.value()?.payload)?),
            };
        }
        let cell = Cell {
            timestamp: newest.cell.timestamp,
            content: Content::Value(Value {
                payload: Bytes::from(total.to_string()),
                attachment: None,
                ..newest.cell.value()?.clone()
            }),
        };
        // More than could be read again.
        sum(&cell)?;
        let part = BASE.to_vec();
        Some(vec![CollectedCell { part, cell }])
    }
}

struct AdditiveFold(Sum);

impl AdditiveFold {
    fn add(&mut self, part: &[u8], cell: &Cell) {
        if part == BASE {
            self.0 = self.0.plus_sum(sum(cell).unwrap_or_default());
            return;
        }
        let number = cell.value().and_then(|value| number(&value.payload));
        if let Some(number) = number {
            self.0 = self.0.plus(number);
        }
    }
}

impl Fold for AdditiveFold {
    /// A part is a timestamp, so a later cell of the same part does not come; but a base has others
    /// in it that are here.
    fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        if part == BASE {
            return Applied::NeedsRefold;
        }
        self.add(part, cell);
        Applied::Yes
    }

    fn read(&self, _: Form) -> Reading {
        Reading {
            encoding_id: None,
            payload: Bytes::from(self.0.to_string()),
        }
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// The beginning of what was found, for an error.
pub(in crate::merge) fn excerpt(payload: &[u8]) -> String {
    const BYTES: usize = 40;
    let shown = &payload[..payload.len().min(BYTES)];
    let text = String::from_utf8_lossy(shown);
    match payload.len() > BYTES {
        true => format!("{text:?}... ({} bytes)", payload.len()),
        false => format!("{text:?}"),
    }
}
