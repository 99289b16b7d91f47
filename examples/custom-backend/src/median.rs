//! Many sensors report one quantity to one key: the value is the median of what
//! each reported last, so that one that is broken does not matter.
//!
//! The part is the ID of the clock that stamped the put, which is the sensor's, if
//! sensors timestamp what they put: so a sensor's report replaces its last one, and
//! there are as many cells as there are sensors.

use std::collections::BTreeMap;

use zenoh_backend_mst::{
    cell::{Cell, Content},
    merge::{Applied, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading, Strategy},
};

/// The median of the last report of each sensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Median;

fn number(payload: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(payload).ok()?.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

impl Strategy for Median {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        let payload = &put.value.payload;
        if number(payload).is_none() {
            let found = String::from_utf8_lossy(payload);
            let reason = format!("found {found:?}, allowed is a number");
            return Err(InvalidPut::new(reason));
        }
        Ok(vec![PartWrite {
            part: put.timestamp.id.to_vec(),
            content: Content::Value(put.value.clone()),
        }])
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        if part != cell.timestamp.id {
            return Err(InvalidPut::new("the part is not the ID of the clock"));
        }
        match cell.value().and_then(|value| number(&value.payload)) {
            Some(_) => Ok(()),
            None => Err(InvalidPut::new("the value is not a number")),
        }
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let mut median = MedianFold::default();
        for PartCell { part, cell } in cells {
            median.take(part, cell);
        }
        Box::new(median)
    }
}

/// The last report of each sensor.
#[derive(Default)]
struct MedianFold(BTreeMap<Vec<u8>, f64>);

impl MedianFold {
    fn take(&mut self, part: &[u8], cell: &Cell) {
        if let Some(number) = cell.value().and_then(|value| number(&value.payload)) {
            self.0.insert(part.to_vec(), number);
        }
    }
}

impl Fold for MedianFold {
    fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        self.take(part, cell);
        Applied::Yes
    }

    fn read(&self, _: Form) -> Reading {
        let mut numbers: Vec<f64> = self.0.values().copied().collect();
        numbers.sort_by(f64::total_cmp);
        // Of an even number of them the lower of the two in the middle, which is
        // one that somebody reported.
        let middle = numbers.len().saturating_sub(1) / 2;
        let median = numbers.get(middle).copied().unwrap_or_default();
        Reading {
            encoding_id: None,
            payload: median.to_string().into_bytes().into(),
        }
    }

    fn weight(&self) -> usize {
        self.0.len() * 64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zenoh_backend_mst::{
        cell::{Timestamp, Value},
        merge::{Strategy as _, laws},
    };

    use super::{Cell, Form, Median, PartCell, Put};

    fn put(time: u64, sensor: u8, payload: &str) -> (Timestamp, Value) {
        let id = [sensor; 16];
        let value = Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: payload.to_owned().into_bytes().into(),
        };
        (Timestamp { time, id }, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

        #[test]
        fn the_laws_are_kept(puts in prop::collection::vec((1u64..9, 1u8..5, -9i32..9), 0..12), seed: u64) {
            let puts: Vec<(Timestamp, Value)> = puts
                .into_iter()
                .map(|(time, sensor, number): (u64, u8, i32)| put(time, sensor, &number.to_string()))
                .collect();
            prop_assert_eq!(laws::check(&Median, &puts, seed), Ok(()));
        }
    }

    #[test]
    fn a_broken_sensor_does_not_matter() {
        let cells: Vec<(Vec<u8>, Cell)> = ["20.5", "21", "-3000"]
            .iter()
            .zip(1..)
            .map(|(report, sensor)| {
                let (timestamp, value) = put(1, sensor, report);
                let put = Put {
                    timestamp,
                    value: &value,
                };
                let write = Median.write(&put).expect("a number").remove(0);
                let content = write.content;
                (write.part, Cell { timestamp, content })
            })
            .collect();
        let cells: Vec<_> = cells
            .iter()
            .map(|(part, cell)| PartCell { part, cell })
            .collect();
        let reading = Median.fold(&cells).read(Form::Native);
        assert_eq!(&*reading.payload, b"20.5");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for wrong in ["", "warm", "NaN", "inf"] {
            let (timestamp, value) = put(1, 1, wrong);
            let put = Put {
                timestamp,
                value: &value,
            };
            assert!(Median.write(&put).is_err(), "{wrong}");
        }
    }
}
