//! Puts and cells of all strategies: any bytes are refused, or make cells that are
//! taken from other replicas too; and all are read, whatever their parts are, up to the
//! longest ones; what is collected of them reads the same.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{Cell, Content, MAX_KEY_BYTES, Part, Timestamp, Value},
    merge::{
        Additive, Applied, AutomergeCrdt, Form, Merged, Object, PartCell, Put, SetUnion, Strategy,
        check,
        collect::collect,
        raw,
    },
};

const STAMP: Timestamp = Timestamp {
    time: 1,
    id: [1; 16],
};

fn value(payload: &[u8]) -> Value {
    Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.to_vec().into(),
    }
}

/// Reads a cell alone, and beside one of an object's field, to which it is applied.
fn read(part: &[u8], cell: &Cell) {
    let cells = [PartCell { part, cell }];
    let mut merged = Merged::fold(&cells);
    let _ = merged.read(Form::Native);
    let _ = merged.read(Form::Json);
    assert!(merged.weight() > 0);
    assert!(raw(&cells).is_some());

    const FIELD: &[u8] = b"\x03a\0\x01";
    let field = Cell {
        timestamp: STAMP,
        content: Content::Value(value(b"1")),
    };
    let field = PartCell {
        part: FIELD,
        cell: &field,
    };
    if part == FIELD {
        return;
    }
    let mut both = [field, cells[0]];
    both.sort_by_key(|cell| cell.part);
    let mut folded = Merged::fold(&both);
    let mut applied = Merged::fold(&[field]);
    if applied.apply(part, cell) == Applied::NeedsRefold {
        applied = Merged::fold(&both);
    }
    // A document may be saved in several ways.
    assert_eq!(applied.read(Form::Json), folded.read(Form::Json));
    let collection = collect(&both, STAMP.time + 1);
    let mut left: BTreeMap<_, _> = both.iter().map(|cell| (cell.part, cell.cell)).collect();
    for part in &collection.leave {
        assert!(left.remove(part.as_bytes()).is_some());
    }
    for (part, cell) in &collection.come {
        assert_eq!(check(part, cell), Ok(()));
        left.insert(part.as_bytes(), cell);
    }
    let left: Vec<_> = left.into_iter().map(|(part, cell)| PartCell { part, cell }).collect();
    assert_eq!(Merged::fold(&left).read(Form::Json), folded.read(Form::Json));
    assert!(collect(&left, STAMP.time + 1).is_empty());
    assert!(raw(&both).is_some());
}

fn put(strategy: &dyn Strategy, tag: u8, payload: &[u8]) {
    let value = value(payload);
    let put = Put {
        timestamp: STAMP,
        value: &value,
    };
    for write in strategy.write(&put).into_iter().flatten() {
        let part = [&[tag][..], &write.part].concat();
        let cell = Cell {
            timestamp: STAMP,
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
    // A part and a payload. The part is a piece, its length first, as often as a power of
    // two says: so that few bytes make one that nests as deep as there is room in a key.
    let Some(([shift, length_high, length_low], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
    let (piece, payload) = rest.split_at(rest.len().min(length));
    let most = MAX_KEY_BYTES.checked_div(piece.len()).unwrap_or_default();
    let part = piece.repeat(most.min(1 << (shift % 17)));
    for content in [Content::Value(value(payload)), Content::Tombstone] {
        let cell = Cell {
            timestamp: STAMP,
            content,
        };
        let _ = check(&Part::from(&part[..]), &cell);
        read(&part, &cell);
    }
});
