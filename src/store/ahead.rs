//! The write-ahead log of a durable store: cells that are committed before they are in
//! their rows.
//!
//! An entry holds the cells of a group in one piece, and costs the engine what one row
//! does; a row for each costs it a place in an ordered list. So in a burst the groups are
//! written here, and go to their rows when there is time for it.
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

/// Bytes of an entry for which room is kept, to make the next in.
const ROOM: usize = 2 << 20;

pub(super) struct Ahead {
    path: PathBuf,
    /// By their numbers, as eight bytes, big-endian.
    entries: Keyspace,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The numbers of the entries that there are.
    numbers: Range<u64>,
    room: Vec<u8>,
}

impl Ahead {
    pub(super) fn new(path: PathBuf, entries: Keyspace) -> Self {
        Self {
            path,
            entries,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Adds an entry, of `cells`, and commits `batch`.
    pub(super) fn append<'a>(
        &self,
        mut batch: OwnedWriteBatch,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        let State { numbers, room } = &mut *state;
        room.clear();
        cells.for_each(|(key, cell)| write_ahead(key, cell, room));
        batch.insert(&self.entries, numbers.end.to_be_bytes(), room.as_slice());
        room.shrink_to(ROOM);
        batch.commit().map_err(|error| self.failed(error))?;
        numbers.end += 1;
        Ok(())
    }

    /// Removes all entries, and commits `batch`.
    pub(super) fn clear(&self, mut batch: OwnedWriteBatch) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.numbers.is_empty() {
            return Ok(());
        }
        // Should this be lost with the power, so that they are there again, nothing is
        // amiss: but what is in rows must not be lost while this is not. The engine
        // keeps the order.
        for number in state.numbers.clone() {
            batch.remove(&self.entries, number.to_be_bytes());
        }
        batch.commit().map_err(|error| self.failed(error))?;
        state.numbers.start = state.numbers.end;
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
        self.state().numbers = numbers;
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
