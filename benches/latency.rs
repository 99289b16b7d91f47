//! How long puts and gets of some keys take while much is done with others, in one process without
//! Zenoh: the median, the 99th percentile and the longest of each.
//!
//! `cargo bench --bench latency [-- KEYS]`, three million keys if nothing is said. Idle; while all
//! keys are listed without a pause and updates come late, which go into the tree by themselves; and
//! while a set of 300,000 elements is deleted.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use common::open_merging_replica;
use zenoh_backend_mst::{
    cell::{Cell, Content, Key, Timestamp, Value, ntp64_span},
    config::{MergeConfig, StrategyConfig},
    merge::{Form, MergeRules},
    replica::{Lookup, Replica},
    store::{DurableStore, MemoryStore, Store},
};

const SPAN: Duration = Duration::from_secs(8);
/// Between two puts, or two gets, that are measured.
const EVERY: Duration = Duration::from_micros(500);
/// How far behind late updates are, and between two of them.
const LATE: Duration = Duration::from_secs(5);
const LATE_EVERY: Duration = Duration::from_millis(1);
const ELEMENTS: u32 = 300_000;
const CACHE: u64 = 256 << 20;
const SET: &str = "set/large";

/// In NTP64.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    ntp64_span(since.expect("a clock that is set"))
}

fn key(text: &str) -> Key {
    Key::from(Some(text.to_owned().try_into().expect("a key expression")))
}

fn numbered(number: u32) -> Key {
    key(&format!("bench/{}/{number}", number % 100))
}

fn put(replica: &Replica, key: Key, time: u64, payload: &[u8], encoding_id: u16) {
    let timestamp = Timestamp { time, id: [7; 16] };
    let content = Content::Value(Value {
        encoding_id,
        schema: None,
        attachment: None,
        payload: Bytes::copy_from_slice(payload),
    });
    let put = replica
        .put(key, Cell { timestamp, content })
        .expect("taken");
    drop(put.committed.map(|committed| committed.wait()));
}

fn get(replica: &Replica, key: &Key) {
    let found = match replica.get(key, Form::Native) {
        Lookup::Found(cell) => Some(cell),
        Lookup::Stored(stored) => replica.read(&stored).expect("a row"),
        Lookup::Absent => None,
    };
    assert!(found.is_some(), "{key:?} was put");
}

/// The times of what is done again and again, at a steady pace, for as long as `goes_on` says.
fn times(goes_on: impl Fn() -> bool, mut act: impl FnMut(u32)) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut due = Instant::now();
    let mut number = 0_u32;
    while goes_on() {
        act(number);
        // Since it was due: one that waits holds up those after it, as it would hold up clients.
        times.push(due.elapsed());
        number += 1;
        due += EVERY;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    times
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (middle, high, last) = (of(0.5), of(0.99), of(1.0));
    println!("  {what}: p50 {middle:.1?}, p99 {high:.1?}, longest {last:.1?}");
}

/// Puts and gets of single keys beside `work`, which is over when the flag says so.
fn beside(replica: &Replica, keys: u32, name: &str, work: impl Fn(&AtomicBool) + Sync) {
    println!(" {name}");
    let is_over = AtomicBool::new(false);
    let goes_on = || !is_over.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let puts = scope.spawn(|| {
            times(goes_on, |number| {
                let key = numbered(number.wrapping_mul(7919) % keys);
                put(replica, key, now(), &number.to_le_bytes(), 1);
            })
        });
        let gets = scope.spawn(|| {
            times(goes_on, |number| {
                get(replica, &numbered(number.wrapping_mul(6007) % keys))
            })
        });
        work(&is_over);
        is_over.store(true, Ordering::Relaxed);
        show("puts", puts.join().expect("puts"));
        show("gets", gets.join().expect("gets"));
    });
}

fn wait_until_settled(replica: &Replica) {
    assert!(replica.wait_until_settled(Instant::now() + Duration::from_secs(120)));
}

fn measure(name: &str, store: Box<dyn Store>, keys: u32) {
    let set_union = StrategyConfig {
        name: "set_union".to_owned(),
        fields: BTreeMap::new(),
    };
    let sets = "set/**".to_owned().try_into().expect("a key expression");
    let config = MergeConfig {
        keys: vec![(sets, set_union)],
        ..MergeConfig::default()
    };
    let all = "**".try_into().expect("a key expression");
    let rules = MergeRules::new(&config, all, None).expect("merge rules");
    let replica = open_merging_replica(store, rules, Arc::new(now));
    for number in 0..keys {
        put(&replica, numbered(number), now(), &[1; 100], 1);
    }
    let json = 5; // application/json
    for chunk in 0..ELEMENTS / 10_000 {
        let elements: Vec<u32> = (chunk * 10_000..(chunk + 1) * 10_000).collect();
        let text = serde_json::to_string(&serde_json::json!({ "add": elements })).expect("JSON");
        put(&replica, key(SET), now(), text.as_bytes(), json);
    }
    wait_until_settled(&replica);
    println!("{name}: {keys} keys, a set of {ELEMENTS} elements");
    beside(&replica, keys, "idle", |_| thread::sleep(SPAN));

    let (lists, late) = (AtomicU32::new(0), AtomicU32::new(0));
    beside(
        &replica,
        keys,
        "while all keys are listed and late updates come",
        |_| {
            let end = Instant::now() + SPAN;
            thread::scope(|scope| {
                scope.spawn(|| {
                    while Instant::now() < end {
                        let mut listed = 0_u32;
                        replica.for_each_key(|_, _| listed += 1);
                        assert!(listed >= keys);
                        lists.fetch_add(1, Ordering::Relaxed);
                    }
                });
                while Instant::now() < end {
                    let number = late.fetch_add(1, Ordering::Relaxed);
                    let time = now() - ntp64_span(LATE);
                    put(&replica, key(&format!("late/{number}")), time, &[2; 100], 1);
                    thread::sleep(LATE_EVERY);
                }
            });
        },
    );
    println!("  {lists:?} lists, {late:?} late updates");

    beside(&replica, keys, "while the set is deleted", |_| {
        let start = Instant::now();
        let timestamp = Timestamp {
            time: now(),
            id: [7; 16],
        };
        replica
            .put(key(SET), Cell::tombstone(timestamp))
            .expect("taken");
        // Until a root is of a tree without it.
        while replica.published().cut < timestamp.time {
            assert!(start.elapsed() < SPAN * 10, "it does not settle");
            thread::sleep(Duration::from_millis(5));
        }
        println!("  settled after {:.1?}", start.elapsed());
    });
    replica.close().expect("closed");
}

fn main() {
    let arguments = std::env::args().skip(1);
    let keys = arguments.filter_map(|arg| arg.parse().ok()).next();
    let keys: u32 = keys.unwrap_or(3_000_000);
    measure("memory", Box::new(MemoryStore), keys);
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    measure("durable", Box::new(store), keys);
}
