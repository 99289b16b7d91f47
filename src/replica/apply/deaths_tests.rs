//! Deaths, with cells that come in any order, compared with a naive model.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::json;
use zenoh_keyexpr::OwnedKeyExpr;

use crate::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    config::Durability,
    merge::{Lifetimes, lifetimes::tests::lifetimes},
    replica::{BUCKET, Image, Lost, Now, SimulatedReplica, ideal},
    wildcard::rule_key,
};

const SETTLE: Duration = Duration::from_millis(500);

/// The time at which all begins, in buckets: a whole second.
const BEGIN: u64 = 8 * 1_000_000;

/// Buckets in which updates are stamped.
const STAMPED: u64 = 160;

fn short_and_long() -> Arc<Lifetimes> {
    Arc::new(lifetimes(json!({
        "s/*": "1s",
        "m/*": [{ "for": "6s" }, { "from": "1970-01-12T13:46:50Z", "for": "3s" }],
        "l/**": "1d",
    })))
}

fn now(buckets: u64) -> Now {
    Now {
        clock: (BEGIN + buckets) * BUCKET,
        monotonic: Duration::from_millis(125 * buckets),
    }
}

type Update = (CellKey, Cell);

fn any_update() -> impl Strategy<Value = Update> {
    let keys = ["s/1", "s/2", "m/1", "m/2", "l/1", "n/1"];
    let key = (0..keys.len()).prop_map(move |index| {
        let text = OwnedKeyExpr::try_from(keys[index]).expect("a key");
        Key::from(Some(text))
    });
    let value = |text: String| {
        Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: text.into(),
        })
    };
    let content = "[xy]".prop_map(value);
    let own = (key.clone(), prop::option::of(content.clone()));
    let own = own.prop_map(|(key, value)| (CellKey::own(key), value.unwrap_or(Content::Tombstone)));
    let part = (key, 1u8..4, content).prop_map(|(key, part, content)| {
        let part = [part][..].into();
        (CellKey { key, part }, content)
    });
    let rule = (0usize..3).prop_map(|index| {
        let pattern = ["s/*", "*/1", "**"][index];
        let pattern = OwnedKeyExpr::try_from(pattern).expect("a pattern");
        (rule_key(pattern, false), Content::Tombstone)
    });
    let cell = prop_oneof![5 => own, 4 => part, 1 => rule];
    (cell, 0..STAMPED * 4, 1u8..3).prop_map(|((key, content), quarter, id)| {
        let time = BEGIN * BUCKET + quarter * (BUCKET / 4) + 1;
        let timestamp = Timestamp { time, id: [id; 16] };
        (key, Cell { timestamp, content })
    })
}

/// What stays at a watermark of all updates with an earlier time: of each key and part the newest,
/// unless it is covered, or dead.
fn model(updates: &[Update], lifetimes: &Lifetimes, cut: u64) -> BTreeMap<CellKey, Version> {
    let mut newest = BTreeMap::<CellKey, Version>::new();
    for (key, cell) in updates.iter().filter(|(_, cell)| cell.timestamp.time < cut) {
        let version = Version::of(key, cell);
        let kept = newest.entry(key.clone()).or_insert(version);
        *kept = (*kept).max(version);
    }
    let is_gone = |key: &CellKey, version: &Version| {
        let own = newest.get(&CellKey::own(key.key.clone()));
        let by_own =
            !key.part.is_empty() && own.is_some_and(|own| own.timestamp >= version.timestamp);
        let by_rule = newest.iter().any(|(rule, deleted)| {
            let pattern = rule.key.as_key_expr().filter(|_| rule.key.is_pattern());
            pattern.is_some_and(|pattern| crate::wildcard::matches(pattern, &key.key))
                && deleted.timestamp >= version.timestamp
        });
        let lifetime = lifetimes.of(&key.key);
        let is_dead =
            lifetime.is_some_and(|lifetime| lifetime.leaves_at(version.timestamp.time) <= cut);
        (!key.key.is_pattern() && by_rule) || by_own || is_dead
    };
    let kept = newest
        .iter()
        .filter(|(key, version)| !is_gone(key, version));
    kept.map(|(key, version)| (key.clone(), *version)).collect()
}

fn cells_of(replica: &SimulatedReplica) -> BTreeMap<CellKey, Version> {
    let tree = replica.tree();
    let Ok(cells) = tree.iter();
    let cells = cells.map(|entry| {
        let Ok((key, held)) = entry;
        (key.clone(), held.version())
    });
    cells.collect()
}

fn rows_of(replica: &SimulatedReplica) -> BTreeMap<CellKey, Version> {
    let disk = replica.disk();
    let rows = disk.iter();
    rows.map(|(key, cell)| (key.clone(), Version::of(key, cell)))
        .collect()
}

fn open(image: Image, lifetimes: &Arc<Lifetimes>, now: Now) -> SimulatedReplica {
    SimulatedReplica::open(image, SETTLE, Durability::Always, ideal(), lifetimes, now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    // L1, L3, L5, L6: at each watermark the tree, its rows and its root are those of what has come and
    // is not dead, be it late, be it dead when it came, and whatever was crashed meanwhile.
    #[test]
    fn at_each_watermark_what_is_dead_is_gone_and_nothing_else(
        updates in prop::collection::vec((any_update(), 0u64..300), 0..60),
        crashes in prop::collection::vec(0u64..STAMPED + 200, 0..3),
    ) {
        let lifetimes = short_and_long();
        // Each comes when it was stamped, and to the one replica later.
        let mut arrivals: [BTreeMap<u64, Vec<Update>>; 2] = Default::default();
        for ((key, cell), late) in updates {
            let stamped = (cell.timestamp.time / BUCKET - BEGIN) + 1;
            arrivals[0].entry(stamped).or_default().push((key.clone(), cell.clone()));
            arrivals[1].entry(stamped + late).or_default().push((key, cell));
        }
        let mut replicas = [0, 1].map(|_| open(Image::default(), &lifetimes, now(0)));
        let mut came: [Vec<Update>; 2] = Default::default();
        for bucket in 0..STAMPED + 320 {
            for (index, replica) in replicas.iter_mut().enumerate() {
                replica.settle(now(bucket));
                for (key, cell) in arrivals[index].remove(&bucket).into_iter().flatten() {
                    came[index].push((key.clone(), cell.clone()));
                    replica.offer(key, cell);
                }
                replica.settle(now(bucket));
            }
            if crashes.contains(&bucket) {
                let [first, second] = replicas;
                let lost = second.most_lost();
                replicas = [first, open(second.crash(lost), &lifetimes, now(bucket))];
            }
            for (index, replica) in replicas.iter_mut().enumerate() {
                let snapshot = replica.snapshot().expect("sound");
                // Unless a crash has made it forget how late it was.
                let expected = model(&came[index], &lifetimes, snapshot.cut);
                let cells = cells_of(replica);
                if crashes.is_empty() || index == 0 {
                    prop_assert_eq!(&cells, &expected, "at {} of {}", bucket, index);
                } else {
                    let left = cells.iter().filter(|(key, _)| !expected.contains_key(*key));
                    for (key, version) in left {
                        let dead = lifetimes.dead(&key.key, snapshot.cut);
                        prop_assert!(dead >= Some(version.timestamp), "{key:?} at {bucket}");
                    }
                }
                if !replica.has_pending() {
                    prop_assert_eq!(&rows_of(replica), &cells);
                }
            }
            // A late update voids the roots of later cuts, and the replica may not have made the next one yet.
            let spans = [0, 1].map(|index| {
                let cut = replicas[index].snapshot().expect("sound").cut;
                replicas[index].roots().latest(cut)
            });
            if let [Some(first), Some(second)] = spans
                && first.from <= second.to && second.from <= first.to
                && came[0].len() == came[1].len() && crashes.is_empty() {
                prop_assert_eq!(first.root, second.root, "at {}", bucket);
            }
        }
        // All have come, and what may die has died: the clock never leapt.
        let end = now(STAMPED + 320);
        replicas[1].witness(end.clock, end.clock);
        for replica in &mut replicas {
            replica.settle(now(STAMPED + 320));
            let rebuilt = replica.rebuilt();
            prop_assert_eq!(rebuilt.root, replica.roots().published().root);
        }
        let roots = [0, 1].map(|index| replicas[index].roots().published().root);
        prop_assert_eq!(roots[0], roots[1]);
        let long = |key: &CellKey| lifetimes.of(&key.key).is_none_or(|lifetime| lifetime.death(0) > 60 << 32);
        prop_assert!(cells_of(&replicas[0]).keys().all(long));
    }
}

fn put(key: &str, millis: u64) -> Update {
    let key = CellKey::own(Some(OwnedKeyExpr::try_from(key).expect("a key")).into());
    let time = BEGIN * BUCKET + ((millis << 32) / 1000);
    let timestamp = Timestamp { time, id: [1; 16] };
    let content = Content::Value(Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: "x".into(),
    });
    (key, Cell { timestamp, content })
}

/// A time whose clock is so many buckets ahead of the monotonic one.
fn leapt(buckets: u64, ahead: u64) -> Now {
    Now {
        clock: now(buckets + ahead).clock,
        ..now(buckets)
    }
}

#[test]
fn a_clock_that_leaps_kills_nothing_before_another_confirms_it() {
    let lifetimes = short_and_long();
    let mut replica = open(Image::default(), &lifetimes, now(0));
    let (key, cell) = put("l/1", 500);
    replica.settle(now(8));
    replica.offer(key.clone(), cell);
    replica.settle(now(80));
    assert_eq!(cells_of(&replica).len(), 1);
    // Ten days ahead: the value is not shown any more, but it is there.
    let ten_days = 8 * 86_400 * 10;
    for bucket in 81..400 {
        replica.settle(leapt(bucket, ten_days));
        assert_eq!(cells_of(&replica).len(), 1, "at {bucket}");
    }
    // A peer with another time says nothing.
    replica.witness((BEGIN + 400) * BUCKET, leapt(400, ten_days).clock);
    replica.settle(leapt(400, ten_days));
    assert_eq!(cells_of(&replica).len(), 1);
    // The clock is set right again, and goes on as it should.
    replica.settle(now(401));
    replica.settle(now(800));
    assert_eq!(cells_of(&replica).len(), 1);
    // It was right: another says the same.
    replica.settle(leapt(801, ten_days));
    assert_eq!(cells_of(&replica).len(), 1);
    replica.witness(leapt(799, ten_days).clock, leapt(801, ten_days).clock);
    replica.settle(leapt(802, ten_days));
    assert_eq!(cells_of(&replica).len(), 0);
    assert_eq!(rows_of(&replica).len(), 0);
    assert_eq!(replica.counts().expired, 1);
}

#[test]
fn a_clock_that_nobody_confirms_is_followed_at_8_times_the_pace() {
    let lifetimes = short_and_long();
    let mut replica = open(Image::default(), &lifetimes, now(0));
    let (key, cell) = put("m/1", 500);
    replica.settle(now(8));
    replica.offer(key, cell);
    replica.settle(now(16));
    // 800 s ahead.
    let mut gone = 0;
    for bucket in 17..2_000 {
        replica.settle(leapt(bucket, 6_400));
        if gone == 0 && cells_of(&replica).is_empty() {
            gone = bucket;
        }
    }
    // It dies 6 s after it was stamped: at 52 by the monotonic clock, and from 17 on at 8 times its pace.
    assert!((19..40).contains(&gone), "{gone}");
}

#[test]
fn what_is_closed_for_long_dies_when_another_confirms_the_clock() {
    let lifetimes = short_and_long();
    let mut replica = open(Image::default(), &lifetimes, now(0));
    for (key, cell) in [put("s/1", 100), put("l/1", 100), put("n/1", 100)] {
        replica.offer(key, cell);
    }
    for bucket in 0..10 {
        replica.settle(now(bucket));
    }
    let image = replica.crash(Lost::default());
    let two_days = 8 * 86_400 * 2;
    let at = |bucket| leapt(bucket, two_days);
    let mut replica = open(image, &lifetimes, at(0));
    replica.settle(at(1));
    assert_eq!(cells_of(&replica).len(), 3, "nothing says how late it is");
    replica.witness(at(0).clock, at(1).clock);
    replica.settle(at(2));
    assert_eq!(cells_of(&replica).len(), 1);
    assert_eq!(rows_of(&replica), cells_of(&replica));
}

// A write may be stamped ahead of the clock, and a clock that leapt may have stamped one.
#[test]
fn one_cell_of_a_time_to_come_kills_nothing_at_a_restart() {
    let lifetimes = short_and_long();
    for ahead in [72, 8 * 86_400 * 365] {
        let mut replica = open(Image::default(), &lifetimes, now(0));
        for (key, cell) in [put("s/1", 100), put("l/1", 100)] {
            replica.offer(key, cell);
        }
        let (key, stray) = put("n/1", 100);
        let time = leapt(0, ahead).clock;
        let timestamp = Timestamp {
            time,
            ..stray.timestamp
        };
        replica.offer(key, Cell { timestamp, ..stray });
        for bucket in 0..10 {
            replica.settle(now(bucket));
        }
        let image = replica.crash(Lost::default());
        let mut replica = open(image, &lifetimes, now(11));
        replica.settle(now(12));
        assert_eq!(cells_of(&replica).len(), 3, "{ahead}");
        // And what is put then is taken, and dies in its time.
        let (key, cell) = put("s/2", 1_600);
        replica.offer(key, cell);
        replica.settle(now(20));
        let (key, _) = put("s/2", 0);
        assert!(cells_of(&replica).contains_key(&key), "{ahead}");
        for bucket in 21..600 {
            replica.settle(now(bucket));
        }
        assert_eq!(replica.counts().expired, 2, "{ahead}");
        assert_eq!(rows_of(&replica), cells_of(&replica));
    }
}

#[test]
fn many_deaths_go_in_steps_and_keys_that_are_put_again_stay() {
    let lifetimes = short_and_long();
    let mut replica = open(Image::default(), &lifetimes, now(0));
    for number in 0..1_000 {
        let (key, cell) = put(&format!("s/{number}"), 100);
        replica.offer(key, cell);
    }
    replica.settle(now(4));
    for number in 0..10 {
        let (key, cell) = put(&format!("s/{number}"), 900);
        replica.offer(key, cell);
    }
    for bucket in 5..8 {
        replica.settle(now(bucket));
        assert_eq!(cells_of(&replica).len(), if bucket < 5 { 0 } else { 1_000 });
    }
    // Watermarks are half a second behind: they are dead from 1.125 s on.
    replica.settle(now(12));
    assert_eq!(cells_of(&replica).len(), 1_000);
    replica.settle(now(13));
    assert_eq!(cells_of(&replica).len(), 10);
    replica.settle(now(20));
    assert_eq!(cells_of(&replica).len(), 0);
    assert_eq!(replica.counts().expired, 1_000);
    // What is dead when it comes is not taken.
    let (key, cell) = put("s/1", 950);
    assert!(!replica.offer(key.clone(), cell));
    assert_eq!(
        replica.newest(&key).map(|newest| newest.id),
        Some([255; 16])
    );
    replica.settle(now(30));
    assert_eq!(cells_of(&replica).len(), 0);
}
