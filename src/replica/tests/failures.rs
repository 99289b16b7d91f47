//! Bursts, of which one write fails.

use super::{CACHE, DEADLINE, ManualClock, cell, cell_key, open, options, root_of};
use crate::replica::*;
use crate::{
    cell::{Cell, CellKey, Version},
    store::{
        DurableStore,
        faulty::{FaultyStore, Verdict},
    },
};

/// As many updates as are a burst, if more such come; some overwrite others.
fn group(number: u8) -> Vec<(u8, Cell)> {
    let time = (1_000 + u64::from(number)) * BUCKET;
    let update = |index: u8| {
        let content = (!index.is_multiple_of(5)).then_some(number);
        (index * 7 % 8, cell(time + u64::from(index), 1, content))
    };
    (0..20).map(update).collect()
}

/// Whether all of them are committed.
fn put_all(replica: &Replica, updates: &[(u8, Cell)]) -> bool {
    let put = |(number, cell): &(u8, Cell)| replica.put(cell_key(*number).key, cell.clone());
    updates.iter().all(|update| put(update).is_ok()) && replica.sync().is_ok()
}

#[test]
fn what_was_committed_in_a_burst_is_there_after_a_failure() {
    // And what is tried after it may succeed; but nothing is to be.
    let faults = [
        (Verdict::Lost, Verdict::Lost),
        (Verdict::Lost, Verdict::Done),
        (Verdict::Kept, Verdict::Done),
    ];
    for (number, fault) in (0..).flat_map(|number| faults.map(|fault| (number, fault))) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = || DurableStore::open(folder.path(), CACHE).expect("a store");
        let clock = ManualClock::at(1_100 * BUCKET);
        let failing = FaultyStore::failing_at(store(), number, fault.0, fault.1);
        let replica = open(failing, Durability::Interval, &clock);
        let (mut committed, mut tried) = (Vec::new(), Vec::new());
        for number in 0..6 {
            if number == 4 {
                // What was deferred is applied.
                let deadline = Instant::now() + DEADLINE;
                while replica.failure().is_none() && replica.queues().unsettled > 0 {
                    assert!(Instant::now() < deadline, "it neither settles nor fails");
                    std::thread::yield_now();
                }
            }
            let updates = group(number);
            if !put_all(&replica, &updates) {
                tried = updates;
                break;
            }
            committed.extend(updates);
        }
        let failed = replica.close().is_err();
        let replica = open(store(), Durability::Interval, &clock);
        let root = replica.snapshot().expect("sound").root();
        let is_as_acknowledged = root == root_of(&committed);
        tried.extend(committed);
        assert!(
            is_as_acknowledged || root == root_of(&tried),
            "commit {number}, {fault:?}"
        );
        replica.close().expect("closed");
        if !failed {
            // Each of the commits that there are has failed once.
            assert!(number >= 6, "{number} commits were seen");
            return;
        }
    }
}

/// Rows have nothing of what was not applied yet.
#[test]
fn a_checkpoint_in_a_burst_has_all_that_was_committed_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    // It goes on whenever it is looked at.
    let time = AtomicU64::new(1_100 * BUCKET);
    let clock = Arc::new(move || time.fetch_add(BUCKET, Ordering::SeqCst));
    let (options, rules) = (options(Durability::Interval), Arc::new(MergeRules::lww()));
    let store = Box::new(store);
    let replica = Replica::open_tuned("test", store, options, rules, clock, (), Tuning::small());
    let replica = replica.expect("a replica");
    let mut committed = Vec::new();
    for number in 0..10 {
        let updates = group(number);
        assert!(put_all(&replica, &updates));
        committed.extend(updates);
        let checkpoint = replica.checkpoint().expect("made");
        assert_eq!(checkpoint.root(), root_of(&committed));
        let mut cells = 0;
        let visit = |key: &CellKey, version: &Version, cell: Option<Arc<Cell>>| {
            let cell = cell.expect("it is not damaged");
            assert_eq!(Version::of(key, &cell), *version);
            cells += 1;
            true
        };
        checkpoint.for_each(visit).expect("readable");
        assert_eq!(cells, 8);
    }
    replica.close().expect("closed");
}
