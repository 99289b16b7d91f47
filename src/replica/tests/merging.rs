//! Keys whose values are made of several cells, against a naive model of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::{CACHE, DEADLINE, ManualClock, open_with, settle, tree_of};
use crate::replica::{read::merging::MAX_LOGGED_BYTES, *};
use crate::{
    cell::{Cell, CellKey, Content, Key, MAX_KEY_BYTES, Timestamp, Value, Version, tests::key},
    merge::Form,
    merge::tests::{State, any_put, rules, timestamp, value},
    mst::RootHash,
    store::{CellStore as _, DurableStore, MemoryStore},
};

/// A strategy for each of the first keys, so that all are side by side.
const STRATEGIES: [&str; 5] = ["lww", "additive", "set_union", "object", "automerge_crdt"];

fn all_rules() -> MergeRules {
    let keys = STRATEGIES
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("demo/{number}"), json!(name)));
    let keys: serde_json::Map<_, _> = keys.collect();
    rules(json!({ "key_overrides": keys }))
}

fn demo_key(number: usize) -> Key {
    key(&number.to_string())
}

/// Times in units of a fifth of a bucket.
fn at(timestamp: Timestamp) -> Timestamp {
    let time = timestamp.time * BUCKET / 5;
    Timestamp { time, ..timestamp }
}

type Put = (usize, Timestamp, Option<Value>);

fn any_puts() -> impl Strategy<Value = Vec<Put>> {
    let put = (0..STRATEGIES.len()).prop_flat_map(|number| {
        any_put(STRATEGIES[number])
            .prop_map(move |(timestamp, value)| (number, at(timestamp), value))
    });
    prop::collection::vec(put, 1..25)
}

fn read_as(replica: &Replica, key: &Key, form: Form) -> Option<Arc<Cell>> {
    match replica.get(key, form) {
        Lookup::Absent => None,
        Lookup::Found(cell) => Some(cell),
        Lookup::Stored(stored) => replica.read(&stored).expect("a read"),
    }
}

fn text(replica: &Replica, key: &Key) -> Option<String> {
    let cell = read_as(replica, key, Form::Native)?;
    let payload = cell.value().expect("a value").payload.to_vec();
    Some(String::from_utf8(payload).expect("text"))
}

fn assert_reads(replica: &Replica, model: &BTreeMap<usize, State>) {
    let mut listed = BTreeMap::new();
    replica.for_each_key(|key, timestamp| {
        assert_eq!(listed.insert(key.clone(), timestamp), None, "shown twice");
    });
    for (number, state) in model {
        let key = demo_key(*number);
        let expected = state.merged().read(Form::Json).expect("readable");
        assert_eq!(read_as(replica, &key, Form::Json), expected);
        assert_eq!(
            listed.get(&key).copied(),
            expected.map(|cell| cell.timestamp)
        );
        let usual = read_as(replica, &key, Form::Native);
        // A document may be saved in several ways.
        if STRATEGIES[*number] != "automerge_crdt" {
            assert_eq!(usual, state.merged().read(Form::Native).expect("readable"));
        }
    }
}

fn root_of(model: &BTreeMap<usize, State>) -> RootHash {
    let cells = model.values().flat_map(State::versions);
    let Ok(root) = tree_of(cells).root();
    root
}

fn assert_settled(replica: &Replica, model: &BTreeMap<usize, State>) {
    settle(replica);
    let snapshot = replica.snapshot().expect("sound");
    assert_eq!(snapshot.root(), root_of(model));
    let published = replica.shared.state.applied().publish();
    let live = model.values().filter(|state| {
        let value = state.merged().read(Form::Json);
        value.expect("readable").is_some()
    });
    assert_eq!(published.keys, live.count());
    let cells: Vec<_> = model.values().flat_map(State::versions).collect();
    assert_eq!(published.cells, cells.len());
    let tombstones = cells.iter().filter(|(_, version)| version.tombstone);
    assert_eq!(published.tombstones, tombstones.count());
    // Nothing that is covered is kept, once the thread has come to that.
    let deadline = Instant::now() + DEADLINE / 10;
    let stored = || {
        let mut stored = 0;
        let store = &replica.shared.store;
        store.scan(&mut |_, _| stored += 1).expect("a scan");
        stored
    };
    let keeps_cells = replica.shared.store.keeps_cells();
    for (_, held) in replica.shared.state.applied().iter() {
        let is_elsewhere = keeps_cells && !held.is_tombstone();
        assert_eq!(held.cell().is_none(), is_elsewhere, "it is in one place");
    }
    while keeps_cells && stored() != cells.len() {
        assert!(Instant::now() < deadline, "what is covered is still stored");
        std::thread::yield_now();
    }
}

/// The timestamp of the newest version, unless that is the key's own tombstone.
fn last_write(state: &State) -> Option<Timestamp> {
    let newest = state
        .versions()
        .map(|(_, version)| version.timestamp)
        .max()?;
    let is_deleted = |(key, version): (CellKey, Version)| {
        key.part.is_empty() && version.tombstone && version.timestamp == newest
    };
    (!state.versions().any(is_deleted)).then_some(newest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn reads_see_the_fold_at_once_and_ever_after(puts in any_puts(), durable: bool, reads in prop::collection::vec(any::<bool>(), 25), stamped in prop::collection::vec(any::<bool>(), 25)) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = || -> Box<dyn Store> {
            match durable {
                true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
                false => Box::new(MemoryStore),
            }
        };
        let clock = ManualClock::at(10 * BUCKET);
        let rules = Arc::new(all_rules());
        let replica = open_with(store(), Durability::Interval, Arc::clone(&rules), &clock);
        let mut model: BTreeMap<usize, State> = BTreeMap::new();
        let mut refused = 0;
        for (count, (number, timestamp, value)) in puts.into_iter().enumerate() {
            let state = model.entry(number).or_insert_with(|| State::of(demo_key(number)));
            if value.is_none() && !stamped[count] {
                let deleted = last_write(state);
                if let Some(timestamp) = deleted {
                    state.put(&rules, timestamp, None).expect("a delete is taken");
                }
                let outcome = replica.delete_known(demo_key(number)).expect("taken");
                prop_assert_eq!(outcome.is_newest, deleted.is_some());
                assert_reads(&replica, &model);
                continue;
            }
            let taken = state.put(&rules, timestamp, value.clone());
            let content = value.map_or(Content::Tombstone, Content::Value);
            let outcome = replica.put(demo_key(number), Cell { timestamp, content });
            prop_assert_eq!(outcome.is_ok(), taken.is_ok());
            refused += u64::from(taken.is_err());
            // Not always, so that there is something to be caught up with.
            if reads[count] {
                assert_reads(&replica, &model);
            }
            if count % 7 == 3 {
                replica.sync().expect("synced");
                clock.set((10 + count as u64) * BUCKET);
            }
        }
        clock.set(1_000 * BUCKET);
        replica.sync().expect("synced");
        assert_settled(&replica, &model);
        assert_reads(&replica, &model);
        prop_assert_eq!(replica.counts().refused, refused);
        replica.close().expect("closed");
        if durable {
            let replica = open_with(store(), Durability::Interval, rules, &clock);
            prop_assert_eq!(replica.published().root, root_of(&model));
            assert_settled(&replica, &model);
            assert_reads(&replica, &model);
        }
    }
}

fn counter(replica: &Replica) -> Option<String> {
    text(replica, &demo_key(1))
}

fn add(replica: &Replica, time: u64, number: &str) {
    let cell = Cell {
        timestamp: timestamp(time, 1),
        content: Content::Value(value(number.to_owned())),
    };
    let _ = replica.put(demo_key(1), cell).expect("taken");
}

fn delete(replica: &Replica, time: u64) {
    let cell = Cell {
        timestamp: timestamp(time, 1),
        content: Content::Tombstone,
    };
    let _ = replica.put(demo_key(1), cell).expect("taken");
}

/// Many keys are read once, and written again and again.
#[test]
fn what_is_logged_for_readers_is_bounded_and_nothing_is_missed() {
    const KEYS: usize = 64;
    const PUTS: usize = 800;
    let rules = Arc::new(rules(json!({ "default_strategy": "object" })));
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open_with(Box::new(MemoryStore), Durability::Interval, rules, &clock);
    let put = |number: usize, field: usize| {
        let json = json!({ format!("{field}"): "x".repeat(1000) }).to_string();
        let cell = Cell {
            timestamp: at(timestamp(100, 1)),
            content: Content::Value(value(json)),
        };
        let _ = replica.put(demo_key(number), cell).expect("taken");
    };
    let mut most = 0;
    for field in 0..PUTS {
        for number in 0..KEYS {
            put(number, field);
            if field == 0 {
                text(&replica, &demo_key(number)).expect("a value");
            }
        }
        most = most.max(replica.shared.state.queue.logged_bytes());
        assert!(most <= MAX_LOGGED_BYTES, "{most} bytes are logged");
    }
    assert!(
        most > MAX_LOGGED_BYTES / 2,
        "{most} bytes were logged at most"
    );
    for number in 0..KEYS {
        let text = text(&replica, &demo_key(number)).expect("a value");
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).expect("JSON");
        assert_eq!(fields.len(), PUTS);
    }
}

/// While one thread adds, others read: what they see never goes back, and in the
/// end it is all of it.
#[test]
fn a_busy_counter_is_read_while_it_is_written() {
    const PUTS: u64 = 20_000;
    for durable in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Box<dyn Store> = match durable {
            true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
            false => Box::new(MemoryStore),
        };
        let clock = ManualClock::at(1_000 * BUCKET);
        let rules = Arc::new(all_rules());
        let replica = open_with(store, Durability::Interval, rules, &clock);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=PUTS {
                    add(&replica, 999 * BUCKET + number * 10_000, "1");
                    if number % 100 == 0 {
                        clock.set(999 * BUCKET + number * 10_000 + 3 * BUCKET);
                    }
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < PUTS {
                        let sum = counter(&replica).map_or(0, |sum| sum.parse().expect("a number"));
                        assert!(sum >= last && sum <= PUTS, "{last}, then {sum}");
                        last = sum;
                    }
                });
            }
        });
        assert_eq!(counter(&replica), Some(PUTS.to_string()));
    }
}

#[test]
fn a_delete_that_comes_late_takes_back_what_it_covers() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let rules = Arc::new(all_rules());
    let replica = open_with(Box::new(MemoryStore), Durability::Interval, rules, &clock);
    for time in 1..=10 {
        add(&replica, time, "1");
    }
    settle(&replica);
    assert_eq!(counter(&replica).as_deref(), Some("10"));
    delete(&replica, 7);
    assert_eq!(counter(&replica).as_deref(), Some("3"));
    add(&replica, 7, "100");
    add(&replica, 2, "100");
    assert_eq!(
        counter(&replica).as_deref(),
        Some("3"),
        "covered before it came"
    );
    settle(&replica);
    assert_eq!(replica.current_tree().len(), 4);
    delete(&replica, 20);
    assert_eq!(counter(&replica), None);
    settle(&replica);
    assert_eq!(replica.current_tree().len(), 1);
    add(&replica, 21, "5");
    assert_eq!(counter(&replica).as_deref(), Some("5"));
}

/// A crash after the tree has dropped a cell and before the store has.
#[test]
fn what_a_crash_left_behind_a_delete_is_removed_at_the_next_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let mut model = State::of(demo_key(1));
    let rules = Arc::new(all_rules());
    let write = |key: CellKey, cell: Cell| crate::store::Write {
        version: Version::of(&key, &cell),
        key,
        cell: Arc::new(cell),
    };
    let mut batch = Vec::new();
    for (time, put) in [(1, Some("1")), (2, Some("2")), (3, None), (4, Some("4"))] {
        let value = put.map(value);
        model
            .put(&rules, timestamp(time, 1), value.clone())
            .expect("taken");
        let content = value.map_or(Content::Tombstone, Content::Value);
        let cell = Cell {
            timestamp: timestamp(time, 1),
            content,
        };
        for (part, content) in rules.write(&demo_key(1), cell).expect("taken") {
            let key = CellKey {
                key: demo_key(1),
                part,
            };
            batch.push(write(
                key,
                Cell {
                    timestamp: timestamp(time, 1),
                    content,
                },
            ));
        }
    }
    let crashed = store();
    crashed.apply(&batch.into()).expect("written");
    drop(crashed);
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open_with(Box::new(store()), Durability::Interval, rules, &clock);
    assert_eq!(counter(&replica).as_deref(), Some("4"));
    assert_settled(&replica, &BTreeMap::from([(1, model)]));
}

#[test]
fn all_cells_of_a_put_are_there_or_none() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let rules = Arc::new(all_rules());
    let replica = open_with(Box::new(MemoryStore), Durability::Interval, rules, &clock);
    let put = |payload: String| {
        let cell = Cell {
            timestamp: timestamp(1, 1),
            content: Content::Value(value(payload)),
        };
        replica.put(demo_key(2), cell)
    };
    let long = "x".repeat(MAX_KEY_BYTES);
    let error = put(json!(["short", long]).to_string()).expect_err("too long");
    assert!(error.to_string().contains("60000"), "{error}");
    let error = put("{}x".to_owned()).expect_err("no set").to_string();
    assert!(error.contains("`set_union` cannot take it"), "{error}");
    assert_eq!(text(&replica, &demo_key(2)), None);
    assert_eq!(replica.counts().refused, 2);
}

#[test]
fn folds_that_grow_take_no_more_memory_than_they_may() {
    const KEYS: usize = 60;
    let clock = ManualClock::at(1_000 * BUCKET);
    let rules = Arc::new(rules(json!({ "default_strategy": "set_union" })));
    let store = Box::new(MemoryStore);
    let replica = open_with(store, Durability::Interval, rules, &clock);
    let set = |number: usize| key(&format!("set/{number}"));
    for round in 0..6u64 {
        for number in 0..KEYS {
            let elements = (0..4).map(|n| format!("{round} {n} {}", "x".repeat(50_000)));
            let payload = json!(elements.collect::<Vec<_>>()).to_string();
            let cell = Cell {
                timestamp: timestamp(1 + round, 1),
                content: Content::Value(value(payload)),
            };
            let _ = replica.put(set(number), cell).expect("taken");
            let read = text(&replica, &set(number)).expect("a value");
            assert!(read.len() > 200_000 * (round as usize + 1));
            assert!(replica.shared.folds.bytes() <= crate::replica::read::fold_cache::CACHE_BYTES);
        }
    }
    // More than there is room for was read, and some of it is kept.
    assert!(replica.shared.folds.bytes() > crate::replica::read::fold_cache::CACHE_BYTES / 4);
}
