//! Proofs in a tree of random keys: their size, and the time to make one and to
//! check it.
//!
//! `cargo bench --bench proof [-- KEYS]`. Of 10,000 keys that are there, and as many
//! that are not.

mod common;

use std::{
    convert::Infallible,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    mst::Resident,
    proof::{prove, verify},
    replica::{Tree, TreeEntry},
};

const VALUE: usize = 100;
const PROOFS: usize = 10_000;

fn cell_key(number: u64) -> CellKey {
    let key = format!("fleet/robot/{number:016x}/pose");
    CellKey::own(Key::from(Some(key.try_into().expect("a key expression"))))
}

fn cell(number: u64) -> Cell {
    Cell {
        timestamp: Timestamp {
            time: number,
            id: [7; 16],
        },
        content: Content::Value(Value {
            encoding_id: 1,
            schema: None,
            attachment: None,
            payload: Bytes::from(vec![number as u8; VALUE]),
        }),
    }
}

/// As from a cache: the cell is made from what its key says.
fn read(key: &CellKey, _: Version) -> Result<Arc<Cell>, Infallible> {
    let number = key.key.as_str().and_then(|key| key.split('/').nth(2));
    let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
    Ok(Arc::new(cell(number.expect("a number"))))
}

/// The median, the 99th percentile, and the greatest.
fn summary<T: Ord + Copy>(mut values: Vec<T>) -> [T; 3] {
    values.sort();
    [
        values[values.len() / 2],
        values[values.len() * 99 / 100],
        values[values.len() - 1],
    ]
}

fn measure(tree: &Tree, what: &str, keys: &[CellKey], cells: usize) {
    let Ok(root) = tree.root();
    let (mut sizes, mut made, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        let start = Instant::now();
        let proof = prove(tree, &key.key, read).expect("a proof");
        made.push(start.elapsed());
        let start = Instant::now();
        let proven = verify(&proof, &root, &key.key).expect("it holds");
        verified.push(start.elapsed());
        assert_eq!(black_box(proven).cells.len(), cells);
        sizes.push(proof.len());
    }
    let times = |times: Vec<Duration>| {
        let times = summary(times);
        times.map(|time| format!("{:>9.1?}", time)).join(" ")
    };
    let sizes = summary(sizes).map(|size| format!("{size:>7} B")).join(" ");
    println!("{what:<9} size       {sizes}");
    println!("{what:<9} to make    {}", times(made));
    println!("{what:<9} to verify  {}", times(verified));
}

fn main() {
    let keys: usize = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let mut rng = StdRng::seed_from_u64(1);
    let numbers: Vec<u64> = (0..keys).map(|_| rng.r#gen()).collect();
    let mut cells: Vec<(CellKey, TreeEntry)> = numbers
        .iter()
        .map(|number| {
            let key = cell_key(*number);
            let version = Version::of(&key, &cell(*number));
            (key, version.into())
        })
        .collect();
    cells.sort_by(|a, b| a.0.cmp(&b.0));
    let tree = Tree::from_sorted(Resident::default(), cells);

    println!("{keys} random keys, {PROOFS} proofs: median, 99th percentile, greatest");
    let present = numbers.iter().take(PROOFS).map(|number| cell_key(*number));
    measure(&tree, "presence", &present.collect::<Vec<_>>(), 1);
    let absent = (0..PROOFS).map(|_| cell_key(rng.r#gen()));
    measure(&tree, "absence", &absent.collect::<Vec<_>>(), 0);
}
