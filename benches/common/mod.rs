//! What the benchmarks share.
#![allow(dead_code)] // each benchmark uses a part

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use zenoh_backend_mst::{
    config::Durability,
    merge::MergeRules,
    replica::{Clock, Options, Replica},
    store::Store,
};

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// How many times `peer` is `ours`.
pub fn ratio(ours: Duration, peer: Duration) -> String {
    format!("x{:.2}", ours.as_secs_f64() / peer.as_secs_f64())
}

/// A replica with the options that a storage has by default, but nobody to replicate to.
pub fn open_replica(store: Box<dyn Store>, clock: Clock) -> Replica {
    open_merging_replica(store, MergeRules::lww(), clock)
}

/// As [`open_replica`], with merge rules.
pub fn open_merging_replica(store: Box<dyn Store>, rules: MergeRules, clock: Clock) -> Replica {
    let options = Options {
        durability: Durability::Interval,
        sync_every: Duration::from_millis(100),
        settle: Duration::from_millis(500),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    Replica::open("bench", store, options, Arc::new(rules), clock, ()).expect("a replica")
}

/// The system's allocator, counting the bytes that are live. It counts what is
/// asked for; the allocator's own overhead is about 8 bytes an allocation more,
/// and is added.
pub struct CountingAllocator;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// What glibc's malloc takes for a request: a header of 8 bytes, rounded to 16.
fn cost(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

impl CountingAllocator {
    pub fn live() -> usize {
        LIVE.load(Ordering::Relaxed)
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(cost(layout.size()), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(cost(layout.size()), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(cost(size), Ordering::Relaxed);
        LIVE.fetch_sub(cost(layout.size()), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}
