//! Damage on the disk, and checkpoints while writes go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
};

use bytes::Bytes;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{CACHE, DEADLINE, ManualClock, open_with, options, settle};
use crate::replica::*;
use crate::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version, tests::key},
    merge::Form,
    store::{
        CellStore as _, DurableStore, MemoryStore, QuarantineStore as _, RowBatch, StoreError,
        Write,
        faulty::{FaultyStore, Verdict},
        model::ModelStore,
        recover,
    },
};

/// The time at which all of it begins.
const START: u64 = 1 << 40;

fn open(store: impl Store + 'static, clock: &ManualClock) -> Replica {
    let rules = Arc::new(MergeRules::lww());
    open_with(Box::new(store), Durability::None, rules, clock)
}

fn advance(clock: &ManualClock, by: u64) {
    clock.set(clock.clock()() + by);
}

/// Has all settle that has been written.
fn settle_all(replica: &Replica, clock: &ManualClock) {
    advance(clock, 1 << 34);
    replica.sync().expect("synced");
    settle(replica);
}

fn cell(time: u64, payload: Option<Vec<u8>>) -> Cell {
    let id = [7; 16];
    Cell {
        timestamp: Timestamp { time, id },
        content: payload.map_or(Content::Tombstone, |payload| {
            Content::Value(Value {
                encoding_id: 1,
                schema: None,
                attachment: None,
                payload: Bytes::from(payload),
            })
        }),
    }
}

fn numbered(number: usize) -> CellKey {
    CellKey::own(key(&format!("fleet/robot/{number:05}")))
}

/// What a get shows: a value, nothing, or an error.
fn get(replica: &Replica, key: &Key) -> Result<Option<Arc<Cell>>, GetError> {
    match replica.get(key, Form::Native) {
        Lookup::Absent => Ok(None),
        Lookup::Found(cell) => Ok(Some(cell)),
        Lookup::Stored(stored) => replica.read(&stored),
    }
}

/// Waits until the thread has done all that it was asked for.
fn wait_for_thread(replica: &Replica) {
    let (sender, done) = std::sync::mpsc::sync_channel(1);
    replica
        .shared
        .state
        .queue
        .request(write::request::Request::Answer(sender));
    // Nothing, if it has failed.
    let _ = done.recv();
}

/// A store that loses one cell while nobody looks.
fn open_with_lost(clock: &ManualClock, lost: usize) -> Replica {
    let replica = open(ModelStore::default(), clock);
    for number in 0..50 {
        let payload = (number % 5 != 0).then(|| vec![number as u8; 4]);
        let written = replica.put(numbered(number).key, cell(number as u64 + 1, payload));
        assert!(written.expect("written").is_newest);
    }
    settle_all(&replica, clock);
    let rows = RowBatch {
        removes: vec![(numbered(lost), false)],
        ..RowBatch::default()
    };
    replica.shared.store.apply(&rows).expect("removed");
    replica
}

#[test]
fn a_lost_value_goes_into_quarantine_and_comes_back() {
    let clock = ManualClock::at(START);
    let replica = open_with_lost(&clock, 7);
    let whole = replica.snapshot().expect("sound");
    let scrubbed = replica.scrub(None, 1000).expect("readable");
    assert_eq!((scrubbed.checked, scrubbed.next), (50, None));
    let damaged: Vec<_> = scrubbed.damaged.iter().map(|d| d.key.clone()).collect();
    assert_eq!(damaged, [numbered(7)]);
    wait_for_thread(&replica);
    assert_eq!(replica.quarantined_cells(), 1);
    let error = get(&replica, &numbered(7).key).expect_err("not a value, and not nothing");
    assert!(matches!(error, GetError::Quarantined { .. }), "{error}");
    let snapshot = replica.snapshot().expect("sound");
    assert_eq!(snapshot.tree.len(), 49);
    assert_ne!(
        snapshot.root(),
        whole.root(),
        "what is lost is not vouched for"
    );
    assert_eq!(snapshot.tree.check(), Ok(Ok(())));
    // As another replica sends it.
    let sent = cell(8, Some(vec![7; 4]));
    assert!(
        replica
            .merge(numbered(7), sent.clone())
            .expect("joined")
            .is_newest
    );
    settle_all(&replica, &clock);
    let read = get(&replica, &numbered(7).key).expect("readable");
    assert_eq!(read.as_deref(), Some(&sent));
    assert_eq!(replica.quarantined_cells(), 0);
    assert_eq!(replica.snapshot().expect("sound").root(), whole.root());
    let counts = replica.counts();
    assert_eq!((counts.damaged, counts.repaired), (1, 1));
    assert_eq!(replica.shared.state.applied().publish().keys, 40);
}

/// As if a bit had changed in memory after the cell was hashed.
/// Rows are written after the tree.
#[test]
fn a_cell_whose_row_is_being_written_is_not_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let (begin, begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    // The first write is that of the log, the second that of the row.
    let store = FaultyStore::new(store, move |write| {
        if write == 1 {
            begin.send(()).expect("awaited");
            may_go_on.lock().expect("no panic").recv().expect("told");
        }
        Verdict::Done
    });
    let clock = ManualClock::at(START);
    let replica = open(store, &clock);
    let put = replica.put(numbered(1).key, cell(START, Some(vec![1])));
    put.expect("taken");
    replica.sync().expect("synced");
    advance(&clock, 1 << 34);
    replica.sync().expect("synced");
    begun.recv_timeout(DEADLINE).expect("the row is written");
    let scrubbed = replica.scrub(None, 10).expect("readable");
    go_on.send(()).expect("awaited");
    assert_eq!(scrubbed.checked, 1);
    assert!(scrubbed.damaged.is_empty(), "{:?}", scrubbed.damaged);
    settle(&replica);
    let scrubbed = replica.scrub(None, 10).expect("readable");
    assert!(scrubbed.damaged.is_empty(), "{:?}", scrubbed.damaged);
    replica.close().expect("closed");
}

#[test]
fn a_value_that_is_damaged_in_memory_is_found_and_replaced() {
    let clock = ManualClock::at(START);
    let replica = open(MemoryStore, &clock);
    let key = numbered(1);
    let damaged = cell(5, Some(vec![1]));
    let version = Version::of(&key, &cell(5, Some(vec![0])));
    let merged = replica.merge_hashed(key.clone(), damaged, version);
    assert!(merged.expect("taken").is_newest);
    settle_all(&replica, &clock);
    let scrubbed = replica.scrub(None, 10).expect("readable");
    assert_eq!(scrubbed.damaged.len(), 1);
    wait_for_thread(&replica);
    assert_eq!(replica.quarantined_cells(), 1);
    assert_eq!(replica.current_tree().len(), 0);
    let error = get(&replica, &key.key).expect_err("not a value, and not nothing");
    assert!(matches!(error, GetError::Quarantined { .. }), "{error}");
    replica
        .merge(key.clone(), cell(5, Some(vec![0])))
        .expect("taken");
    settle_all(&replica, &clock);
    assert_eq!(replica.quarantined_cells(), 0);
    let read = get(&replica, &key.key).expect("readable");
    assert_eq!(read.as_deref(), Some(&cell(5, Some(vec![0]))));
    let counts = replica.counts();
    assert_eq!((counts.damaged, counts.repaired), (1, 1));
}

#[test]
fn a_lost_tombstone_is_written_anew() {
    let clock = ManualClock::at(START);
    let replica = open_with_lost(&clock, 10);
    let whole = replica.snapshot().expect("sound");
    let scrubbed = replica.scrub(None, 1000).expect("readable");
    assert_eq!(scrubbed.damaged.len(), 1);
    wait_for_thread(&replica);
    assert_eq!(replica.quarantined_cells(), 0);
    assert_eq!(replica.snapshot().expect("sound").root(), whole.root());
    let version = whole
        .tree
        .get(&numbered(10))
        .expect("no error")
        .expect("there");
    let (_, found) = replica
        .shared
        .store
        .view()
        .read(&numbered(10))
        .expect("readable")
        .expect("there");
    assert_eq!(found, version.version());
    assert!(
        replica
            .scrub(None, 1000)
            .expect("readable")
            .damaged
            .is_empty()
    );
}

#[test]
fn a_read_that_finds_damage_has_it_mended() {
    let clock = ManualClock::at(START);
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let replica = open(store, &clock);
    replica
        .put(key("a"), cell(1, Some(vec![1])))
        .expect("written");
    settle_all(&replica, &clock);
    replica.close().expect("closed");
    // The row of another cell, as if a block had been written to the wrong place.
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let (a, b) = (CellKey::own(key("a")), CellKey::own(key("b")));
    let (of_b, of_a) = (cell(2, Some(vec![2])), cell(1, Some(vec![1])));
    let misplaced = Write {
        key: a.clone(),
        cell: Arc::new(of_b.clone()),
        version: Version::of(&b, &of_b),
    };
    store.apply(&vec![misplaced].into()).expect("written");
    drop(store);
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let replica = open(store, &clock);
    let error = get(&replica, &a.key).expect_err("damaged");
    assert!(
        matches!(error, GetError::Store(StoreError::Digest { .. })),
        "{error}"
    );
    wait_for_thread(&replica);
    assert_eq!(replica.quarantined().len(), 1);
    replica.close().expect("closed");
    // It is remembered.
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let replica = open(store, &clock);
    assert_eq!(replica.quarantined().len(), 1);
    assert!(get(&replica, &a.key).is_err());
    // What is older than what was lost does not replace it; what is not, does.
    replica.merge(a.clone(), of_a).expect("joined");
    settle_all(&replica, &clock);
    assert_eq!(replica.quarantined_cells(), 1);
    replica.put(a.key.clone(), cell(3, None)).expect("written");
    settle_all(&replica, &clock);
    assert_eq!(replica.quarantined_cells(), 0);
    assert!(get(&replica, &a.key).expect("readable").is_none());
}

#[test]
fn what_was_replaced_just_before_a_crash_leaves_the_quarantine_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::at(START);
    let open_store = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let row = |time| {
        let cell = cell(time, Some(vec![1]));
        Write {
            version: Version::of(&numbered(1), &cell),
            key: numbered(1),
            cell: Arc::new(cell),
        }
    };
    let store = open_store();
    store.apply(&vec![row(1)].into()).expect("written");
    store
        .quarantine(&numbered(1), &row(1).version)
        .expect("in quarantine");
    store.apply(&vec![row(2)].into()).expect("written");
    assert_eq!(store.quarantined().expect("read").len(), 1);
    drop(store);
    let replica = open(open_store(), &clock);
    assert_eq!(replica.quarantined_cells(), 0);
    replica.close().expect("closed");
    assert_eq!(open_store().quarantined().expect("read"), []);
}

/// A tree at a cut, made of all writes below it.
fn tree_at(writes: &[(CellKey, Cell)], cut: u64) -> BTreeMap<CellKey, (Version, Cell)> {
    let mut tree: BTreeMap<CellKey, (Version, Cell)> = BTreeMap::new();
    for (key, cell) in writes.iter().filter(|(_, cell)| cell.timestamp.time < cut) {
        let version = Version::of(key, cell);
        if tree.get(key).is_none_or(|(old, _)| *old < version) {
            tree.insert(key.clone(), (version, cell.clone()));
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn checkpoints_have_all_of_their_cut_while_writes_go_on(seed in any::<u64>(), durable in any::<bool>()) {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = ManualClock::at(START);
        let folder = tempfile::tempdir().expect("a folder");
        let store: Box<dyn Store> = match durable {
            true => Box::new(DurableStore::open(folder.path(), CACHE).expect("a store")),
            false => Box::new(MemoryStore),
        };
        let rules = Arc::new(MergeRules::lww());
        let replica = Arc::new(open_with(store, Durability::None, rules, &clock));
        let mut writes = Vec::new();
        let write = |random: &mut StdRng, writes: &mut Vec<(CellKey, Cell)>| {
            let time = clock.clock()() - random.gen_range(0..3 * BUCKET) + random.gen_range(0..BUCKET);
            let length = [3, 40, 3000][random.gen_range(0..3usize)];
            let payload = random.gen_bool(0.8).then(|| vec![random.r#gen(); length]);
            let (key, cell) = (numbered(random.gen_range(0..12)), cell(time, payload));
            if random.gen_bool(0.1) {
                replica.sync().expect("synced");
            }
            replica.put(key.key.clone(), cell.clone()).expect("written");
            writes.push((key, cell));
        };
        for _ in 0..random.gen_range(0..30) {
            write(&mut random, &mut writes);
        }
        let making = {
            let replica = Arc::clone(&replica);
            std::thread::spawn(move || replica.checkpoint().expect("a checkpoint"))
        };
        for _ in 0..random.gen_range(0..30) {
            write(&mut random, &mut writes);
            advance(&clock, BUCKET / 8);
        }
        while !making.is_finished() {
            advance(&clock, BUCKET / 4);
            replica.sync().expect("synced");
            std::thread::yield_now();
        }
        let checkpoint = making.join().expect("no panic");
        // What is written now is not seen.
        for _ in 0..10 {
            write(&mut random, &mut writes);
        }
        replica.sync().expect("synced");
        let cut = checkpoint.cut;
        let mut shown = Vec::new();
        checkpoint.for_each(|key, version, cell| {
            let cell = cell.expect("nothing is damaged");
            assert_eq!(Version::of(key, &cell), *version);
            let read = checkpoint.read(key, version).expect("readable");
            assert_eq!(read.as_ref(), Some(&cell));
            shown.push((key.clone(), (*version, Cell::clone(&cell))));
            true
        }).expect("readable");
        // Late writes, which came with a time below the cut, may be in it or not:
        // it is exactly what the tree has.
        let Ok(tree) = checkpoint.tree.iter();
        let tree: Vec<_> = tree.map(|entry| { let Ok((key, held)) = entry; (key.clone(), held.version()) }).collect();
        let versions: Vec<_> = shown.iter().map(|(key, (version, _))| (key.clone(), *version)).collect();
        prop_assert_eq!(versions, tree);
        for (key, (version, cell)) in tree_at(&writes, cut) {
            let found = shown.iter().find(|(other, _)| *other == key);
            let (found, _) = &found.expect("all keys of the cut").1;
            prop_assert!(*found <= version, "nothing that nobody wrote: {:?}", cell);
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.append(&mut files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("inside"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::copy(&file, target).expect("copied");
    }
}

const BLOCK: usize = 4096;

/// Damages one of the files: a bit, a block of zeros, or two blocks swapped.
fn damage(folder: &Path, random: &mut StdRng) -> String {
    let files: Vec<_> = files(folder)
        .into_iter()
        .filter(|file| fs::metadata(file).expect("a file").len() > 0)
        .collect();
    // In proportion to their size, as a disk would.
    let sizes = files
        .iter()
        .map(|file| fs::metadata(file).expect("a file").len());
    let mut at = random.gen_range(0..sizes.clone().sum::<u64>());
    let mut chosen = 0;
    for (index, size) in sizes.enumerate() {
        if at < size {
            chosen = index;
            break;
        }
        at -= size;
    }
    // But the small ones too, on which all depends.
    if random.gen_bool(0.2) {
        chosen = random.gen_range(0..files.len());
    }
    let file = &files[chosen];
    let sound = fs::read(file).expect("read");
    let mut bytes = sound.clone();
    let at = random.gen_range(0..bytes.len());
    let block = |at: usize, len: usize| (at / BLOCK * BLOCK)..(at / BLOCK * BLOCK + BLOCK).min(len);
    let kind = random.gen_range(0..3);
    match kind {
        0 => bytes[at] ^= 1 << random.gen_range(0..8),
        1 => {
            let len = bytes.len();
            bytes[block(at, len)].fill(0);
        }
        _ => {
            let len = bytes.len();
            let (a, b) = (block(at, len), block(random.gen_range(0..len), len));
            let (a, b) = (a.start.min(b.start), a.start.max(b.start));
            for offset in 0..BLOCK.min(len - b) {
                bytes.swap(a + offset, b + offset);
            }
        }
    }
    if bytes == sound {
        // There were zeros, or one block was to be swapped with itself.
        return damage(folder, random);
    }
    fs::write(file, bytes).expect("written");
    format!("damage of kind {kind} at {at} of {}", file.display())
}

/// A closed store of some thousand cells, in several files.
fn sound_store(folder: &Path, clock: &ManualClock) -> BTreeMap<CellKey, Cell> {
    let store = DurableStore::open(folder, CACHE).expect("a store");
    let replica = open(store, clock);
    let mut random = StdRng::seed_from_u64(5);
    let mut model = BTreeMap::new();
    for round in 0..3 {
        for _ in 0..500 {
            let key = numbered(random.gen_range(0..900));
            let length = if random.gen_bool(0.02) {
                3000
            } else {
                random.gen_range(0..90)
            };
            let payload = random
                .gen_bool(0.9)
                .then(|| (0..length).map(|_| random.r#gen()).collect());
            let written = cell(clock.clock()() + model.len() as u64, payload);
            advance(clock, 1);
            if replica
                .put(key.key.clone(), written.clone())
                .expect("written")
                .is_newest
            {
                model.insert(key, written);
            }
        }
        settle_all(&replica, clock);
        if round < 2 {
            replica.shared.store.flush().expect("flushed");
        }
    }
    replica.close().expect("closed");
    model
}

/// Opens a store that may be damaged; nothing if it cannot be.
fn open_damaged(folder: &Path, clock: &ManualClock) -> Option<Replica> {
    // The engine is not ours, and some of its checks are assertions.
    let open = || {
        let store = DurableStore::open(folder, CACHE)?;
        Replica::open_tuned(
            "damaged",
            Box::new(store),
            options(Durability::None),
            Arc::new(MergeRules::lww()),
            clock.clock(),
            (),
            Tuning::small(),
        )
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
        .ok()?
        .ok()
}

#[test]
fn damage_on_the_disk_is_never_served_and_is_healed() {
    let rounds = std::env::var("MST_DAMAGES")
        .ok()
        .and_then(|n| n.parse().ok());
    let clock = ManualClock::at(START);
    let sound = tempfile::tempdir().expect("a folder");
    let model = sound_store(sound.path(), &clock);
    let store = DurableStore::open(sound.path(), CACHE).expect("a store");
    let healthy = open(store, &clock);
    let root = healthy.snapshot().expect("sound").root();
    healthy.close().expect("closed");
    let mut seen = BTreeMap::<&str, usize>::new();
    for seed in 0..rounds.unwrap_or(1000) {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("store");
        copy(sound.path(), &dir);
        let told = damage(&dir, &mut random);
        let (replica, outcome) = match open_damaged(&dir, &clock) {
            Some(replica) => (replica, "opened"),
            None => {
                let recovered = recover(&dir, CACHE);
                // Its files may say that they are of another version of the engine: then nobody knows
                // what is in them, and nothing is moved.
                if recovered.as_ref().is_err_and(|error| !error.is_damage()) {
                    assert!(dir.join("FORMAT").exists(), "seed {seed}: {told}");
                    *seen.entry("refused").or_default() += 1;
                    continue;
                }
                let (store, recovered) = recovered.expect("recovered");
                assert!(recovered.aside.exists());
                let outcome = match recovered.saved.cells as usize == model.len() {
                    true => "saved",
                    false if recovered.saved.cells > 0 => "saved in part",
                    false => "lost",
                };
                (open(store, &clock), outcome)
            }
        };
        *seen.entry(outcome).or_default() += 1;
        // What another replica would be sent, before anything is mended: that, or
        // nothing. Gets, which have what is damaged mended on the thread, come after that.
        let mut missing = BTreeSet::new();
        let snapshot = replica.snapshot().expect("sound");
        let Ok(cells) = snapshot.tree.iter();
        for entry in cells {
            let Ok((key, version)) = entry;
            match snapshot.read(key, &version.version()).expect("readable") {
                Some(cell) => assert_eq!(*cell, model[key], "seed {seed}: {told}"),
                None => {
                    *seen.entry("damaged cells not sent").or_default() += 1;
                    missing.insert(key.clone());
                }
            }
        }
        for (key, expected) in &model {
            // What was lost with a whole store is not there; all else is what was
            // written, or an error.
            match get(&replica, &key.key) {
                Ok(Some(found)) => assert_eq!(*found, *expected, "seed {seed}: {told}"),
                Ok(None) if outcome == "opened" => {
                    assert!(expected.value().is_none(), "seed {seed}: {told}: {key:?}");
                }
                Ok(None) | Err(_) => {}
            }
        }
        let mut after = None;
        loop {
            let scrubbed = replica.scrub(after.as_ref(), 100).expect("readable");
            after = scrubbed.next;
            if after.is_none() {
                break;
            }
        }
        wait_for_thread(&replica);
        // What was not sent is what is to be sent again.
        let quarantined = replica.quarantined().into_iter().map(|(key, _)| key);
        let quarantined: BTreeSet<_> = quarantined.collect();
        assert!(missing.is_subset(&quarantined), "seed {seed}: {told}");
        // What it still vouches for it has.
        let snapshot = replica.snapshot().expect("sound");
        let Ok(cells) = snapshot.tree.iter();
        for entry in cells {
            let Ok((key, version)) = entry;
            let kept = snapshot.read(key, &version.version()).expect("readable");
            assert!(
                kept.is_some_and(|cell| *cell == model[key]),
                "seed {seed}: {told}"
            );
        }
        // As a pull does: what differs is sent, and joined.
        let whole: BTreeMap<_, _> = model
            .iter()
            .map(|(key, cell)| (key, Version::of(key, cell)))
            .collect();
        for (key, cell) in &model {
            let Ok(own) = snapshot.tree.get(key);
            if own.map(TreeEntry::version) != Some(whole[key]) {
                *seen.entry("cells sent again").or_default() += 1;
                replica.merge(key.clone(), cell.clone()).expect("joined");
            }
        }
        settle_all(&replica, &clock);
        assert_eq!(
            replica.snapshot().expect("sound").root(),
            root,
            "seed {seed}: {told}"
        );
        assert_eq!(replica.quarantined_cells(), 0);
        for (key, expected) in &model {
            let found = get(&replica, &key.key).expect("readable");
            let expected = Some(expected).filter(|cell| cell.value().is_some());
            assert_eq!(found.as_deref(), expected, "seed {seed}: {told}");
        }
        // Before its folder is gone; that the engine knows of the damage is no matter.
        let _ = replica.close();
    }
    println!("{seen:?}");
    if rounds.is_none() {
        // All ways in which it can end are among them, and often.
        for (what, least) in [
            ("opened", 300),
            ("saved in part", 30),
            ("damaged cells not sent", 30),
            ("cells sent again", 1000),
        ] {
            let times = seen.get(what).copied().unwrap_or_default();
            assert!(times >= least, "{what}: {times} of 1,000");
        }
    }
}

/// The values of a store whose blocks the engine reads when they are asked for, as it can keep few of
/// them.
fn store_of_many_blocks(folder: &Path, clock: &ManualClock) -> (Replica, BTreeMap<CellKey, Cell>) {
    let replica = open(DurableStore::open(folder, CACHE).expect("a store"), clock);
    let mut model = BTreeMap::new();
    for number in 0..4000 {
        let key = numbered(number);
        let payload = format!("value {number}").repeat(20);
        let written = cell(clock.clock()(), Some(payload.into_bytes()));
        replica
            .put(key.key.clone(), written.clone())
            .expect("written");
        model.insert(key, written);
    }
    settle_all(&replica, clock);
    replica.close().expect("closed");
    let store = DurableStore::open(folder, 64 << 10).expect("opened again");
    (open(store, clock), model)
}

/// Flips a bit in the largest table.
fn spoil_a_block(folder: &Path) {
    use std::os::unix::fs::FileExt as _;
    let tables = files(folder).into_iter().filter(|file| {
        let parent = file.parent();
        parent.is_some_and(|parent| parent.ends_with("tables"))
    });
    let largest = tables.max_by_key(|file| fs::metadata(file).expect("a file").len());
    let largest = largest.expect("a table");
    let at = fs::metadata(&largest).expect("a file").len() / 3;
    let table = fs::File::options().read(true).write(true).open(largest);
    let table = table.expect("a table");
    let mut byte = [0];
    table.read_exact_at(&mut byte, at).expect("read");
    table.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

/// The cells that a backup has.
fn backed_up(replica: &Replica) -> BTreeMap<CellKey, Cell> {
    let mut cells = BTreeMap::new();
    let visit = |key: &CellKey, _: &Version, cell: Option<Arc<Cell>>| {
        if let Some(cell) = cell {
            cells.insert(key.clone(), Cell::clone(&cell));
        }
        true
    };
    let snapshot = replica.snapshot().expect("sound");
    snapshot.for_each(visit).expect("it goes past the block");
    cells
}

fn scrub_all(replica: &Replica) -> usize {
    let (mut after, mut damaged) = (None, 0);
    loop {
        let scrubbed = replica.scrub(after.as_ref(), 100).expect("readable");
        damaged += scrubbed.damaged.len();
        after = scrubbed.next;
        if after.is_none() {
            wait_for_thread(replica);
            return damaged;
        }
    }
}

#[test]
fn a_bad_block_that_was_mended_is_gone() {
    let clock = ManualClock::at(START);
    let folder = tempfile::tempdir().expect("a folder");
    let (replica, model) = store_of_many_blocks(folder.path(), &clock);
    assert_eq!(backed_up(&replica), model);
    spoil_a_block(folder.path());
    let lost = scrub_all(&replica);
    assert!(lost > 0 && lost < 400, "{lost}");
    assert_eq!(replica.quarantined_cells(), lost);
    assert_eq!(backed_up(&replica).len(), model.len() - lost);
    // A restore brings what is lost.
    for (key, cell) in &model {
        replica.merge(key.clone(), cell.clone()).expect("merged");
    }
    settle_all(&replica, &clock);
    assert_eq!(replica.quarantined_cells(), 0);
    assert_eq!(backed_up(&replica), model, "before the block is gone, too");
    assert!(replica.tidy().expect("written anew"));
    assert_eq!(backed_up(&replica), model);
    assert!(!replica.tidy().expect("looked"), "once");
    replica.close().expect("closed");
    let store = DurableStore::open(folder.path(), CACHE).expect("opened");
    let replica = open(store, &clock);
    assert_eq!(scrub_all(&replica), 0);
    assert_eq!(backed_up(&replica), model);
}
