//! What a put of a document may cost.

use ::automerge::{AutoCommit, ROOT, transaction::Transactable};
use proptest::prelude::*;

use super::*;
use crate::{
    cell::{Timestamp, Value},
    hash::sha256,
    merge::strategy::Strategy as _,
};

const FORMATS: &str = include_str!("../../../../docs/formats.md");
const MERGING: &str = include_str!("../../../../docs/merging.md");

const MIB: usize = 1 << 20;

fn value(payload: Vec<u8>) -> Value {
    Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.into(),
    }
}

fn timestamp() -> Timestamp {
    Timestamp {
        time: 1,
        id: [1; 16],
    }
}

/// The parts that a put of `payload` writes, or why it is refused.
fn written(payload: Vec<u8>) -> Result<Vec<PartWrite>, String> {
    let value = value(payload);
    let put = Put {
        timestamp: timestamp(),
        value: &value,
    };
    AutomergeCrdt
        .write(&put)
        .map_err(|refused| refused.to_string())
}

/// A document with a text of so many equal letters.
fn with_text(bytes: usize) -> AutoCommit {
    let mut document = AutoCommit::new().with_actor(vec![1; 16].into());
    document.put(ROOT, "text", "a".repeat(bytes)).expect("put");
    document.commit();
    document
}

/// Its one change, compressed.
fn compressed(mut document: AutoCommit) -> Vec<u8> {
    let mut change = document.get_changes(&[]).pop().expect("a change");
    change.bytes().into_owned()
}

fn leb128(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed_leb128(value: u64, out: &mut Vec<u8>) {
    leb128(value, out);
    if out.last().is_some_and(|last| last & 0x40 != 0) {
        *out.last_mut().expect("there") |= 0x80;
        out.push(0);
    }
}

/// A change that sets one key to nothing, so many times: each column is one run.
fn of_runs(operations: u64) -> Vec<u8> {
    let run = |value: &[u8]| {
        let mut column = Vec::new();
        signed_leb128(operations, &mut column);
        column.extend(value);
        column
    };
    let mut not_inserted = Vec::new();
    leb128(operations, &mut not_inserted);
    let columns = [
        (0x15, run(b"\x01k")),
        (0x34, not_inserted),
        (0x42, run(&[1])),
        (0x56, run(&[0])),
        (0x70, run(&[0])),
    ];
    // No predecessors; the actor; number, first operation, time; no message, no other actors.
    let mut body = vec![0, 1, 7, 1, 1, 0, 0, 0, columns.len() as u8];
    for (spec, column) in &columns {
        body.extend([*spec, column.len() as u8]);
    }
    columns.iter().for_each(|(_, column)| body.extend(column));
    let mut head = vec![1];
    leb128(body.len() as u64, &mut head);
    let hash = sha256(&[&head, &body]);
    [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &head, &body].concat()
}

#[test]
fn what_inflates_to_too_much_is_refused() {
    let fits = written(compressed(with_text(MIB))).expect("taken");
    assert_eq!(fits.len(), 1);
    let document = with_text(MAX_INFLATED_BYTES + MIB);
    let of_change = compressed(document.clone());
    let of_document = document.clone().save();
    // Two that would each fit.
    let half = compressed(with_text(MAX_INFLATED_BYTES / 2 + MIB));
    let halves = [&half[..], &half].concat();
    for payload in [of_change, of_document, halves] {
        assert!(payload.len() < MIB, "{}", payload.len());
        let refused = written(payload).expect_err("refused");
        assert!(
            refused.contains("it inflates to too many bytes"),
            "{refused}"
        );
    }
}

#[test]
fn runs_of_too_many_operations_are_refused() {
    let change = of_runs(1_000);
    assert!(change.len() < 100);
    let fits = written(change).expect("it is a change");
    assert_eq!(fits.len(), 1);
    let most = MAX_OPERATIONS as u64;
    let half = of_runs(most / 2 + 1);
    let payloads = [
        of_runs(most + 1),
        of_runs(1 << 50),
        [&half[..], &half].concat(),
    ];
    for payload in payloads {
        let refused = written(payload).expect_err("refused");
        assert!(refused.contains("too many operations"), "{refused}");
    }
    // Nor is it taken from another replica.
    let change = value(of_runs(most + 1));
    let cell = Cell {
        timestamp: timestamp(),
        content: Content::Value(change),
    };
    let refused = AutomergeCrdt.check(&[0; HASH_BYTES], &cell);
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains("too many operations"), "{refused}");
}

#[test]
fn the_limits_are_documented() {
    let formats = [
        format!("(`MAX_INFLATED_BYTES`) | {} (2²⁶) |", "67,108,864"),
        format!("(`MAX_OPERATIONS`) | {} (2²⁰) |", "1,048,576"),
    ];
    assert_eq!((MAX_INFLATED_BYTES, MAX_OPERATIONS), (1 << 26, 1 << 20));
    for row in formats {
        assert!(FORMATS.contains(&row), "{row}");
    }
    for row in [
        "| 64 MiB (`MAX_INFLATED_BYTES`)",
        "| 1,048,576 (`MAX_OPERATIONS`)",
    ] {
        assert!(MERGING.contains(row), "{row}");
    }
}

proptest! {
    #[test]
    fn counting_ends_whatever_the_bytes_are(
        kind in 0..3u8,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, kind];
        leb128(body.len() as u64, &mut bytes);
        bytes.extend(&body);
        let (chunk, rest) = Chunk::next(&bytes).expect("a chunk");
        prop_assert_eq!((chunk.bytes, rest), (&bytes[..], &[][..]));
        let _ = chunk.pay(&mut Budget::default());
    }

    #[test]
    fn a_changed_document_is_taken_or_refused(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = with_text(300).save();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = written(bytes);
    }
}
