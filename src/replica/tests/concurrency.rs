//! Committing and settling side by side.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{DEADLINE, ManualClock, open, settle, slow_store, tree_of};
use crate::replica::{write::acks::CommitTracker, *};
use crate::{
    cell::{Cell, CellKey, Content, Timestamp, Value, Version, tests::key},
    merge::Form,
    store::{DurableStore, MemoryStore},
};

fn cell_key(number: u64) -> CellKey {
    CellKey::own(key(&format!("key/{number:05}")))
}

fn cell(time: u64) -> Cell {
    Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content: Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: time.to_be_bytes().to_vec().into(),
        }),
    }
}

fn put(replica: &Replica, number: u64, time: u64) {
    let put = replica.put(cell_key(number).key, cell(time));
    drop(put.expect("taken").committed);
}

#[test]
fn what_is_committed_settles_while_more_is_being_committed() {
    let (leave, store) = slow_store();
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(store, Durability::Interval, &clock);
    put(&replica, 1, 1_000 * BUCKET);
    leave.send(()).expect("awaited");
    replica.sync().expect("synced");
    // It is due now; and of what comes next one is due at once, when it is committed.
    clock.set(1_100 * BUCKET);
    put(&replica, 2, 1_100 * BUCKET);
    put(&replica, 3, 900 * BUCKET);
    replica.request_commit();
    let has = |number| {
        let tree = replica.current_tree();
        let Ok(version) = tree.get(&cell_key(number));
        version.is_some()
    };
    let deadline = Instant::now() + DEADLINE;
    while !has(1) {
        assert!(Instant::now() < deadline, "it does not settle");
        std::thread::yield_now();
    }
    assert_eq!(replica.queues().uncommitted, 2, "the store waits");
    assert!(!has(3), "it is not committed");
    drop(leave);
    clock.set(1_200 * BUCKET);
    settle(&replica);
    assert!(has(2) && has(3));
}

/// Groups that are committed at once, each while those before are settling; and all
/// the time snapshots: none shows a batch that is half in the tree.
#[test]
fn snapshots_between_commits_are_of_all_updates_below_their_cut() {
    const KEYS: u64 = 3_000;
    const GROUP: u64 = 400;
    const GROUPS: u64 = 300;
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let time = |group, index| (1_000 + group) * BUCKET + index;
    let number = |group, index| (group * 7_919 + index * 104_729) % KEYS;
    let is_over = AtomicBool::new(false);
    let mut seen = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            while !is_over.load(Ordering::Acquire) {
                let snapshot = replica.snapshot().expect("sound");
                seen.insert(snapshot.cut, snapshot.root());
            }
            seen
        });
        for group in 0..GROUPS {
            clock.set(time(group, GROUP));
            for index in 0..GROUP {
                put(&replica, number(group, index), time(group, index));
            }
            replica.sync().expect("synced");
        }
        is_over.store(true, Ordering::Release);
        reading.join().expect("no panic")
    });
    clock.set(time(GROUPS + 10, 0));
    settle(&replica);
    let last = replica.snapshot().expect("sound");
    seen.insert(last.cut, last.root());
    assert!(seen.len() > 10, "{} cuts were seen", seen.len());
    // The newest of each key below each cut, in the order of the cuts.
    let updates = (0..GROUPS).flat_map(|group| (0..GROUP).map(move |index| (group, index)));
    let mut updates = updates.peekable();
    let mut model = BTreeMap::new();
    for (cut, root) in seen {
        while let Some((group, index)) = updates.next_if(|(g, p)| time(*g, *p) < cut) {
            let key = cell_key(number(group, index));
            let version = Version::of(&key, &cell(time(group, index)));
            model.insert(key, version);
        }
        let Ok(expected) = tree_of(model.clone()).root();
        assert_eq!(root, expected, "at cut {}", cut / BUCKET);
    }
    assert_eq!(updates.next(), None);
}

/// What is done while keys are listed, on the thread that lists them.
#[test]
fn what_is_put_while_keys_are_listed_settles_meanwhile() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    for number in 0..100 {
        put(&replica, number, 900 * BUCKET + number);
    }
    settle(&replica);
    let mut listed = 0;
    replica.for_each_key(|_, _| {
        if listed == 0 {
            put(&replica, 1000, 901 * BUCKET);
            settle(&replica);
            let found = replica.get(&cell_key(1000).key, Form::Native);
            assert!(matches!(found, Lookup::Found(_)), "{found:?}");
        }
        listed += 1;
    });
    assert_eq!(listed, 100, "what came meanwhile is not listed");
}

/// A clock that was ahead is set right while the replica is closed: its cut is in the future.
#[test]
fn roots_are_made_while_the_cut_is_ahead_of_the_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || DurableStore::open(folder.path(), 4 << 20).expect("a store");
    let minutes = 600 * 8;
    let clock = ManualClock::at((1_000 + minutes) * BUCKET);
    let replica = open(store(), Durability::Interval, &clock);
    put(&replica, 0, (990 + minutes) * BUCKET);
    settle(&replica);
    replica.close().expect("closed");
    clock.set(1_000 * BUCKET);
    let replica = open(store(), Durability::Interval, &clock);
    let before = replica.roots().covered();
    let deadline = Instant::now() + DEADLINE;
    let mut number = 1;
    while replica.roots().covered() <= before {
        assert!(Instant::now() < deadline, "no root is made");
        // Without a pause in which all is settled for long.
        put(&replica, number, 999 * BUCKET + number);
        number += 1;
        std::thread::yield_now();
    }
}

/// A future is polled again and again by whoever waits for several things.
#[test]
fn polling_for_a_commit_again_takes_no_room() {
    use std::{future::Future, pin::pin, task::Context};
    let commits = Arc::new(CommitTracker::default());
    let mut committed = pin!(CommitTracker::committed(&commits, 1));
    let waker = std::task::Waker::noop();
    for _ in 0..100 {
        let polled = committed.as_mut().poll(&mut Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    assert_eq!(commits.waiting(), 1);
    commits.done(1);
    let polled = committed.as_mut().poll(&mut Context::from_waker(waker));
    assert!(polled.is_ready());
}
