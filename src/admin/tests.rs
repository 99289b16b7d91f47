//! What operators ask for, against what there is.

use std::{collections::BTreeMap, time::Instant};

use proptest::prelude::*;
use serde_json::json;

mod lives;

use super::*;
use crate::{
    backup::{BackupReader, RollbackFrame, verify},
    cell::{Cell, CellKey, Content, Part, Timestamp, Value, tests::key},
    config::{Durability, ScrubConfig},
    merge::{
        Form, MergeRules,
        lifetimes::tests::lifetimes,
        tests::{any_put, rules},
    },
    mst::RootHash,
    proof,
    replica::{Lookup, Options},
    store::{DurableStore, MemoryStore, Store},
    wildcard::WildcardRules,
};

const STRATEGIES: [&str; 5] = ["lww", "additive", "set_union", "object", "automerge_crdt"];
const DEADLINE: Duration = Duration::from_secs(20);

/// The system's clock, which is what timestamps of new writes are made of.
fn clock() -> Clock {
    Arc::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        crate::cell::ntp64_span(now.expect("after 1970"))
    })
}

fn all_rules() -> MergeRules {
    let keys = STRATEGIES
        .iter()
        .map(|name| (format!("demo/{name}/*"), json!(name)));
    let keys: serde_json::Map<_, _> = keys.collect();
    rules(json!({ "key_overrides": keys }))
}

fn administration(folder: Option<&Path>) -> Administration {
    administration_by(folder, all_rules())
}

fn administration_by(folder: Option<&Path>, rules: MergeRules) -> Administration {
    let store: Box<dyn Store> = match folder {
        Some(folder) => Box::new(DurableStore::open(folder, 4 << 20).expect("a store")),
        None => Box::new(MemoryStore),
    };
    let options = Options {
        durability: Durability::None,
        sync_every: Duration::from_millis(10),
        settle: Duration::from_millis(10),
        max_clock_drift: Duration::from_secs(10),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let rules = Arc::new(rules);
    let text = rules.text().to_owned();
    let replica = Replica::open("demo", store, options, rules, clock(), ()).expect("a replica");
    let config = ScrubConfig {
        enabled: true,
        interval: Duration::from_secs(3600),
    };
    let folder = folder.map(Into::into);
    let scrubbing = Scrubbing::open(config, Option::clone(&folder)).expect("a scrub");
    let subject = Subject {
        name: "demo".to_owned(),
        group: Group {
            key_expr: "demo/**".to_owned(),
            strip_prefix: Some("demo".to_owned()),
        },
        replica: Arc::new(replica),
        folder,
        rules: text,
        max_clock_drift: Duration::from_secs(10),
        clock: clock(),
        recovered: None,
    };
    Administration::new(subject, scrubbing)
}

fn settle(admin: &Administration) {
    admin.replica.sync().expect("synced");
    assert!(admin.replica.wait_until_settled(Instant::now() + DEADLINE));
}

type Put = (usize, u8, Option<Value>);

fn any_puts() -> impl Strategy<Value = Vec<Put>> {
    let put = (0..STRATEGIES.len(), 0u8..3).prop_flat_map(|(strategy, number)| {
        any_put(STRATEGIES[strategy]).prop_map(move |(_, value)| (strategy, number, value))
    });
    prop::collection::vec(put, 0..25)
}

fn put_key(strategy: usize, number: u8) -> Key {
    key(&format!("{}/{number}", STRATEGIES[strategy]))
}

/// As clients do: stamped now.
fn put(admin: &Administration, puts: &[Put]) {
    for (strategy, number, value) in puts {
        let content = value.clone().map_or(Content::Tombstone, Content::Value);
        let key = put_key(*strategy, *number);
        let timestamp = Timestamp {
            time: clock()(),
            id: [5; 16],
        };
        // What a strategy cannot take changes nothing.
        let _ = admin.replica.put(key, Cell { timestamp, content });
    }
}

/// All values, as JSON where that can be.
fn values(admin: &Administration) -> BTreeMap<Key, Value> {
    let mut keys = Vec::new();
    admin.replica.for_each_key(|key, _| keys.push(key.clone()));
    let values = keys.into_iter().filter_map(|key| {
        let cell = match admin.replica.get(&key, Form::Json) {
            Lookup::Absent => None,
            Lookup::Found(cell) => Some(cell),
            Lookup::Stored(stored) => admin.replica.read(&stored).expect("a read"),
        };
        Some((key, cell?.value()?.clone()))
    });
    values.collect()
}

fn backup(admin: &Administration) -> (Vec<u8>, Copied) {
    let mut bytes = Vec::new();
    let copied = admin
        .back_up("0", &mut bytes, &mut |_| true)
        .expect("a backup");
    (bytes, copied)
}

fn root(admin: &Administration) -> RootHash {
    admin.replica.snapshot().expect("sound").root()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_backup_restores_what_was_and_a_rollback_writes_it_anew(
        before in any_puts(),
        after in any_puts(),
        durable: bool,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let admin = administration(durable.then_some(folder.path()));
        put(&admin, &before);
        // Nothing has to be settled.
        let (bytes, copied) = backup(&admin);
        let header = verify(&bytes[..], &mut |_, _| ()).expect("a backup");
        prop_assert_eq!((header.root, header.cells, header.cut), (copied.root, copied.cells, copied.cut));
        let was = values(&admin);

        // Into an empty storage: the same root.
        let restored = administration(None);
        let mut reader = BackupReader::open(&bytes[..]).expect("a backup");
        let mut cells = 0;
        while let Some(frame) = reader.next_raw_frame().expect("a frame") {
            let done = restored.restore(&frame, &mut |_, _| ()).expect("restored");
            prop_assert_eq!(done.rejected, 0);
            cells += done.newest;
        }
        prop_assert_eq!(cells, copied.cells);
        settle(&restored);
        prop_assert_eq!(root(&restored), copied.root);
        prop_assert_eq!(values(&restored), was.clone());

        // Back to it, after other writes.
        put(&admin, &after);
        let mut done = RolledBack::default();
        let mut low = None;
        for frame in BackupReader::open(&bytes[..]).expect("a backup").rollback_frames(WildcardRules::default()) {
            let frame = frame.expect("a frame");
            prop_assert_eq!(&frame.low, &low);
            low = frame.high.clone();
            let sent = RollbackFrame::decode(&frame.encode(), 1 << 20).expect("a frame");
            prop_assert_eq!(&sent, &frame);
            done.add(admin.roll_back(sent, [6; 16], &mut |_, _| ()).expect("rolled back"));
        }
        prop_assert_eq!(low, None);
        prop_assert_eq!(values(&admin), was.clone());
        prop_assert_eq!((done.restored + done.kept) as usize, was.len());
        // It is by new writes, which another replica that has the others takes.
        settle(&admin);
        let other = administration(None);
        put(&other, &after);
        let (newer, _) = backup(&admin);
        let mut reader = BackupReader::open(&newer[..]).expect("a backup");
        while let Some(frame) = reader.next_raw_frame().expect("a frame") {
            admin.restore(&frame, &mut |_, _| ()).expect("restored");
        }
        prop_assert_eq!(values(&admin), was);
    }

    #[test]
    fn listings_are_of_what_is_settled_page_by_page(puts in any_puts(), limit in 1usize..5, deleted: bool) {
        let admin = administration(None);
        put(&admin, &puts);
        settle(&admin);
        let values = values(&admin);
        let mut listing = Listing { limit: Some(limit), deleted, bytes: true, ..Listing::default() };
        let mut listed = Vec::new();
        loop {
            let page = admin.list(&listing).expect("a page");
            prop_assert!(page.keys.len() <= limit);
            listed.extend(page.keys);
            listing.after = page.next;
            if listing.after.is_none() {
                break;
            }
        }
        let live = listed.iter().filter(|listed| !listed.deleted);
        let live: Vec<_> = live.map(|listed| listed.key.clone()).collect();
        let expected: Vec<_> = values.keys().map(|key| format!("demo/{key}")).collect();
        prop_assert_eq!(live, expected);
        prop_assert!(deleted || listed.iter().all(|listed| !listed.deleted));
        let mut bytes = std::collections::BTreeMap::<Key, u64>::new();
        let snapshot = admin.replica.snapshot().expect("sound");
        snapshot.for_each(|key, _, cell| {
            let cell = cell.expect("it is there");
            *bytes.entry(key.key.clone()).or_default() += (key.canonical_len() + cell.value_bytes()) as u64;
            true
        }).expect("a scan");
        for listed in &listed {
            let key = admin.stored_key(&listed.key).expect("a key");
            prop_assert_eq!(admin.replica.latest(&key), Some(listed.timestamp));
            prop_assert_eq!(listed.bytes, bytes.get(&key).copied());
        }
    }

    #[test]
    fn a_listing_by_prefix_is_the_part_of_all_that_begins_so(
        names in prop::collection::btree_set("[ab!0](/?[ab!0]){0,4}", 0..40),
        prefix in "(demo/|dem|demo|)[ab!0]{0,2}/?[ab!0]{0,2}",
        limit in 1usize..5,
    ) {
        let admin = administration(None);
        for name in &names {
            let timestamp = Timestamp { time: clock()(), id: [5; 16] };
            let value = Value { encoding_id: 0, schema: None, attachment: None, payload: vec![1].into() };
            admin.replica.put(key(name), Cell { timestamp, content: Content::Value(value) }).expect("put");
        }
        settle(&admin);
        let mut listing = Listing { limit: Some(limit), prefix: Some(prefix.clone()), ..Listing::default() };
        let mut listed = Vec::new();
        loop {
            let page = admin.list(&listing).expect("a page");
            listed.extend(page.keys.into_iter().map(|listed| listed.key));
            listing.after = page.next;
            if listing.after.is_none() {
                break;
            }
        }
        let all = names.iter().map(|name| format!("demo/{name}"));
        let mut expected: Vec<_> = all.filter(|key| key.starts_with(&prefix)).collect();
        expected.sort();
        prop_assert_eq!(listed, expected);
    }

    #[test]
    fn proofs_hold_while_writes_go_on(puts in any_puts()) {
        let admin = administration(None);
        for puts in puts.chunks(5) {
            put(&admin, puts);
            for strategy in 0..STRATEGIES.len() {
                let key = put_key(strategy, 1);
                let made = admin.prove(&key, None).expect("a proof");
                let proven = proof::verify(&made.proof, &made.root, &key).expect("it holds");
                prop_assert_eq!(proven.key, key);
            }
        }
        settle(&admin);
        let made = admin.prove(&key("k"), Some(&root(&admin))).expect("a proof");
        prop_assert_eq!(made.root, root(&admin));
        let other = admin.prove(&key("k"), Some(&RootHash([7; 32])));
        let is_refused = matches!(other, Err(AdminError::Root { .. }));
        prop_assert!(is_refused);
    }
}

#[test]
fn snapshots_have_names_and_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = administration(Some(folder.path()));
    let value = |text: &str| {
        Some(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: text.to_owned().into(),
        })
    };
    put(&admin, &[(0, 1, value("one")), (0, 2, value("two"))]);
    let create = |name| admin.create_snapshot(name, "0", &mut |_| true);
    let made = create("before").expect("a snapshot");
    assert_eq!(made.header.as_ref().map(|header| header.cells), Ok(2));
    assert!(matches!(
        create("before"),
        Err(AdminError::SnapshotExists(_))
    ));
    for name in ["", "..", ".x", "a/b", "a b", &"x".repeat(101)] {
        assert!(
            matches!(create(name), Err(AdminError::Parameter { .. })),
            "{name}"
        );
    }
    put(
        &admin,
        &[(0, 1, value("other")), (0, 2, None), (0, 0, value("new"))],
    );
    let back = |name| admin.roll_back_to(name, [6; 16], &mut |_, _| (), &mut |_, _| true);
    let done = back("before").expect("rolled back");
    let (restored, deleted, kept) = (done.restored, done.deleted, done.kept);
    assert_eq!((restored, deleted, kept), (2, 1, 0));
    let again = back("before").expect("rolled back");
    assert_eq!((again.restored, again.deleted, again.kept), (0, 0, 2));
    assert!(matches!(back("after"), Err(AdminError::NoSnapshot(_))));
    assert_eq!(admin.list_snapshots().expect("listed"), [made]);
    // What is damaged is not gone back to.
    let path = folder.path().join("snapshots/before.backup");
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    assert!(matches!(back("before"), Err(AdminError::Snapshot { .. })));
    std::fs::write(&path, b"nothing").expect("written");
    let listed = admin.list_snapshots().expect("listed");
    assert!(listed.len() == 1 && listed[0].header.is_err(), "{listed:?}");
    admin.delete_snapshot("before").expect("deleted");
    assert!(matches!(
        admin.delete_snapshot("before"),
        Err(AdminError::NoSnapshot(_))
    ));
    let memory = administration(None);
    let refused = memory.create_snapshot("before", "0", &mut |_| true);
    assert!(matches!(refused, Err(AdminError::NoFolder)));
}

#[test]
fn the_scrub_comes_to_its_end_across_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rounds = 0;
    let value = Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: "x".into(),
    };
    let admin = administration(Some(folder.path()));
    let puts: Vec<Put> = (0..150).map(|n| (0, n, Some(value.clone()))).collect();
    put(&admin, &puts);
    settle(&admin);
    let deadline = Instant::now() + DEADLINE;
    while admin.replica.published().cells < 150 {
        assert!(Instant::now() < deadline, "no root");
        std::thread::yield_now();
    }
    let reopen = |admin: Administration| {
        let Ok(replica) = Arc::try_unwrap(admin.replica) else {
            panic!("in use");
        };
        replica.close().expect("closed");
        administration(Some(folder.path()))
    };
    let mut admin = admin;
    while admin.scrubbing.state().completed.is_none() {
        admin.scrubbing.round(&admin.replica, 7).expect("a round");
        rounds += 1;
        if rounds % 20 == 0 {
            admin = reopen(admin);
        }
    }
    // An hour has sixty rounds, so a round has three cells.
    assert_eq!(rounds, 50);
    assert_eq!(admin.scrubbing.state().completed, Some(7));
    admin.scrubbing.pause(true).expect("paused");
    admin = reopen(admin);
    assert_eq!(admin.scrubbing.state().name(), "paused");
    admin.scrubbing.round(&admin.replica, 8).expect("a round");
    assert_eq!(admin.replica.counts().scrubbed, 0);
    let verified = admin.verify(&mut |_, _| true).expect("verified");
    assert_eq!((verified.checked, verified.damaged), (150, 0));
    assert_eq!(verified.tree, Ok(()));
}

#[test]
fn a_rollback_to_the_keys_of_another_storage_writes_nothing() {
    let mut admin = administration(None);
    admin.group.key_expr = "demo/*".to_owned();
    admin.admission = Admission::new(&admin.group, Duration::from_secs(10));
    let cell = |text: &str| {
        let timestamp = Timestamp {
            time: clock()(),
            id: [1; 16],
        };
        let content = Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: "value".into(),
        });
        (CellKey::own(key(text)), Cell { timestamp, content })
    };
    let frame = |texts: &[&str]| RollbackFrame {
        low: None,
        high: None,
        cells: texts.iter().map(|text| cell(text)).collect(),
    };
    let refused = admin.roll_back(frame(&["a", "b/c"]), [6; 16], &mut |_, _| ());
    let error = refused.expect_err("refused").to_string();
    assert!(
        error.contains("'b/c'") && error.contains("'demo/*'"),
        "{error}"
    );
    assert_eq!(admin.replica.keys_hint(), 0);
    let done = admin
        .roll_back(frame(&["a"]), [6; 16], &mut |_, _| ())
        .expect("done");
    assert_eq!(done.restored, 1);
}

/// A store may have got them before they were refused. Whatever is done with it, on the
/// stack of a worker, none takes the router down, nor hides the cells beside it.
#[test]
fn a_store_with_cells_that_nest_too_deep_is_used_and_a_backup_of_it_restored_without_them() {
    let run = || {
        let folder = tempfile::tempdir().expect("a folder");
        let mut admin = administration(Some(folder.path()));
        let text = |text: &str| Value {
            encoding_id: 5,
            schema: None,
            attachment: None,
            payload: text.to_owned().into(),
        };
        let object = 3;
        put(&admin, &[(object, 1, Some(text(r#"{"a":1}"#)))]);
        let deep = [
            &[3, 0, 1].repeat(19_000)[..],
            &[3, b'x', 0, 1].repeat(14_000),
        ];
        for part in deep {
            let content = Content::Value(text("7"));
            let timestamp = Timestamp {
                time: clock()(),
                id: [7; 16],
            };
            let (key, part) = (put_key(object, 1), Part::from(part));
            let joined = admin
                .replica
                .merge(CellKey { key, part }, Cell { timestamp, content });
            assert!(joined.expect("joined").is_newest);
        }
        settle(&admin);
        let was = values(&admin);
        let shown: serde_json::Value =
            serde_json::from_slice(&was[&put_key(object, 1)].payload).expect("JSON");
        assert_eq!(shown["a"], json!(1));

        // Opened again.
        let before = root(&admin);
        let Ok(replica) = Arc::try_unwrap(admin.replica) else {
            panic!("in use");
        };
        replica.close().expect("closed");
        admin = administration(Some(folder.path()));
        assert_eq!((root(&admin), values(&admin)), (before, was.clone()));
        let key = put_key(object, 1);
        let cells = admin.cells(&key).expect("readable").expect("cells");
        let cells: serde_json::Value =
            serde_json::from_slice(&cells.value().expect("a value").payload).expect("JSON");
        assert_eq!(cells.as_array().map(Vec::len), Some(4));
        let listed = admin.list(&Listing::default()).expect("a page").keys;
        assert_eq!(listed.iter().map(|listed| listed.cells).sum::<usize>(), 4);
        let made = admin.prove(&key, None).expect("a proof");
        let proven = proof::verify(&made.proof, &made.root, &key).expect("it holds");
        assert_eq!(proven.cells.len(), 4);
        let verified = admin.verify(&mut |_, _| true).expect("verified");
        assert_eq!((verified.checked, verified.damaged), (4, 0));

        // A backup has all that there is; restoring takes what may be.
        let (bytes, copied) = backup(&admin);
        assert_eq!(copied.cells, 4);
        let restored = administration(None);
        let mut reader = BackupReader::open(&bytes[..]).expect("a backup");
        let (mut newest, mut rejected) = (0, 0);
        while let Some(frame) = reader.next_raw_frame().expect("a frame") {
            let done = restored.restore(&frame, &mut |_, _| ()).expect("restored");
            (newest, rejected) = (newest + done.newest, rejected + done.rejected);
        }
        assert_eq!((newest, rejected), (2, 2));
        let restored = values(&restored);
        assert_eq!(restored[&key].payload, r#"{"a":1}"#);

        // A rollback reads the cells of the backup as a get does.
        put(&admin, &[(object, 1, Some(text(r#"{"a":2,"":null}"#)))]);
        assert_ne!(values(&admin), was);
        let frames = BackupReader::open(&bytes[..]).expect("a backup");
        for frame in frames.rollback_frames(WildcardRules::default()) {
            let frame = frame.expect("a frame");
            admin
                .roll_back(frame, [6; 16], &mut |_, _| ())
                .expect("rolled back");
        }
        assert_eq!(values(&admin), was);
    };
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    worker.expect("a thread").join().expect("no panic");
}

// L6: what a rollback writes anew lives for what was left of its life.
#[test]
fn a_rollback_gives_back_what_was_left_of_a_life() {
    let rules = MergeRules::lww();
    let rules = rules
        .with_lifetimes(lifetimes(json!({ "short/*": "60s" })))
        .expect("valid");
    let admin = administration_by(None, rules);
    let now = clock()();
    let put = |text: &str, ago: u64, schema: Option<&str>| {
        let timestamp = Timestamp {
            time: now - (ago << 32),
            id: [5; 16],
        };
        let value = Value {
            encoding_id: 4,
            schema: schema.map(|schema| schema.as_bytes().into()),
            attachment: None,
            payload: "here".into(),
        };
        admin
            .replica
            .put(
                key(text),
                Cell {
                    timestamp,
                    content: Content::Value(value),
                },
            )
            .expect("put");
    };
    put("short/half", 30, Some("utf-8"));
    put("short/kept", 30, None);
    put("long/ttl", 30, Some("ttl=90s"));
    put("long/hidden", 30, Some("ttl=20s"));
    put("long/plain", 30, None);
    let (bytes, _) = backup(&admin);
    for text in ["short/half", "long/ttl", "long/hidden", "long/plain"] {
        let cell = Cell::tombstone(Timestamp {
            time: clock()(),
            id: [5; 16],
        });
        admin.replica.put(key(text), cell).expect("deleted");
    }
    let back = || {
        let mut done = RolledBack::default();
        for frame in BackupReader::open(&bytes[..])
            .expect("a backup")
            .rollback_frames(WildcardRules::default())
        {
            let frame = frame.expect("a frame");
            done.add(
                admin
                    .roll_back(frame, [6; 16], &mut |_, _| ())
                    .expect("rolled back"),
            );
        }
        done
    };
    assert_eq!(
        back(),
        RolledBack {
            restored: 3,
            deleted: 0,
            kept: 1,
            dead: 1
        }
    );
    let values = values(&admin);
    let schema = |text: &str| {
        let schema = values[&key(text)].schema.as_deref();
        schema.map(|schema| String::from_utf8(schema.into()).expect("text"))
    };
    let left = |text: &str, most: u64| {
        let schema = schema(text).expect("it says for how long");
        let (_, ttl) = schema.split_once("ttl=").expect("it says for how long");
        let left: u64 = ttl
            .strip_suffix("ms")
            .expect("a time")
            .parse()
            .expect("a number");
        assert!(left <= most && left > most - 20_000, "{text}: {left}");
    };
    left("short/half", 30_000);
    assert!(
        schema("short/half")
            .expect("it has one")
            .starts_with("utf-8;")
    );
    left("long/ttl", 60_000);
    assert_eq!((schema("short/kept"), schema("long/plain")), (None, None));
    assert_eq!(values.len(), 4);
    // Once more it is as it was: where a key has a lifetime, that it says so makes no difference.
    let again = back();
    assert_eq!((again.deleted, again.restored), (0, 1));
}
