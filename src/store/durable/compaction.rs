//! Merging the engine's tables, by a thread of the store.
//!
//! The engine's own thread ends for good at the first block that it cannot read, although every cell of it
//! may have been replaced; and then it writes no more tables, either. So the engine is told to merge
//! nothing, and asked for one merge after another by a thread that survives it. A bad block that a merge
//! meets has the rows [rewritten](super::rewrite), like one that a reader meets.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use fjall::{AbstractTree as _, Database, Keyspace, compaction::Leveled};

use super::{StoreError, folder::io_error, rows::Rows};

/// How often one looks whether the tables are written that are to be merged.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tables of a keyspace that were not merged, at which nothing more is written if they cannot be: at 30
/// the engine has writers wait until they are (`Keyspace::check_write_halt` of fjall 3.1.13).
const MOST_UNMERGED: usize = 24;

/// A size that no level reaches.
const NEVER: u64 = 1 << 48;

/// What the engine's own thread follows: it merges neither because there are many tables, nor because a
/// level is large. It still moves tables whole, which reads none.
pub(super) fn none() -> Arc<Leveled> {
    let none = Leveled::default().with_l0_threshold(u8::MAX);
    Arc::new(none.with_table_target_size(NEVER))
}

/// A message to the thread.
enum Message {
    /// Tables of these rows are being written, and may have to be merged when they are.
    Written(Arc<Rows>),
    /// All that is to be merged was.
    #[cfg(test)]
    Settle(Sender<()>),
}

#[derive(Default)]
struct State {
    is_closing: AtomicBool,
    /// Why the last merge failed, if it did.
    error: Mutex<Option<StoreError>>,
}

impl State {
    fn error(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that has tables merged. It ends, after the merge that it is at, when this is dropped.
pub(super) struct Compaction {
    state: Arc<State>,
    sender: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Compaction {
    pub(super) fn start(database: Database, rows: &Arc<Rows>) -> Result<Self, StoreError> {
        let (sender, messages) = mpsc::channel();
        let state = Arc::new(State::default());
        let thread = Worker {
            database,
            state: Arc::clone(&state),
        };
        let thread = std::thread::Builder::new()
            .name("mst-compaction".to_owned())
            .spawn(move || thread.run(&messages))
            .map_err(io_error("start a thread for", &rows.path))?;
        let compaction = Self {
            state,
            sender: Some(sender),
            thread: Some(thread),
        };
        // What the last process left.
        compaction.written(rows);
        Ok(compaction)
    }

    /// Tables of these rows are being written.
    pub(super) fn written(&self, rows: &Arc<Rows>) {
        if let Some(sender) = &self.sender {
            // It is gone only after a panic, of which the log tells; then there is the bound.
            let _ = sender.send(Message::Written(Arc::clone(rows)));
        }
    }

    /// Before a write: whether there are so many tables that the engine would soon have writers wait for a
    /// merge that fails.
    ///
    /// # Errors
    /// Why it fails.
    pub(super) fn check(&self, rows: &Rows) -> Result<(), StoreError> {
        let mut keyspaces = [&rows.cells, &rows.payloads].into_iter();
        let mut is_full =
            || keyspaces.any(|keyspace| keyspace.tree.l0_run_count() >= MOST_UNMERGED);
        match self.state.error().take_if(|_| is_full()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits until all is merged that is to be.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let (done, is_done) = mpsc::channel();
        let sender = self.sender.as_ref().expect("it is not dropped");
        sender.send(Message::Settle(done)).expect("it runs");
        is_done.recv().expect("it runs");
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.state.is_closing.store(true, Ordering::Relaxed);
        drop(self.sender.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that merges tables has panicked");
        }
    }
}

/// How much of a keyspace there is of what a merge changes.
type Shape = (usize, usize, usize, usize, u64);

fn shape(keyspace: &Keyspace) -> Shape {
    (
        keyspace.tree.l0_run_count(),
        keyspace.l0_table_count(),
        keyspace.table_count(),
        keyspace.blob_file_count(),
        keyspace.disk_space(),
    )
}

struct Worker {
    database: Database,
    state: Arc<State>,
}

impl Worker {
    fn run(&self, messages: &Receiver<Message>) {
        let mut written: Vec<Arc<Rows>> = Vec::new();
        #[cfg(test)]
        let mut settled: Vec<Sender<()>> = Vec::new();
        loop {
            let message = match written.is_empty() {
                true => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => messages.recv_timeout(LOOK_EVERY),
            };
            match message {
                Ok(Message::Written(rows)) => {
                    if !written.iter().any(|other| Arc::ptr_eq(other, &rows)) {
                        written.push(rows);
                    }
                }
                #[cfg(test)]
                Ok(Message::Settle(done)) => settled.push(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            written.retain(|rows| {
                let is_being_written = rows.is_being_written();
                if !is_being_written {
                    self.merge(rows);
                }
                is_being_written
            });
            #[cfg(test)]
            if written.is_empty() {
                for done in settled.drain(..) {
                    let _ = done.send(());
                }
            }
        }
    }

    /// Merges as long as there is something to be merged.
    fn merge(&self, rows: &Rows) {
        for keyspace in [&rows.cells, &rows.payloads] {
            loop {
                if self.state.is_closing.load(Ordering::Relaxed) {
                    return;
                }
                let before = shape(keyspace);
                let snapshots = &self.database.supervisor.snapshot_tracker;
                let merged = keyspace.tree.compact(
                    Arc::new(Leveled::default()),
                    snapshots.get_seqno_safe_to_gc(),
                );
                if let Err(error) = merged {
                    let error = rows.failed("merge tables of")(error.into());
                    tracing::warn!("{error}");
                    *self.state.error() = Some(error);
                    return;
                }
                if shape(keyspace) == before {
                    break;
                }
            }
        }
        *self.state.error() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{
        super::{
            DurableStore,
            rewrite::tests::{CACHE, Model, assert_holds, put, rewrite, write},
        },
        *,
    };
    use crate::store::CellStore as _;

    /// As many tables as writes, each of all rows.
    fn put_often(store: &DurableStore, model: &mut Model, times: std::ops::Range<u64>) {
        for time in times {
            put(
                store,
                model,
                (0..500).map(|n| write(n, time, 2000)).collect(),
            );
            store.flush().expect("flushed");
        }
    }

    fn l0_runs(store: &DurableStore) -> [usize; 2] {
        let rows = store.engine.rows();
        [&rows.cells, &rows.payloads].map(|keyspace| keyspace.tree.l0_run_count())
    }

    /// A store in which a byte in the middle of each table of cells is another, and what it should hold.
    fn damaged(folder: &Path) -> (DurableStore, Model) {
        // So small a cache has no block of it.
        let store = DurableStore::open(folder, CACHE).expect("opened");
        let mut model = Model::new();
        put_often(&store, &mut model, 1..3);
        store.engine.compaction.settle();
        let tables = store.engine.rows().cells.path().join("tables");
        for table in fs::read_dir(&tables).expect("a folder") {
            let path = table.expect("an entry").path();
            let mut bytes = fs::read(&path).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("written");
        }
        (store, model)
    }

    #[test]
    fn tables_are_merged_by_the_store_and_not_by_the_engine() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableStore::open(folder.path(), CACHE).expect("opened");
        let mut model = Model::new();
        put_often(&store, &mut model, 1..20);
        store.engine.compaction.settle();
        let runs = l0_runs(&store);
        assert!(runs.iter().all(|runs| *runs < 4), "{runs:?}");
        assert_holds(&store, &model);
        // And for ever.
        let unmerged = fjall::KeyspaceCreateOptions::default().compaction_strategy(none());
        drop(store);
        let store = DurableStore::open(folder.path(), CACHE).expect("opened again");
        let rows = store.engine.rows();
        for keyspace in [&rows.cells, &rows.payloads] {
            assert_eq!(
                keyspace.config.compaction_strategy.get_config(),
                unmerged.compaction_strategy.get_config()
            );
        }
        assert_holds(&store, &model);
    }

    #[test]
    fn a_bad_block_that_a_merge_meets_stops_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, mut model) = damaged(folder.path());
        let rows = store.engine.rows();
        assert!(!rows.is_damaged.load(Ordering::Relaxed));
        put_often(&store, &mut model, 3..9);
        store.engine.compaction.settle();
        assert!(rows.is_damaged.load(Ordering::Relaxed), "a merge met it");
        // All of its cells were replaced.
        assert!(store.wants_rewrite(false).expect("measured"));
        assert!(rewrite(&store, &model));
        assert_holds(&store, &model);
        put_often(&store, &mut model, 9..20);
        store.engine.compaction.settle();
        let runs = l0_runs(&store);
        assert!(runs.iter().all(|runs| *runs < 4), "{runs:?}");
        drop((store, rows));
        let store = DurableStore::open(folder.path(), CACHE).expect("opened again");
        assert_holds(&store, &model);
    }

    /// The engine would have it wait for ever.
    #[test]
    fn where_merges_fail_for_long_a_write_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, mut model) = damaged(folder.path());
        let rows = store.engine.rows();
        let mut times = 3..30;
        let error = loop {
            match store.engine.compaction.check(&rows) {
                Ok(()) => {
                    let time = times.next().expect("it is said before");
                    put_often(&store, &mut model, time..time + 1);
                    store.engine.compaction.settle();
                }
                Err(error) => break error,
            }
        };
        assert!(times.start > 20, "there is room for some more: {times:?}");
        assert!(error.is_damage(), "{error}");
        assert!(error.to_string().contains("merge tables of"), "{error}");
    }
}
