//! Wildcard rules in a replica: seen at once, applied, and there after it was opened anew.

use std::collections::BTreeMap;

use zenoh_keyexpr::OwnedKeyExpr;

use super::*;
use crate::{
    config::MergeConfig,
    replica::{Keys, Refusal, ReplicaError},
    wildcard::{MAX_RULE_VALUE_BYTES, MAX_RULES, matches, rule_key},
};

const PATTERNS: [&str; 5] = ["key/*", "**", "key/$*2", "key/1", "*/3/**"];

fn pattern(text: &str) -> OwnedKeyExpr {
    OwnedKeyExpr::try_from(text).expect("a pattern")
}

/// A put or delete of the key of this number, or of a pattern.
#[derive(Clone, Debug)]
struct Write {
    number: Option<u8>,
    pattern: usize,
    cell: Cell,
}

fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let target = (prop::option::weighted(0.75, 0u8..6), 0..PATTERNS.len());
    let write = (target, 0u64..40, 1u8..3, prop::option::of(0u8..3));
    let write = write.prop_map(|((number, pattern), time, writer, content)| Write {
        number,
        pattern: if pattern == 3 { 0 } else { pattern },
        cell: cell(time * BUCKET / 5, writer, content),
    });
    prop::collection::vec(write, 1..40)
}

fn write(replica: &Replica, write: &Write) {
    let Write {
        number,
        pattern: index,
        cell,
    } = write.clone();
    match number {
        Some(number) => drop(replica.put(cell_key(number).key, cell).expect("taken")),
        None => {
            let outcome = replica.write_rule(pattern(PATTERNS[index]), cell);
            assert!(outcome.expect("taken").is_some(), "there is room");
        }
    }
}

/// What is shown of a key: when it was written, and what.
fn shown(writes: &[Write], number: u8) -> Option<(Timestamp, Cell)> {
    let key = cell_key(number);
    let rules = writes.iter().filter(|write| {
        write.number.is_none() && matches(&pattern(PATTERNS[write.pattern]), &key.key)
    });
    let deletes = rules.clone().filter(|write| write.cell.value().is_none());
    let deleted = deletes.map(|write| write.cell.timestamp).max();
    let own = writes.iter().filter(|write| write.number == Some(number));
    let own = own.map(|write| &write.cell);
    let own = own.max_by_key(|cell| Version::of(&key, cell))?;
    if own.value().is_none() || deleted >= Some(own.timestamp) {
        return None;
    }
    let puts = rules.filter(|write| write.cell.value().is_some());
    let put = puts.max_by_key(|write| {
        let rule = rule_key(pattern(PATTERNS[write.pattern]), true);
        let version = Version::of(&rule, &write.cell);
        (write.cell.timestamp, PATTERNS[write.pattern], version)
    });
    let put = put
        .map(|put| &put.cell)
        .filter(|put| put.timestamp > own.timestamp);
    let cell = put.unwrap_or(own);
    Some((cell.timestamp, cell.clone()))
}

fn assert_shown(replica: &Replica, writes: &[Write]) {
    let mut listed = BTreeMap::new();
    replica.for_each_key(|key, timestamp| {
        assert_eq!(listed.insert(key.clone(), timestamp), None, "shown twice");
    });
    let mut below = BTreeMap::new();
    replica
        .list(&Keys::beginning_with("key/"))
        .for_each(|key, timestamp| {
            below.insert(key.clone(), timestamp);
            true
        });
    assert_eq!(listed, below);
    for number in 0..6 {
        let key = cell_key(number);
        let expected = shown(writes, number);
        let found = read(replica, &key).map(|cell| Cell::clone(&cell));
        assert_eq!(found, expected.clone().map(|(_, cell)| cell), "{number}");
        let at = expected.map(|(timestamp, _)| timestamp);
        assert_eq!(listed.get(&key.key).copied(), at, "{number}");
        assert_eq!(replica.last_write(&key.key), at, "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn rules_are_seen_at_once_and_ever_after(writes in any_writes(), durable in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |clock: &ManualClock| {
            let store: Box<dyn Store> = match durable {
                true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
                false => Box::new(MemoryStore),
            };
            open_with(store, Durability::Interval, Arc::new(MergeRules::lww()), clock)
        };
        let clock = ManualClock::at(10 * BUCKET);
        let replica = open(&clock);
        for (count, some) in writes.iter().enumerate() {
            write(&replica, some);
            assert_shown(&replica, &writes[..=count]);
            if count % 5 == 3 {
                replica.sync().expect("synced");
                clock.set((10 + count as u64) * BUCKET);
            }
        }
        clock.set(1_000 * BUCKET);
        replica.sync().expect("synced");
        settle(&replica);
        assert_shown(&replica, &writes);
        let snapshot = replica.snapshot().expect("sound");
        let root = snapshot.root();
        // In another order, and all late.
        let other = open_with(
            Box::new(MemoryStore),
            Durability::Interval,
            Arc::new(MergeRules::lww()),
            &clock,
        );
        for some in writes.iter().rev() {
            write(&other, some);
        }
        settle(&other);
        prop_assert_eq!(other.snapshot().expect("sound").root(), root);
        assert_shown(&other, &writes);
        // Rows are the tree.
        let mut rows = 0;
        snapshot.for_each(|_, _, cell| {
            rows += 1;
            assert!(cell.is_some());
            true
        }).expect("read");
        prop_assert_eq!(rows, snapshot.tree.len());
        // It keeps the store open.
        drop(snapshot);
        replica.close().expect("closed");
        if durable {
            let replica = open(&clock);
            prop_assert_eq!(replica.snapshot().expect("sound").root(), root);
            assert_shown(&replica, &writes);
        }
    }
}

/// A merged key that is read and folded before, while and after a rule covers cells of it.
#[test]
fn a_fold_does_not_keep_what_a_rule_covers() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let config = MergeConfig {
        default: "additive".into(),
        ..MergeConfig::default()
    };
    let all = zenoh_keyexpr::keyexpr::new("**").expect("valid");
    let rules = Arc::new(MergeRules::new(&config, all, None).expect("valid"));
    let replica = open_with(Box::new(MemoryStore), Durability::Interval, rules, &clock);
    let key = cell_key(1);
    let add = |time: u64| {
        let mut cell = cell(time * BUCKET, 1, Some(0));
        cell.content = Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: Bytes::from(time.to_string()),
        });
        drop(replica.put(key.key.clone(), cell).expect("taken"));
    };
    let sum = || {
        let cell = read(&replica, &key)?;
        let text = cell.value().expect("a value").payload.to_vec();
        Some(String::from_utf8(text).expect("text"))
    };
    add(900);
    add(950);
    assert_eq!(sum().as_deref(), Some("1850"));
    let delete = cell(920 * BUCKET, 2, None);
    let outcome = replica
        .write_rule(pattern("key/**"), delete)
        .expect("taken");
    assert!(outcome.is_some());
    assert_eq!(sum().as_deref(), Some("950"));
    // One that comes late, and is covered while the rule is pending.
    add(910);
    assert_eq!(sum().as_deref(), Some("950"));
    // A put of a pattern is no put to a merged key.
    let put = cell(960 * BUCKET, 2, Some(1));
    assert!(
        replica
            .write_rule(pattern("key/**"), put)
            .expect("taken")
            .is_some()
    );
    assert_eq!(sum().as_deref(), Some("950"));
    settle(&replica);
    assert_eq!(sum().as_deref(), Some("950"));
    add(915);
    add(930);
    assert_eq!(sum().as_deref(), Some("1880"));
    let delete = cell(970 * BUCKET, 2, None);
    assert!(
        replica
            .write_rule(pattern("**"), delete)
            .expect("taken")
            .is_some()
    );
    assert_eq!(sum(), None);
    settle(&replica);
    assert_eq!(sum(), None);
    let published = replica.shared.state.applied().publish();
    // The rules of two patterns: the put is not covered by that of another pattern.
    assert_eq!(
        (published.keys, published.cells, published.tombstones),
        (0, 3, 0)
    );
}

#[test]
fn there_are_no_more_rules_than_may_be() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let replica = open(MemoryStore, Durability::Interval, &clock);
    let rule = |number: usize, content| {
        let text = pattern(&format!("key/{number}/*"));
        replica
            .write_rule(text, cell(number as u64, 1, content))
            .expect("taken")
    };
    for number in 0..MAX_RULES {
        assert!(rule(number, None).is_some());
    }
    assert!(rule(MAX_RULES, None).is_none());
    // One that there is may be written anew, and others hold more.
    assert!(rule(5, None).is_some());
    let other = (rule_key(pattern("key/x/*"), false), cell(7, 2, None));
    drop(replica.merge(other.0, other.1).expect("taken"));
    assert_eq!(replica.wildcard_rules().len(), MAX_RULES + 1);
    let mut large = cell(8, 1, Some(1));
    large.content = Content::Value(Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: vec![0; MAX_RULE_VALUE_BYTES + 1].into(),
    });
    let refused = replica.merge(rule_key(pattern("key/y/*"), true), large);
    assert!(matches!(
        refused,
        Err(ReplicaError::Refused(Refusal::InvalidRule(_)))
    ));
    // What is no rule is not written to a pattern.
    let refused = replica.put(Some(pattern("key/*")).into(), cell(9, 1, Some(1)));
    assert!(matches!(
        refused,
        Err(ReplicaError::Refused(Refusal::InvalidRule(_)))
    ));
}

/// A delete of many keys is one cell, and is applied in steps: other keys are written meanwhile.
#[test]
fn a_rule_over_many_keys_leaves_one_cell() {
    let clock = ManualClock::at(1_000 * BUCKET);
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let replica = open(store, Durability::Interval, &clock);
    for number in 0..3_000u64 {
        let key = key(&format!("many/{number}"));
        drop(replica.put(key, cell(number, 1, Some(1))).expect("taken"));
    }
    settle(&replica);
    let delete = cell(5_000, 1, None);
    assert!(
        replica
            .write_rule(pattern("many/**"), delete)
            .expect("taken")
            .is_some()
    );
    let mut keys = 0;
    replica.for_each_key(|_, _| keys += 1);
    assert_eq!(keys, 0);
    drop(
        replica
            .put(key("many/1"), cell(6_000, 1, Some(2)))
            .expect("taken"),
    );
    settle(&replica);
    let snapshot = replica.snapshot().expect("sound");
    assert_eq!(snapshot.tree.len(), 2);
    drop(snapshot);
    let (store, mut rows) = (&replica.shared.store, 0);
    store.scan(&mut |_, _| rows += 1).expect("a scan");
    assert_eq!(rows, 2);
}
