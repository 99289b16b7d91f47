//! Tests on folders.

use std::{fs, sync::Arc};

use zenoh::key_expr::OwnedKeyExpr;
use zenoh_backend_mst::{
    backup::Header,
    cell::{Cell, CellKey, Content, Part, Timestamp, Value as CellValue, Version},
    mst::{Mst, Resident, RootHash},
    store::{CellStore as _, DurableStore, Owner, QuarantineStore as _, Sidecar, Write},
};

use super::{
    adopt,
    folder::CACHE,
    restore::{restore, vacant},
    verify::examine,
    *,
};
use crate::{args::Restore, commands::backup::complete, files::Unfinished};

pub(in crate::commands) fn header() -> Header {
    Header {
        key_expr: "demo/**".to_owned(),
        strip_prefix: None,
        cut: 0,
        root: RootHash::of_empty(),
        cells: 0,
        rules: String::new(),
        replica: None,
        storage: "demo".to_owned(),
        missing: Vec::new(),
    }
}

fn key(text: &str) -> Key {
    stored_key(text, None).expect("a key")
}

fn write(text: &str, part: &[u8], time: u64, payload: Option<&'static str>) -> Write {
    let key = CellKey {
        key: key(text),
        part: Part::from(part),
    };
    let content = match payload {
        None => Content::Tombstone,
        Some(payload) => Content::Value(CellValue {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: payload.into(),
        }),
    };
    let timestamp = Timestamp { time, id: [1; 16] };
    let cell = Cell { timestamp, content };
    Write {
        version: Version::of(&key, &cell),
        cell: Arc::new(cell),
        key,
    }
}

/// A folder with a value, a deleted key, and a key of which one cell of two is
/// covered.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let store = DurableStore::open(dir.path(), CACHE).expect("opened");
    let batch = [
        write("a", b"", 5, Some("hello")),
        write("b", b"", 6, None),
        write("c", b"", 7, None),
        write("c", b"\x01x", 7, Some("1")),
        write("c", b"\x01y", 8, Some("2")),
    ];
    store.apply(&batch.to_vec().into()).expect("written");
    dir
}

#[test]
fn a_folder_is_read_as_a_replica_reads_it() {
    let dir = folder();
    let loaded = load(&open(dir.path()).expect("opened")).expect("read");
    assert_eq!((loaded.entries.len(), loaded.keys), (4, 2));
    assert_eq!((loaded.tombstones, loaded.latest), (2, 8));
    let tree = Mst::from_sorted(Resident::default(), loaded.entries.iter().cloned());
    assert_eq!(tree.root(), Ok(loaded.root()));
    let deleted: Vec<bool> = loaded.by_key().map(is_deleted).collect();
    assert_eq!(deleted, [false, true, false]);
}

#[test]
fn a_sound_folder_is_found_sound() {
    let dir = folder();
    let findings = examine(&open(dir.path()).expect("opened")).expect("examined");
    assert_eq!(findings.checked, 4);
    assert_eq!(findings.damaged, Vec::<Value>::new());
}

#[test]
fn a_digest_that_is_wrong_is_found() {
    let dir = folder();
    let store = open(dir.path()).expect("opened");
    let mut forged = write("a", b"", 9, Some("hello"));
    forged.cell = write("a", b"", 9, Some("olleh")).cell;
    store.apply(&vec![forged].into()).expect("written");
    let findings = examine(&store).expect("examined");
    assert_eq!(findings.damaged.len(), 1);
    assert_eq!(findings.damaged[0]["key"], "a");
}

#[test]
fn what_is_no_folder_is_not_made_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = dir.path().join("x");
    let refused = open(&missing).err().expect("refused");
    assert_eq!(refused.code(), 5);
    assert!(!missing.exists());
    let refused = open(dir.path()).err().expect("refused");
    assert!(refused.to_string().contains("FORMAT"), "{refused}");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn a_backup_of_a_folder_is_restored_into_another() {
    let dir = folder();
    let out = tempfile::tempdir().expect("a folder");
    let (file, target) = (out.path().join("f"), out.path().join("data"));
    let store = open(dir.path()).expect("opened");
    let loaded = load(&store).expect("read");
    let header = Header {
        root: loaded.root(),
        cells: loaded.entries.len() as u64,
        ..header()
    };
    let mut unfinished = Unfinished::create(&file, false).expect("begun");
    backup::write(&store, &loaded, &header, &mut unfinished, &file).expect("written");
    assert_eq!(complete(unfinished, &file).expect("sound"), header);
    let args = Restore {
        dry_run: false,
        file: file.clone(),
        force_key_expr: false,
    };
    restore(Output::new(true), &target, &args).expect("restored");
    let restored = load(&open(&target).expect("opened")).expect("read");
    assert_eq!(restored.entries, loaded.entries);
    // Not over what is there; and nothing is left of a backup that is damaged.
    let refused = restore(Output::new(true), &target, &args).expect_err("not empty");
    assert_eq!(refused.code(), 5);
    let mut bytes = fs::read(&file).expect("read");
    let last = bytes.len() - 60;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("written");
    let other = out.path().join("other");
    let refused = restore(Output::new(true), &other, &args).expect_err("damaged");
    assert_eq!(refused.code(), 5);
    assert_eq!(fs::read_dir(out.path()).expect("listed").count(), 2);
}

#[test]
fn only_what_a_restore_left_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = dir.path().join("data");
    let unfinished = vacant(&target).expect("free");
    fs::create_dir(&unfinished).expect("made");
    fs::write(unfinished.join("mine"), "").expect("written");
    assert_eq!(vacant(&target).expect_err("in the way").code(), 5);
    fs::remove_dir_all(&unfinished).expect("removed");
    drop(DurableStore::open(&unfinished, CACHE).expect("opened"));
    vacant(&target).expect("free");
    assert!(!unfinished.exists());
    fs::create_dir(&target).expect("made");
    vacant(&target).expect("empty");
    fs::write(target.join("mine"), "").expect("written");
    assert_eq!(vacant(&target).expect_err("not empty").code(), 5);
}

#[test]
fn a_folder_is_handed_over_with_the_keys_that_are_within() {
    let dir = folder();
    let owner = |key_expr: &str, prefix: Option<&str>| {
        let parse = |text: &str| OwnedKeyExpr::try_from(text).expect("a key expression");
        Owner {
            key_expr: parse(key_expr),
            strip_prefix: prefix.map(parse),
        }
    };
    let first = owner("**", None);
    first.write(dir.path()).expect("written");
    Sidecar::Identity.write(dir.path(), "me").expect("written");
    let store = open(dir.path()).expect("opened");
    let lost = write("lost", b"", 3, Some("x"));
    store.apply(&vec![lost.clone()].into()).expect("written");
    store
        .quarantine(&lost.key, &lost.version)
        .expect("taken out");

    let prefixed = adopt::examine(&store, &owner("x/**", Some("x"))).expect("read");
    assert_eq!(
        (prefixed.keys, prefixed.outside),
        (3, 0),
        "all are below it"
    );
    let new = owner("c", None);
    let found = adopt::examine(&store, &new).expect("read");
    assert_eq!((found.keys, found.outside), (3, 2));
    // Looking changes nothing.
    assert_eq!(load(&store).expect("read").entries.len(), 4);
    assert_eq!(Owner::read(dir.path()).expect("read"), Some(first));

    adopt::hand_over(&store, dir.path(), &new, &found).expect("handed over");
    drop(store);
    let store = open(dir.path()).expect("opened");
    let left = load(&store).expect("read");
    assert_eq!((left.entries.len(), left.keys), (2, 1));
    assert_eq!(store.quarantined().expect("read"), []);
    assert_eq!(Owner::read(dir.path()).expect("read"), Some(new));
    assert_eq!(Sidecar::Identity.read(dir.path()).expect("read"), None);
}
