//! Collection, with cells that come in any order, crashes and a clock that leaps, compared with a naive
//! model that collects nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use zenoh_keyexpr::OwnedKeyExpr;

use crate::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    config::Durability,
    replica::{BUCKET, Image, Medium, Now, SimulatedReplica, ideal},
    store::faulty,
    wildcard::{PUT_PART, matches, rule_key},
};

const SETTLE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(2);

/// The time at which all begins, in buckets.
const BEGIN: u64 = 8 * 1_000_000;

/// Buckets in which updates are stamped.
const STAMPED: u64 = 120;

/// When all has come, and is collected, if the clock does not leap.
const END: u64 = STAMPED + 260;

type Update = (CellKey, Cell);

fn now(buckets: u64, ahead: u64) -> Now {
    Now {
        clock: (BEGIN + buckets + ahead) * BUCKET,
        monotonic: Duration::from_millis(125 * buckets),
    }
}

fn any_update() -> impl Strategy<Value = Update> {
    let keys = ["a/1", "a/2", "b/1", "b/2"];
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
    let part = (key, 1u8..4, prop::option::of(content.clone()));
    let part = part.prop_map(|(key, part, value)| {
        let part = [part][..].into();
        (CellKey { key, part }, value.unwrap_or(Content::Tombstone))
    });
    let rule = (0usize..3, prop::option::weighted(0.3, content)).prop_map(|(index, value)| {
        let pattern = ["a/*", "*/1", "**"][index];
        let pattern = OwnedKeyExpr::try_from(pattern).expect("a pattern");
        let content = value.unwrap_or(Content::Tombstone);
        (rule_key(pattern, content != Content::Tombstone), content)
    });
    let cell = prop_oneof![5 => own, 3 => part, 2 => rule];
    (cell, 0..STAMPED * 4, 1u8..3).prop_map(|((key, content), quarter, id)| {
        let time = BEGIN * BUCKET + quarter * (BUCKET / 4) + 1;
        let timestamp = Timestamp { time, id: [id; 16] };
        (key, Cell { timestamp, content })
    })
}

/// What stays of all updates with a time below `cut`, if nothing is ever collected.
fn model(updates: &[Update], cut: u64) -> BTreeMap<CellKey, Version> {
    let mut newest = BTreeMap::<CellKey, Version>::new();
    for (key, cell) in updates.iter().filter(|(_, cell)| cell.timestamp.time < cut) {
        let version = Version::of(key, cell);
        let kept = newest.entry(key.clone()).or_insert(version);
        *kept = (*kept).max(version);
    }
    let is_covered = |key: &CellKey, version: &Version| {
        let own = newest.get(&CellKey::own(key.key.clone()));
        let by_own =
            !key.part.is_empty() && own.is_some_and(|own| own.timestamp >= version.timestamp);
        let by_rule = newest.iter().any(|(rule, deleted)| {
            let pattern = rule.key.as_key_expr().filter(|_| rule.key.is_pattern());
            let is_delete = rule.part.as_bytes() != PUT_PART;
            pattern.is_some_and(|pattern| is_delete && matches(pattern, &key.key))
                && deleted.timestamp >= version.timestamp
        });
        (!key.key.is_pattern() && by_rule) || by_own
    };
    let kept = newest
        .iter()
        .filter(|(key, version)| !is_covered(key, version));
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

fn open(image: Image, medium: Medium, now: Now) -> SimulatedReplica {
    let (always, none) = (Durability::Always, Arc::default());
    SimulatedReplica::open_collecting(image, SETTLE, always, medium, &none, Some(AFTER), now)
}

/// A tombstone of a key, or a delete rule.
fn is_collectable(key: &CellKey, version: &Version) -> bool {
    version.tombstone && key.part.is_empty()
}

/// What is there is what the model has, but for tombstones below the floor.
fn assert_as_if_nothing_was_collected(replica: &SimulatedReplica, came: &[Update]) {
    let snapshot = replica.snapshot().expect("sound");
    let (cells, floor) = (cells_of(replica), replica.floor());
    let expected = model(came, snapshot.cut);
    for (key, version) in &expected {
        let may_be_gone = is_collectable(key, version) && version.timestamp.time < floor;
        let held = cells.get(key);
        assert!(
            held == Some(version) || (held.is_none() && may_be_gone),
            "{key:?} is {held:?}, and was {version:?}; the floor is {floor}"
        );
    }
    for (key, version) in &cells {
        assert_eq!(expected.get(key), Some(version), "{key:?} came back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_comes_back_and_nothing_is_lost_and_tombstones_go(
        updates in prop::collection::vec((any_update(), 0u64..60), 0..60),
        crashes in prop::collection::vec((0..END, any::<bool>()), 0..5),
        leap in prop::option::of((0..STAMPED, 1u64..1000)),
    ) {
        let mut arrivals = BTreeMap::<u64, Vec<Update>>::new();
        for ((key, cell), late) in updates {
            let stamped = (cell.timestamp.time / BUCKET - BEGIN) + 1;
            arrivals.entry(stamped + late).or_default().push((key, cell));
        }
        let time = |bucket| match leap {
            Some((at, ahead)) if bucket >= at => now(bucket, ahead),
            _ => now(bucket, 0),
        };
        let mut replica = open(Image::default(), ideal(), time(0));
        let mut came = Vec::new();
        let mut floor = 0;
        for bucket in 0..END {
            replica.settle(time(bucket));
            for (key, cell) in arrivals.remove(&bucket).into_iter().flatten() {
                match cell.timestamp.time < replica.floor() {
                    true => prop_assert!(!replica.offer(key, cell)),
                    false => {
                        came.push((key.clone(), cell.clone()));
                        replica.offer(key, cell);
                    }
                }
            }
            replica.request_commit();
            replica.settle(time(bucket));
            if let Some((_, loses)) = crashes.iter().find(|(at, _)| *at == bucket) {
                let lost = match loses {
                    true => replica.most_lost(),
                    false => Default::default(),
                };
                replica = open(replica.crash(lost), ideal(), time(bucket));
            }
            prop_assert!(replica.floor() >= floor, "the floor never falls");
            floor = replica.floor();
            assert_as_if_nothing_was_collected(&replica, &came);
            if !replica.has_pending() {
                prop_assert_eq!(rows_of(&replica), cells_of(&replica));
            }
        }
        if leap.is_none() && crashes.is_empty() {
            let cells = cells_of(&replica);
            let left = cells.iter().find(|(key, version)| is_collectable(key, version));
            prop_assert_eq!(left, None);
            let had = model(&came, u64::MAX);
            let collected = had.iter().filter(|(key, version)| is_collectable(key, version));
            let counts = replica.counts();
            let counted = counts.collected_tombstones + counts.collected_rules;
            prop_assert!(counted >= collected.count() as u64);
            if came.iter().all(|(key, cell)| !is_collectable(key, &Version::of(key, cell))) {
                prop_assert_eq!(replica.floor(), 0, "where nothing is deleted all is taken");
            }
        }
        // After a crash in the end something may still be swept.
        for bucket in END..END + 20 {
            replica.settle(time(bucket));
        }
        prop_assert_eq!(replica.rebuilt().root, replica.roots().published().root);
    }

    /// Each write to the disk may fail, or be slow, and then the storage is opened again.
    #[test]
    fn a_crash_at_each_commit_leaves_what_can_be_finished(
        updates in prop::collection::vec(any_update(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut medium = || -> Medium {
            let mut random = StdRng::seed_from_u64(random.r#gen());
            Box::new(move || {
                let verdict = match random.gen_range(0..12) {
                    0 => faulty::Verdict::Lost,
                    1 => faulty::Verdict::Kept,
                    _ => faulty::Verdict::Done,
                };
                (Duration::from_millis(random.gen_range(0..200)), verdict)
            })
        };
        // All are committed before anything fails.
        let mut replica = open(Image::default(), ideal(), now(0, 0));
        replica.settle(now(STAMPED, 0));
        let mut came = Vec::new();
        for (key, cell) in updates {
            // The floor rises meanwhile.
            if cell.timestamp.time >= replica.floor() {
                came.push((key.clone(), cell.clone()));
            }
            replica.offer(key, cell);
        }
        replica.request_commit();
        for bucket in STAMPED..END {
            replica.settle(now(bucket, 0));
            if replica.has_failed() || bucket == STAMPED {
                let lost = replica.most_lost();
                replica = open(replica.crash(lost), medium(), now(bucket, 0));
            }
        }
        replica.mend_disk();
        if replica.has_failed() {
            let lost = replica.most_lost();
            replica = open(replica.crash(lost), ideal(), now(END, 0));
        }
        // Each life sees no more than what is stored, and the clock has gone on.
        for bucket in END..END + 200 {
            replica.settle(now(bucket, 0));
        }
        assert_as_if_nothing_was_collected(&replica, &came);
        prop_assert_eq!(rows_of(&replica), cells_of(&replica));
        let cells = cells_of(&replica);
        let left = cells.iter().find(|(key, version)| is_collectable(key, version));
        prop_assert_eq!(left, None);
    }
}
