//! Store and tree together beside the bare storage engine, and opening.
//!
//! `cargo bench --bench store [-- KEYS]`. Both write the same rows in the same
//! groups, each group synced before the next.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{median, open_replica, ratio};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Row, Timestamp, Value, Version},
    replica::{BUCKET, Clock, Replica},
    store::{CellStore as _, DurableStore},
};

const GROUP: usize = 1_000;
const GROUPS: usize = 500;
const VALUE: usize = 150;
const CACHE: u64 = 64 << 20;
const RUNS: usize = 3;

fn key(number: u32) -> CellKey {
    let key = format!("robot/{number:08}/odometer");
    CellKey::own(Key::from(Some(key.try_into().expect("a key expression"))))
}

fn cell(time: u64, rng: &mut StdRng) -> Cell {
    let mut payload = vec![0; VALUE];
    rng.fill(&mut payload[..]);
    Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content: Content::Value(Value {
            encoding_id: 1,
            schema: None,
            attachment: None,
            payload: Bytes::from(payload),
        }),
    }
}

/// A clock that can be set ahead.
#[derive(Clone)]
struct Time {
    start: Instant,
    ahead: Arc<AtomicU64>,
}

impl Time {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            ahead: Arc::default(),
        }
    }

    /// In NTP64.
    fn now(&self) -> u64 {
        let elapsed = (self.start.elapsed().as_nanos() << 32) / 1_000_000_000;
        1_000 * BUCKET + elapsed as u64 + self.ahead.load(Ordering::Relaxed)
    }

    fn clock(&self) -> Clock {
        let time = self.clone();
        Arc::new(move || time.now())
    }

    /// Has all settle that was written before.
    fn set_ahead(&self) {
        self.ahead.fetch_add(20 * BUCKET, Ordering::Relaxed);
    }
}

fn open(path: &std::path::Path, time: &Time) -> Replica {
    let store = DurableStore::open(path, CACHE).expect("a store");
    open_replica(Box::new(store), time.clock())
}

/// The engine alone: a database with one keyspace, and its defaults but for the
/// cache.
fn bare_engine(path: &std::path::Path, keys: u32, groups: &[Vec<(u32, Cell)>]) -> Duration {
    let database = Database::builder(path)
        .cache_size(256 << 20)
        .open()
        .expect("a database");
    let rows = database
        .keyspace("rows", KeyspaceCreateOptions::default)
        .expect("a keyspace");
    let write = |group: &[(u32, Cell)]| {
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        let mut group: Vec<_> = group
            .iter()
            .map(|(number, cell)| (key(*number), cell))
            .collect();
        group.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (key, cell) in group {
            let mut row = Vec::new();
            let is_apart = Row::encode_cell(&Version::of(&key, cell), cell, VALUE, &mut row);
            assert!(!is_apart);
            batch.insert(&rows, key.to_canonical(), row);
        }
        batch.commit().expect("a commit");
    };
    let mut rng = StdRng::seed_from_u64(9);
    for chunk in (0..keys).collect::<Vec<_>>().chunks(10_000) {
        let group: Vec<_> = chunk.iter().map(|n| (*n, cell(1, &mut rng))).collect();
        write(&group);
    }
    let start = Instant::now();
    groups.iter().for_each(|group| write(group));
    start.elapsed()
}

fn main() {
    let keys: u32 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let mut rng = StdRng::seed_from_u64(1);
    let mut overwrites = [Vec::new(), Vec::new()];
    let (mut cold, mut listing) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let folder = tempfile::tempdir().expect("a folder");
        let time = Time::new();
        let replica = open(&folder.path().join("ours"), &time);
        let mut order: Vec<u32> = (0..keys).collect();
        order.shuffle(&mut rng);
        for chunk in order.chunks(10_000) {
            let now = time.now();
            for number in chunk {
                let put = replica
                    .put(key(*number).key, cell(now, &mut rng))
                    .expect("taken");
                drop(put.committed.map(|committed| committed.wait()));
            }
        }
        replica.sync().expect("synced");

        let mut group = || -> Vec<(u32, Cell)> {
            (0..GROUP)
                .map(|_| (rng.gen_range(0..keys), cell(0, &mut rng)))
                .collect()
        };
        let groups: Vec<Vec<(u32, Cell)>> = (0..GROUPS).map(|_| group()).collect();
        let bare = groups.clone();
        let start = Instant::now();
        for group in groups {
            let now = time.now();
            for (number, mut cell) in group {
                cell.timestamp.time = now;
                let put = replica.put(key(number).key, cell).expect("taken");
                drop(put.committed.map(|committed| committed.wait()));
            }
            replica.sync().expect("synced");
        }
        // What has been written lately counts, too, but not the time until it settles.
        time.set_ahead();
        assert!(replica.wait_until_settled(Instant::now() + Duration::from_secs(60)));
        overwrites[0].push(start.elapsed());
        overwrites[1].push(bare_engine(&folder.path().join("bare"), keys, &bare));

        let root = replica.snapshot().expect("sound").root();
        replica.close().expect("closed");
        let start = Instant::now();
        let replica = open(&folder.path().join("ours"), &time);
        cold.push(start.elapsed());
        assert_eq!(replica.published().root, root, "run {run}");
        replica.close().expect("closed");
        let store = DurableStore::open(&folder.path().join("ours"), CACHE).expect("a store");
        let start = Instant::now();
        let mut listed = 0;
        store.scan(&mut |_, _| listed += 1).expect("a scan");
        listing.push(start.elapsed());
        assert_eq!(listed, keys);
    }
    let per_second = |time: Duration| (GROUP * GROUPS) as f64 / time.as_secs_f64() / 1000.0;
    let [ours, bare] = overwrites.map(median);
    println!("{keys} keys, {VALUE}-byte values, medians of {RUNS} runs");
    println!(
        "random overwrites, groups of {GROUP}, each synced: {:.0}k/s; the bare engine {:.0}k/s; rate {}",
        per_second(ours),
        per_second(bare),
        ratio(bare, ours)
    );
    let (cold, listing) = (median(cold), median(listing));
    println!(
        "opening, cleanly closed, until the root is known: {cold:.2?}; listing the keys {listing:.2?}; {}",
        ratio(cold, listing)
    );
}
