//! A store that this format wrote, as it is checked in: it is opened and read for as long as the format
//! has this number; and what becomes of it when a file is cut short.
//!
//! `MST_WRITE_GOLDEN=1` writes it anew, for a new format.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::*;
use crate::{
    cell::{Cell, Content, Timestamp, Value, tests::key},
    mst::{Mst, Resident},
};

const CACHE: u64 = 4 << 20;

/// Values beside those of the golden store, of the one whose files are cut short.
const MORE: u32 = 40;

/// A block of a file system.
const BLOCK: u64 = 4096;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/store-{FORMAT_VERSION}"))
}

/// The root of its cells.
const ROOT: &str = include_str!("../../tests/golden/store-3.root");

fn cell(time: u64, payload: Option<&str>) -> Cell {
    let content = payload.map_or(Content::Tombstone, |payload| {
        Content::Value(Value {
            encoding_id: 5,
            schema: Some(b"utf-8"[..].into()),
            attachment: None,
            payload: payload.to_owned().into(),
        })
    });
    Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content,
    }
}

/// What it holds: values in rows and apart, a tombstone, cells of one key.
fn contents(more: u32) -> Vec<Write> {
    let long = "a long one, ".repeat(200);
    let own = |text: &str, cell| Write::of(CellKey::own(key(text)), cell);
    let part = |text: &str, part: &[u8], cell| {
        let key = CellKey {
            key: key(text),
            part: part.into(),
        };
        Write::of(key, cell)
    };
    let mut contents = vec![
        own("robot/1", cell(1 << 32, Some("ready"))),
        own("robot/1/map", cell(2 << 32, Some(&long))),
        own("robot/2", cell(3 << 32, None)),
        own("set", cell(4 << 32, None)),
        part("set", b"\x02a", cell(5 << 32, Some(""))),
        part("set", b"\x02b", cell(6 << 32, None)),
    ];
    contents.extend((0..more).map(|number| {
        let payload = format!("{number:08}").repeat(200);
        own(&format!("many/{number}"), cell(7 << 32, Some(&payload)))
    }));
    contents.sort_by(|a, b| a.key.cmp(&b.key));
    contents
}

/// A store of that, and of `more` values.
fn make(dir: &Path, more: u32) {
    let owner = Owner {
        key_expr: "fleet/**".try_into().expect("a key expression"),
        strip_prefix: Some("fleet".try_into().expect("a key expression")),
    };
    owner.take(dir, true).expect("new");
    let store = DurableStore::open(dir, CACHE).expect("made");
    let contents = contents(more);
    // Half of it is in tables, and the rest in the log.
    let (rows, logged) = contents.split_at(contents.len() / 2);
    let append = |writes: &[Write]| {
        let mut cells = writes.iter().map(|write| (&write.key, &*write.cell));
        store.append(&mut cells, Commit::Synced).expect("appended")
    };
    let batch = RowBatch {
        applied: Some(append(rows)),
        ..RowBatch::from(rows.to_vec())
    };
    store.apply(&batch).expect("applied");
    store.flush().expect("flushed");
    append(logged);
    Sidecar::Identity
        .write(dir, &"0123456789abcdef".repeat(2))
        .expect("written");
}

/// Copies a folder, holes as holes.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
            continue;
        }
        let bytes = fs::read(entry.path()).expect("read");
        let end = bytes.iter().rposition(|byte| *byte != 0);
        fs::write(&target, &bytes[..end.map_or(0, |end| end + 1)]).expect("written");
        let file = fs::File::options().write(true).open(&target);
        let resized = file.and_then(|file| file.set_len(bytes.len() as u64));
        resized.expect("as long");
    }
}

/// Git keeps no empty folders.
fn copy_golden(to: &Path) {
    copy(&golden(), to);
    for keyspace in fs::read_dir(to.join("cells/keyspaces")).expect("listed") {
        let tables = keyspace.expect("listed").path().join("tables");
        fs::create_dir_all(tables).expect("made");
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// All cells; an error if there is one that is not whole.
fn read(dir: &Path) -> Result<Vec<(CellKey, Version, Arc<Cell>)>, StoreError> {
    let store = DurableStore::open(dir, CACHE)?;
    let (mut cells, mut result) = (Vec::new(), Ok(()));
    let scanned = store.view().scan(None, &mut |key, row| {
        match row {
            Ok((cell, version)) => cells.push((key, version, cell)),
            Err(error) => result = Err(error),
        }
        result.is_ok()
    });
    scanned.and(result).map(|()| cells)
}

fn expected(more: u32) -> Vec<(CellKey, Version, Arc<Cell>)> {
    let mut expected: Vec<_> = contents(more)
        .into_iter()
        .map(|write| (write.key, write.version, write.cell))
        .collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    expected
}

#[test]
fn a_store_of_this_format_is_opened_and_read() {
    if std::env::var_os("MST_WRITE_GOLDEN").is_some() {
        let made = tempfile::tempdir().expect("a folder");
        make(made.path(), 0);
        copy(made.path(), &golden());
        for file in files(&golden()) {
            let bytes = fs::read(&file).expect("read");
            // The engine makes its journal longer than it is.
            let used = bytes.iter().rposition(|byte| *byte != 0);
            let used = used.map_or(0, |at| (at as u64 + 1).next_multiple_of(BLOCK));
            if used < bytes.len() as u64 {
                let file = fs::File::options().write(true).open(file);
                file.and_then(|file| file.set_len(used)).expect("cut");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    copy_golden(&dir);
    assert_eq!(read(&dir).expect("opened"), expected(0));
    let tree = expected(0)
        .into_iter()
        .map(|(key, version, _)| (key, version));
    let Ok(root) = Mst::from_sorted(Resident::default(), tree).root();
    assert_eq!(root.to_string(), ROOT.trim());
    let owner = Owner::read(&dir)
        .expect("read")
        .expect("it says whose it is");
    assert_eq!(owner.to_string(), "'fleet/**' (strip_prefix 'fleet')");
}

#[test]
fn a_store_of_another_format_is_refused_and_left_byte_for_byte() {
    let first = "zenoh-backend-mst storage\n";
    for format in [
        format!("{first}format {}\n", FORMAT_VERSION + 1),
        format!("{first}format {}\n", FORMAT_VERSION - 1),
        format!("{first}format {}\n", u64::MAX),
        "another program\nformat 3\n".to_owned(),
        first.to_owned(),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("store");
        copy_golden(&dir);
        fs::write(dir.join("FORMAT"), &format).expect("written");
        let bytes = || -> Vec<_> {
            let files = files(&dir).into_iter();
            files
                .map(|file| (fs::read(&file).expect("read"), file))
                .collect()
        };
        let before = bytes();
        let error = read(&dir).expect_err("refused");
        assert!(error.to_string().contains("left as it is"), "{error}");
        assert!(!error.is_damage(), "{error}");
        assert_eq!(bytes(), before, "{format}");
    }
}

#[test]
fn a_file_that_was_cut_short_loses_nothing_without_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = folder.path().join("sound");
    make(&sound, MORE);
    drop(DurableStore::open(&sound, CACHE).expect("opened"));
    let (expected, mut cut) = (expected(MORE), 0);
    for file in files(&sound) {
        let name = file.strip_prefix(&sound).expect("below it").to_owned();
        let len = fs::metadata(&file).expect("a file").len();
        // What is there but for zeros, which is the beginning.
        let used = fs::read(&file).expect("read");
        let used = used
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1) as u64;
        for length in (0..used.min(len)).step_by(BLOCK as usize) {
            let dir = folder.path().join("cut");
            copy(&sound, &dir);
            let opened = fs::File::options().write(true).open(dir.join(&name));
            opened.and_then(|file| file.set_len(length)).expect("cut");
            // The engine may panic over its own files.
            let found = catch_unwind(AssertUnwindSafe(|| read(&dir)));
            if let Ok(Ok(found)) = found {
                assert_eq!(found, expected, "{} of {length} bytes", name.display());
            }
            fs::remove_dir_all(&dir).expect("removed");
            cut += 1;
        }
    }
    assert!(cut > 40, "{cut} files");
}

#[test]
fn a_folder_that_cannot_be_written_is_no_damage() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    make(&dir, 0);
    let before = files(&dir);
    let set = |mode| {
        for file in files(&dir) {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(file, permissions).expect("set");
        }
    };
    set(0o400);
    // Whoever is root may write all the same.
    if let Err(error) = read(&dir) {
        assert!(!error.is_damage(), "{error}");
        assert_eq!(files(&dir), before);
    }
    set(0o600);
    assert_eq!(read(&dir).expect("opened"), expected(0));
}
