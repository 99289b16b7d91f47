//! What lifetimes cost: puts and gets with them, beside them and without, and a million deaths at once.
//!
//! `cargo bench --bench lifetimes [-- KEYS]`, by default a million. It takes about three minutes.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use common::{median, open_merging_replica};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value as Json, json};
use zenoh_backend_mst::{
    cell::{Cell, Content, Key, Timestamp, Value, ntp64_span},
    config::StorageConfig,
    merge::{Form, Lifetimes, MergeRules},
    replica::{Lookup, Replica},
    store::DurableStore,
};
use zenoh_keyexpr::keyexpr;

const VALUE: usize = 100;
const CACHE: u64 = 256 << 20;
const ROUNDS: u64 = 5;

/// How long the keys live that die while puts go on.
const SHORT: &str = "5s";

/// How long those live that die together: longer than it takes to put them.
const TOGETHER: Duration = Duration::from_secs(60);

/// In NTP64.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    ntp64_span(since.expect("a clock that is set"))
}

fn open(folder: &std::path::Path, lifetimes: Json) -> Replica {
    let config = StorageConfig::parse("bench", json!({ "lifetimes": lifetimes })).expect("valid");
    let all = keyexpr::new("**").expect("a key expression");
    let lifetimes = Lifetimes::new(&config.lifetimes, all, None).expect("they match");
    let rules = MergeRules::lww().with_lifetimes(lifetimes).expect("valid");
    let store = DurableStore::open(folder, CACHE).expect("a store");
    open_merging_replica(Box::new(store), rules, Arc::new(now))
}

fn key(kind: &str, number: u64) -> Key {
    let text = format!("{kind}/{}/{number}", number % 100);
    Key::from(Some(text.try_into().expect("a key expression")))
}

fn put(replica: &Replica, key: Key, time: u64) {
    let cell = Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content: Content::Value(Value {
            encoding_id: 1,
            schema: None,
            attachment: None,
            payload: Bytes::from(vec![1; VALUE]),
        }),
    };
    let put = replica.put(key, cell).expect("taken");
    drop(put.committed.map(|committed| committed.wait()));
}

fn get(replica: &Replica, key: &Key) -> bool {
    match replica.get(key, Form::Native) {
        Lookup::Absent => false,
        Lookup::Found(_) => true,
        Lookup::Stored(stored) => replica.read(&stored).expect("a read").is_some(),
    }
}

fn settle(replica: &Replica) {
    replica.sync().expect("synced");
    assert!(replica.wait_until_settled(Instant::now() + Duration::from_secs(120)));
}

/// Puts a second, of new keys without a pause until all are settled: the middle of some rounds; deaths of
/// earlier ones go on meanwhile.
fn puts(lifetimes: Json, keys: u64) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let replica = open(folder.path(), lifetimes);
    let rounds = (0..ROUNDS).map(|round| {
        let start = Instant::now();
        for number in 0..keys {
            put(&replica, key("pose", round * keys + number), now());
        }
        settle(&replica);
        start.elapsed()
    });
    let middle = median(rounds.collect());
    replica.close().expect("closed");
    keys as f64 / middle.as_secs_f64()
}

/// The time of a get, of random keys that are there.
fn gets(lifetimes: Json, keys: u64) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let replica = open(folder.path(), lifetimes);
    (0..keys).for_each(|number| put(&replica, key("pose", number), now()));
    settle(&replica);
    let mut rng = StdRng::seed_from_u64(1);
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for _ in 0..keys {
            assert!(get(&replica, &key("pose", rng.gen_range(0..keys))));
        }
        start.elapsed() / keys as u32
    });
    let middle = median(rounds.collect());
    replica.close().expect("closed");
    middle
}

/// The times of what is done again and again, a thousand times a second.
fn latencies(is_over: &AtomicBool, mut act: impl FnMut(u64)) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        act(number);
        times.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    times.sort();
    times
}

fn told(name: &str, times: &[Duration]) {
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    println!(
        "  {name}: median {:.1?}, 99 % {:.1?}, longest {:.1?}, of {}",
        at(500),
        at(990),
        at(1000),
        times.len()
    );
}

/// Gets and puts of other keys, until `end`.
fn beside(replica: &Replica, what: &str, end: impl Fn() -> bool) {
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    let (gets, puts) = std::thread::scope(|scope| {
        let gets = scope.spawn(|| {
            latencies(&is_over, |number| {
                assert!(get(replica, &key("map", number * 7919 % 10_000)));
            })
        });
        let puts = scope.spawn(|| {
            latencies(&is_over, |number| {
                put(replica, key("map", number % 10_000), now())
            })
        });
        while !end() {
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
        (
            gets.join().expect("no panic"),
            puts.join().expect("no panic"),
        )
    });
    println!("{what}, for {:.1?}:", start.elapsed());
    told("gets", &gets);
    told("puts", &puts);
}

fn deaths(keys: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let replica = open(folder.path(), json!({ "pose/**": "60s" }));
    (0..10_000).for_each(|number| put(&replica, key("map", number), now()));
    // All of one time, so that all die at one watermark.
    let (stamp, began) = (now(), Instant::now());
    (0..keys).for_each(|number| put(&replica, key("pose", number), stamp));
    settle(&replica);
    let left = TOGETHER.saturating_sub(began.elapsed());
    assert!(
        left > Duration::from_secs(6),
        "putting took too long: choose fewer keys"
    );
    std::thread::sleep(left - Duration::from_secs(6));
    let start = Instant::now();
    beside(&replica, "nothing dies", || {
        start.elapsed() > Duration::from_secs(4)
    });
    let expired = || replica.counts().expired;
    assert_eq!(expired(), 0);
    let deadline = Instant::now() + Duration::from_secs(300);
    beside(&replica, &format!("{keys} deaths at once"), || {
        assert!(Instant::now() < deadline, "they do not die");
        expired() >= keys
    });
    replica.close().expect("closed");
}

fn main() {
    let keys: u64 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let some = (keys / 10).max(1000);
    let other = || json!({ "other/**": SHORT, "pose/0/none": SHORT, "fleet/*/pose": "1h" });
    let without = puts(json!({}), some);
    println!("puts, without lifetimes: {without:.0} a second");
    for (name, lifetimes) in [
        ("of keys with one", json!({ "pose/**": SHORT })),
        ("of keys without, beside others", other()),
    ] {
        let rate = puts(lifetimes, some);
        println!("puts, {name}: {rate:.0} a second, x{:.2}", rate / without);
    }
    let without = gets(json!({}), some);
    println!("a get, without lifetimes: {without:.2?}");
    for (name, lifetimes) in [
        ("of a key with one", json!({ "pose/**": "1h" })),
        ("of a key without, beside others", other()),
    ] {
        let time = gets(lifetimes, some);
        let ratio = time.as_secs_f64() / without.as_secs_f64();
        println!("a get, {name}: {time:.2?}, x{ratio:.2}");
    }
    deaths(keys);
}
