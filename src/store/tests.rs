//! One set of tests for all stores, and what only a folder can suffer.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::{model::ModelStore, *};
use crate::cell::{tests::key, Content, Stamp, Value};

const CACHE: u64 = 4 << 20;

fn cell(time: u64, payload: Option<usize>) -> Cell {
    let content = payload.map_or(Content::Tombstone, |length| {
        Content::Value(Value {
            encoding_id: length as u16,
            schema: (length % 2 == 1).then(|| b"schema"[..].into()),
            payload: Bytes::from(vec![time as u8; length]),
        })
    });
    let id = [9; 16];
    Cell {
        stamp: Stamp { time, id },
        content,
    }
}

fn write(number: u8, cell: Cell) -> Write {
    let key = CellKey::own(key(&format!("key/{number}")));
    let meta = CellMeta::of(&key, &cell);
    let cell = Arc::new(cell);
    Write { key, cell, meta }
}

type Model = BTreeMap<CellKey, Write>;

fn assert_holds(store: &dyn Store, model: &Model) {
    let mut found = Vec::new();
    store
        .scan(&mut |key, meta| found.push((key, meta)))
        .expect("a scan");
    let expected: Vec<_> = model.values().map(|w| (w.key.clone(), w.meta)).collect();
    assert_eq!(found, expected);
    for write in model.values() {
        let read = store.read(&write.key, write.meta.version).expect("a read");
        assert_eq!(read.as_ref(), Some(&write.cell));
        if let Some(peeked) = store.peek(&write.key, write.meta.version) {
            assert_eq!(peeked, write.cell);
        }
    }
    let absent = write(255, cell(1, None));
    let read = store
        .read(&absent.key, absent.meta.version)
        .expect("a read");
    assert_eq!(read, None);
}

fn any_batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<usize>)>>> {
    let length = prop_oneof![3 => 0usize..60, 1 => 1020usize..1030, 1 => 5_000usize..9_000];
    let batch = prop::collection::vec((0u8..12, prop::option::of(length)), 1..8);
    prop::collection::vec(batch, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn stores_hold_what_was_committed_last(
        batches in any_batches(),
        reopen in any::<bool>(),
        flush in any::<bool>(),
        ahead in 0u8..4,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut durable = DurableStore::open(folder.path(), CACHE).expect("a store");
        let memory = ModelStore::default();
        let mut model = Model::new();
        for (time, batch) in batches.into_iter().enumerate() {
            // As from a replica: one write a key in a batch.
            let batch: BTreeMap<u8, Option<usize>> = batch.into_iter().collect();
            let writes: Vec<Write> = batch
                .into_iter()
                .map(|(number, payload)| write(number, cell(time as u64 + 1, payload)))
                .collect();
            memory.commit(&writes, Commit::Buffered).expect("a commit");
            // What is written ahead is found when the store is opened, be it in rows too, or
            // in some, or only there.
            let is_ahead = ahead > 0 && reopen;
            if is_ahead {
                let mut cells = writes.iter().map(|write| (&write.key, &*write.cell));
                durable.write_ahead(&mut cells, Commit::Buffered).expect("written ahead");
            }
            let in_rows = match ahead {
                1 if is_ahead => 0,
                2 if is_ahead => writes.len() / 2,
                _ => writes.len(),
            };
            durable.commit(&writes[..in_rows], Commit::Buffered).expect("a commit");
            if is_ahead && ahead == 3 && time % 2 == 0 {
                durable.clear_ahead().expect("cleared");
            }
            let cached = writes[..in_rows].iter().filter(|write| write.meta.version.digest.0[0] % 2 == 0);
            durable.cache(&mut cached.map(|write| {
                let Write { key, cell, meta } = write.clone();
                (key, cell, meta.version)
            }));
            model.extend(writes.into_iter().map(|write| (write.key.clone(), write)));
            if flush {
                durable.flush().expect("a flush");
            }
            if reopen {
                drop(durable);
                durable = DurableStore::open(folder.path(), CACHE).expect("the store again");
            }
            assert_holds(&memory, &model);
            assert_holds(&durable, &model);
        }
        let large = model.values().filter(|write| write.cell.value_bytes() > 1_030).count();
        let apart = durable.payload_rows();
        prop_assert!(apart >= large && apart <= model.len(), "{} rows, {} large values", apart, large);
        let small = model.values().filter(|write| write.cell.value().is_none_or(|v| v.payload.len() <= 1_024)).count();
        prop_assert_eq!(apart + small, model.len(), "no payload is left behind");
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
    let cases: [(&str, &[u8], &str); 5] = [
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
            b"zenoh-backend-mst storage\nformat 3\n",
            "format version 3",
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

#[test]
fn the_format_file_is_pinned() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(DurableStore::open(folder.path(), CACHE).expect("a store"));
    let format = fs::read(folder.path().join("FORMAT")).expect("a file");
    assert_eq!(format, b"zenoh-backend-mst storage\nformat 2\n");
}

/// A store as it was before there was a write-ahead log.
#[test]
fn a_store_of_format_1_is_made_one_of_this_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let stored = write(1, cell(5, Some(3)));
    let engine = fjall::Database::builder(folder.path().join("cells")).open();
    let engine = engine.expect("a database");
    for name in ["cells", "payloads", "quarantine"] {
        let keyspace = engine.keyspace(name, Default::default).expect("a keyspace");
        if name == "cells" {
            let mut row = Vec::new();
            let is_apart = crate::cell::Row::encode_cell(&stored.meta, &stored.cell, 9, &mut row);
            assert!(!is_apart);
            keyspace
                .insert(stored.key.to_canonical(), row)
                .expect("written");
        }
    }
    drop(engine);
    let format = folder.path().join("FORMAT");
    fs::write(&format, "zenoh-backend-mst storage\nformat 1\n").expect("written");
    // What was cut short before begins anew.
    fs::write(folder.path().join("FORMAT.new"), "zenoh-").expect("written");
    let unfinished = folder.path().join("cells/keyspaces/4/tables");
    fs::create_dir_all(unfinished).expect("made");
    let model: Model = [(stored.key.clone(), stored)].into();
    for _ in 0..2 {
        let store = DurableStore::open(folder.path(), CACHE).expect("a store");
        assert_holds(&store, &model);
        let format = fs::read_to_string(&format).expect("a file");
        assert_eq!(format, "zenoh-backend-mst storage\nformat 2\n");
        assert!(!folder.path().join("FORMAT.new").exists());
    }
}

/// The engine would make what is missing anew, and throw the rest away.
#[test]
fn a_store_whose_files_are_not_named_any_more_is_damaged_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    store
        .commit(&[write(1, cell(1, Some(3)))], Commit::Synced)
        .expect("a commit");
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
    assert!(damaged >= 2 + 5 * 2 * 3, "{damaged}");
    for id in 0..5 {
        fs::remove_dir_all(engine.join(format!("keyspaces/{id}"))).expect("removed");
        let error = DurableStore::open(folder.path(), CACHE)
            .err()
            .expect("refused");
        assert!(error.is_damage(), "{error}");
        restore(&whole);
    }
    let store = DurableStore::open(folder.path(), CACHE).expect("a store");
    assert!(store
        .reread(&write(1, cell(1, None)).key)
        .expect("read")
        .is_some());
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
    store
        .commit(&[write(1, cell(1, Some(3)))], Commit::Synced)
        .expect("a commit");
    store.flush().expect("a flush");
    drop(store);
    // Something took the engine's files away, and left the folder.
    fs::remove_dir_all(folder.path().join("cells")).expect("removed");
    let error = open_error(folder.path());
    assert!(error.contains("missing"), "{error}");
}

/// Cells that are in rows already, as older ones and as newer ones; and twice.
#[test]
fn what_was_written_ahead_is_joined_with_the_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || DurableStore::open(folder.path(), CACHE).expect("a store");
    let store = open();
    let stored = [write(1, cell(5, Some(3))), write(2, cell(5, Some(5_000)))];
    store.commit(&stored, Commit::Synced).expect("a commit");
    let groups = [
        vec![write(1, cell(4, Some(9))), write(2, cell(6, Some(3)))],
        vec![write(3, cell(7, Some(5_000))), write(2, cell(8, None))],
        vec![write(3, cell(6, None))],
    ];
    for group in &groups {
        let mut cells = group.iter().map(|write| (&write.key, &*write.cell));
        store
            .write_ahead(&mut cells, Commit::Buffered)
            .expect("written ahead");
    }
    drop(store);
    let newest = [&stored[0], &groups[1][1], &groups[1][0]];
    let model: Model = newest.map(|w| (w.key.clone(), w.clone())).into();
    for _ in 0..2 {
        let store = open();
        assert_holds(&store, &model);
        assert_eq!(store.payload_rows(), 1);
        assert!(store.readable_ahead().is_empty(), "it is where it belongs");
    }
}
