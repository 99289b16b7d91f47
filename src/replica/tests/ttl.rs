//! Puts that say for how long they are shown, in a replica: against a naive model, and where they meet
//! rules, lifetimes and merged keys.

use std::collections::BTreeMap;

use serde_json::json;
use zenoh_keyexpr::OwnedKeyExpr;

use super::*;
use crate::{
    config::MergeConfig,
    merge::lifetimes::tests::lifetimes,
    replica::{Keys, Refusal, ReplicaError},
    wildcard::rule_key,
};

const KEYS: u8 = 4;

/// A put or delete of a key, or of all, and for how many eighths of a second it is shown.
#[derive(Clone, Debug)]
struct Write {
    number: Option<u8>,
    cell: Cell,
    until: u64,
}

fn all_keys() -> OwnedKeyExpr {
    OwnedKeyExpr::try_from("key/**").expect("a pattern")
}

fn put(time: u64, byte: u8, schema: &str) -> Cell {
    let mut put = cell(time, 1, Some(byte));
    if let Content::Value(value) = &mut put.content {
        value.schema = Some(schema.as_bytes().into());
    }
    put
}

fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let number = prop::option::weighted(0.8, 0..KEYS);
    let write = (
        number,
        0u64..40,
        prop::option::weighted(0.8, 0u8..3),
        prop::option::of(1u64..40),
    );
    let write = write.prop_map(|(number, time, content, ttl)| {
        let time = time * BUCKET;
        match (content, ttl) {
            (Some(byte), Some(ttl)) => Write {
                number,
                cell: put(time, byte, &format!("utf-8;ttl={}ms", 125 * ttl)),
                until: time + ttl * BUCKET,
            },
            _ => Write {
                number,
                cell: cell(time, 1, content),
                until: content.map_or(0, |_| u64::MAX),
            },
        }
    });
    prop::collection::vec(write, 1..30)
}

/// What is shown of a key at a time.
fn shown(writes: &[Write], number: u8, now: u64) -> Option<Cell> {
    let newest = |wanted: Option<u8>, is_put: Option<bool>| {
        let of = writes.iter().filter(|write| {
            let kind = write.cell.value().is_some();
            write.number == wanted && is_put.is_none_or(|is_put| is_put == kind)
        });
        of.max_by_key(|write| {
            // Of two at one time the digest decides, in which the key is.
            let key = match wanted {
                Some(number) => cell_key(number),
                None => rule_key(all_keys(), write.cell.value().is_some()),
            };
            Version::of(&key, &write.cell)
        })
    };
    let own = newest(Some(number), None)?;
    let deleted = newest(None, Some(false)).map(|write| write.cell.timestamp);
    if own.until <= now || deleted >= Some(own.cell.timestamp) {
        return None;
    }
    // Of the rules of one pattern a delete covers the put that is not newer.
    let put = newest(None, Some(true));
    let put = put.filter(|put| Some(put.cell.timestamp) > deleted);
    let put = put.filter(|put| put.cell.timestamp > own.cell.timestamp);
    match put {
        Some(put) if put.until <= now => None,
        Some(put) => Some(put.cell.clone()),
        None => Some(own.cell.clone()),
    }
}

fn assert_shown(replica: &Replica, writes: &[Write], now: u64) {
    let mut listed = BTreeMap::new();
    replica.for_each_key(|key, timestamp| {
        assert_eq!(listed.insert(key.clone(), timestamp), None, "shown twice");
    });
    let mut below = BTreeMap::new();
    let keys = Keys::beginning_with("key/");
    replica.list(&keys).for_each(|key, timestamp| {
        below.insert(key.clone(), timestamp);
        true
    });
    assert_eq!(listed, below);
    for number in 0..KEYS {
        let key = cell_key(number);
        let expected = shown(writes, number, now);
        let at = expected.as_ref().map(|cell| cell.timestamp);
        let found = read(replica, &key).map(|cell| Cell::clone(&cell));
        assert_eq!(found, expected, "{number} at {now}");
        assert_eq!(listed.get(&key.key).copied(), at, "{number}");
        assert_eq!(replica.last_write(&key.key), at, "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    // L2, of puts that say it themselves: pending, settled, and when the storage was opened anew.
    #[test]
    fn what_is_hidden_is_shown_nowhere_and_hides_what_it_replaced(
        writes in any_writes(),
        durable in any::<bool>(),
        rounds in prop::collection::vec(0u64..12, 0..6),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |clock: &ManualClock| {
            let store: Box<dyn Store> = match durable {
                true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
                false => Box::new(MemoryStore),
            };
            open_with(store, Durability::Interval, Arc::new(MergeRules::lww()), clock)
        };
        let mut now = 41 * BUCKET;
        let clock = ManualClock::at(now);
        let mut replica = open(&clock);
        for write in &writes {
            match write.number {
                Some(number) => {
                    drop(replica.put(cell_key(number).key, write.cell.clone()).expect("taken"));
                }
                None => {
                    let written = replica.write_rule(all_keys(), write.cell.clone());
                    prop_assert!(written.expect("taken").is_some());
                }
            }
        }
        assert_shown(&replica, &writes, now);
        for (round, buckets) in rounds.into_iter().enumerate() {
            now += buckets * BUCKET;
            clock.set(now);
            match round % 3 {
                0 => replica.sync().expect("synced"),
                1 => settle(&replica),
                _ if durable => {
                    replica.close().expect("closed");
                    replica = open(&clock);
                }
                _ => {}
            }
            assert_shown(&replica, &writes, now);
        }
        clock.set(1_000 * BUCKET);
        settle(&replica);
        // It is hidden, and no more: replicas have the same root whatever their clocks say.
        let cells = replica.snapshot().expect("sound").tree.len();
        let own = writes.iter().filter_map(|write| write.number);
        prop_assert!(cells <= own.collect::<BTreeSet<_>>().len() + 2);
        assert_shown(&replica, &writes, 1_000 * BUCKET);
    }
}

fn rules_of(written: serde_json::Value) -> MergeRules {
    let config: MergeConfig =
        crate::config::StorageConfig::parse("demo", json!({ "replication": written }))
            .expect("valid")
            .merge;
    let all = zenoh_keyexpr::keyexpr::new("**").expect("a key expression");
    MergeRules::new(&config, all, None).expect("they match")
}

fn refusal(written: Result<Outcome, ReplicaError>) -> String {
    match written.map(drop) {
        Err(ReplicaError::Refused(
            refusal @ (Refusal::InvalidTtl(_) | Refusal::InvalidPut { .. }),
        )) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ttl_that_is_not_understood_is_refused_and_one_without_a_lifetime_counted() {
    let lifetimes = lifetimes(json!({ "key/1": "1h" }));
    let rules = MergeRules::lww().with_lifetimes(lifetimes).expect("valid");
    let clock = ManualClock::at(100 << 32);
    let replica = open_with(
        Box::new(MemoryStore),
        Durability::Interval,
        Arc::new(rules),
        &clock,
    );
    let write = |number: u8, schema: &str| {
        replica.put(cell_key(number).key, put(100 << 32, number, schema))
    };
    let said = refusal(write(1, "ttl=soon"));
    assert!(
        said.starts_with("its encoding says `ttl=soon`, allowed is a time"),
        "{said}"
    );
    assert_eq!(
        refusal(write(1, "ttl=1s;ttl=2s")),
        "its encoding has more than one `ttl=`"
    );
    let all = OwnedKeyExpr::try_from("key/**").expect("a pattern");
    let ruled = replica.write_rule(all, put(100 << 32, 1, "ttl=0s"));
    assert!(ruled.is_err(), "{ruled:?}");
    assert_eq!(replica.counts().refused, 3);
    write(1, "ttl=10s").expect("taken");
    assert_eq!(replica.counts().ttl_without_lifetime, 0);
    write(2, "ttl=10s").expect("taken");
    write(3, "ttl=10s").expect("taken");
    assert_eq!(replica.counts().ttl_without_lifetime, 2);
}

#[test]
fn a_lifetime_caps_what_a_put_says() {
    let lifetimes = lifetimes(json!({ "key/*": "10s" }));
    let rules = MergeRules::lww().with_lifetimes(lifetimes).expect("valid");
    let clock = ManualClock::at(100 << 32);
    let replica = open_with(
        Box::new(MemoryStore),
        Durability::Interval,
        Arc::new(rules),
        &clock,
    );
    replica
        .put(cell_key(1).key, put(100 << 32, 1, "ttl=1h"))
        .expect("taken");
    replica
        .put(cell_key(2).key, put(100 << 32, 1, "ttl=4s"))
        .expect("taken");
    for (seconds, first, second) in [(103, true, true), (104, true, false), (110, false, false)] {
        clock.set(seconds << 32);
        assert_eq!(read(&replica, &cell_key(1)).is_some(), first, "{seconds}");
        assert_eq!(read(&replica, &cell_key(2)).is_some(), second, "{seconds}");
    }
}

#[test]
fn merged_puts_refuse_a_ttl_and_the_value_that_they_begin_with_may_have_one() {
    let rules = rules_of(json!({ "type_overrides": { "counter": "additive" } }));
    let clock = ManualClock::at(100 << 32);
    let replica = open_with(
        Box::new(MemoryStore),
        Durability::Interval,
        Arc::new(rules),
        &clock,
    );
    let number = |time: u64, text: &str, schema: &str| {
        let mut put = put(time << 32, 0, schema);
        if let Content::Value(value) = &mut put.content {
            value.payload = Bytes::copy_from_slice(text.as_bytes());
        }
        replica.put(cell_key(1).key, put)
    };
    let said = refusal(number(90, "5", "counter;ttl=10s"));
    assert!(
        said.contains("`additive` cannot take it: its encoding has a `ttl=`"),
        "{said}"
    );
    number(91, "5", "ttl=20s").expect("taken");
    number(92, "7", "counter").expect("taken");
    let text = || {
        let cell = read(&replica, &cell_key(1)).expect("there is a sum");
        String::from_utf8(cell.value().expect("a value").payload.to_vec()).expect("text")
    };
    assert_eq!(text(), "12");
    clock.set(111 << 32);
    assert_eq!(text(), "7");
    number(110, "1", "counter").expect("taken");
    assert_eq!(text(), "8");
}
