//! One set of tests for all stores, and what only a folder can suffer.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::{model::ModelStore, *};
use crate::cell::{Content, Timestamp, Value, tests::key};

const CACHE: u64 = 4 << 20;

fn cell(time: u64, payload: Option<usize>) -> Cell {
    let content = payload.map_or(Content::Tombstone, |length| {
        Content::Value(Value {
            encoding_id: length as u16,
            schema: (length % 2 == 1).then(|| b"schema"[..].into()),
            attachment: (length % 3 == 1).then(|| b"attached"[..].into()),
            payload: Bytes::from(vec![time as u8; length]),
        })
    });
    let id = [9; 16];
    Cell {
        timestamp: Timestamp { time, id },
        content,
    }
}

fn write(number: u8, cell: Cell) -> Write {
    let key = CellKey::own(key(&format!("key/{number}")));
    let version = Version::of(&key, &cell);
    let cell = Arc::new(cell);
    Write { key, cell, version }
}

type Model = BTreeMap<CellKey, Write>;

fn assert_holds(store: &dyn Store, model: &Model) {
    let mut found = Vec::new();
    store
        .scan(&mut |key, head| found.push((key, head.version)))
        .expect("a scan");
    let expected: Vec<_> = model.values().map(|w| (w.key.clone(), w.version)).collect();
    assert_eq!(found, expected);
    let view = store.view();
    let mut seen = Vec::new();
    let mut visit = |key, row: RowRead| {
        seen.push((key, row.expect("whole")));
        true
    };
    view.scan(None, &mut visit).expect("a scan");
    assert_eq!(seen.len(), model.len());
    for (write, (key, row)) in model.values().zip(seen) {
        assert_eq!(
            (&key, &row),
            (&write.key, &(Arc::clone(&write.cell), write.version))
        );
        let read = store.read(&write.key, write.version).expect("a read");
        assert_eq!(read.as_ref(), Some(&write.cell));
        assert_eq!(view.read(&write.key).expect("a read"), Some(row));
        let peeked = store.peek(&write.key, write.version);
        let peeked = peeked
            .into_iter()
            .chain(view.peek(&write.key, write.version));
        peeked.for_each(|peeked| assert_eq!(peeked, write.cell));
    }
    let absent = write(255, cell(1, None));
    let read = store.read(&absent.key, absent.version).expect("a read");
    assert_eq!(read, None);
}

fn append(store: &dyn Store, writes: &[Write]) -> u64 {
    let mut cells = writes.iter().map(|write| (&write.key, &*write.cell));
    store
        .append(&mut cells, Commit::Buffered)
        .expect("appended")
}

/// The rows of some writes in the place of those that a model has.
fn rows(model: &Model, writes: &[Write]) -> RowBatch {
    let is_stale = |write: &&Write| {
        let old = model.get(&write.key);
        old.is_some_and(|old| is_apart(&old.cell)) && !is_apart(&write.cell)
    };
    let stale = writes.iter().filter(is_stale);
    RowBatch {
        stale_payloads: stale.map(|write| write.key.clone()).collect(),
        ..RowBatch::from(writes.to_vec())
    }
}

/// As a replica does when the watermark passes.
fn commit_and_apply(store: &dyn Store, model: &mut Model, write: Write) {
    let writes = [write];
    let applied = Some(append(store, &writes));
    let batch = rows(model, &writes);
    let applied = store.apply(&RowBatch { applied, ..batch });
    applied.expect("applied");
    model.extend(writes.map(|write| (write.key.clone(), write)));
}

fn any_batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<usize>)>>> {
    let length = prop_oneof![3 => 0usize..60, 1 => 1020usize..1030, 1 => 5_000usize..9_000];
    let batch = prop::collection::vec((0u8..12, prop::option::of(length)), 1..8);
    prop::collection::vec(batch, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Groups are appended; some are applied, and of one only some of the rows. What the log has and
    /// the rows have not is applied when the store is opened.
    #[test]
    fn stores_hold_what_was_committed_last(
        batches in any_batches(),
        reopen in any::<bool>(),
        flush in any::<bool>(),
        applied in 0u8..4,
        journal in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut durable = DurableStore::open(folder.path(), CACHE).expect("a store");
        let memory = ModelStore::default();
        let mut model = Model::new();
        for (time, batch) in batches.into_iter().enumerate() {
            // As from a replica: one write a key in a batch.
            let batch: BTreeMap<u8, Option<usize>> = batch.into_iter().collect();
            let mut writes: Vec<Write> = batch
                .into_iter()
                .map(|(number, payload)| write(number, cell(time as u64 + 1, payload)))
                .collect();
            writes.sort_by(|a, b| a.key.cmp(&b.key));
            memory.apply(&writes.clone().into()).expect("applied");
            let number = append(&durable, &writes);
            let in_rows = match applied {
                0 if reopen => 0,
                1 if reopen => writes.len() / 2,
                _ => writes.len(),
            };
            let mut batch = rows(&model, &writes[..in_rows]);
            batch.applied = (in_rows == writes.len()).then_some(number);
            durable.apply(&batch).expect("applied");
            let cached = writes[..in_rows].iter().filter(|write| write.version.digest.0[0] % 2 == 0);
            durable.cache(&mut cached.map(|write| {
                let Write { key, cell, version } = write.clone();
                (key, cell, version)
            }));
            model.extend(writes.into_iter().map(|write| (write.key.clone(), write)));
            if flush {
                durable.flush().expect("a flush");
            }
            if reopen {
                drop(durable);
                if journal {
                    spoil_journal(folder.path());
                }
                durable = DurableStore::open(folder.path(), CACHE).expect("the store again");
            }
            assert_holds(&memory, &model);
            assert_holds(&durable, &model);
        }
        let apart = durable.payload_rows();
        let small = model.values().filter(|write| write.cell.value().is_none_or(|v| v.payload.len() <= 1_024)).count();
        prop_assert_eq!(apart + small, model.len(), "no payload is left behind");
    }
}

/// Changes the last byte of the engine's journal that is not zero.
fn spoil_journal(folder: &Path) {
    for entry in fs::read_dir(folder.join("cells")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let mut bytes = fs::read(&path).expect("read");
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                bytes[last / 2] ^= 1;
                fs::write(&path, bytes).expect("written");
            }
        }
    }
}

fn open_error(path: &Path) -> String {
    match DurableStore::open(path, CACHE) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

/// Every file below `path` with its bytes.
fn contents(path: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            files.insert(path, bytes);
        }
    }
    files
}

#[test]
fn a_folder_in_use_is_refused_and_usable_once_it_is_free() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let error = open_error(folder.path());
    assert!(error.contains("in use") && error.contains("dir"), "{error}");
    drop(store);
    assert!(DurableStore::open(folder.path(), CACHE).is_ok());
}

#[test]
fn foreign_and_newer_folders_are_refused_and_left_alone() {
    let cases: [(&str, &[u8], &str); 6] = [
        ("holiday.jpg", b"not ours", "holiday.jpg"),
        ("FORMAT", b"", "FORMAT"),
        ("FORMAT", b"another program\nformat 1\n", "FORMAT"),
        (
            "FORMAT",
            b"zenoh-backend-mst storage\nformat one\n",
            "FORMAT",
        ),
        (
            "FORMAT",
            b"zenoh-backend-mst storage\nformat 4\n",
            "format version 4",
        ),
        (
            "FORMAT",
            b"zenoh-backend-mst storage\nformat 2\n",
            "format version 2",
        ),
    ];
    for (name, bytes, named) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(name), bytes).expect("a file");
        let before = contents(folder.path());
        let error = open_error(folder.path());
        assert!(error.contains(named), "{error}");
        assert!(error.contains("left as it is"), "{error}");
        assert_eq!(contents(folder.path()), before);
    }
}

#[test]
fn a_file_in_the_place_of_a_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    fs::write(&path, b"a file").expect("a file");
    for path in [&path, &path.join("below")] {
        let error = open_error(path);
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(fs::read(&path).ok(), Some(b"a file".to_vec()));
}

#[test]
fn a_folder_whose_making_was_interrupted_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("FORMAT.new"), b"zenoh-").expect("a file");
    assert!(DurableStore::open(folder.path(), CACHE).is_ok());
}

/// The engine makes files that it does not take for its own when they are there already.
#[test]
fn a_folder_whose_making_was_interrupted_anywhere_is_made_again() {
    let whole = tempfile::tempdir().expect("a folder");
    drop(DurableStore::open(whole.path(), CACHE).expect("a store"));
    let files = contents(whole.path());
    for number in 0..files.len() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("FORMAT.new"), b"zenoh-").expect("a file");
        for (path, bytes) in files.iter().skip(number) {
            let below = path.strip_prefix(whole.path()).expect("below");
            if below == Path::new("FORMAT") {
                continue;
            }
            let path = folder.path().join(below);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        let store = DurableStore::open(folder.path(), CACHE).expect("made again");
        assert_holds(&store, &Model::new());
        append(&store, &[write(1, cell(1, Some(3)))]);
        // Nobody else makes it meanwhile.
        fs::rename(
            folder.path().join("FORMAT"),
            folder.path().join("FORMAT.new"),
        )
        .expect("renamed");
        assert!(open_error(folder.path()).contains("in use"));
        assert!(folder.path().join("cells/version").exists());
    }
}

#[test]
fn the_format_file_is_pinned() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(DurableStore::open(folder.path(), CACHE).expect("a store"));
    let format = fs::read(folder.path().join("FORMAT")).expect("a file");
    assert_eq!(format, b"zenoh-backend-mst storage\nformat 3\n");
}

/// The engine would make what is missing anew, and throw the rest away.
#[test]
fn a_store_whose_files_are_not_named_any_more_is_damaged_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    append(&store, &[write(1, cell(1, Some(3)))]);
    store.flush().expect("a flush");
    drop(store);
    let whole = contents(folder.path());
    let engine = folder.path().join("cells");
    let keyspaces = contents(&engine.join("keyspaces"));
    let is_named = |path: &&std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name == "current" || path.parent().expect("a folder").join("current").exists()
    };
    // Lists that are of no use any more are among these.
    let named: Vec<_> = keyspaces.keys().filter(is_named).collect();
    let others = [engine.join("version"), engine.join("lock")];
    let mut damaged = 0;
    for path in named.into_iter().chain(&others) {
        let bytes = &whole[path];
        let mut changed = vec![None];
        if path.starts_with(engine.join("keyspaces")) {
            changed.push(Some(vec![0; bytes.len()]));
            changed.push(Some(bytes[..bytes.len() - 1].to_vec()));
        }
        for changed in changed {
            match &changed {
                None => fs::remove_file(path).expect("removed"),
                Some(bytes) => fs::write(path, bytes).expect("written"),
            }
            let before = contents(folder.path());
            if let Err(error) = DurableStore::open(folder.path(), CACHE) {
                assert!(error.is_damage(), "{error}");
                assert_eq!(contents(folder.path()), before, "{error}");
                damaged += 1;
            }
            fs::remove_dir_all(folder.path()).expect("removed");
            restore(&whole);
        }
    }
    // `version` and `lock` when they are gone; of each keyspace both of what names
    // its files, each in three ways.
    assert!(damaged >= 2 + 4 * 2 * 3, "{damaged}");
    for id in 0..4 {
        fs::remove_dir_all(engine.join(format!("keyspaces/{id}"))).expect("removed");
        let error = DurableStore::open(folder.path(), CACHE)
            .err()
            .expect("refused");
        assert!(error.is_damage(), "{error}");
        restore(&whole);
    }
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    assert!(
        store
            .view()
            .read(&write(1, cell(1, None)).key)
            .expect("read")
            .is_some()
    );
}

fn restore(files: &BTreeMap<std::path::PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

#[test]
fn an_unfinished_store_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    append(&store, &[write(1, cell(1, Some(3)))]);
    store.flush().expect("a flush");
    drop(store);
    // Something took the engine's files away, and left the folder.
    fs::remove_dir_all(folder.path().join("cells")).expect("removed");
    let error = open_error(folder.path());
    assert!(error.contains("missing"), "{error}");
}

/// Cells that are in rows already, as older ones and as newer ones; and twice.
#[test]
fn what_is_in_the_log_is_joined_with_the_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let store = open();
    let stored = [write(1, cell(5, Some(3))), write(2, cell(5, Some(5_000)))];
    store.apply(&stored.to_vec().into()).expect("applied");
    let groups = [
        vec![write(1, cell(4, Some(9))), write(2, cell(6, Some(3)))],
        vec![write(3, cell(7, Some(5_000))), write(2, cell(8, None))],
        vec![write(3, cell(6, None))],
    ];
    for group in &groups {
        append(&store, group);
    }
    drop(store);
    let newest = [&stored[0], &groups[1][1], &groups[1][0]];
    let model: Model = newest.map(|w| (w.key.clone(), w.clone())).into();
    for _ in 0..2 {
        let store = open();
        assert_holds(&store, &model);
        assert_eq!(store.payload_rows(), 1);
    }
}

/// A loss of power may take from the log what was not synced, and leave it in the engine's journal.
#[test]
fn rows_that_the_log_has_lost_do_not_depend_on_the_engines_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let mut model = Model::new();
    let store = open();
    for number in 1..4 {
        commit_and_apply(&store, &mut model, write(number, cell(5, Some(9))));
    }
    drop(store);
    for (path, bytes) in contents(&folder.path().join("wal")) {
        fs::write(path, &bytes[..bytes.len() - 2]).expect("cut off");
    }
    let store = open();
    assert_holds(&store, &model);
    commit_and_apply(&store, &mut model, write(4, cell(6, Some(9))));
    drop(store);
    for path in contents(&folder.path().join("cells")).into_keys() {
        if path.extension().is_some_and(|extension| extension == "jnl") {
            fs::remove_file(path).expect("removed");
        }
    }
    assert_holds(&open(), &model);
}

/// The engine takes a journal that is damaged in its middle for one that ends there.
#[test]
fn rows_that_the_engine_has_lost_come_from_the_log() {
    for how in ["cut", "spoiled", "removed"] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableStore::open(folder.path(), CACHE).expect("a store");
        let mut model = Model::new();
        for number in 0..50 {
            let write = write(number % 7, cell(u64::from(number) + 1, Some(300)));
            commit_and_apply(&store, &mut model, write);
        }
        drop(store);
        let engine = folder.path().join("cells");
        for entry in fs::read_dir(&engine).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                let mut bytes = fs::read(&path).expect("read");
                let end = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .expect("it is used");
                match how {
                    "cut" => bytes[end / 2..].fill(0),
                    _ => bytes[end / 2] ^= 0x40,
                }
                match how {
                    "removed" => fs::remove_file(&path).expect("removed"),
                    _ => fs::write(&path, bytes).expect("written"),
                }
            }
        }
        let store = DurableStore::open(folder.path(), CACHE).expect("a store");
        assert_holds(&store, &model);
        for entry in fs::read_dir(&engine).expect("a folder") {
            let path = entry.expect("an entry").path();
            assert_ne!(
                path.extension().and_then(|e| e.to_str()),
                Some("jnl-damaged")
            );
        }
    }
}

/// The log is let go of when tables have what it has.
#[test]
fn the_log_does_not_grow_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    let mut model = Model::new();
    let mut most = 0;
    for number in 0..60u8 {
        let write = write(number % 3, cell(u64::from(number) + 1, Some(1 << 20)));
        commit_and_apply(&store, &mut model, write);
        most = most.max(store.log_bytes());
        store.wait_for_tables();
    }
    assert!(most > 16 << 20, "{most}");
    assert!(most < 32 << 20, "{most}");
    drop(store);
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    assert_holds(&store, &model);
    store.flush().expect("a flush");
    assert!(store.log_bytes() < 100, "a closed store has no log");
}

/// What tables may have the log has, on the disk: also if nobody asks for syncs, and if it is the engine's
/// memory that is full, and not the log.
#[test]
fn the_log_is_synced_before_tables_are_written() {
    for (log_kept, payload) in [(20 << 10, 3_000), (u64::MAX, 60_000), (u64::MAX, 900)] {
        let tuning = StoreTuning {
            log_file: 4 << 20,
            log_kept,
            slack: u64::MAX,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableStore::open_tuned(folder.path(), CACHE, tuning).expect("a store");
        let (mut before, mut begun) = (store.buffered(), 0);
        for number in 1..6_000 {
            let time = number;
            let write = write((number % 200) as u8, cell(time, Some(payload)));
            let mut group = std::iter::once((&write.key, &*write.cell));
            let group = store.append(&mut group, Commit::Buffered);
            let applied = group.expect("appended");
            let batch = RowBatch {
                puts: vec![write],
                applied: Some(applied),
                ..RowBatch::default()
            };
            store.apply(&batch).expect("applied");
            let (cells, payloads, synced) = store.buffered();
            if cells < before.0 || payloads < before.1 {
                assert_eq!(synced, applied, "tables are being written");
                begun += 1;
            }
            before = (cells, payloads, synced);
            if begun == 2 {
                break;
            }
        }
        assert_eq!(begun, 2, "tables were written");
    }
}
