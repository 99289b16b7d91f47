//! Counters: the value is the sum of all that was put.
//!
//! A put writes one cell, whose part is the put's timestamp: so each put counts
//! once, however often and by whichever way it arrives.

use bytes::Bytes;

use super::{
    decimal::{Decimal, Sum, DIGITS},
    strategy::{Applied, Fold, Form, PartCell, PartWrite, Put, Reading, Strategy, Unfit},
};
use crate::cell::{Cell, Content, Stamp, Value, STAMP_ID_BYTES};

/// Adds numbers, exactly.
///
/// A number is written as in JSON, with at most 18 digits before the point and
/// 18 after; the sum of any number of these is exact. A get returns the sum, in
/// the encoding of the newest put.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additive;

/// In the order of timestamps.
fn part_of(stamp: Stamp) -> Vec<u8> {
    let mut part = Vec::with_capacity(8 + STAMP_ID_BYTES);
    part.extend_from_slice(&stamp.time.to_be_bytes());
    part.extend_from_slice(&stamp.id);
    part
}

fn number(payload: &[u8]) -> Option<Decimal> {
    Decimal::parse(std::str::from_utf8(payload).ok()?.trim_ascii())
}

impl Strategy for Additive {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, Unfit> {
        let Some(number) = number(&put.value.payload) else {
            return Err(Unfit::new(format!(
                "found {}, allowed is a number with at most {DIGITS} digits before the point \
                 and {DIGITS} after it",
                excerpt(&put.value.payload)
            )));
        };
        Ok(vec![PartWrite {
            part: part_of(put.stamp),
            content: Content::Value(Value {
                payload: Bytes::from(number.to_string()),
                ..put.value.clone()
            }),
        }])
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), Unfit> {
        if part != part_of(cell.stamp) {
            return Err(Unfit::new("the part is not the timestamp"));
        }
        match cell.value().and_then(|value| number(&value.payload)) {
            Some(_) => Ok(()),
            None => Err(Unfit::new("the value is not a number")),
        }
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let mut sum = AdditiveFold(Sum::default());
        for PartCell { cell, .. } in cells {
            sum.add(cell);
        }
        Box::new(sum)
    }
}

struct AdditiveFold(Sum);

impl AdditiveFold {
    fn add(&mut self, cell: &Cell) {
        let number = cell.value().and_then(|value| number(&value.payload));
        if let Some(number) = number {
            self.0 = self.0.plus(number);
        }
    }
}

impl Fold for AdditiveFold {
    /// A part is a timestamp, so a later cell of the same part does not come.
    fn apply(&mut self, _: &[u8], cell: &Cell) -> Applied {
        self.add(cell);
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
pub(super) fn excerpt(payload: &[u8]) -> String {
    const BYTES: usize = 40;
    let shown = &payload[..payload.len().min(BYTES)];
    let text = String::from_utf8_lossy(shown);
    match payload.len() > BYTES {
        true => format!("{text:?}... ({} bytes)", payload.len()),
        false => format!("{text:?}"),
    }
}
