//! Any cells are refused as rules, or are found by the keys that their patterns match: as by
//! comparing a key with each of them, by Zenoh's own matching.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Timestamp, Value},
    wildcard::{WildcardRules, check, matches},
};

#[derive(Arbitrary, Debug)]
struct Written<'a> {
    /// The canonical bytes of a rule's key.
    key: &'a [u8],
    time: u8,
    payload: Option<&'a [u8]>,
}

fn cell(written: &Written<'_>) -> Cell {
    let value = written.payload.map(|payload| Value {
        payload: payload.to_vec().into(),
        encoding_id: 0,
        schema: None,
        attachment: None,
    });
    Cell {
        timestamp: Timestamp {
            time: written.time.into(),
            id: [1; 16],
        },
        content: value.map_or(Content::Tombstone, Content::Value),
    }
}

fuzz_target!(|input: (Vec<Written<'_>>, Vec<&[u8]>)| {
    let (written, keys) = input;
    let mut rules = WildcardRules::default();
    let mut deletes: Vec<(CellKey, Timestamp)> = Vec::new();
    for written in written.iter().take(32) {
        let Ok(key) = CellKey::from_canonical(written.key) else {
            continue;
        };
        let cell = cell(written);
        if !key.key.is_pattern() || check(&key, &cell).is_err() {
            continue;
        }
        if cell.value().is_none() {
            deletes.push((key.clone(), cell.timestamp));
        }
        rules.join(&key, &Arc::new(cell));
    }
    for bytes in keys.iter().take(32) {
        let Ok(key) = CellKey::from_canonical(bytes) else {
            continue;
        };
        if key.key.is_pattern() {
            continue;
        }
        let covers = deletes.iter().filter(|(rule, _)| {
            let pattern = rule.key.as_key_expr().expect("a pattern is an expression");
            let of_zenoh = key.key.as_key_expr().map(|key| pattern.intersects(key));
            let is_matched = matches(pattern, &key.key);
            assert!(of_zenoh.is_none_or(|of_zenoh| of_zenoh == is_matched));
            is_matched
        });
        let covers = covers.map(|(_, at)| *at).max();
        assert_eq!(rules.deleted(&key.key), covers);
        let ruled = rules.of_key(&key.key);
        assert_eq!(ruled.and_then(|ruled| ruled.deleted), covers);
    }
});
