//! After a crash: the rows of what the log has and the rows have not.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::{CellStore as _, DurableStore, RowBatch, StoreError, Write, is_apart};
use crate::cell::{CellKey, Row, Version};

/// Rows that are written at a time when the log is applied at opening.
const CAUGHT_UP_AT_ONCE: usize = 4096;

/// Of each cell the newest.
#[derive(Default)]
pub(super) struct Newest(pub(super) BTreeMap<CellKey, Write>);

impl Newest {
    pub(super) fn join(&mut self, write: Write) {
        let other = self.0.get(&write.key);
        if other.is_none_or(|other| other.version < write.version) {
            self.0.insert(write.key.clone(), write);
        }
    }
}

impl DurableStore {
    /// Writes the rows of what was committed and not applied when the process ended.
    pub(super) fn catch_up(&self, newest: Newest, is_journal_lost: bool) -> Result<(), StoreError> {
        let (logged, mut written) = (newest.0.len(), 0);
        let mut writes = newest.0.into_values().peekable();
        while writes.peek().is_some() {
            let some = writes.by_ref().take(CAUGHT_UP_AT_ONCE);
            let batch = self.newer_rows(some, is_journal_lost)?;
            written += batch.puts.len();
            self.apply(&batch)?;
        }
        let last = self.wal.last();
        if last > self.applied.load(Ordering::Relaxed) {
            self.apply(&RowBatch {
                applied: Some(last),
                ..RowBatch::default()
            })?;
        }
        if logged > 0 {
            let rows = self.engine.rows();
            let path = rows.path.display();
            tracing::info!(
                "{path}: of {logged} cells in the write-ahead log, {written} were not in their rows"
            );
        }
        Ok(())
    }

    /// The rows of those cells that are newer than theirs; of the others of the same version too, if
    /// their payloads may be lost.
    pub(super) fn newer_rows(
        &self,
        writes: impl Iterator<Item = Write>,
        may_lack_payloads: bool,
    ) -> Result<RowBatch, StoreError> {
        let mut batch = RowBatch::default();
        for write in writes {
            let found = self.row_head(&write.key)?;
            let is_newer = found.is_none_or(|found| {
                let (found, new) = (found.0, write.version);
                found < new || (may_lack_payloads && found == new)
            });
            if !is_newer {
                continue;
            }
            if found.is_some_and(|(_, is_apart)| is_apart) && !is_apart(&write.cell) {
                batch.stale_payloads.push(write.key.clone());
            }
            batch.puts.push(write);
        }
        Ok(batch)
    }

    /// What the row of a key says of its cell, and whether its payload has a row of its own.
    pub(super) fn row_head(&self, key: &CellKey) -> Result<Option<(Version, bool)>, StoreError> {
        let rows = self.engine.rows();
        let key_bytes = key.to_canonical();
        let row = rows.cells.get(&key_bytes).map_err(rows.failed("read"))?;
        let head = row.map(|row| Row::decode_head(&row)).transpose();
        head.map_err(rows.damaged(&key_bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        cell::{Cell, Content, Timestamp, Value, tests::key},
        store::Commit,
    };

    const CACHE: u64 = 4 << 20;

    /// The tables of rows may be newer than those of payloads.
    #[test]
    fn payloads_that_a_lost_journal_had_come_from_the_whole_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableStore::open(folder.path(), CACHE).expect("made");
        let writes: Vec<Write> = (0..20)
            .map(|number| {
                let content = Content::Value(Value {
                    encoding_id: 0,
                    schema: None,
                    attachment: None,
                    payload: vec![number; 3000].into(),
                });
                let timestamp = Timestamp {
                    time: 1,
                    id: [1; 16],
                };
                let key = CellKey::own(key(&format!("k/{number}")));
                Write::of(key, Cell { timestamp, content })
            })
            .collect();
        for write in &writes {
            let mut group = std::iter::once((&write.key, &*write.cell));
            let number = store.append(&mut group, Commit::Synced).expect("appended");
            let batch = RowBatch {
                applied: Some(number),
                ..RowBatch::from(vec![write.clone()])
            };
            store.apply(&batch).expect("applied");
        }
        let rows = store.engine.rows();
        rows.cells.rotate_memtable().expect("rotated");
        let written = store.engine.wait_for_tables_of(&rows.cells);
        written.expect("rows are in a table");
        drop((rows, store));
        for entry in fs::read_dir(folder.path().join("cells")).expect("listed") {
            let path = entry.expect("listed").path();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                fs::remove_file(path).expect("removed");
            }
        }

        let store = DurableStore::open(folder.path(), CACHE).expect("opened");

        assert!(store.engine.is_journal_lost);
        let view = store.view();
        for write in writes {
            let found = view.read(&write.key).expect("whole").expect("there");
            assert_eq!(found, (write.cell, write.version));
        }
    }
}
