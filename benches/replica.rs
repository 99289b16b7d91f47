//! What a put costs a replica, in processor time, without Zenoh around it.
//!
//! `cargo bench --bench replica [-- KEYS]`. One thread puts each key again and again, so
//! many a second as a router takes; what its thread spends is told apart from what the
//! others do: commit, settle, make roots, and, for the durable store, write files. Then
//! all keys are listed, as for every get with wildcards.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use common::{median, open_replica};
use zenoh_backend_mst::{
    cell::{Cell, Content, Key, Timestamp, Value, ntp64_span},
    replica::Replica,
    store::{DurableStore, MemoryStore, Store},
};

const VALUE: usize = 100;
/// Puts a millisecond.
const PACE: u32 = 150;
const ROUNDS: u32 = 6;
const CACHE: u64 = 64 << 20;

/// In NTP64.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    ntp64_span(since.expect("a clock that is set"))
}

/// The processor time in what `schedstat` says of a thread.
fn nanos(schedstat: &str) -> Duration {
    let nanos = schedstat.split_whitespace().next();
    let nanos = nanos.and_then(|nanos| nanos.parse::<u64>().ok());
    Duration::from_nanos(nanos.expect("a time"))
}

/// Processor time of all threads that there are.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("threads");
    let paths = threads.map(|thread| thread.expect("a thread").path().join("schedstat"));
    // A thread may have ended meanwhile.
    let texts = paths.filter_map(|path| std::fs::read_to_string(path).ok());
    texts.map(|text| nanos(&text)).sum()
}

fn own_time() -> Duration {
    nanos(&std::fs::read_to_string("/proc/thread-self/schedstat").expect("a thread"))
}

fn put(replica: &Replica, number: u32, round: u32) {
    let text = format!("bench/{}/{number}", number % 100);
    let key = Key::from(Some(text.try_into().expect("a key expression")));
    let cell = Cell {
        timestamp: Timestamp {
            time: now(),
            id: [7; 16],
        },
        content: Content::Value(Value {
            encoding_id: 1,
            schema: None,
            attachment: None,
            payload: Bytes::from(vec![round as u8; VALUE]),
        }),
    };
    let put = replica.put(key, cell).expect("taken");
    drop(put.committed.map(|committed| committed.wait()));
}

/// Until all has settled, and the root of that is made.
fn wait_until_covered(replica: &Replica) {
    let deadline = Instant::now() + Duration::from_secs(60);
    assert!(replica.wait_until_settled(deadline));
    let last = replica.request_commit();
    while replica.roots().covered() < last {
        assert!(Instant::now() < deadline, "no root");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn measure(name: &str, store: Box<dyn Store>, keys: u32) {
    let replica = open_replica(store, Arc::new(now));
    let (mut own, mut others) = (Vec::new(), Vec::new());
    let mut first = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let (before, own_before) = (processor_time(), own_time());
        let start = Instant::now();
        for number in 0..keys {
            put(&replica, number, round);
            if number % PACE == PACE - 1 {
                let due = start + Duration::from_millis(u64::from(number / PACE));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        wait_until_covered(&replica);
        let own_spent = own_time() - own_before;
        let spent = processor_time() - before;
        let (own_spent, others_spent) = (own_spent / keys, (spent - own_spent) / keys);
        if round == 0 {
            first = (own_spent, others_spent);
        } else {
            own.push(own_spent);
            others.push(others_spent);
        }
    }
    println!(
        "{name:8} {keys} keys: first round: who puts {:.2?}, the others {:.2?} a put; overwritten: {:.2?}, {:.2?}",
        first.0,
        first.1,
        median(own),
        median(others),
    );
    let listing = (0..20).map(|_| {
        let start = Instant::now();
        let mut listed = Vec::with_capacity(replica.keys_hint());
        replica.for_each_key(|key, timestamp| listed.push((key.clone(), timestamp)));
        assert_eq!(listed.len(), keys as usize);
        drop(listed);
        start.elapsed() / keys
    });
    println!("{name:8} listing: {:.1?} a key", median(listing.collect()));
    replica.close().expect("closed");
}

fn main() {
    let keys: u32 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(100_000);
    measure("memory", Box::new(MemoryStore), keys);
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    measure("durable", Box::new(store), keys);
}
