//! Puts and cells of all strategies: any bytes are refused, or make cells that are
//! taken from other replicas too, and that are read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{Cell, Content, Part, Stamp, Value},
    merge::{
        check, raw, Additive, AutomergeCrdt, Form, Merged, Object, PartCell, Put, SetUnion,
        Strategy,
    },
};

const STAMP: Stamp = Stamp {
    time: 1,
    id: [1; 16],
};

fn value(payload: &[u8]) -> Value {
    Value {
        encoding_id: 0,
        schema: None,
        payload: payload.to_vec().into(),
    }
}

fn read(part: &[u8], cell: &Cell) {
    let cells = [PartCell { part, cell }];
    let mut merged = Merged::fold(&cells);
    let _ = merged.read(Form::Usual);
    let _ = merged.read(Form::Json);
    assert!(raw(&cells).is_some());
}

fn put(strategy: &dyn Strategy, tag: u8, payload: &[u8]) {
    let value = value(payload);
    let put = Put {
        stamp: STAMP,
        value: &value,
    };
    for write in strategy.write(&put).into_iter().flatten() {
        let part = [&[tag][..], &write.part].concat();
        let cell = Cell {
            stamp: STAMP,
            content: write.content,
        };
        assert_eq!(check(&Part::from(&part[..]), &cell), Ok(()));
        read(&part, &cell);
    }
}

fuzz_target!(|bytes: &[u8]| {
    put(&Additive, 1, bytes);
    put(&SetUnion, 2, bytes);
    put(&Object::default(), 3, bytes);
    put(&AutomergeCrdt, 4, bytes);
    // A part, its length first, and a payload.
    if let Some((length, rest)) = bytes.split_first() {
        let (part, payload) = rest.split_at(rest.len().min(usize::from(*length)));
        for content in [Content::Value(value(payload)), Content::Tombstone] {
            let cell = Cell {
                stamp: STAMP,
                content,
            };
            let _ = check(&Part::from(part), &cell);
            read(part, &cell);
        }
    }
});
