//! The tree beside the merkle-search-tree crate: the same keys in the same
//! random order, in one run.
//!
//! `cargo bench --bench tree [-- KEYS]`; ratios below 1 mean that ours is faster.

mod common;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{CountingAllocator, median, ratio};
use merkle_search_tree::MerkleSearchTree;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    mst::{Resident, sort_by_tree_key},
    replica::{Tree, TreeEntry},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Entries that are put together, as a replica does with what settles together: while
/// updates come steadily, and after a burst.
const BATCHES: [usize; 2] = [4_096, 262_144];
const UPDATES: usize = 1_000;
const RUNS: usize = 3;

fn key_text(number: u32) -> String {
    format!("robot/{number:08}/odometer")
}

fn cell_key(number: u32) -> CellKey {
    let key = key_text(number).try_into().expect("a key expression");
    CellKey::own(Key::from(Some(key)))
}

fn cell(time: u64) -> Cell {
    Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content: Content::Value(Value {
            encoding_id: 1,
            schema: None,
            attachment: None,
            payload: Bytes::from(vec![time as u8; 150]),
        }),
    }
}

/// Puts `value` to all cells, so many at a time; how long that took, and until the root
/// was there.
fn insert(cells: &[CellKey], value: &Cell, batch: usize) -> (Tree, [Duration; 2]) {
    let mut tree = Tree::default();
    let start = Instant::now();
    for chunk in cells.chunks(batch) {
        let with_meta = |key: &CellKey| (key.clone(), Version::of(key, value).into());
        let mut batch: Vec<_> = chunk.iter().map(with_meta).collect();
        sort_by_tree_key(&mut batch, |(key, _)| key);
        let Ok(()) = tree.put_sorted(&batch, |_, _, _| true);
    }
    let inserted = start.elapsed();
    black_box(tree.root().ok());
    (tree, [inserted, start.elapsed()])
}

fn main() {
    let keys: u32 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let mut order: Vec<u32> = (0..keys).collect();
    let mut rng = StdRng::seed_from_u64(1);
    order.shuffle(&mut rng);
    let updated: Vec<u32> = (0..UPDATES).map(|_| rng.gen_range(0..keys)).collect();

    let mut ours = [const { Vec::new() }; 7];
    let mut theirs = [const { Vec::new() }; 2];
    let mut bytes_per_key = 0;
    for run in 0..RUNS {
        let cells: Vec<CellKey> = order.iter().map(|number| cell_key(*number)).collect();
        let value = cell(1);
        let (tree, [_, in_bursts]) = insert(&cells, &value, BATCHES[1]);
        let Ok(root) = tree.root();
        ours[6].push(in_bursts);
        drop(tree);
        let key_bytes = CountingAllocator::live();
        let (mut tree, [inserted, with_root]) = insert(&cells, &value, BATCHES[0]);
        assert_eq!(tree.root(), Ok(root));
        ours[0].push(with_root);
        ours[1].push(inserted);
        bytes_per_key = (CountingAllocator::live() - key_bytes) / keys as usize;

        let value = cell(2 + run as u64);
        let changed: Vec<CellKey> = updated.iter().map(|number| cell_key(*number)).collect();
        let start = Instant::now();
        for key in &changed {
            let version = Version::of(key, &value);
            let Ok(_) = tree.upsert(key.clone(), version.into());
        }
        black_box(tree.root().ok());
        ours[2].push(start.elapsed());

        let mut sorted: Vec<(CellKey, TreeEntry)> = cells
            .iter()
            .map(|key| (key.clone(), Version::of(key, &cell(1)).into()))
            .collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let start = Instant::now();
        let built = Tree::from_sorted(Resident::default(), sorted);
        let built_root = built.root();
        ours[3].push(start.elapsed());
        assert_eq!(built_root, Ok(root));

        let start = Instant::now();
        let Ok(scan) = tree.iter();
        black_box(scan.count());
        ours[4].push(start.elapsed());
        drop((tree, built));

        let mut tree = Tree::default();
        let value = cell(1);
        let start = Instant::now();
        for key in &cells {
            let version = Version::of(key, &value);
            let Ok(_) = tree.upsert(key.clone(), version.into());
        }
        let Ok(one_by_one) = tree.root();
        ours[5].push(start.elapsed());
        assert_eq!(one_by_one, root);
        drop((tree, cells));

        let texts: Vec<String> = order.iter().map(|number| key_text(*number)).collect();
        let mut tree: MerkleSearchTree<String, [u8; 32]> = MerkleSearchTree::default();
        let start = Instant::now();
        for text in &texts {
            tree.upsert(text.clone(), &[1; 32]);
        }
        black_box(tree.root_hash());
        theirs[0].push(start.elapsed());
        let start = Instant::now();
        for number in &updated {
            tree.upsert(key_text(*number), &[2 + run as u8; 32]);
        }
        black_box(tree.root_hash());
        theirs[1].push(start.elapsed());
    }

    let ours = ours.map(median);
    let theirs = theirs.map(median);
    println!("{keys} keys, medians of {RUNS} runs; (ours / merkle-search-tree)");
    for (batch, time) in BATCHES.into_iter().zip([ours[0], ours[6]]) {
        println!(
            "random inserts, {batch:>7} at a time    {time:>9.1?}  {:>9.1?}  {}",
            theirs[0],
            ratio(time, theirs[0])
        );
    }
    println!("  4096 at a time, before the root    {:>9.1?}", ours[1]);
    println!(
        "random inserts, one by one           {:>9.1?}  {:>9.1?}  {}",
        ours[5],
        theirs[0],
        ratio(ours[5], theirs[0])
    );
    println!(
        "{UPDATES} random updates and root       {:>9.1?}  {:>9.1?}  {}",
        ours[2],
        theirs[1],
        ratio(ours[2], theirs[1])
    );
    println!("built from sorted entries, root      {:>9.1?}", ours[3]);
    println!("ordered scan                         {:>9.1?}", ours[4]);
    println!("memory a key, its text not counted   {bytes_per_key:>9} B");
}
