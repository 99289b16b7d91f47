//! Collection, of storages in memory and on disk.

use zenoh_keyexpr::OwnedKeyExpr;

use super::*;
use crate::{
    merge::MergeRules,
    replica::{CollectionState, Refusal, ReplicaError},
    store::faulty::{FaultyStore, Verdict},
    wildcard::rule_key,
};

const AFTER: Duration = Duration::from_secs(60);

fn seconds(seconds: u64) -> u64 {
    seconds << 32
}

fn try_open(
    store: Box<dyn Store>,
    clock: &ManualClock,
    collect_after: Option<Duration>,
) -> Replica {
    let options = Options {
        collect_after,
        keep_changes: false,
        ..options(Durability::Interval)
    };
    let rules = Arc::new(MergeRules::lww());
    let (clock, tuning) = (clock.clock(), Tuning::small());
    let replica = Replica::open_tuned("test", store, options, rules, clock, (), tuning);
    replica.expect("a replica")
}

fn put(replica: &Replica, number: u8, time: u64, value: Option<u8>) -> Result<bool, ReplicaError> {
    let put = replica.put(cell_key(number).key, cell(time, 1, value));
    put.map(|outcome| outcome.is_newest)
}

fn wait_until(replica: &Replica, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "{:?}, {:?}",
            replica.collection(),
            replica.published()
        );
        std::thread::yield_now();
    }
}

/// Has all collected that may be, and waits until the root says so.
fn collect(replica: &Replica, tombstones: usize) {
    replica.collect_now();
    replica.sync().expect("synced");
    wait_until(replica, || {
        let is_idle = replica.collection().state == CollectionState::Idle;
        is_idle && replica.published().tombstones == tombstones
    });
}

fn is_late(result: Result<bool, ReplicaError>) -> bool {
    matches!(result, Err(ReplicaError::Refused(Refusal::Late { .. })))
}

fn stores() -> Vec<Option<tempfile::TempDir>> {
    let mut stores = vec![None];
    if cfg!(feature = "durable") {
        stores.push(Some(tempfile::tempdir().expect("a folder")));
    }
    stores
}

fn store_in(folder: Option<&tempfile::TempDir>) -> Box<dyn Store> {
    match folder {
        #[cfg(feature = "durable")]
        Some(folder) => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
        _ => Box::new(MemoryStore),
    }
}

#[test]
fn what_is_deleted_leaves_no_trace_and_does_not_come_back() {
    for folder in stores() {
        let clock = ManualClock::at(seconds(1000));
        let replica = try_open(store_in(folder.as_ref()), &clock, Some(AFTER));
        let empty = replica.published().root;
        for number in 0..50 {
            assert!(put(&replica, number, seconds(1000), Some(1)).expect("taken"));
            assert!(put(&replica, number, seconds(1001), None).expect("taken"));
        }
        clock.set(seconds(1010));
        settle(&replica);
        // Not yet: what comes late is still taken, and lost to the tombstone.
        collect(&replica, 50);
        assert_eq!(replica.collection().floor, 0);
        assert!(!put(&replica, 1, seconds(999), Some(2)).expect("taken"));
        clock.set(seconds(1100));
        collect(&replica, 0);
        assert_eq!(replica.published().root, empty);
        assert_eq!(replica.published().cells, 0);
        assert_eq!(replica.counts().collected_tombstones, 50);
        let collection = replica.collection();
        // Above all that was deleted; by its pace, or as the operator said.
        let floor = collection.floor;
        assert!((seconds(1002)..=seconds(1040)).contains(&floor));
        assert_eq!(collection.horizon, floor);
        assert!(is_late(put(&replica, 1, floor - 1, Some(3))));
        assert!(is_late(put(&replica, 1, floor - 1, None)));
        let pattern = OwnedKeyExpr::new("key/*").expect("a pattern");
        let rule = replica.write_rule(pattern, cell(floor - 1, 1, None));
        assert!(is_late(rule.map(|_| false)));
        assert_eq!(replica.counts().refused_late, 3);
        let reason = &replica.refused_writes()[0].reason;
        assert!(
            reason.contains("from before 1970-01-01T00:1") && reason.contains("`collect.after`"),
            "{reason}"
        );
        assert!(put(&replica, 1, floor, Some(4)).expect("taken"));
        settle(&replica);
        replica.close().expect("closed");
        if folder.is_none() {
            continue;
        }
        // As promised, even if nothing is collected any more.
        for after in [Some(AFTER), None] {
            let replica = try_open(store_in(folder.as_ref()), &clock, after);
            assert_eq!(replica.collection().floor, floor);
            assert!(is_late(put(&replica, 2, floor - 1, Some(3))));
            assert_eq!(replica.published().cells, 1);
            replica.close().expect("closed");
        }
    }
}

/// The watermark, above which no floor rises, stands still where nothing is applied.
#[test]
fn what_was_deleted_last_goes_though_nothing_is_written_any_more() {
    for folder in stores() {
        let clock = ManualClock::at(seconds(1000));
        let replica = try_open(store_in(folder.as_ref()), &clock, Some(AFTER));
        assert!(put(&replica, 1, seconds(1000), Some(1)).expect("taken"));
        assert!(put(&replica, 1, seconds(1001), None).expect("taken"));
        clock.set(seconds(1003));
        settle(&replica);
        wait_until(&replica, || replica.published().tombstones == 1);
        clock.set(seconds(1100));
        replica.collect_now();
        wait_until(&replica, || replica.published().tombstones == 0);
        assert!(is_late(put(&replica, 1, seconds(1000), Some(2))));
    }
}

#[test]
fn where_nothing_is_deleted_or_collected_all_is_taken() {
    for (after, value) in [(Some(AFTER), Some(1)), (None, None)] {
        let clock = ManualClock::at(seconds(1000));
        let replica = try_open(store_in(None), &clock, after);
        assert!(put(&replica, 1, seconds(1000), value).expect("taken"));
        clock.set(seconds(9000));
        settle(&replica);
        collect(&replica, usize::from(value.is_none()));
        assert_eq!(replica.collection().floor, 0);
        assert!(put(&replica, 2, seconds(1), Some(1)).expect("taken"));
    }
}

#[test]
fn delete_rules_go_and_what_they_covered_does_not_come_back() {
    for folder in stores() {
        let clock = ManualClock::at(seconds(1000));
        let replica = try_open(store_in(folder.as_ref()), &clock, Some(AFTER));
        let pattern = || OwnedKeyExpr::new("key/**").expect("a pattern");
        let write_rule = |time, value| {
            let written = replica.write_rule(pattern(), cell(time, 1, value));
            assert!(written.expect("taken").expect("room").is_newest);
        };
        assert!(put(&replica, 1, seconds(1000), Some(1)).expect("taken"));
        write_rule(seconds(1001), None);
        assert!(put(&replica, 2, seconds(1002), Some(1)).expect("taken"));
        write_rule(seconds(1003), Some(9));
        clock.set(seconds(1100));
        settle(&replica);
        collect(&replica, 0);
        wait_until(&replica, || replica.counts().collected_rules == 1);
        assert!(!replica.wildcard_rules().has(&rule_key(pattern(), false)));
        // What shows its value on a key stays.
        assert!(replica.wildcard_rules().has(&rule_key(pattern(), true)));
        assert_eq!(read(&replica, &cell_key(1)), None);
        let shown = read(&replica, &cell_key(2)).expect("a value");
        assert_eq!(shown.timestamp.time, seconds(1003));
        assert!(is_late(put(&replica, 1, seconds(1000), Some(1))));
        // Later ones are as any.
        assert!(put(&replica, 1, seconds(1099), Some(1)).expect("taken"));
        write_rule(seconds(1100), None);
        assert_eq!(read(&replica, &cell_key(1)), None);
        assert_eq!(read(&replica, &cell_key(2)), None);
        replica.close().expect("closed");
    }
}

#[test]
fn what_a_backup_has_from_below_the_floor_is_not_restored() {
    let clock = ManualClock::at(seconds(1000));
    let replica = try_open(store_in(None), &clock, Some(AFTER));
    let old = cell(seconds(1000), 1, Some(1));
    let kept = cell(seconds(1000), 1, Some(2));
    assert!(put(&replica, 1, seconds(1000), Some(1)).expect("taken"));
    assert!(put(&replica, 2, seconds(1000), Some(2)).expect("taken"));
    assert!(put(&replica, 1, seconds(1001), None).expect("taken"));
    clock.set(seconds(1100));
    settle(&replica);
    collect(&replica, 0);
    // The root may have been one of before the delete.
    wait_until(&replica, || replica.counts().collected_tombstones == 1);
    let restore = |key: CellKey, cell: Cell| {
        let version = Version::of(&key, &cell);
        replica.restore(key, cell, version)
    };
    let merged = restore(cell_key(1), old);
    assert!(is_late(merged.map(|outcome| outcome.is_newest)));
    assert_eq!(read(&replica, &cell_key(1)), None);
    // What is there anyway is not refused.
    let merged = restore(cell_key(2), kept).expect("taken");
    assert!(!merged.is_newest);
    assert_eq!(replica.counts().refused_late, 1);
}

#[test]
fn a_floor_that_cannot_be_kept_stops_the_storage() {
    for verdict in [Verdict::Lost, Verdict::Kept] {
        let clock = ManualClock::at(seconds(1000));
        // A group of the log, its row, and then the floor.
        let store = FaultyStore::failing_at(
            crate::store::model::ModelStore::default(),
            2,
            verdict,
            verdict,
        );
        let replica = try_open(Box::new(store), &clock, Some(AFTER));
        assert!(put(&replica, 1, seconds(1001), None).expect("taken"));
        replica.sync().expect("synced");
        clock.set(seconds(1002));
        settle(&replica);
        clock.set(seconds(1100));
        replica.collect_now();
        wait_until(&replica, || replica.failure().is_some());
        assert_eq!(replica.collection().floor, 0);
    }
}
