//! A replica without a thread, a disk or a clock, for simulations: the same
//! ledger, tree and roots as the real one, driven by whoever has the time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    bucket::hashed,
    cut_at,
    inbox::Update,
    ledger::{cut_above, Ledger},
    settled::{Joined, Loader, Settled},
    Roots, Snapshot, Tree,
};
use crate::cell::{Cell, CellKey, CellMeta, Stamp, Version};

pub(crate) struct VirtualReplica {
    settle: Duration,
    ledger: Ledger,
    settled: Settled,
    pub(crate) roots: Roots,
    /// What is on disk: all of it, at once.
    disk: BTreeMap<CellKey, Arc<Cell>>,
    /// The newest that is pending.
    pending: HashMap<CellKey, Version>,
    is_stale: bool,
}

impl VirtualReplica {
    pub(crate) fn new(settle: Duration, now: u64) -> Self {
        Self::open(BTreeMap::new(), settle, now)
    }

    /// As after a crash: what is on disk is there.
    pub(crate) fn reopen(self, now: u64) -> Self {
        Self::open(self.disk, self.settle, now)
    }

    fn open(mut disk: BTreeMap<CellKey, Arc<Cell>>, settle: Duration, now: u64) -> Self {
        let mut loader = Loader::new();
        for (key, cell) in &disk {
            loader.push(key.clone(), CellMeta::of(key, cell));
        }
        for covered in std::mem::take(&mut loader.covered) {
            disk.remove(&covered);
        }
        let mut settled = loader.finish();
        let latest = disk.values().map(|cell| cell.stamp.time).max().unwrap_or(0);
        let cut = cut_at(now, settle).max(cut_above(latest));
        settled.set_cut(cut);
        Self {
            settle,
            ledger: Ledger::new(cut),
            roots: Roots::new(settled.publish(), true),
            settled,
            disk,
            pending: HashMap::new(),
            is_stale: false,
        }
    }

    /// Writes or joins a cell; true if it is the newest of its key.
    pub(crate) fn offer(&mut self, key: CellKey, cell: Cell) -> bool {
        let version = CellMeta::of(&key, &cell).version;
        if self
            .settled
            .get(&key)
            .is_some_and(|meta| meta.version() >= version)
        {
            return false;
        }
        let is_newest = self.pending.get(&key).is_none_or(|other| *other < version);
        if is_newest {
            self.pending.insert(key.clone(), version);
        }
        let cell = Arc::new(cell);
        let update = Update {
            key,
            cell,
            meta: None,
            is_newest,
        };
        for write in self.ledger.admit(&mut [update]) {
            self.disk.insert(write.key, write.cell);
        }
        self.ledger.committed();
        self.roots.set_next_cut(self.ledger.next_cut());
        is_newest
    }

    /// Settles what is due; true if a root was made.
    pub(crate) fn settle(&mut self, now: u64) -> bool {
        let cut = cut_at(now, self.settle).max(self.ledger.cut());
        let mut made = false;
        while let Some((step, is_root_due)) = self.ledger.next_step(cut, self.is_stale) {
            let (cut, due) = self.ledger.settle(step);
            let due: Vec<_> = due.into_iter().map(hashed).collect();
            let mut joined = Joined::default();
            self.settled.join_all(&due, &mut joined);
            while self.settled.cover(&mut joined, 16) {}
            for (key, meta) in &due {
                if self.pending.get(key).is_some_and(|v| *v <= meta.version()) {
                    self.pending.remove(key);
                }
            }
            joined.forget_what_is_there(&self.settled);
            for covered in &joined.covered {
                if !self.pending.contains_key(covered) {
                    self.disk.remove(covered);
                }
            }
            self.settled.set_cut(cut);
            if let Some(earliest) = joined.earliest {
                self.roots.changed(earliest);
                self.is_stale = true;
            }
            self.roots.joined(due.into_iter().map(|(key, _)| key));
            if is_root_due {
                made |= self.make_root();
            }
        }
        self.ledger.settle(cut);
        self.settled.set_cut(self.ledger.cut());
        if self.ledger.next_cut().is_none() {
            made |= self.make_root();
        }
        self.roots.set_next_cut(self.ledger.next_cut());
        made
    }

    fn make_root(&mut self) -> bool {
        if std::mem::take(&mut self.is_stale) {
            self.roots.made(self.settled.publish());
            self.ledger.root_made();
            return true;
        }
        false
    }

    pub(crate) fn tree(&self) -> Tree {
        let Snapshot { tree, .. } = self.settled.snapshot();
        tree
    }

    pub(crate) fn cut(&self, now: u64) -> u64 {
        cut_at(now, self.settle)
    }

    pub(crate) fn newest(&self, key: &CellKey) -> Option<Stamp> {
        let pending = self.pending.get(key).copied();
        let settled = self.settled.get(key).map(|meta| meta.version());
        pending.max(settled).map(|version| version.stamp)
    }

    /// What is on disk.
    pub(crate) fn disk(&self) -> &BTreeMap<CellKey, Arc<Cell>> {
        &self.disk
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.ledger.next_cut().is_some()
    }
}
