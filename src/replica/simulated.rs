//! A replica on virtual time: the real core, driven by whoever has the time, over a simulated disk.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use smallvec::smallvec;

use super::{
    apply::{
        entry::TreeEntry,
        loader::Loader,
        watermark::{cut_above, cut_at},
    },
    core::{Core, Task},
    state::State,
    write::queue::Taken,
    Now, Options, RootHistory, Snapshot, Tree, Tuning,
};
use crate::{
    cell::{Cell, CellKey, Timestamp, Version},
    config::Durability,
    store::{
        model::{apply, ModelView, Rows},
        RowBatch,
    },
};

/// Batches of rows after which they are in tables.
const BATCHES_A_FLUSH: usize = 20;

/// What is on the disk, or will be: groups are synced, rows are not.
#[derive(Clone, Default)]
struct Disk {
    rows: Arc<Rows>,
    /// The groups that are not in tables.
    log: BTreeMap<u64, Vec<(CellKey, Arc<Cell>)>>,
    groups: u64,
    /// Of each batch of rows that is not in tables what was there before it.
    undo: Vec<Undo>,
    /// The last group that is in rows.
    applied: u64,
}

/// The rows that there were, or that there were none, and the last group that was in rows.
type Undo = (Vec<(CellKey, Option<Arc<Cell>>)>, u64);

impl Disk {
    fn apply(&mut self, batch: &RowBatch) {
        let puts = batch.puts.iter().map(|write| &write.key);
        let changed = puts.chain(batch.removes.iter().map(|(key, _)| key));
        let before = changed.map(|key| (key.clone(), self.rows.get(key).cloned()));
        self.undo.push((before.collect(), self.applied));
        apply(Arc::make_mut(&mut self.rows), batch);
        self.applied = batch.applied.unwrap_or(self.applied);
        if self.undo.len() > BATCHES_A_FLUSH {
            self.undo.clear();
            self.log.retain(|number, _| *number > self.applied);
        }
    }

    /// Takes back the last so many batches, of those that are not in tables.
    fn lose(&mut self, batches: usize) {
        let rows = Arc::make_mut(&mut self.rows);
        for (before, applied) in self.undo.drain(self.undo.len() - batches..).rev() {
            self.applied = applied;
            for (key, cell) in before {
                match cell {
                    Some(cell) => drop(rows.insert(key, cell)),
                    None => drop(rows.remove(&key)),
                }
            }
        }
    }

    /// As when a store is opened: what is in the log and not in rows gets rows.
    fn catch_up(&mut self) {
        self.undo.clear();
        let rows = Arc::make_mut(&mut self.rows);
        let mut log = std::mem::take(&mut self.log);
        let unapplied = log.split_off(&(self.applied + 1));
        self.applied = self.groups;
        for (key, cell) in unapplied.into_values().flatten() {
            let version = |cell: &Cell| Version::of(&key, cell);
            let found = rows.get(&key).map(|found| version(found));
            if found < Some(version(&cell)) {
                rows.insert(key, cell);
            }
        }
    }
}

pub(crate) struct SimulatedReplica {
    state: Arc<State>,
    core: Core,
    disk: Disk,
    now: Now,
    has_root: bool,
}

impl SimulatedReplica {
    pub(crate) fn new(settle: Duration, now: Now) -> Self {
        Self::open(Disk::default(), settle, now)
    }

    /// Batches of rows that a crash may take back.
    pub(crate) fn unsynced_batches(&self) -> usize {
        self.disk.undo.len()
    }

    /// As after a crash that took back so many batches of rows: the groups are there.
    pub(crate) fn reopen(mut self, lost: usize, now: Now) -> Self {
        self.disk.lose(lost);
        Self::open(self.disk, self.state.options.settle, now)
    }

    fn open(mut disk: Disk, settle: Duration, now: Now) -> Self {
        disk.catch_up();
        let mut loader = Loader::new();
        for (key, cell) in &*disk.rows {
            loader.push(
                key.clone(),
                TreeEntry::in_row(Version::of(key, cell), false),
            );
        }
        for (covered, _) in std::mem::take(&mut loader.covered) {
            Arc::make_mut(&mut disk.rows).remove(&covered);
        }
        let mut tree = loader.finish();
        let latest = disk.rows.values().map(|cell| cell.timestamp.time).max();
        tree.set_cut(cut_at(now.clock, settle).max(cut_above(latest.unwrap_or(0))));
        let options = Options {
            durability: Durability::Always,
            sync_every: Duration::from_millis(100),
            settle,
            max_clock_drift: Duration::from_secs(10),
            keep_changes: true,
        };
        let state = State::new("simulated", options, Tuning::default(), tree, Vec::new());
        let state = Arc::new(state);
        Self {
            core: Core::new(Arc::clone(&state), true),
            state,
            disk,
            now,
            has_root: false,
        }
    }

    /// Writes or joins a cell, and commits it; true if it is the newest of its key.
    pub(crate) fn offer(&mut self, key: CellKey, cell: Cell) -> bool {
        let offers = smallvec![(key, Arc::new(cell), None)];
        let (queue, tree) = (&self.state.queue, &self.state.tree);
        let taken = queue.offer(offers, Duration::ZERO, self.now.monotonic, tree);
        self.run();
        match taken {
            Taken::Closed => panic!("it is never closed"),
            Taken::Outdated => false,
            Taken::Yes { is_newest, .. } => is_newest,
        }
    }

    /// Does what is due; true if a root was made, or covers more, since the last time.
    pub(crate) fn settle(&mut self, now: Now) -> bool {
        self.now = now;
        self.run();
        std::mem::take(&mut self.has_root)
    }

    fn run(&mut self) {
        loop {
            match self.core.next_task(self.now) {
                Task::Append(group) => {
                    self.disk.groups += 1;
                    let newest = group.updates.iter().filter(|update| update.is_newest);
                    let cells = newest.map(|update| (update.key.clone(), Arc::clone(&update.cell)));
                    self.disk.log.insert(self.disk.groups, cells.collect());
                    self.state.acknowledge(&group);
                    drop(group);
                    self.core.appended(Ok(self.disk.groups));
                }
                Task::Store(batch) => {
                    self.disk.apply(&batch);
                    self.core.stored(Ok(()), self.now, &|_| {});
                }
                Task::Tell { .. } => self.has_root = true,
                Task::Again => {}
                Task::Wait(..) => break,
                Task::Checkpoint(_) | Task::Mend(_) => panic!("nobody asks for that"),
                Task::End => panic!("it does not end: {:?}", self.state.commits.failure()),
            }
        }
    }

    /// The tree at the last cut, and its rows.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let applied = self.state.applied();
        let rows = ModelView(Arc::clone(&self.disk.rows));
        Snapshot::new(applied.cut(), applied.tree(), Box::new(rows))
    }

    pub(crate) fn tree(&self) -> Tree {
        self.state.current_tree()
    }

    pub(crate) fn roots(&self) -> std::sync::RwLockReadGuard<'_, RootHistory> {
        self.state.roots()
    }

    /// As when something was found damaged.
    pub(crate) fn lose_roots(&self) {
        self.state.roots_mut().lost();
    }

    pub(crate) fn cut(&self, now: u64) -> u64 {
        self.state.cut_at(now)
    }

    pub(crate) fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.state.newest(key)
    }

    /// The rows that there would be after a crash.
    pub(crate) fn disk(&self) -> Arc<Rows> {
        let mut disk = self.disk.clone();
        disk.catch_up();
        disk.rows
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.state.queue.queues().unsettled > 0
    }
}
