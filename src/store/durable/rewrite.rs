//! Writing all rows anew, into keyspaces of their own, and letting go of those that had them.
//!
//! It is how a store gets rid of two things that the engine keeps: versions of rows that were
//! overwritten, of which it merges away only some, and only while it is written to; and a block of a
//! file that cannot be read, which would stop every scan, and the engine itself as soon as it merges the
//! file, although all cells of it were replaced long ago.
//!
//! ```text
//! begin     the next keyspaces are made: the target. From now on every change of rows is made to both
//! copy      the keys are walked, and the rows copied, some at a time, as they are then
//! finish    the target is written to tables; ROWS says that it has the rows; the others are deleted
//! ```
//!
//! Until `ROWS` is renamed the old rows are the store's, and a crash leaves the target to be removed at the
//! next opening. Meanwhile the log lets go only of what is in tables of both.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
};

use super::{
    CellStore as _, Commit, DurableStore, KeyWalk, StoreError,
    current::Current,
    engine::Engine,
    folder::io_error,
    rows::{APPLIED_KEY, Rows},
};
use crate::cell::Row;

/// Keys that are copied while others wait, and bytes of these at about the most.
const COPIED_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 2 << 20;

/// Bytes that the disk has to have left beside those of the rows.
const ROOM: u64 = 48 << 20;

/// A part of all rows, of which so many have to change before one looks how much is not needed.
const LOOK_AFTER: u64 = 16;

/// What tells whether it is time to rewrite.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Since one looked last.
    changed_rows: u64,
    changed_bytes: u64,
    /// Rows that there were then.
    rows: u64,
}

impl Upkeep {
    /// That a batch changed so much.
    pub(super) fn note(&mut self, rows: usize, bytes: u64) {
        self.changed_rows += rows as u64;
        self.changed_bytes += bytes;
    }

    /// Whether so much has changed that it is worth while to look.
    fn is_due(&self, used: u64, slack: u64) -> bool {
        let is_much = self.changed_rows > 0 && self.changed_rows >= self.rows / LOOK_AFTER;
        used > slack && (is_much || self.changed_bytes >= used / LOOK_AFTER)
    }
}

/// Whether files of so many bytes are too much for rows of so many.
fn is_wasteful(used: u64, live: u64, slack: u64) -> bool {
    used > live.saturating_mul(2).saturating_add(slack)
}

/// Bytes that the files below a folder take on the disk.
pub(super) fn used_bytes(path: &Path) -> Result<u64, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = match fs::symlink_metadata(path) {
        // The engine removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        metadata => metadata.map_err(io_error("read", path))?,
    };
    let mut used = metadata.blocks() * 512;
    if metadata.is_dir() {
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(io_error("list", path))?,
        };
        for entry in entries {
            used += used_bytes(&entry.map_err(io_error("list", path))?.path())?;
        }
    }
    Ok(used)
}

/// Whether the disk has room for rows of so many bytes beside those that are there: a disk that is full
/// would fail the storage.
fn has_room(path: &Path, live: u64) -> Result<(), StoreError> {
    let disk = rustix::fs::statvfs(path).map_err(io::Error::from);
    let disk = disk.map_err(io_error("measure the disk of", path))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = live.saturating_add(live / 2).saturating_add(ROOM);
    match free >= needed {
        true => Ok(()),
        false => Err(StoreError::Room {
            path: path.to_owned(),
            needed,
            free,
        }),
    }
}

impl DurableStore {
    pub(super) fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_rewrite_worthwhile(&self, is_quiet: bool) -> Result<bool, StoreError> {
        let rows = self.engine.rows();
        if rows.is_damaged.load(Ordering::Relaxed) {
            // How much of it can be read is not known.
            let tables = rows.cells.disk_space() + rows.payloads.disk_space();
            return has_room(&rows.path, tables).map(|()| true);
        }
        if !is_quiet {
            return Ok(false);
        }
        let used = used_bytes(&rows.path)?;
        if !self.upkeep().is_due(used, self.tuning.slack) {
            return Ok(false);
        }
        let (count, live) = self.live()?;
        *self.upkeep() = Upkeep {
            rows: count,
            ..Upkeep::default()
        };
        match is_wasteful(used, live, self.tuning.slack) {
            true => has_room(&rows.path, live).map(|()| true),
            false => Ok(false),
        }
    }

    /// How many rows there are, and their bytes.
    fn live(&self) -> Result<(u64, u64), StoreError> {
        let rows = self.engine.rows();
        let (mut count, mut live) = (0, 0);
        for row in rows.cells.iter() {
            let (key, row) = row.into_inner().map_err(rows.failed("scan"))?;
            count += 1;
            live += (key.len() + row.len()) as u64;
            if Row::decode_head(&row).is_ok_and(|(_, is_apart)| is_apart) {
                let payload = rows.payloads.size_of(&key).map_err(rows.failed("read"))?;
                live += u64::from(payload.unwrap_or_default());
            }
        }
        Ok((count, live))
    }

    pub(super) fn rewrite_rows(&self, walk: &mut KeyWalk<'_>) -> Result<bool, StoreError> {
        self.begin_rewrite()?;
        let mut copied = Ok(());
        let mut keys = Vec::with_capacity(COPIED_AT_ONCE);
        let is_complete = walk(&mut |key| {
            keys.push(key.to_canonical());
            if keys.len() == COPIED_AT_ONCE {
                copied = self.copy(&std::mem::take(&mut keys));
            }
            copied.is_ok()
        });
        let copied = copied.and_then(|()| self.copy(&keys));
        let mut is_undecided = false;
        let finished = match (is_complete, copied) {
            (true, Ok(())) => self.finish_rewrite(&mut is_undecided).map(|()| true),
            (false, Ok(())) => Ok(false),
            (_, Err(error)) => Err(error),
        };
        if !is_undecided && !matches!(finished, Ok(true)) {
            self.abandon_rewrite()?;
        }
        finished
    }

    fn begin_rewrite(&self) -> Result<(), StoreError> {
        let mut target = self.engine.target();
        let rows = self.engine.rows();
        // Before there is anything else, so that it is known what that is.
        self.current(&rows).write(&rows.path)?;
        let Engine {
            database,
            memtables,
            ..
        } = &self.engine;
        let next = memtables.rows(database, &rows.path, rows.generation + 1)?;
        let applied = self.applied.load(Ordering::Relaxed).to_be_bytes();
        let ids = next.cells.id().max(next.payloads.id());
        self.engine.last_keyspace.fetch_max(ids, Ordering::Relaxed);
        let inserted = next.cells.insert(APPLIED_KEY, applied);
        inserted.map_err(rows.failed("write to"))?;
        *target = Some(Arc::new(next));
        Ok(())
    }

    fn current(&self, rows: &Rows) -> Current {
        let last = self.engine.last_keyspace.load(Ordering::Relaxed);
        Current::of(rows, self.engine.quarantine.id(), last)
    }

    /// Copies rows as they are now. What cannot be read is not copied, and missed by whoever reads it
    /// next.
    fn copy(&self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            // While it is held nobody changes rows.
            let target = self.engine.target();
            let Some(new) = target.as_deref() else {
                return Ok(());
            };
            let rows = self.engine.rows();
            let mut batch = self.batch(2 * COPIED_AT_ONCE, Commit::Buffered);
            let mut bytes = 0;
            while let Some(key) = keys.next_if(|_| bytes < BYTES_AT_ONCE) {
                let Some(row) = read_or_miss(rows.cells.get(key), &rows)? else {
                    continue;
                };
                if Row::decode_head(&row).is_ok_and(|(_, is_apart)| is_apart)
                    && let Some(payload) = read_or_miss(rows.payloads.get(key), &rows)?
                {
                    bytes += payload.len();
                    batch.insert(&new.payloads, key.as_slice(), payload);
                }
                bytes += key.len() + row.len();
                batch.insert(&new.cells, key.as_slice(), row);
            }
            batch.commit().map_err(rows.failed("write to"))?;
        }
        Ok(())
    }

    /// Sets `is_undecided` where it is not known which rows are the store's: then both have to stay.
    fn finish_rewrite(&self, is_undecided: &mut bool) -> Result<(), StoreError> {
        let new = {
            let target = self.engine.target();
            let Some(new) = &*target else {
                return Ok(());
            };
            // At one moment, and after the log, as whenever tables are written.
            self.wal.sync()?;
            for keyspace in [&new.cells, &new.payloads] {
                let rotated = keyspace.rotate_memtable();
                rotated.map_err(new.failed("flush"))?;
            }
            self.engine.compaction.written(new);
            Arc::clone(new)
        };
        for keyspace in [&new.cells, &new.payloads] {
            self.engine.wait_for_tables_of(keyspace)?;
        }
        self.engine.sync()?;
        let old = {
            let mut target = self.engine.target();
            // The file may have its name although an error is returned.
            *is_undecided = true;
            self.current(&new).write(&new.path)?;
            *is_undecided = false;
            *target = None;
            std::mem::replace(&mut *self.engine.current_mut(), Arc::clone(&new))
        };
        *self.upkeep() = Upkeep::default();
        self.delete(&old)?;
        drop(old);
        // When a table is written the engine looks which of its journals it needs.
        {
            let _target = self.engine.target();
            let applied = self.applied.load(Ordering::Relaxed).to_be_bytes();
            let inserted = new.cells.insert(APPLIED_KEY, applied);
            inserted.map_err(new.failed("write to"))?;
        }
        self.flush()
    }

    fn abandon_rewrite(&self) -> Result<(), StoreError> {
        let Some(target) = self.engine.target().take() else {
            return Ok(());
        };
        // Its numbers are not given again.
        let rows = self.engine.rows();
        self.current(&rows).write(&rows.path)?;
        self.delete(&target)
    }

    /// The files go when nobody reads them any more.
    fn delete(&self, rows: &Rows) -> Result<(), StoreError> {
        for keyspace in [&rows.cells, &rows.payloads] {
            let deleted = self.engine.database.delete_keyspace(keyspace.clone());
            deleted.map_err(rows.failed("write to"))?;
        }
        Ok(())
    }
}

/// What the engine has, and nothing where it says that its file is damaged.
fn read_or_miss<T>(read: fjall::Result<Option<T>>, rows: &Rows) -> Result<Option<T>, StoreError> {
    match read.map_err(rows.failed("read")) {
        Err(error) if error.is_damage() => Ok(None),
        read => read,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

    use super::*;
    use crate::{
        cell::{Cell, CellKey, Content, Timestamp, Value, Version, tests::key},
        store::{QuarantineStore as _, RowBatch, StoreTuning, Write},
    };

    pub(in crate::store::durable) const CACHE: u64 = 4 << 20;

    pub(in crate::store::durable) type Model = BTreeMap<CellKey, (Arc<Cell>, Version)>;

    pub(in crate::store::durable) fn write(number: u32, time: u64, length: usize) -> Write {
        let key = CellKey::own(key(&format!("k/{number:05}")));
        // Such as does not compress.
        let mut state = u64::from(number) << 32 | time | 1;
        let payload = (0..length).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        let cell = Cell {
            timestamp: Timestamp { time, id: [9; 16] },
            content: Content::Value(Value {
                encoding_id: 0,
                schema: None,
                attachment: None,
                payload: payload.collect(),
            }),
        };
        let (version, cell) = (Version::of(&key, &cell), Arc::new(cell));
        Write { key, cell, version }
    }

    /// As a replica does when the watermark passes.
    pub(in crate::store::durable) fn put(
        store: &DurableStore,
        model: &mut Model,
        writes: Vec<Write>,
    ) {
        let mut cells = writes.iter().map(|write| (&write.key, &*write.cell));
        let applied = Some(
            store
                .append(&mut cells, Commit::Buffered)
                .expect("appended"),
        );
        let rows = writes.iter();
        model.extend(
            rows.map(|write| (write.key.clone(), (Arc::clone(&write.cell), write.version))),
        );
        let batch = RowBatch {
            applied,
            ..RowBatch::from(writes)
        };
        store.apply(&batch).expect("applied");
    }

    pub(in crate::store::durable) fn rewrite(store: &DurableStore, model: &Model) -> bool {
        let rewritten = store.rewrite(&mut |visit| model.keys().all(visit));
        rewritten.expect("rewritten")
    }

    pub(in crate::store::durable) fn assert_holds(store: &DurableStore, model: &Model) {
        let mut found = Vec::new();
        let mut visit = |key, row: crate::store::RowRead| {
            found.push((key, row.expect("whole")));
            true
        };
        store.view().scan(None, &mut visit).expect("a scan");
        let expected: Vec<_> = model.clone().into_iter().collect();
        assert_eq!(found, expected);
    }

    /// The names and lengths of all that is below a folder.
    fn listing(folder: &Path) -> io::Result<BTreeMap<PathBuf, u64>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let (path, metadata) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
            match metadata.is_dir() {
                true => found.extend(listing(&path)?),
                false => drop(found.insert(path, metadata.len())),
            }
        }
        Ok(found)
    }

    fn try_copy(from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => try_copy(&entry.path(), &target)?,
                false => drop(fs::copy(entry.path(), target)?),
            }
        }
        Ok(())
    }

    /// Copies a folder that is in use, while nothing in it changes: the engine may be merging files.
    fn copy(from: &Path, to: &Path) {
        loop {
            let before = listing(from).ok();
            let is_copied = try_copy(from, to).is_ok();
            if is_copied && before.is_some() && before == listing(from).ok() {
                return;
            }
            fs::remove_dir_all(to).expect("removed");
        }
    }

    #[test]
    fn one_looks_when_much_has_changed() {
        let mut upkeep = Upkeep::default();
        assert!(!upkeep.is_due(1001, 1000), "nothing has");
        upkeep.rows = 1600;
        upkeep.note(99, 0);
        assert!(!upkeep.is_due(1001, 1000));
        upkeep.note(1, 0);
        assert!(upkeep.is_due(1001, 1000) && !upkeep.is_due(1000, 1000));
        assert!(is_wasteful(211, 100, 10) && !is_wasteful(210, 100, 10));
    }

    #[test]
    fn a_disk_without_room_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        has_room(folder.path(), 0).expect("a little");
        let error = has_room(folder.path(), u64::MAX / 4).expect_err("no disk is so large");
        assert!(
            matches!(error, StoreError::Room { .. }) && !error.is_damage(),
            "{error}"
        );
    }

    #[test]
    fn what_was_overwritten_gives_its_space_back() {
        let length = std::env::var("MST_SPACE_LENGTH").ok();
        let length = length.map_or(20_000, |length| length.parse().expect("a number"));
        let live = 200 * length as u64;
        let folder = tempfile::tempdir().expect("a folder");
        // Such buffers as a storage has by default.
        let cache = 64 << 20;
        let tuning = StoreTuning {
            slack: 1 << 20,
            ..StoreTuning::of_cache(cache)
        };
        let open = || DurableStore::open_tuned(folder.path(), cache, tuning).expect("opened");
        let tables = |store: &DurableStore| {
            let rows = store.engine.rows();
            rows.cells.disk_space() + rows.payloads.disk_space()
        };
        let store = open();
        let mut model = Model::new();
        for time in 1..=30 {
            put(
                &store,
                &mut model,
                (0..200).map(|n| write(n, time, length)).collect(),
            );
        }
        store.flush().expect("flushed");
        let before = tables(&store);
        assert!(
            before > 3 * live,
            "there is something to give back: {before}"
        );
        assert!(
            !store.wants_rewrite(false).expect("measured"),
            "it is not quiet"
        );
        assert!(store.wants_rewrite(true).expect("measured"));

        assert!(rewrite(&store, &model));

        let after = used_bytes(folder.path()).expect("measured");
        assert!(after <= 5 * live + (64 << 20), "{before}, then {after}");
        assert!(tables(&store) < 2 * live, "{}", tables(&store));
        assert!(
            !store.wants_rewrite(true).expect("measured"),
            "once is enough"
        );
        assert_holds(&store, &model);
        drop(store);
        let store = open();
        assert_holds(&store, &model);
    }

    #[test]
    fn what_is_written_meanwhile_is_there_and_a_crash_loses_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, images) = (folder.path().join("store"), folder.path().join("images"));
        let store = DurableStore::open(&dir, CACHE).expect("opened");
        let mut model = Model::new();
        put(
            &store,
            &mut model,
            (0..1200).map(|n| write(n, 1, 10)).collect(),
        );
        put(
            &store,
            &mut model,
            (0..50).map(|n| write(n * 7, 2, 3000)).collect(),
        );
        let lost = write(40_000, 1, 2000);
        put(&store, &mut Model::new(), vec![lost.clone()]);
        for round in 0..3 {
            let keys: Vec<_> = model.keys().cloned().collect();
            let (mut seen, mut moments) = (0, Vec::new());
            let rewritten = store.rewrite(&mut |visit| {
                keys.iter().all(|key| {
                    seen += 1;
                    if seen % 300 == 150 {
                        let (number, time) = (seen, 10 * (round + 1) + u64::from(seen));
                        // Some that were copied, some that will be, one that is new.
                        let writes = [number - 140, number, number + 5, 50_000 + number];
                        let writes = writes.map(|n| write(n, time, 10 + n as usize % 3000));
                        put(&store, &mut model, writes.to_vec());
                        let removed = write(number - 100, 0, 0).key;
                        let removes = vec![(removed.clone(), true)];
                        let batch = RowBatch {
                            removes,
                            ..RowBatch::default()
                        };
                        store.apply(&batch).expect("applied");
                        model.remove(&removed);
                        store
                            .quarantine(&lost.key, &lost.version)
                            .expect("taken out");
                        store.flush().expect("flushed");
                        let image = images.join(format!("{round}-{seen}"));
                        copy(&dir, &image);
                        moments.push((image, model.clone()));
                    }
                    visit(key)
                })
            });
            assert!(rewritten.expect("rewritten"));
            assert_holds(&store, &model);
            let image = images.join(format!("{round}-end"));
            copy(&dir, &image);
            moments.push((image, model.clone()));
            assert!(moments.len() > 3);
            for (image, model) in moments {
                let store = DurableStore::open(&image, CACHE).expect("opened");
                assert_holds(&store, &model);
                assert_eq!(store.quarantined().expect("read").len(), 1);
                assert_eq!(
                    store.engine.database.keyspace_count(),
                    3,
                    "others are removed"
                );
                fs::remove_dir_all(&image).expect("removed");
            }
        }
    }

    #[test]
    fn one_that_breaks_off_leaves_all_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableStore::open(folder.path(), CACHE).expect("opened");
        let mut model = Model::new();
        put(
            &store,
            &mut model,
            (0..600).map(|n| write(n, 1, 10)).collect(),
        );
        let broken_off = store.rewrite(&mut |visit| {
            model.keys().take(300).all(visit);
            false
        });
        assert!(!broken_off.expect("broken off"));
        assert_holds(&store, &model);
        put(&store, &mut model, vec![write(3, 2, 10)]);
        assert!(rewrite(&store, &model));
        put(&store, &mut model, vec![write(4, 3, 10)]);
        drop(store);
        let store = DurableStore::open(folder.path(), CACHE).expect("opened again");
        assert_holds(&store, &model);
    }

    #[test]
    fn one_whose_end_is_not_known_leaves_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, image) = (folder.path().join("store"), folder.path().join("image"));
        let store = DurableStore::open(&dir, CACHE).expect("opened");
        let mut model = Model::new();
        let writes = (0..600).map(|n| write(n, 1, 10 + n as usize * 5));
        put(&store, &mut model, writes.collect());
        let in_the_way = dir.join("ROWS.new");
        let failed = store.rewrite(&mut |visit| {
            let is_complete = model.keys().all(visit);
            fs::create_dir(&in_the_way).expect("made");
            is_complete
        });
        let error = failed.expect_err("the file cannot be written");
        assert!(!error.is_damage(), "{error}");
        fs::remove_dir(&in_the_way).expect("removed");
        put(&store, &mut model, vec![write(7, 2, 10)]);
        // The file has its old contents; or its new ones, although an error was returned.
        copy(&dir, &image);
        let new = store.engine.target().clone().expect("it stays");
        store.current(&new).write(&dir).expect("written");
        drop((new, store));
        for (path, generation) in [(image, 0), (dir, 1)] {
            let store = DurableStore::open(&path, CACHE).expect("opened");
            assert_holds(&store, &model);
            assert_eq!(store.engine.rows().generation, generation);
            assert_eq!(store.engine.database.keyspace_count(), 3);
        }
    }

    /// The engine numbers keyspaces by the folders that are there.
    #[test]
    fn no_keyspace_has_the_number_of_one_that_was_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut model = Model::new();
        let mut last = 0;
        for round in 0..4 {
            let store = DurableStore::open(folder.path(), CACHE).expect("opened");
            put(&store, &mut model, vec![write(round, 1, 10)]);
            if round % 2 == 0 {
                let broken_off = store.rewrite(&mut |_| false);
                assert!(!broken_off.expect("broken off"));
            }
            // One that a crash leaves behind.
            store.begin_rewrite().expect("begun");
            let target = store.engine.target().clone().expect("begun");
            assert!(target.cells.id() > last && target.payloads.id() > last);
            last = target.cells.id().max(target.payloads.id());
        }
        let store = DurableStore::open(folder.path(), CACHE).expect("opened");
        assert_holds(&store, &model);
    }
}
