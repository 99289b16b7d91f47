//! What readers see of keys with lifetimes, against a naive model.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{merge::lifetimes::tests::lifetimes, replica::Keys};

const KEYS: u8 = 4;

/// For how many eighths of a second each key lives; the last has no lifetime.
const LIVES: [Option<u64>; KEYS as usize] = [Some(8), Some(12), Some(40), None];

const BEGIN: u64 = 10_000;

/// A put or delete of a key, and at which eighth of a second it comes.
#[derive(Clone, Debug)]
struct Write {
    number: u8,
    cell: Cell,
    comes: u64,
}

/// Some come late, others when they have been dead for long.
fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let content = prop::option::weighted(0.8, 0u8..3);
    let write = (0..KEYS, 0u64..240, content, 0u64..60, any::<bool>());
    let write = write.prop_map(|(number, quarter, content, late, is_late)| {
        let time = BEGIN * BUCKET + quarter * (BUCKET / 4);
        Write {
            number,
            cell: cell(time, 1, content),
            comes: BEGIN + quarter.div_ceil(4) + if is_late { late } else { 0 },
        }
    });
    prop::collection::vec(write, 1..40)
}

/// What is shown of a key at a time, of what has come by then.
fn shown(came: &[Write], number: u8, now: u64) -> Option<Cell> {
    let of_key = came.iter().filter(|write| write.number == number);
    let newest = of_key.max_by_key(|write| Version::of(&cell_key(number), &write.cell))?;
    let life = LIVES[usize::from(number)].map_or(u64::MAX, |buckets| buckets * BUCKET);
    let is_over = newest.cell.timestamp.time.saturating_add(life) <= now;
    (!is_over && newest.cell.value().is_some()).then(|| newest.cell.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    // L2: from the moment at which its lifetime is over no get and no list shows a value, and until then
    // all do, wherever it is: pending, settled, on disk, or when the storage was opened anew.
    #[test]
    fn readers_see_a_value_until_its_lifetime_is_over_and_no_longer(
        writes in any_writes(),
        durable in any::<bool>(),
        rounds in prop::collection::vec((0u64..20, 0u8..4), 1..12),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |clock: &ManualClock| {
            let store: Box<dyn Store> = match durable {
                true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
                false => Box::new(MemoryStore),
            };
            let lives = lifetimes(json!({ "key/0": "1s", "key/1": "1500ms", "key/2": "5s" }));
            let rules = MergeRules::lww().with_lifetimes(lives).expect("valid");
            open_with(store, Durability::Interval, Arc::new(rules), clock)
        };
        let mut bucket = BEGIN;
        let clock = ManualClock::at(bucket * BUCKET);
        let mut replica = open(&clock);
        let mut to_come = writes;
        to_come.sort_by_key(|write| write.comes);
        let mut came = Vec::new();
        for (passed, what) in rounds {
            bucket += passed;
            // A moment before a bucket begins, too, of which watermarks know nothing.
            let mut now = bucket * BUCKET + u64::from(what % 2) * (BUCKET / 4) - 1;
            clock.set(now);
            while to_come.first().is_some_and(|write| write.comes < bucket) {
                let write = to_come.remove(0);
                drop(replica.put(cell_key(write.number).key, write.cell.clone()).expect("taken"));
                came.push(write);
            }
            match what {
                0 => replica.sync().expect("synced"),
                1 => {
                    // Later than all that has come, by what it takes to settle.
                    bucket += 8;
                    now += 8 * BUCKET;
                    clock.set(now);
                    settle(&replica);
                }
                2 if durable => {
                    replica.close().expect("closed");
                    replica = open(&clock);
                }
                _ => {}
            }
            let mut listed = BTreeMap::new();
            replica.list(&Keys::beginning_with("key/")).for_each(|key, timestamp| {
                listed.insert(key.clone(), timestamp);
                true
            });
            let mut all = BTreeMap::new();
            replica.for_each_key(|key, timestamp| {
                all.insert(key.clone(), timestamp);
            });
            prop_assert_eq!(&listed, &all);
            for number in 0..KEYS {
                let key = cell_key(number);
                let expected = shown(&came, number, now);
                let at = expected.as_ref().map(|cell| cell.timestamp);
                let found = read(&replica, &key).map(|cell| Cell::clone(&cell));
                prop_assert_eq!(found, expected, "{} at {}", number, now);
                prop_assert_eq!(listed.get(&key.key).copied(), at, "{}", number);
                prop_assert_eq!(replica.last_write(&key.key), at, "{}", number);
            }
        }
    }
}
