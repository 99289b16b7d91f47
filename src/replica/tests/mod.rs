//! The replica against models: a map for what is read, a set of updates for the
//! root at a cut, and a store that fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, mpsc},
};

use bytes::Bytes;
use proptest::prelude::*;
use smallvec::smallvec;

#[cfg(feature = "durable")]
mod collecting;
#[cfg(feature = "durable")]
mod concurrency;
#[cfg(feature = "durable")]
mod failures;
#[cfg(feature = "durable")]
mod integrity;
#[cfg(feature = "durable")]
mod lifetimes;
#[cfg(all(feature = "automerge", feature = "durable"))]
mod merging;
#[cfg(feature = "durable")]
mod space;
#[cfg(feature = "durable")]
mod ttl;
#[cfg(feature = "durable")]
mod wildcards;

use super::{
    apply::{buckets::PendingBuckets, loader::Loader},
    write::{
        group::Update,
        queue::{Fence, Taken, WriteQueue},
    },
    *,
};
#[cfg(feature = "durable")]
use crate::store::DurableStore;
use crate::{
    cell::{Cell, CellKey, Content, Key, MAX_KEY_BYTES, Timestamp, Value, Version, tests::key},
    merge::Form,
    mst::{Resident, RootHash},
    store::{
        MemoryStore,
        faulty::{FaultyStore, Verdict},
        model::ModelStore,
    },
    wildcard::WildcardRules,
};

pub(super) const CACHE: u64 = 4 << 20;
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn cell(time: u64, writer: u8, content: Option<u8>) -> Cell {
    let content = content.map_or(Content::Tombstone, |byte| {
        Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: Bytes::from(vec![byte; 3]),
        })
    });
    let id = [writer; 16];
    Cell {
        timestamp: Timestamp { time, id },
        content,
    }
}

pub(super) fn cell_key(number: u8) -> CellKey {
    CellKey::own(key(&format!("key/{number}")))
}

/// The tree of cells that are ascending by key.
pub(super) fn tree_of(cells: impl IntoIterator<Item = (CellKey, Version)>) -> Tree {
    let cells = cells
        .into_iter()
        .map(|(key, version)| (key, version.into()));
    Tree::from_sorted(Resident::default(), cells)
}

/// The join of updates: what last writer wins says of a set of them.
fn join_of<'a>(updates: impl IntoIterator<Item = &'a (u8, Cell)>) -> BTreeMap<CellKey, Version> {
    let mut cells: BTreeMap<CellKey, Version> = BTreeMap::new();
    for (number, cell) in updates {
        let key = cell_key(*number);
        let version = Version::of(&key, cell);
        let old = cells.entry(key).or_insert(version);
        if version > *old {
            *old = version;
        }
    }
    cells
}

pub(super) fn root_of<'a>(updates: impl IntoIterator<Item = &'a (u8, Cell)>) -> RootHash {
    let Ok(root) = tree_of(join_of(updates)).root();
    root
}

fn any_updates() -> impl Strategy<Value = Vec<(u8, Cell)>> {
    // Few keys, few times and few writers, so that all that can be equal is.
    let update = (0u8..6, 0u64..40, 1u8..3, prop::option::of(0u8..3));
    let update = update.prop_map(|(number, time, writer, content)| {
        (number, cell(time * BUCKET / 5, writer, content))
    });
    prop::collection::vec(update, 1..60)
}

#[test]
fn what_was_overwritten_takes_no_room_until_it_settles() {
    let mut buckets = PendingBuckets::new(0, usize::MAX);
    for group in 0..50u64 {
        let update = |index| Update {
            key: cell_key(1),
            cell: Arc::new(cell(BUCKET + 1_000 * group + index, 1, Some(7))),
            version: None,
            is_newest: true,
        };
        let mut updates: Vec<_> = (0..1_000).map(update).collect();
        let shown = Arc::clone(&updates[999].cell);
        buckets.hold(&mut updates, true);
        assert!(updates.is_empty());
        let of_one = shown.value_bytes();
        assert!(buckets.value_bytes() <= (group as usize + 1) * of_one);
    }
    let due = buckets.advance(3 * BUCKET);
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].1.cell.timestamp.time, BUCKET + 49_999);
}

/// A clock that a test sets.
#[derive(Clone, Default)]
pub(super) struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub(super) fn at(time: u64) -> Self {
        Self(Arc::new(AtomicU64::new(time)))
    }

    pub(super) fn set(&self, time: u64) {
        self.0.store(time, Ordering::SeqCst);
    }

    pub(super) fn clock(&self) -> Clock {
        let time = Arc::clone(&self.0);
        Arc::new(move || time.load(Ordering::SeqCst))
    }
}

pub(super) fn options(durability: Durability) -> Options {
    Options {
        durability,
        sync_every: Duration::from_millis(20),
        settle: Duration::from_millis(500),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: true,
        collect_after: None,
        died_until: None,
    }
}

pub(super) fn open(
    store: impl Store + 'static,
    durability: Durability,
    clock: &ManualClock,
) -> Replica {
    let rules = Arc::new(MergeRules::lww());
    open_with(Box::new(store), durability, rules, clock)
}

pub(super) fn open_with(
    store: Box<dyn Store>,
    durability: Durability,
    rules: Arc<MergeRules>,
    clock: &ManualClock,
) -> Replica {
    let options = options(durability);
    let (clock, tuning) = (clock.clock(), Tuning::small());
    let replica = Replica::open_tuned("test", store, options, rules, clock, (), tuning);
    replica.expect("a replica")
}

pub(super) fn settle(replica: &Replica) {
    let settled = replica.wait_until_settled(Instant::now() + DEADLINE);
    assert!(settled, "still pending: {:?}", replica.queues());
}

fn read(replica: &Replica, key: &CellKey) -> Option<Arc<Cell>> {
    match replica.get(&key.key, Form::Native) {
        Lookup::Absent => None,
        Lookup::Found(cell) => Some(cell),
        Lookup::Stored(stored) => replica.read(&stored).expect("a read"),
    }
}

fn assert_reads(replica: &Replica, updates: &[(u8, Cell)]) {
    let joined = join_of(updates);
    let mut listed: BTreeMap<Key, Timestamp> = BTreeMap::new();
    replica.for_each_key(|key, timestamp| {
        assert_eq!(listed.insert(key.clone(), timestamp), None, "shown twice");
    });
    for number in 0..8 {
        let key = cell_key(number);
        let expected = joined.get(&key).filter(|version| !version.tombstone);
        let found = read(replica, &key).map(|cell| Version::of(&key, &cell));
        assert_eq!(found.as_ref(), expected);
        let timestamp = expected.map(|version| version.timestamp);
        assert_eq!(listed.get(&key.key).copied(), timestamp);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[cfg(feature = "durable")]
    #[test]
    fn reads_see_the_winner_at_once_and_ever_after(updates in any_updates(), durable in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = || -> Box<dyn Store> {
            match durable {
                true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
                false => Box::new(MemoryStore),
            }
        };
        let open = |clock: &ManualClock| {
            let rules = Arc::new(MergeRules::lww());
            open_with(store(), Durability::Interval, rules, clock)
        };
        let clock = ManualClock::at(10 * BUCKET);
        let replica = open(&clock);
        let mut written = Vec::new();
        for (count, (number, cell)) in updates.iter().enumerate() {
            let outcome = replica.put(cell_key(*number).key, cell.clone()).expect("taken");
            written.push((*number, cell.clone()));
            let winner = join_of(&written)[&cell_key(*number)].timestamp;
            prop_assert!(!outcome.is_newest || winner == cell.timestamp);
            prop_assert!(outcome.is_newest || winner >= cell.timestamp);
            assert_reads(&replica, &written);
            if count % 7 == 3 {
                replica.sync().expect("synced");
                clock.set((10 + count as u64) * BUCKET);
            }
        }
        clock.set(1_000 * BUCKET);
        replica.sync().expect("synced");
        settle(&replica);
        assert_reads(&replica, &written);
        prop_assert_eq!(replica.snapshot().expect("sound").root(), root_of(&written));
        let deadline = Instant::now() + DEADLINE;
        while replica.published().root != root_of(&written) {
            prop_assert!(Instant::now() < deadline, "the root was never published");
            std::thread::yield_now();
        }
        let counts = replica.counts();
        prop_assert_eq!(counts.puts + counts.deletes, written.len() as u64);
        replica.close().expect("closed");
        if durable {
            let replica = open(&clock);
            prop_assert_eq!(replica.published().root, root_of(&written));
            prop_assert_eq!(replica.snapshot().expect("sound").root(), root_of(&written));
            assert_reads(&replica, &written);
        }
    }
}

#[test]
fn an_update_is_not_in_the_root_before_its_time() {
    let clock = ManualClock::at(100 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let empty = replica.snapshot().expect("sound").root();
    let update = (1, cell(100 * BUCKET + 7, 1, Some(1)));
    let _ = replica
        .put(cell_key(1).key, update.1.clone())
        .expect("taken");
    replica.sync().expect("synced");
    assert_eq!(replica.snapshot().expect("sound").root(), empty);
    assert!(read(&replica, &cell_key(1)).is_some(), "and yet it is read");
    // The bucket ends at 101; 500 ms, which are four buckets, later it settles.
    clock.set(105 * BUCKET - 1);
    assert!(!replica.wait_until_settled(Instant::now() + Duration::from_millis(50)));
    clock.set(105 * BUCKET);
    settle(&replica);
    let snapshot = replica.snapshot().expect("sound");
    assert_eq!(snapshot.cut, 101 * BUCKET);
    assert_eq!(snapshot.root(), root_of([&update]));
}

#[cfg(feature = "durable")]
#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let folder = tempfile::tempdir().expect("a folder");
    let store = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let replica = open(store(), Durability::Interval, &clock);
    let updates = [
        (1, cell(1_000 * BUCKET, 1, Some(1))),
        (2, cell(20 * BUCKET, 1, Some(2))),
        (1, cell(21 * BUCKET, 1, Some(3))),
    ];
    let put = |replica: &Replica, (number, cell): &(u8, Cell)| {
        replica
            .put(cell_key(*number).key, cell.clone())
            .expect("taken")
            .is_newest
    };
    assert!(put(&replica, &updates[0]));
    clock.set(1_010 * BUCKET);
    settle(&replica);
    replica.close().expect("closed");
    clock.set(25 * BUCKET);
    let replica = open(store(), Durability::Interval, &clock);
    assert!(put(&replica, &updates[1]), "a new key is new");
    assert!(!put(&replica, &updates[2]), "the later write stays");
    settle(&replica);
    assert_reads(&replica, &updates);
    assert_eq!(replica.snapshot().expect("sound").root(), root_of(&updates));
}

#[test]
fn what_cannot_be_taken_is_refused_and_counted() {
    let clock = ManualClock::at(1_000 << 32);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let put =
        |key: CellKey, cell: Cell| replica.put(key.key, cell).map(|outcome| outcome.is_newest);
    assert!(
        put(cell_key(1), cell(1_010 << 32, 1, None)).is_ok(),
        "10 s ahead is allowed"
    );
    for content in [None, Some(1)] {
        let error = put(cell_key(1), cell((1_010 << 32) + 1, 1, content));
        let error = error.expect_err("too far ahead").to_string();
        assert!(
            error.contains("max_clock_drift") && error.contains("10s"),
            "{error}"
        );
    }
    assert!(put(cell_key(1), cell(u64::MAX, 1, None)).is_err());
    let long = CellKey::own(key(&"k".repeat(MAX_KEY_BYTES)));
    let error = put(long, cell(1, 1, None))
        .expect_err("too long")
        .to_string();
    assert!(error.contains("60000"), "{error}");
    assert_eq!(replica.counts().refused, 4);
    assert_eq!(replica.counts().deletes, 1);
}

#[cfg(feature = "durable")]
#[test]
fn what_was_acknowledged_is_there_after_a_failure_and_nothing_more_is_taken() {
    let faults = [Verdict::Lost, Verdict::Kept];
    for (number, fault) in (0..6).flat_map(|number| faults.map(|fault| (number, fault))) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = || DurableStore::open(folder.path(), CACHE).expect("a store");
        let clock = ManualClock::at(1_000 * BUCKET);
        // From the fault on, nothing reaches the disk.
        let failing = FaultyStore::failing_at(store(), number, fault, Verdict::Lost);
        let replica = open(failing, Durability::Always, &clock);
        let (mut acknowledged, mut offered) = (Vec::new(), Vec::new());
        let mut failed = false;
        for count in 0..20u8 {
            let update = (
                count % 4,
                cell((1_000 + u64::from(count)) * BUCKET, 1, Some(count)),
            );
            offered.push(update.clone());
            let outcome = replica.put(cell_key(update.0).key, update.1.clone());
            let outcome = outcome
                .and_then(|outcome| outcome.committed.expect("durability is `always`").wait());
            match outcome {
                Ok(()) if failed => panic!("acknowledged after {fault:?}"),
                Ok(()) => acknowledged.push(update),
                Err(error) => {
                    assert!(error.to_string().contains("made to fail"), "{error}");
                    failed = true;
                }
            }
        }
        assert!(failed && replica.failure().is_some());
        assert!(!replica.is_closing(), "it can still be read");
        assert!(replica.sync().is_err() && replica.close().is_err());
        let replica = open(store(), Durability::Always, &clock);
        // One that was not acknowledged may be there, if it was the next.
        let next = acknowledged.len() + 1;
        let roots = [root_of(&acknowledged), root_of(&offered[..next])];
        assert!(
            roots.contains(&replica.snapshot().expect("sound").root()),
            "{fault:?}"
        );
    }
}

#[cfg(feature = "durable")]
#[test]
fn the_longest_key_is_stored_and_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let clock = ManualClock::at(1_000 * BUCKET);
    // Tag and end take three bytes.
    let longest = [
        "k".repeat(MAX_KEY_BYTES - 3),
        "k\0".repeat((MAX_KEY_BYTES - 3) / 3),
    ];
    let longest = longest.map(|text| CellKey::own(key(&text)));
    let replica = open(store(), Durability::Always, &clock);
    for key in &longest {
        let outcome = replica
            .put(key.key.clone(), cell(1, 1, Some(1)))
            .expect("taken");
        outcome
            .committed
            .expect("durability is `always`")
            .wait()
            .expect("committed");
    }
    replica.close().expect("closed");
    let replica = open(store(), Durability::Always, &clock);
    for key in &longest {
        assert!(read(&replica, key).is_some());
    }
}

#[test]
fn a_panic_of_the_thread_is_a_failure_like_any_other() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let store = FaultyStore::new(ModelStore::default(), |_| panic!("a mistake in the engine"));
    let replica = open(store, Durability::Always, &clock);
    let outcome = replica
        .put(cell_key(1).key, cell(1, 1, Some(1)))
        .expect("taken");
    let error = outcome.committed.expect("durability is `always`").wait();
    let error = error.expect_err("it cannot be committed").to_string();
    assert!(error.contains("a mistake in the engine"), "{error}");
    let error = replica
        .put(cell_key(2).key, cell(2, 1, Some(1)))
        .expect_err("it failed");
    assert!(matches!(error, ReplicaError::Failed(_)), "{error}");
    assert!(replica.sync().is_err() && replica.failure().is_some());
}

#[test]
fn different_writes_of_one_timestamp_have_one_winner_whenever_they_come() {
    // While the smaller settles, the greatest comes, and then one between.
    let mut tied: Vec<Cell> = (0..3)
        .map(|byte| cell(1_000 * BUCKET, 1, Some(byte)))
        .collect();
    tied.sort_by_key(|cell| Version::of(&cell_key(1), cell));
    let (least, between, greatest) = (&tied[0], &tied[1], &tied[2]);
    let queue = WriteQueue::new(
        Tuning::small(),
        Duration::MAX,
        0,
        std::iter::empty(),
        WildcardRules::default(),
    );
    let tree = parking_lot::RwLock::new(Loader::new().finish().tree);
    let offer = |cell: &Cell| {
        let offers = smallvec![(cell_key(1), Arc::new(cell.clone()), None)];
        match queue.offer(offers, Fence::Floor, Duration::MAX, Duration::ZERO, &tree) {
            Taken::Yes { is_newest, .. } => is_newest,
            _ => panic!("not taken"),
        }
    };
    assert!(offer(least));
    assert!(offer(greatest));
    let forget = |cell: &Cell| {
        let settled = (cell_key(1), Version::of(&cell_key(1), cell).into());
        let mut forgotten = Vec::new();
        queue.forget(&[settled], |cells| forgotten.extend(cells));
        forgotten.into_iter().map(|(_, cell, _)| cell)
    };
    assert_eq!(forget(least).count(), 0);
    assert!(!offer(between), "a greater one is pending");
    let (_, pending) = queue.look_up(&cell_key(1));
    assert_eq!(pending.as_deref(), Some(greatest));
    assert_eq!(
        forget(greatest).count(),
        0,
        "which of two it was is not looked into"
    );
    assert!(queue.look_up(&cell_key(1)).1.is_none());
    assert_eq!(queue.queues().unsettled, 0);
}

#[test]
fn a_tombstone_wins_over_a_value_of_the_same_timestamp() {
    let clock = ManualClock::at(1_000 * BUCKET);
    for settle_between in [false, true] {
        let replica = open(MemoryStore, Durability::Interval, &clock);
        for (number, first, second) in (0..8).map(|byte| (byte, Some(byte), None)) {
            for content in [first, second, first] {
                let _ = replica
                    .put(cell_key(number).key, cell(7, 1, content))
                    .expect("taken");
                if settle_between {
                    settle(&replica);
                }
            }
            assert!(read(&replica, &cell_key(number)).is_none());
        }
        settle(&replica);
        assert_eq!(replica.current_tree().len(), 8);
        assert!((0..8).all(|number| read(&replica, &cell_key(number)).is_none()));
    }
}

#[cfg(feature = "durable")]
#[test]
fn a_large_value_is_shown_before_and_after_it_is_applied() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let folder = tempfile::tempdir().expect("a folder");
    let store = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let replica = open(store(), Durability::Interval, &clock);
    let large = |byte: u8, time| {
        let mut cell = cell(1_000 * BUCKET + time, 1, Some(byte));
        if let Content::Value(value) = &mut cell.content {
            value.payload = Bytes::from(vec![byte; 100_000]);
        }
        cell
    };
    let mut time = 1_000;
    for byte in 1..4 {
        let cell = large(byte, u64::from(byte));
        let _ = replica.put(cell_key(1).key, cell.clone()).expect("taken");
        assert_eq!(read(&replica, &cell_key(1)).as_deref(), Some(&cell));
        replica.sync().expect("synced");
        assert_eq!(read(&replica, &cell_key(1)).as_deref(), Some(&cell));
        if byte == 2 {
            continue;
        }
        time += 100;
        clock.set(time * BUCKET);
        settle(&replica);
        assert_eq!(read(&replica, &cell_key(1)).as_deref(), Some(&cell));
    }
    replica.close().expect("closed");
    let replica = open(store(), Durability::Interval, &clock);
    assert_eq!(read(&replica, &cell_key(1)).as_deref(), Some(&large(3, 3)));
}

/// A store whose commits wait for leave; when the sender is gone, there is leave
/// for ever.
pub(super) fn slow_store() -> (mpsc::Sender<()>, FaultyStore<ModelStore>) {
    let (leave, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let store = FaultyStore::appending(ModelStore::default(), move |_| {
        let _ = wait
            .lock()
            .map(|wait: std::sync::MutexGuard<'_, mpsc::Receiver<()>>| wait.recv());
        Verdict::Done
    });
    (leave, store)
}

/// One of 29,000 would take the router down at the next wildcard get.
#[test]
fn keys_of_too_many_chunks_are_refused() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let put = |chunks: usize| {
        let key = key(&vec!["a"; chunks].join("/"));
        replica.put(key.clone(), cell(1_000 * BUCKET, 1, Some(1)))?;
        replica.merge(CellKey::own(key), cell(1_000 * BUCKET, 2, Some(1)))
    };
    put(4096).expect("taken");
    let refused = put(4097).expect_err("refused");
    assert!(refused.to_string().contains("4096 chunks"), "{refused}");
}

#[test]
fn the_queue_is_bounded_and_then_writers_wait() {
    let (leave, store) = slow_store();
    let clock = ManualClock::at(1_000 * BUCKET);
    // No interval, so that only the length of the queue can stop the writer.
    let replica = open(store, Durability::None, &clock);
    let mut told_to_wait = None;
    for count in 0..200_000u64 {
        let cell = cell(1_000 * BUCKET + count, 1, Some(1));
        let outcome = replica
            .put(cell_key((count % 5) as u8).key, cell)
            .expect("taken");
        if let Some(committed) = outcome.committed {
            told_to_wait = Some((count, committed));
            break;
        }
    }
    let (count, committed) = told_to_wait.expect("nobody had to wait");
    assert!(replica.queues().uncommitted as u64 <= count + 1);
    assert!(replica.queues().uncommitted > 60_000);
    drop(leave);
    committed.wait().expect("committed");
    let last = read(&replica, &cell_key((count % 5) as u8)).expect("there");
    assert_eq!(last.timestamp.time, 1_000 * BUCKET + count);
    // Versions that were overwritten before they were committed are not written.
    assert!(replica.counts().committed_cells < 50);
}

#[test]
fn what_is_acknowledged_and_not_committed_spans_no_more_than_the_interval() {
    let (leave, store) = slow_store();
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(store, Durability::Interval, &clock);
    let put = |count: u64| {
        let cell = cell(1_000 * BUCKET + count, 1, Some(1));
        replica.put(cell_key(1).key, cell).expect("taken").committed
    };
    assert!(put(0).is_none());
    let first_acknowledged = Instant::now();
    let (mut count, mut last_acknowledged) = (0, first_acknowledged);
    let committed = loop {
        count += 1;
        let before = Instant::now();
        match put(count) {
            Some(committed) => break committed,
            None => last_acknowledged = before,
        }
        std::thread::yield_now();
    };
    let interval = options(Durability::Interval).sync_every;
    assert!(last_acknowledged - first_acknowledged <= interval);
    drop(leave);
    committed.wait().expect("committed");
    replica.sync().expect("synced");
    assert!(put(count + 1).is_none(), "the store has caught up");
}

#[test]
fn puts_are_committed_in_groups_within_the_interval() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    for count in 0..1_000 {
        let cell = cell(1_000 * BUCKET + count, 1, Some(1));
        let _ = replica.put(cell_key(count as u8).key, cell).expect("taken");
    }
    let deadline = Instant::now() + DEADLINE;
    while replica.queues().uncommitted > 0 {
        assert!(Instant::now() < deadline, "never committed");
        std::thread::yield_now();
    }
    replica.sync().expect("synced");
    let counts = replica.counts();
    assert!(counts.commits < 500, "{counts:?}");
}

#[test]
fn a_snapshot_stays_as_it_is() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let updates: Vec<_> = (0..50)
        .map(|n| (n, cell(u64::from(n), 1, Some(n))))
        .collect();
    let put = |(number, cell): &(u8, Cell)| {
        let _ = replica
            .put(cell_key(*number).key, cell.clone())
            .expect("taken");
    };
    updates[..25].iter().for_each(put);
    settle(&replica);
    let snapshot = replica.snapshot().expect("sound");
    updates[25..].iter().for_each(put);
    settle(&replica);
    assert_eq!(snapshot.root(), root_of(&updates[..25]));
    assert_eq!(replica.snapshot().expect("sound").root(), root_of(&updates));
    let now = replica.current_tree();
    assert_eq!(snapshot.tree.diff(&now).count(), 25);
}

#[test]
fn many_writers_and_readers_agree_in_the_end() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let updates = |writer: u8| {
        (0..4_000u64).map(move |count| {
            let time = 900 * BUCKET + count * (BUCKET / 200);
            (
                (count % 6) as u8,
                cell(time, writer, Some((count % 250) as u8)),
            )
        })
    };
    std::thread::scope(|scope| {
        for writer in 1..4 {
            let replica = &replica;
            scope.spawn(move || {
                for (number, cell) in updates(writer) {
                    let _ = replica.put(cell_key(number).key, cell).expect("taken");
                }
            });
        }
        scope.spawn(|| {
            let mut last = BTreeMap::new();
            for count in 0..20_000u16 {
                let number = (count % 6) as u8;
                if let Some(cell) = read(&replica, &cell_key(number)) {
                    let before = last.insert(number, cell.timestamp);
                    assert!(before <= Some(cell.timestamp), "a read went back in time");
                }
                if count % 500 == 0 {
                    clock.set((900 + u64::from(count) / 200) * BUCKET);
                    let _ = replica.snapshot().expect("sound").root();
                    let mut keys = BTreeSet::new();
                    replica.for_each_key(|key, _| assert!(keys.insert(key.clone())));
                    assert!(keys.len() <= 6);
                }
            }
        });
    });
    clock.set(2_000 * BUCKET);
    settle(&replica);
    let all: Vec<_> = (1..4).flat_map(updates).collect();
    assert_reads(&replica, &all);
    assert_eq!(replica.snapshot().expect("sound").root(), root_of(&all));
}

fn any_text() -> impl Strategy<Value = String> {
    "(a|b|ab|a\0)(/(a|b|ab|-)){0,2}"
}

proptest! {
    /// What a listing shows is what a map of the last writes has, of what begins so; whatever of
    /// it is settled, pending, or written after the listing was made.
    #[test]
    fn a_listing_has_the_keys_that_begin_so(
        settled in prop::collection::vec((any_text(), 1..9u64, any::<bool>()), 0..12),
        pending in prop::collection::vec((any_text(), 1..9u64, any::<bool>()), 0..6),
        beginning in "(|a|b|ab|a/|a/a|a/b/|c/)",
    ) {
        let now = 1u64 << 40;
        let replica = open_in_memory(now);
        let mut model: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        let mut write = |text: &str, time: u64, is_value: bool| {
            let cell = cell(time, 1, is_value.then_some(1));
            replica.put(key(text), cell).expect("taken");
            let old = model.entry(text.to_owned()).or_insert((time, is_value));
            // A tombstone wins over a value.
            if time > old.0 || (time == old.0 && !is_value) {
                *old = (time, is_value);
            }
        };
        for (text, time, is_value) in &settled {
            write(text, *time, *is_value);
        }
        prop_assert!(replica.wait_until_settled(Instant::now() + DEADLINE));
        // Ahead of the clock by less than may be: they stay pending.
        for (text, time, is_value) in &pending {
            write(text, now + *time, *is_value);
        }
        let listing = replica.list(&Keys::beginning_with(&beginning));
        replica.put(key("a/late"), cell(1, 1, Some(1))).expect("taken");
        let mut shown = BTreeMap::new();
        listing.for_each(|key, timestamp| {
            let text = key.as_str().expect("a text").to_owned();
            assert_eq!(shown.insert(text, timestamp.time), None, "{key} is shown once");
            true
        });
        let expected: BTreeMap<String, u64> = model
            .into_iter()
            .filter(|(text, (_, is_value))| *is_value && text.starts_with(&beginning))
            .map(|(text, (time, _))| (text, time))
            .collect();
        prop_assert_eq!(shown, expected);
    }
}

fn open_in_memory(now: u64) -> Replica {
    let options = Options {
        durability: Durability::None,
        sync_every: Duration::from_millis(10),
        settle: Duration::from_millis(10),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let (rules, clock): (_, Clock) = (Arc::new(MergeRules::lww()), Arc::new(move || now));
    Replica::open("test", Box::new(MemoryStore), options, rules, clock, ()).expect("opened")
}

#[test]
fn a_listing_ends_when_it_is_told_to() {
    let replica = open_in_memory(1 << 40);
    for number in 0..10 {
        let key = cell_key(number).key;
        let time = u64::from(number % 2) << 40;
        replica.put(key, cell(time + 1, 1, Some(1))).expect("taken");
    }
    for wanted in 1..10 {
        let mut shown = 0;
        replica.list(&Keys::beginning_with("")).for_each(|_, _| {
            shown += 1;
            shown < wanted
        });
        assert_eq!(shown, wanted);
    }
}

#[test]
fn a_full_queue_says_so_and_when_it_has_room() {
    let tuning = Tuning {
        max_queued: 3,
        ..Tuning::default()
    };
    let minute = Duration::from_secs(60);
    let options = Options {
        durability: Durability::Interval,
        sync_every: minute,
        settle: minute,
        max_clock_drift: minute,
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let clock: Clock = Arc::new(|| 1 << 40);
    let (store, rules) = (Box::new(MemoryStore), Arc::new(MergeRules::lww()));
    let replica = Replica::open_tuned("test", store, options, rules, clock, (), tuning);
    let replica = replica.expect("opened");
    let put = |number| replica.put(cell_key(number).key, cell(1 << 40, 1, Some(1)));
    for number in 0..3 {
        assert!(!put(number).expect("taken").is_full);
    }
    let full = put(3).expect("taken");
    assert!(full.is_full);
    let committed = full.committed.expect("there is something to wait for");
    assert!(!committed.is_known() && !committed.wait_until(Instant::now()));
    replica.request_commit();
    assert!(committed.wait_until(Instant::now() + DEADLINE) && committed.is_known());
}
