//! Proofs: any bytes are refused, or read; and of one key under one root only the
//! proof that is made of the tree holds, whatever is changed in it.
#![no_main]

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{Cell, CellKey, CellSummary, Content, Timestamp, Value, Version},
    mst::Resident,
    proof::{prove, read, verify},
    replica::Tree,
};

#[derive(Arbitrary, Debug)]
struct Input {
    /// Keys, parts, times, and what was put, if it was not a delete.
    cells: Vec<(u8, Option<u8>, u8, Option<u8>)>,
    asked: u8,
    changes: Vec<Change>,
    bytes: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Set(u16, u8),
    Insert(u16, u8),
    Remove(u16),
    Swap(u16, u16),
}

impl Change {
    fn make(self, bytes: &mut Vec<u8>) {
        let place = |place: u16| usize::from(place) % bytes.len();
        match self {
            _ if bytes.is_empty() => {}
            Self::Set(at, byte) => {
                let at = place(at);
                bytes[at] = byte;
            }
            Self::Insert(at, byte) => bytes.insert(place(at), byte),
            Self::Remove(at) => drop(bytes.remove(place(at))),
            Self::Swap(a, b) => {
                let (a, b) = (place(a), place(b));
                bytes.swap(a, b);
            }
        }
    }
}

fn cell_key(number: u8, part: Option<u8>) -> CellKey {
    let mut bytes = format!("\u{1}k/{number}\0\u{1}").into_bytes();
    bytes.extend(part);
    CellKey::from_canonical(&bytes).unwrap()
}

fn cell(time: u8, payload: Option<u8>) -> Cell {
    Cell {
        timestamp: Timestamp {
            time: time.into(),
            id: [7; 16],
        },
        content: payload.map_or(Content::Tombstone, |byte| {
            Content::Value(Value {
                encoding_id: byte.into(),
                schema: (byte > 127).then(|| [byte].into()),
                attachment: None,
                payload: vec![byte].into(),
            })
        }),
    }
}

fuzz_target!(|input: Input| {
    let _ = read(&input.bytes);
    let cells: BTreeMap<CellKey, Cell> = input
        .cells
        .into_iter()
        .map(|(number, part, time, payload)| (cell_key(number, part), cell(time, payload)))
        .collect();
    let versions = cells
        .iter()
        .map(|(key, cell)| (key.clone(), Version::of(key, cell).into()));
    let tree = Tree::from_sorted(Resident::default(), versions);
    let Ok(root) = tree.root();
    let key = cell_key(input.asked, None).key;
    let store = |key: &CellKey, _| Ok::<_, Infallible>(Arc::new(cells[key].clone()));
    let proof = prove(&tree, &key, store).unwrap();

    let proven = verify(&proof, &root, &key).unwrap();
    let proven = proven
        .cells
        .iter()
        .map(|cell| (&cell.part, cell.timestamp, cell.content.clone()));
    let model = cells.iter().filter(|(cell, _)| cell.key == key);
    assert!(proven.eq(model.map(|(key, cell)| (
        &key.part,
        cell.timestamp,
        CellSummary::of(&cell.content)
    ))));

    let mut changed = proof.clone();
    input
        .changes
        .into_iter()
        .for_each(|change| change.make(&mut changed));
    assert_eq!(verify(&changed, &root, &key).is_ok(), changed == proof);
});
