//! Proofs against a naive model, which is a map; and what a liar can do.

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    sync::Arc,
};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::json;

use super::{prove::Extent, *};
use crate::{
    cell::{
        CellKey, Content, DecodeError, Value, Version,
        tests::{any_cell_key, key},
        write_summary,
    },
    hex,
    mst::{
        MAX_WIDTH, NodeMerkle, NodeOf, NodeStore, Resident, RootHash, TreeKey, part_hash,
        shared_prefix,
    },
    replica::{Tree, TreeEntry},
};

type Cells = BTreeMap<CellKey, Cell>;

fn part(text: &str, part: &[u8]) -> CellKey {
    CellKey {
        key: key(text),
        part: part.into(),
    }
}

fn cell(time: u64, payload: &str) -> Cell {
    Cell {
        timestamp: Timestamp {
            time,
            id: *b"0123456789abcdef",
        },
        content: match payload {
            "" => Content::Tombstone,
            _ => Content::Value(Value {
                encoding_id: 4,
                schema: time.is_multiple_of(3).then(|| b"utf-8"[..].into()),
                attachment: None,
                payload: payload.to_owned().into_bytes().into(),
            }),
        },
    }
}

fn tree_of(cells: &Cells) -> Tree {
    let versions = cells
        .iter()
        .map(|(key, cell)| (key.clone(), Version::of(key, cell).into()));
    Tree::from_sorted(Resident::default(), versions)
}

fn root_of(tree: &Tree) -> RootHash {
    let Ok(root) = tree.root();
    root
}

/// Reads as a store does.
fn reader(cells: &Cells) -> impl FnMut(&CellKey, Version) -> Result<Arc<Cell>, Infallible> + '_ {
    |key, version| {
        let cell = &cells[key];
        assert_eq!(Version::of(key, cell), version);
        Ok(Arc::new(cell.clone()))
    }
}

fn proof_of(tree: &Tree, cells: &Cells, key: &Key) -> Vec<u8> {
    prove(tree, key, reader(cells)).expect("a proof")
}

/// All cells of a key, by the model.
fn model(cells: &Cells, key: &Key) -> Vec<(Part, Cell)> {
    let cells = cells.iter().filter(|(cell, _)| cell.key == *key);
    cells
        .map(|(key, cell)| (key.part.clone(), cell.clone()))
        .collect()
}

/// Makes the proof of `key`, sees that it proves what the model says, and returns it.
fn check(tree: &Tree, cells: &Cells, key: &Key) -> Vec<u8> {
    let proof = proof_of(tree, cells, key);
    let proven = verify(&proof, &root_of(tree), key).expect("it holds");
    let expected = model(cells, key);
    assert_eq!(proven.key, *key);
    assert_eq!(proven.cells.len(), expected.len());
    for (proven, (part, cell)) in proven.cells.iter().zip(&expected) {
        assert_eq!(proven.part, *part);
        assert_eq!(proven.timestamp, cell.timestamp);
        assert!(proven.is_of(cell));
        let mut other = cell.clone();
        other.content = match other.content {
            Content::Tombstone => self::cell(1, "x").content,
            Content::Value(_) => Content::Tombstone,
        };
        assert!(!proven.is_of(&other));
    }
    let is_deletion = |(part, cell): &(Part, Cell)| part.is_empty() && cell.value().is_none();
    assert_eq!(proven.is_absent(), expected.iter().all(is_deletion));
    proof
}

fn any_cell() -> impl Strategy<Value = Cell> {
    (1u64..50, prop_oneof!["", "[a-c]{1,4}"]).prop_map(|(time, payload)| cell(time, &payload))
}

/// Few, with prefixes of each other, parts, and the key that is none.
fn few_cells() -> impl Strategy<Value = Cells> {
    prop::collection::btree_map(any_cell_key(), any_cell(), 0..40)
}

/// Many, of all levels up to 2 and sometimes 3.
fn many_cells() -> impl Strategy<Value = Cells> {
    let number = prop_oneof![8 => 0u32..3_000, 1 => prop::sample::select(mined(2, 30))];
    let part = prop_oneof![6 => Just(vec![]), 1 => prop::collection::vec(0u8..3, 1..3)];
    prop::collection::btree_map((number, part), any_cell(), 0..600).prop_map(|cells| {
        let cells = cells.into_iter();
        cells
            .map(|((number, part), cell)| (self::part(&text(number), &part), cell))
            .collect()
    })
}

fn text(number: u32) -> String {
    format!("k/{number}")
}

/// Numbers of keys of this digit.
fn mined(digit: u8, count: usize) -> Vec<u32> {
    let position = |number: &u32| CellKey::own(key(&text(*number))).position();
    (0u32..)
        .filter(|number| position(number).leading_zero_digits() == digit)
        .take(count)
        .collect()
}

/// Keys that are there and keys that are not.
fn keys_at(cells: &Cells) -> Vec<Key> {
    let mut keys: Vec<Key> = cells.keys().map(|cell| cell.key.clone()).collect();
    keys.extend(["!", "a", "k", "k/17", "k/1234567", "z"].map(key));
    let there: Vec<String> = keys
        .iter()
        .filter_map(|k| k.as_str())
        .map(Into::into)
        .collect();
    // Nothing is added to a wildcard.
    let beside = there.iter().filter(|text| !text.ends_with('*'));
    keys.extend(beside.map(|text| key(&format!("{text}!"))));
    keys.push(Key::NONE);
    keys.sort();
    keys.dedup();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn small_trees_prove_what_the_model_says(cells in few_cells(), asked in any_cell_key()) {
        let tree = tree_of(&cells);
        check(&tree, &cells, &asked.key);
        keys_at(&cells).iter().for_each(|key| { check(&tree, &cells, key); });
    }

    #[test]
    fn a_proof_is_of_one_key_and_one_root(cells in few_cells(), other in few_cells()) {
        let (tree, other) = (tree_of(&cells), tree_of(&other));
        let keys = keys_at(&cells);
        for pair in keys.windows(2) {
            let proof = proof_of(&tree, &cells, &pair[0]);
            let root = root_of(&tree);
            prop_assert_eq!(verify(&proof, &root, &pair[1]), Err(ProofError::OtherKey));
            let of_other = verify(&proof, &root_of(&other), &pair[0]);
            prop_assert_eq!(of_other.is_ok(), root == root_of(&other));
        }
    }

    /// A liar who shows another stretch of the tree: less, more, or elsewhere.
    #[test]
    fn of_all_that_can_be_shown_one_stretch_is_a_proof(cells in few_cells(), asked in any_cell_key()) {
        let (tree, own) = (tree_of(&cells), CellKey::own(asked.key));
        let honest = proof_of(&tree, &cells, &own.key);
        let keys: Vec<&CellKey> = cells.keys().collect();
        for (index, first) in keys.iter().enumerate() {
            for last in &keys[index..] {
                let extent = Extent { first: Some(first), last: Some(last) };
                let forged = prove::write(&tree, &own, Some(extent), MAX_PROOF_BYTES, reader(&cells));
                let forged = forged.expect("bytes");
                let verified = verify(&forged, &root_of(&tree), &own.key);
                prop_assert_eq!(verified.is_ok(), forged == honest, "{:?}", verified);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn deep_trees_prove_what_the_model_says(cells in many_cells(), seed in any::<u64>()) {
        let tree = tree_of(&cells);
        let mut keys = keys_at(&cells);
        keys.shuffle(&mut StdRng::seed_from_u64(seed));
        keys[..keys.len().min(100)].iter().for_each(|key| { check(&tree, &cells, key); });
    }
}

/// Keys of digit 0 in such a number that they get ranks, and a few above.
fn over_wide_cells() -> Cells {
    let mut numbers = mined(0, 3_000);
    numbers.extend(mined(1, 3));
    let cell = |number| cell(number, "wide");
    let cells = numbers
        .into_iter()
        .map(|number| (part(&text(number), b""), cell(number.into())));
    cells.collect()
}

#[test]
fn over_wide_runs_prove_what_the_model_says() {
    let cells = over_wide_cells();
    let tree = tree_of(&cells);
    let ranks: Vec<u8> = nodes(&tree).iter().map(|node| node.level().rank).collect();
    assert!(ranks.iter().any(|rank| *rank > 1), "{ranks:?}");
    for key in keys_at(&cells).iter().step_by(7) {
        check(&tree, &cells, key);
    }
}

type Node = NodeOf<Resident<CellKey, TreeEntry>>;

fn nodes(tree: &Tree) -> Vec<&Node> {
    let mut nodes = Vec::new();
    let mut links: Vec<_> = tree.root_link().into_iter().collect();
    while let Some(link) = links.pop() {
        let Ok(node) = tree.store().load(link);
        links.extend((0..=node.keys().len()).filter_map(|index| node.child(index)));
        nodes.push(node);
    }
    nodes
}

/// Keys of which one has parts.
fn deep_cells() -> Cells {
    let own = (0..3_000).map(|number| (part(&text(number), b""), cell(number.into(), "deep")));
    let parts = (0..20).map(|number| (part("k/17", &[number]), cell(number.into(), "part")));
    own.chain(parts).collect()
}

/// Proofs of each kind, each with its root and key.
fn samples() -> Vec<(Vec<u8>, RootHash, Key)> {
    let above = mined(3, 1).into_iter().map(text);
    let keys = ["k/16", "k/17", "k/170", "k/1700", "k/17000", "a", "z"];
    let keys: Vec<String> = keys.map(String::from).into_iter().chain(above).collect();
    let mut samples = Vec::new();
    for cells in [deep_cells(), over_wide_cells(), Cells::new()] {
        let tree = tree_of(&cells);
        for key in keys.iter().map(|text| key(text)) {
            samples.push((check(&tree, &cells, &key), root_of(&tree), key));
        }
    }
    samples
}

#[test]
fn what_is_changed_is_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    for (proof, root, key) in samples() {
        for index in 0..proof.len() {
            let mut changed = proof.clone();
            changed[index] ^= rng.gen_range(1..=255u8);
            assert!(verify(&changed, &root, &key).is_err(), "byte {index}");
            let mut changed = proof.clone();
            changed[index] ^= 1 << rng.gen_range(0..8);
            assert!(verify(&changed, &root, &key).is_err(), "byte {index}");
            assert!(read(&proof[..index]).is_err(), "cut at {index}");
        }
        let longer = [&proof[..], &[0]].concat();
        let trailing = Err(ProofError::Bytes(DecodeError::Trailing(1)));
        assert_eq!(verify(&longer, &root, &key), trailing);
        let twice = [&proof[..], &proof[..]].concat();
        assert!(verify(&twice, &root, &key).is_err());
    }
}

#[test]
fn each_bit_of_a_small_proof_counts() {
    let cells: Cells = (0..12)
        .map(|number| (part(&text(number), b""), cell(number.into(), "v")))
        .collect();
    let tree = tree_of(&cells);
    for key in ["k/3", "k/33"].map(key) {
        let proof = check(&tree, &cells, &key);
        for bit in 0..proof.len() * 8 {
            let mut changed = proof.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                verify(&changed, &root_of(&tree), &key).is_err(),
                "bit {bit}"
            );
        }
    }
}

/// All hashes that are somewhere in a tree.
fn hashes(tree: &Tree) -> HashSet<[u8; 32]> {
    let mut hashes = HashSet::new();
    for node in nodes(tree) {
        hashes.extend(node.values().iter().map(|entry| entry.version().digest.0));
        let children = (0..=node.keys().len()).filter_map(|index| node.child(index));
        hashes.extend(children.map(|child| {
            let Ok(hash) = tree.hash_of(child);
            hash.0
        }));
        let mut parts = vec![NodeMerkle::top(node.keys().len())];
        while let Some(part) = parts.pop() {
            let Ok(hash) = part_hash(tree.store(), node, part);
            hashes.insert(hash);
            if part.group().is_none() {
                parts.extend(part.parts());
            }
        }
    }
    hashes
}

#[test]
fn hashes_in_another_order_are_refused() {
    let mut swaps = 0;
    for cells in [over_wide_cells(), deep_cells()] {
        let tree = tree_of(&cells);
        let hashes = hashes(&tree);
        for key in ["k/1", "k/1000", "k/2222"].map(key) {
            let proof = check(&tree, &cells, &key);
            let places: Vec<usize> = (0..proof.len() - 31)
                .filter(|index| hashes.contains(&proof[*index..index + 32]))
                .collect();
            swaps += places.len() * places.len().saturating_sub(1) / 2;
            for (i, a) in places.iter().enumerate() {
                for b in &places[i + 1..] {
                    let mut swapped = proof.clone();
                    let (left, right) = swapped.split_at_mut(*b);
                    left[*a..*a + 32].swap_with_slice(&mut right[..32]);
                    assert!(verify(&swapped, &root_of(&tree), &key).is_err());
                }
            }
        }
    }
    assert!(swaps > 500, "{swaps}");
}

/// The cell as a proof of `own` shows it, from its flags on.
fn shown(own: &Key, key: &CellKey, cell: &Cell) -> Vec<u8> {
    let own = CellKey::own(own.clone()).to_canonical();
    let canonical = key.to_canonical();
    let common = shared_prefix(&own, &canonical);
    let mut bytes = vec![SHOWN];
    bytes.extend((common as u16).to_be_bytes());
    bytes.extend(((canonical.len() - common) as u16).to_be_bytes());
    bytes.extend(&canonical[common..]);
    write_summary(cell.timestamp, &CellSummary::of(&cell.content), &mut bytes);
    bytes
}

#[test]
fn a_proof_that_hides_a_cell_of_the_key_is_refused() {
    // All in one node, so that what is shown stands as it does here.
    let is_low = |key: &CellKey| key.position().leading_zero_digits() == 0;
    let of_key = (0..40)
        .map(|number| part("k", &[number]))
        .filter(is_low)
        .take(10);
    let others = (0..20)
        .map(|number| part(&text(number), b""))
        .filter(is_low);
    let others = others.chain([part("a", b"")].into_iter().filter(is_low));
    let cells: Cells = of_key
        .chain(others)
        .zip(1..)
        .map(|(key, time)| (key, cell(time, "v")))
        .collect();
    let tree = tree_of(&cells);
    let proof = check(&tree, &cells, &key("k"));
    let of_key = cells.iter().filter(|(cell, _)| cell.key == key("k"));
    for (hidden, cell) in of_key {
        let shown = shown(&key("k"), hidden, cell);
        let index = proof
            .windows(shown.len())
            .position(|bytes| bytes == shown)
            .expect("shown");
        let digest = Version::of(hidden, cell).digest.0;
        // The hashes are right, and would give the root.
        let forged = [
            &proof[..index],
            &[0],
            &digest,
            &proof[index + shown.len()..],
        ]
        .concat();
        assert_eq!(
            verify(&forged, &root_of(&tree), &key("k")),
            Err(ProofError::Gap)
        );
        // A tree without the cell is another tree.
        let mut without = cells.clone();
        without.remove(hidden);
        let forged = proof_of(&tree_of(&without), &without, &key("k"));
        let verified = verify(&forged, &root_of(&tree), &key("k"));
        assert!(matches!(verified, Err(ProofError::OtherRoot { .. })));
    }
}

#[test]
fn what_is_on_a_wrong_level_is_no_tree() {
    let cells: Cells = [(part("room/lamp", b""), cell(1, "on"))].into();
    let proof = check(&tree_of(&cells), &cells, &key("room/lamp"));
    let digit = 1 + 2 + CellKey::own(key("room/lamp")).canonical_len() + 1;
    for level in 1..=u8::MAX {
        let mut forged = proof.clone();
        forged[digit] = level;
        assert_eq!(read(&forged), Err(ProofError::Level));
    }
    let mut forged = proof.clone();
    forged[digit + 2] = MAX_WIDTH as u8 + 1;
    assert!(matches!(read(&forged), Err(ProofError::Form(_))));
}

/// Nodes below each other, each the child of the first entry of a wide one.
#[test]
fn a_deep_proof_is_refused_in_little_room() {
    let mut proof = vec![VERSION, 0, 1, 0, child::OPEN];
    for depth in 0..10_000u16 {
        let level = (64 << 8) - depth;
        proof.extend(level.to_be_bytes());
        proof.extend([MAX_WIDTH as u8, child::NONE, 0, 1, child::OPEN]);
        proof.extend([7; 32]);
    }
    let check = move || assert_eq!(read(&proof), Err(ProofError::TooLarge));
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(check);
    thread.expect("a thread").join().expect("refused");
}

#[test]
fn many_long_keys_are_refused() {
    let long = "k".repeat(59_000);
    let cells: Cells = (0..300u16)
        .map(|number| (part(&long, &number.to_be_bytes()), cell(1, "")))
        .collect();
    let (tree, own) = (tree_of(&cells), CellKey::own(key(&long)));
    assert_eq!(
        prove(&tree, &own.key, reader(&cells)),
        Err(ProveError::TooLarge)
    );
    let extent = Extent {
        first: cells.keys().next(),
        last: cells.keys().last(),
    };
    let proof = prove::write(&tree, &own, Some(extent), usize::MAX, reader(&cells));
    let proof = proof.expect("bytes");
    assert!(proof.len() < 100_000);
    assert_eq!(read(&proof), Err(ProofError::TooLarge));
    assert_eq!(
        read(&vec![VERSION; MAX_PROOF_BYTES + 1]),
        Err(ProofError::TooLarge)
    );
}

#[test]
fn what_cannot_be_read_or_has_changed_is_named() {
    let cells: Cells = [(part("a", b""), cell(1, "on"))].into();
    let tree = tree_of(&cells);
    let failed = prove(&tree, &key("a"), |_, _| Err("the disk"));
    assert_eq!(failed, Err(ProveError::Read("the disk")));
    let later = [(part("a", b""), cell(2, "off"))].into();
    let newer = |key: &CellKey, _| reader_of_any(&later, key);
    let changed = prove(&tree, &key("a"), newer);
    assert_eq!(changed, Err(ProveError::Changed(part("a", b""))));
}

fn reader_of_any(cells: &Cells, key: &CellKey) -> Result<Arc<Cell>, Infallible> {
    Ok(Arc::new(cells[key].clone()))
}

#[test]
fn a_version_that_is_not_ours_is_named() {
    for version in (0..=255).filter(|version| *version != VERSION) {
        assert_eq!(
            read(&[version, 0, 1, 0, 0]),
            Err(ProofError::Version(version))
        );
    }
    let (root, proven) = read(&[VERSION, 0, 1, 0, 0]).expect("of the empty tree");
    assert_eq!(root, RootHash::of_empty());
    assert!(proven.is_absent() && proven.key == Key::NONE);
    let of_part = read(&[VERSION, 0, 2, 0, 7, 0]);
    assert!(matches!(of_part, Err(ProofError::Form(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let head = [VERSION, 0, 1, 0, child::OPEN, 0, 0, 1, 0, 0, 1, SHOWN];
        let _ = read(&[&head[..], &bytes].concat());
    }
}

/// What a program that verifies has to find, for one in another language.
fn vector(name: &str, cells: &Cells, of: Key) -> serde_json::Value {
    let tree = tree_of(cells);
    let proof = check(&tree, cells, &of);
    let shown = model(cells, &of).into_iter().map(|(part, cell)| {
        json!({
            "part": hex::encode(part.as_bytes()),
            "timestamp": cell.timestamp.to_string(),
            "payload": cell.value().map(|value| hex::encode(&value.payload)),
        })
    });
    json!({
        "name": name,
        "root": root_of(&tree).to_string(),
        "key": of.as_str(),
        "cells": shown.collect::<Vec<_>>(),
        "proof": hex::encode(&proof),
    })
}

/// A proof that shows another stretch of the tree than it has to: the hashes are
/// right, and give the root.
fn refused_vector(name: &str, cells: &Cells, of: &Key, extent: [usize; 2]) -> serde_json::Value {
    let tree = tree_of(cells);
    let [first, last] = extent.map(|index| cells.keys().nth(index));
    let (own, extent) = (CellKey::own(of.clone()), Extent { first, last });
    let forged = prove::write(&tree, &own, Some(extent), MAX_PROOF_BYTES, reader(cells));
    let forged = forged.expect("bytes");
    verify(&forged, &root_of(&tree), of).expect_err("a forgery");
    json!({
        "name": name,
        "root": root_of(&tree).to_string(),
        "key": of.as_str(),
        "proof": hex::encode(&forged),
    })
}

#[test]
fn proofs_are_pinned() {
    // The cell of docs/formats.md.
    let mut lamp = cell(0x0102_0304_0506_0708, "on");
    if let Content::Value(value) = &mut lamp.content {
        (value.encoding_id, value.schema) = (5, Some(b"utf-8"[..].into()));
    }
    let lamp: Cells = [(part("room/lamp", b""), lamp)].into();
    let deleted = [(part("room/lamp", b""), cell(1, ""))].into();
    let mut house: Cells = (0..3_000)
        .map(|number| (part(&text(number), b""), cell((number + 1).into(), "house")))
        .collect();
    house.insert(part("k/5", b""), cell(5, ""));
    (1..4).for_each(|time| drop(house.insert(part("k/6", &[1, time]), cell(time.into(), "1"))));
    (1..4).for_each(|time| drop(house.insert(part("k/1/sum", &[1, time]), cell(time.into(), "1"))));
    house.insert(CellKey::own(Key::NONE), cell(9, "none"));
    let shelf: Cells = ["a", "b", "k", "x", "y"]
        .iter()
        .flat_map(|text| [part(text, b""), part(text, b"\x01p"), part(text, b"\x01q")])
        .filter(|key| key.key != self::key("k") || !key.part.is_empty())
        .zip(1..)
        .map(|(key, time)| (key, cell(time, "v")))
        .collect();
    let (k, m) = (key("k"), key("m"));
    let refused = json!([
        refused_vector("the cell after the key's is missing", &shelf, &k, [5, 7]),
        refused_vector("the last cell of the key is missing", &shelf, &k, [5, 6]),
        refused_vector("the cell before the key's is missing", &shelf, &k, [6, 8]),
        refused_vector("the first cell of the key is missing", &shelf, &k, [7, 8]),
        refused_vector("one before too many", &shelf, &k, [4, 8]),
        refused_vector("one after too many", &shelf, &k, [5, 9]),
        refused_vector("one before an own cell", &shelf, &key("b"), [2, 6]),
        refused_vector("only what is before", &shelf, &k, [0, 4]),
        refused_vector("only what is after", &shelf, &k, [8, 12]),
        refused_vector("none, and only what is before", &shelf, &m, [7, 7]),
        refused_vector("none, and only what is after", &shelf, &m, [8, 8]),
    ]);
    let accepted = json!([
        vector("the only cell", &lamp, key("room/lamp")),
        vector("before the only cell", &lamp, key("room/desk")),
        vector("after the only cell", &lamp, key("room/window")),
        vector("the beginning of another key", &lamp, key("room")),
        vector("the key that is none, which is not there", &lamp, Key::NONE),
        vector("a deleted key", &deleted, key("room/lamp")),
        vector("nothing in an empty tree", &Cells::new(), key("room/lamp")),
        vector("one of many", &house, key("k/1234")),
        vector("none of many", &house, key("k/12345")),
        vector("a deleted one of many", &house, key("k/5")),
        vector("an own cell and others", &house, key("k/6")),
        vector("no own cell, but others", &house, key("k/1/sum")),
        vector("the key that is none", &house, Key::NONE),
        vector(
            "one of a run that is too wide",
            &over_wide_cells(),
            key("k/1000")
        ),
        vector(
            "none of a run that is too wide",
            &over_wide_cells(),
            key("k/10000")
        ),
    ]);
    let vectors = json!({ "accepted": accepted, "refused": refused });
    let vectors = serde_json::to_string_pretty(&vectors).expect("JSON");
    let pinned = include_str!("../../tests/vectors/proofs.json");
    assert_eq!(vectors, pinned.trim_end(), "{vectors}");
}
