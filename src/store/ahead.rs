//! The write-ahead log of a durable store: cells that are committed before they are in
//! their rows.
//!
//! An entry holds a dozen cells, say, and costs the engine less than one row does: a row
//! has its place among all others. So in a burst groups are written here, and go to their
//! rows when there is time for it.
//!
//! Whoever writes sees to it that nothing else is written to a row while there are
//! entries of its key, and removes the entries only when their cells are in rows. So what
//! is read here after a crash is to be joined with the rows, and it does not matter
//! whether that was done in part before.

use std::{
    collections::{btree_map::Entry, BTreeMap},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fjall::{Keyspace, OwnedWriteBatch};

use super::{StoreError, Write};
use crate::cell::{read_ahead, write_ahead, Cell, CellKey, CellMeta, DecodeError};

/// Bytes up to which cells share an entry.
///
/// An entry is less than a page. Should the power fail while a group is being written, so
/// that the engine's log has some pages of it and not others, each page that is missing
/// was to have the beginning of an entry in it: so the engine sees that there is none, and
/// drops the group, as it is to. Within a larger entry it would take it for damage.
const MAX_ENTRY: usize = 3 << 10;

pub(super) struct Ahead {
    path: PathBuf,
    /// By their numbers, as eight bytes, big-endian.
    entries: Keyspace,
    /// The numbers of those that have cells.
    numbers: Mutex<Range<u64>>,
}

impl Ahead {
    pub(super) fn new(path: PathBuf, entries: Keyspace) -> Self {
        Self {
            path,
            entries,
            numbers: Mutex::default(),
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Range<u64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: fjall::Error) -> StoreError {
        StoreError::Engine {
            action: "use the write-ahead log of",
            path: self.path.clone(),
            source: Box::new(source),
        }
    }

    fn damaged(&self, entry: u64, source: DecodeError) -> StoreError {
        StoreError::Ahead {
            path: self.path.clone(),
            entry,
            source,
        }
    }

    pub(super) fn keyspace(&self) -> &Keyspace {
        &self.entries
    }

    /// Adds entries, of `cells`, and commits `batch`.
    pub(super) fn append<'a>(
        &self,
        mut batch: OwnedWriteBatch,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
    ) -> Result<(), StoreError> {
        let mut numbers = self.numbers();
        let mut end = numbers.end;
        let mut add = |entry: &[u8]| {
            batch.insert(&self.entries, end.to_be_bytes(), entry);
            end += 1;
        };
        let mut entry = Vec::with_capacity(2 * MAX_ENTRY);
        for (key, cell) in cells {
            let whole = entry.len();
            write_ahead(key, cell, &mut entry);
            if whole > 0 && entry.len() > MAX_ENTRY {
                add(&entry[..whole]);
                entry.drain(..whole);
            }
        }
        if !entry.is_empty() {
            add(&entry);
        }
        batch.commit().map_err(|error| self.failed(error))?;
        numbers.end = end;
        Ok(())
    }

    /// Removes all entries, and commits `batch`. The next ones have the same numbers: what
    /// is left of these, in the files of the engine, is merged with what will be of those.
    pub(super) fn clear(&self, mut batch: OwnedWriteBatch) -> Result<(), StoreError> {
        let mut numbers = self.numbers();
        if numbers.is_empty() {
            return Ok(());
        }
        for number in numbers.clone().skip(1) {
            batch.remove(&self.entries, number.to_be_bytes());
        }
        // One is left, with no cells: of a keyspace that has nothing at all the engine does
        // not know up to where its log is in files, and keeps all of the log.
        batch.insert(&self.entries, numbers.start.to_be_bytes(), []);
        batch.commit().map_err(|error| self.failed(error))?;
        *numbers = 0..0;
        // Or they would go on to take memory.
        self.entries
            .rotate_memtable()
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Of each cell the newest that there is, ascending by key. To be called once, before
    /// anything is added. What cannot be read is left out, if `on_damage` does not fail.
    pub(super) fn read(
        &self,
        on_damage: impl Fn(StoreError) -> Result<(), StoreError>,
    ) -> Result<Vec<Write>, StoreError> {
        let mut newest: BTreeMap<CellKey, (Arc<Cell>, CellMeta)> = BTreeMap::new();
        let mut numbers = 0..0;
        for entry in self.entries.iter() {
            let (key, entry) = match entry.into_inner() {
                Ok(entry) => entry,
                Err(error) => {
                    // The engine does not say where it would go on.
                    on_damage(self.failed(error))?;
                    break;
                }
            };
            let number = match <[u8; size_of::<u64>()]>::try_from(&*key) {
                Ok(number) => u64::from_be_bytes(number),
                Err(_) => {
                    on_damage(self.damaged(numbers.end, DecodeError::Trailing(key.len())))?;
                    continue;
                }
            };
            if entry.is_empty() {
                continue;
            }
            if numbers.is_empty() {
                numbers.start = number;
            }
            numbers.end = number.saturating_add(1);
            for cell in read_ahead(&entry) {
                match cell {
                    Ok((key, cell)) => join(&mut newest, key, cell),
                    Err(error) => on_damage(self.damaged(number, error))?,
                }
            }
        }
        *self.numbers() = numbers;
        let newest = newest.into_iter();
        let writes = newest.map(|(key, (cell, meta))| Write { key, cell, meta });
        Ok(writes.collect())
    }
}

fn join(newest: &mut BTreeMap<CellKey, (Arc<Cell>, CellMeta)>, key: CellKey, cell: Cell) {
    let meta = CellMeta::of(&key, &cell);
    match newest.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert((Arc::new(cell), meta));
        }
        Entry::Occupied(mut other) if other.get().1.version < meta.version => {
            other.insert((Arc::new(cell), meta));
        }
        Entry::Occupied(_) => {}
    }
}
