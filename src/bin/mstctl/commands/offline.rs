//! What is done with `--dir`: to the data folder of a storage that no router has
//! open.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{json, Value};
use zenoh::key_expr::keyexpr;
use zenoh_backend_mst::{
    backup::{BackupReader, BackupWriter, Header},
    cell::{intersect, Cell, CellKey, Key, Timestamp, Version},
    hex,
    merge::{encoding, raw, Form, Merged, PartCell},
    mst::{Builder, Mst, Resident, RootHash},
    store::{CellStore as _, DurableStore, QuarantineStore as _, RowHead, StoreError, Write},
};

use super::{
    backup, completions,
    get::{self, Reading, Shown},
    keys::{check_pattern, listed, Listing},
    restore::{backup_error, verified},
    status,
    verify::{self, Findings},
    Context,
};
use crate::{
    args::{Backup, Command, Get, Keys, Restore},
    exit::{file_error, Answer, Error},
    files::{self, is_standard, sync_parent, with_suffix, Unfinished},
    output::{counted, note, time, Output, Tone},
    progress::Progress,
    replicas::{stored_key, Status},
};

/// Memory for the storage engine while a command runs.
const CACHE: u64 = 64 << 20;

/// What says that a folder is a storage's.
const FORMAT: &str = "FORMAT";
/// The same, while it is being made.
const UNFINISHED_FORMAT: &str = "FORMAT.new";

/// What a folder is called while a backup is restored into it: this is added to
/// its name.
const RESTORING: &str = ".restoring";

pub(super) fn run(context: &Context, dir: &Path, command: &Command) -> Result<Answer, Error> {
    match command {
        Command::Status => self::status(context.output, dir),
        Command::Root(_) => root(context.output, dir),
        Command::Keys(args) => keys(context.output, dir, args),
        Command::Get(args) => get(context.output, dir, args),
        Command::Verify(args) => match &args.file {
            Some(file) => verify::file(context, file, args),
            None => self::verify(context.output, dir),
        },
        Command::Backup(args) => backup(context, dir, args),
        Command::Restore(args) => restore(context.output, dir, args),
        Command::Completions { shell } => completions::run(context, *shell),
        Command::Replicas
        | Command::Diff(_)
        | Command::Prove(_)
        | Command::Scrub(_)
        | Command::Rollback(_)
        | Command::Snapshot(_)
        | Command::Sync(_)
        | Command::Watch(_) => Err(Error::Usage(
            "a folder has status, root, keys, get, verify, backup and restore; the other commands \
             ask a router: leave --dir out"
                .to_owned(),
        )),
    }
}

/// Opens a folder that is there: opening one that is not would make it.
fn open(dir: &Path) -> Result<DurableStore, Error> {
    let problem = match (dir.is_dir(), dir.join(FORMAT).is_file()) {
        (true, true) => return Ok(DurableStore::open(dir, CACHE)?),
        (true, false) => "it is not the data folder of a storage: there is no file FORMAT in it",
        (false, _) => "there is no such folder",
    };
    Err(Error::Place {
        path: dir.to_owned(),
        problem: problem.to_owned(),
    })
}

type Entries = Vec<(CellKey, Version)>;

/// What a folder holds, without what a crash has left behind.
#[derive(Default)]
struct Loaded {
    entries: Entries,
    keys: u64,
    tombstones: u64,
    /// The latest time of a cell.
    latest: u64,
    /// Cells that were found damaged, and have not been replaced.
    quarantined: Entries,
}

impl Loaded {
    fn tree(&self) -> Mst<Resident<CellKey, Version>> {
        let mut builder = Builder::new(Resident::default());
        for (key, version) in &self.entries {
            builder.push(key.clone(), *version);
        }
        builder.finish()
    }

    fn root(&self) -> RootHash {
        let Ok(root) = self.tree().root();
        root
    }

    /// The cells of each key: all in a row.
    fn by_key(&self) -> impl Iterator<Item = &[(CellKey, Version)]> {
        self.entries.chunk_by(|(a, _), (b, _)| a.key == b.key)
    }
}

/// Whether a key has no value: it has nothing but a tombstone of its own.
fn is_deleted(cells: &[(CellKey, Version)]) -> bool {
    let is_deletion =
        |(key, version): &(CellKey, Version)| key.part.is_empty() && version.tombstone;
    cells.iter().all(is_deletion)
}

/// Reads a folder. The error of a row that is damaged comes with what was read
/// before it.
fn scan(store: &DurableStore) -> (Loaded, Result<(), StoreError>) {
    let mut loaded = Loaded::default();
    let progress = Progress::new("reading cells");
    // The own cell of the key that is being read, which comes first.
    let mut own: Option<(Key, Timestamp)> = None;
    let scanned = store.scan(&mut |key, RowHead { version, .. }| {
        let timestamp = version.timestamp;
        if key.part.is_empty() {
            own = Some((key.key.clone(), timestamp));
        } else if own
            .as_ref()
            .is_some_and(|(of, own)| *of == key.key && *own >= timestamp)
        {
            // It is covered, as if it had never been.
            return;
        }
        loaded.latest = loaded.latest.max(timestamp.time);
        loaded.tombstones += u64::from(version.tombstone);
        loaded.entries.push((key, version));
        progress.set(loaded.entries.len() as u64, None);
    });
    let keys = loaded.by_key().filter(|cells| !is_deleted(cells)).count();
    loaded.keys = keys as u64;
    let quarantined = scanned.and_then(|()| store.quarantined());
    let quarantined = quarantined.map(|mut lost| {
        lost.retain(|(key, lost)| !is_replaced(&loaded, key, lost));
        loaded.quarantined = lost;
    });
    (loaded, quarantined)
}

/// Whether there is a cell in the place of one that was lost, or one that covers it.
fn is_replaced(loaded: &Loaded, key: &CellKey, lost: &Version) -> bool {
    let find = |key: &CellKey| {
        let entries = &loaded.entries;
        let place = entries.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        Some(entries.get(place)?.1)
    };
    let own = find(&CellKey::own(key.key.clone()));
    find(key) >= Some(*lost) || own.map(|own| own.timestamp) >= Some(lost.timestamp)
}

fn load(store: &DurableStore) -> Result<Loaded, Error> {
    let (loaded, scanned) = scan(store);
    scanned?;
    Ok(loaded)
}

fn status(output: Output, dir: &Path) -> Result<Answer, Error> {
    let store = open(dir)?;
    let loaded = load(&store)?;
    let status = Status {
        root: loaded.root().to_string(),
        keys: loaded.keys,
        cells: loaded.entries.len() as u64,
        tombstones: loaded.tombstones,
        disk_bytes: Some(store.disk_bytes()?),
        ..Status::default()
    };
    let lost = loaded.quarantined.len();
    let document = json!({
        "dir": dir.display().to_string(),
        "root": status.root,
        "latest": time(loaded.latest),
        "keys": status.keys,
        "cells": status.cells,
        "tombstones": status.tombstones,
        "disk_bytes": status.disk_bytes,
        "quarantined": lost,
    });
    output.either(&document, |output| {
        let title = output.paint(Tone::Strong, &dir.display().to_string());
        let mut lines = vec![
            ("root", status.root.clone()),
            ("last write", time(loaded.latest)),
            ("holds", status::holds(&status)),
        ];
        if lost > 0 {
            let cells = counted(lost as u64, "cell", "cells");
            let text = format!("{cells}: `mstctl verify` lists them");
            lines.push(("damaged", output.paint(Tone::Bad, &text)));
        }
        format!("{title}\n{}", status::layout(&lines, output))
    })?;
    Ok(Answer::Yes)
}

fn root(output: Output, dir: &Path) -> Result<Answer, Error> {
    let loaded = load(&open(dir)?)?;
    let root = loaded.root().to_string();
    let document = json!({ "root": root, "latest": time(loaded.latest) });
    output.either(&document, |_| root.clone())?;
    Ok(Answer::Yes)
}

fn keys(output: Output, dir: &Path, args: &Keys) -> Result<Answer, Error> {
    check_pattern(args)?;
    let pattern = args.pattern.as_deref();
    let pattern = pattern.and_then(|pattern| keyexpr::new(pattern).ok());
    let loaded = load(&open(dir)?)?;
    let matches = |key: &Key| match (pattern, key.as_key_expr()) {
        (None, _) => true,
        (Some(pattern), Some(key)) => intersect(pattern, key),
        (Some(_), None) => false,
    };
    let shown = loaded
        .by_key()
        .filter(|cells| args.deleted || !is_deleted(cells))
        .filter(|cells| cells.first().is_some_and(|(key, _)| matches(&key.key)));
    let limit = args.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut listing = Listing::new(output);
    for cells in shown.take(limit) {
        let Some((key, first)) = cells.first() else {
            continue;
        };
        let timestamps = cells.iter().map(|(_, version)| version.timestamp);
        let timestamp = timestamps.fold(first.timestamp, Ord::max);
        let key = key.key.to_string();
        listing.show(&listed(
            &key,
            timestamp,
            cells.len() as u64,
            is_deleted(cells),
        ))?;
    }
    Ok(Answer::Yes)
}

fn get(output: Output, dir: &Path, args: &Get) -> Result<Answer, Error> {
    let key = match args.key.is_empty() {
        true => Key::NONE,
        false => stored_key(&args.key, None)?,
    };
    let parts = open(dir)?.view().parts(&key)?;
    let cells: Vec<PartCell<'_>> = parts
        .iter()
        .map(|(part, cell)| PartCell {
            part: part.as_bytes(),
            cell,
        })
        .collect();
    let value = match Merged::fold(&cells).read(Form::Native) {
        Ok(value) => value,
        Err(error) => {
            note(&format!("mstctl: {error}"));
            None
        }
    };
    let reading = |cell: &Cell| {
        let value = cell.value()?;
        Some(Reading {
            payload: value.payload.to_vec(),
            encoding: encoding::text(value.encoding_id, value.schema.as_deref()),
            time: Some(cell.timestamp.time),
        })
    };
    let shown = Shown {
        key: key.to_string(),
        value: value.as_deref().and_then(reading),
        cells: raw(&cells).as_ref().map_or(json!([]), json_of),
        from: None,
    };
    get::show(output, &shown, args.value)
}

/// The JSON that a cell holds.
fn json_of(cell: &Cell) -> Value {
    let payload = cell.value().map(|value| &value.payload);
    let parsed = payload.and_then(|payload| serde_json::from_slice(payload).ok());
    parsed.unwrap_or(Value::Null)
}

fn verify(output: Output, dir: &Path) -> Result<Answer, Error> {
    let findings = examine(&open(dir)?)?;
    let document = json!({ "checked": findings.checked, "damaged": findings.damaged });
    output.either(&document, |output| findings.text(output))?;
    Ok(Answer::of(findings.damaged.is_empty()))
}

/// A damaged cell, in the form in which a router tells of it.
fn damage((key, version): &(CellKey, Version), reason: String) -> Value {
    json!({
        "key": key.key.to_string(),
        "part": hex::encode(key.part.as_bytes()),
        "timestamp": version.timestamp.to_string(),
        "reason": reason,
    })
}

/// Reads every cell, computes its digest, and compares it with the one that is
/// kept; and checks the tree of all.
fn examine(store: &DurableStore) -> Result<Findings, Error> {
    let (loaded, scanned) = scan(store);
    let mut findings = Findings::default();
    match scanned {
        Err(error) if error.is_damage() => {
            let reason = format!("{error}; what comes after it was not read");
            findings.damaged.push(json!({ "reason": reason }));
        }
        scanned => scanned?,
    }
    let progress = Progress::new("verifying");
    let of = Some(loaded.entries.len() as u64);
    for entry in &loaded.entries {
        let (key, version) = entry;
        let reason = match store.view().read(key) {
            Ok(Some((cell, _))) if Version::of(key, &cell) == *version => None,
            Ok(Some(_)) => Some("it is not what its digest says".to_owned()),
            Ok(None) => Some("it was there a moment ago, and is not".to_owned()),
            Err(error) if error.is_damage() => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let found = reason.map(|reason| damage(entry, reason));
        findings.damaged.extend(found);
        findings.checked += 1;
        progress.set(findings.checked, of);
    }
    let quarantined = loaded.quarantined.iter();
    let lost = "it was found damaged before, and no other replica has sent it since";
    let lost = quarantined.map(|entry| damage(entry, lost.to_owned()));
    findings.damaged.extend(lost);
    let Ok(checked) = loaded.tree().check();
    if let Err(violation) = checked {
        let reason = format!("the tree is wrong: {violation}");
        findings.damaged.push(json!({ "reason": reason }));
    }
    Ok(findings)
}

fn backup(context: &Context, dir: &Path, args: &Backup) -> Result<Answer, Error> {
    // The folder does not know what its storage is called in Zenoh.
    let Some(key_expr) = &context.global.storage else {
        return Err(Error::Usage(
            "a folder does not know its key expression: give it with -s, and what the storage \
             takes off its keys with --strip-prefix"
                .to_owned(),
        ));
    };
    if is_standard(&args.file) {
        return Err(Error::Usage(
            "with --dir a backup goes to a file, not to `-`".to_owned(),
        ));
    }
    let store = open(dir)?;
    let loaded = load(&store)?;
    let header = Header {
        key_expr: key_expr.clone(),
        strip_prefix: args.strip_prefix.clone(),
        cut: loaded.latest.saturating_add(1),
        root: loaded.root(),
        cells: loaded.entries.len() as u64,
        // What its router was told, and not its data.
        rules: String::new(),
        replica: None,
        storage: dir.file_name().unwrap_or_default().to_string_lossy().into(),
    };
    let mut file = Unfinished::create(&args.file, args.force)?;
    write(&store, &loaded, &header, &mut file, &args.file)?;
    let header = backup::complete(file, &args.file)?;
    let bytes = fs::metadata(&args.file).map_err(file_error("read", &args.file))?;
    backup::said(context.output, &args.file, &header, bytes.len(), None)
}

fn write(
    store: &DurableStore,
    loaded: &Loaded,
    header: &Header,
    file: &mut Unfinished,
    path: &Path,
) -> Result<(), Error> {
    let damaged = backup_error(path);
    let progress = Progress::new("backing up");
    let mut writer = BackupWriter::new(file, header).map_err(&damaged)?;
    for (done, (key, version)) in loaded.entries.iter().enumerate() {
        let cell = store.read(key, *version)?;
        let cell = cell.ok_or_else(|| Error::Place {
            path: path.to_owned(),
            problem: format!("it was not made: the value of `{}` is gone", key.key),
        })?;
        writer.push(key, version, &cell).map_err(&damaged)?;
        progress.set(done as u64 + 1, Some(header.cells));
    }
    writer.finish().map_err(&damaged)?;
    Ok(())
}

/// Restores into a folder of another name, which gets its own when all is there.
fn restore(output: Output, dir: &Path, args: &Restore) -> Result<Answer, Error> {
    if args.force_key_expr {
        return Err(Error::Usage(
            "--force-key-expr is for a live storage; a folder takes any backup".to_owned(),
        ));
    }
    let unfinished = vacant(dir)?;
    let header = verified(&args.file)?;
    let filled = fill(&unfinished, &args.file, &header);
    if filled.is_err() {
        // The error says more than a failure to clean up.
        let _ = fs::remove_dir_all(&unfinished);
    }
    filled?;
    if dir.is_dir() {
        fs::remove_dir(dir).map_err(file_error("replace", dir))?;
    }
    fs::rename(&unfinished, dir).map_err(file_error("rename", &unfinished))?;
    sync_parent(dir)?;
    let document = json!({
        "dir": dir.display().to_string(),
        "cells": header.cells,
        "root": header.root.to_string(),
        "verified": true,
    });
    output.either(&document, |output| {
        let made = format!(
            "{}: restored, and verified: its root is the backup's",
            dir.display()
        );
        format!(
            "{}\n{}",
            output.paint(Tone::Good, &made),
            verify::text(&header)
        )
    })?;
    Ok(Answer::Yes)
}

/// Where a folder is to be made that is not there, or empty. What an earlier restore
/// has left, that was killed, is removed.
fn vacant(dir: &Path) -> Result<PathBuf, Error> {
    if dir.exists() {
        let mut entries = fs::read_dir(dir).map_err(file_error("list", dir))?;
        if entries.next().is_some() {
            return Err(Error::Place {
                path: dir.to_owned(),
                problem: "a backup is restored into a folder that is missing or empty: choose \
                          another, or move this one away"
                    .to_owned(),
            });
        }
    }
    let unfinished = with_suffix(dir, RESTORING);
    if !unfinished.exists() {
        return Ok(unfinished);
    }
    let is_ours = [FORMAT, UNFINISHED_FORMAT]
        .iter()
        .any(|name| unfinished.join(name).is_file());
    if !is_ours {
        return Err(Error::Place {
            path: unfinished,
            problem: "it is in the way, and not left behind by a restore: move it away".to_owned(),
        });
    }
    note(&format!(
        "removing {}, which a restore did not finish",
        unfinished.display()
    ));
    // Whoever is at it at this moment keeps it.
    drop(DurableStore::open(&unfinished, CACHE)?);
    fs::remove_dir_all(&unfinished).map_err(file_error("remove", &unfinished))?;
    Ok(unfinished)
}

fn fill(dir: &Path, path: &Path, header: &Header) -> Result<(), Error> {
    let damaged = backup_error(path);
    let store = DurableStore::open(dir, CACHE)?;
    let mut reader = BackupReader::open(files::open(path)?).map_err(&damaged)?;
    let progress = Progress::new("restoring");
    let mut done = 0;
    while let Some(frame) = reader.next_frame().map_err(&damaged)? {
        let frame = frame.into_iter().map(|(key, cell)| Write {
            version: Version::of(&key, &cell),
            cell: cell.into(),
            key,
        });
        let batch: Vec<Write> = frame.collect();
        done += batch.len() as u64;
        store.apply(&batch.into())?;
        progress.set(done, Some(header.cells));
    }
    store.flush()?;
    let root = load(&store)?.root();
    match root == header.root {
        true => Ok(()),
        false => Err(Error::Place {
            path: dir.to_owned(),
            problem: format!(
                "what was restored has the root {root}, and not the backup's, {}; it was removed",
                header.root
            ),
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use zenoh_backend_mst::cell::{Content, Part, Value as CellValue};

    use super::*;

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
        super::write(&store, &loaded, &header, &mut unfinished, &file).expect("written");
        assert_eq!(backup::complete(unfinished, &file).expect("sound"), header);
        let args = Restore {
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
}
