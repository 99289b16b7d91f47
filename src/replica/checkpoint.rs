//! All cells at one cut, while writes go on.
//!
//! The store holds of each cell the newest version, be it settled or not; so what
//! the tree has at a cut may have been overwritten by the time one looks for it.
//! A checkpoint is made without stopping anyone: a view of the store is taken, and
//! from then on what is committed is remembered; when all that the view has is
//! settled, the tree is taken too. What the tree names then is in the view or is
//! remembered: whatever it got since was committed after the view was taken, and
//! of what was there before, the newest is in the view. Where there is no store, the
//! tree has the cells themselves, and nothing else is needed.

use std::{
    collections::HashMap,
    sync::{mpsc, Arc},
};

use super::{inbox::Update, recent::bytes_of, Held, ReplicaError, Snapshot};
use crate::{
    cell::{Cell, CellKey, CellMeta},
    store::{StoreError, StoreView},
};

/// Bytes of writes that are remembered while a checkpoint is being made.
const MAX_REMEMBERED: usize = 256 << 20;

/// Where a checkpoint is sent to.
pub(super) type Receiver = mpsc::SyncSender<Result<Checkpoint, ReplicaError>>;

/// A checkpoint that is being made.
pub(super) struct Tap {
    view: Box<dyn StoreView>,
    since: Vec<(CellKey, Arc<Cell>)>,
    bytes: usize,
    /// By this cut all is settled that the view has.
    until: u64,
    receiver: Receiver,
}

impl Tap {
    pub(super) fn new(view: Box<dyn StoreView>, until: u64, receiver: Receiver) -> Self {
        Self {
            view,
            since: Vec::new(),
            bytes: 0,
            until,
            receiver,
        }
    }

    /// Remembers what is about to be committed. False if it has become too much.
    pub(super) fn remember(&mut self, updates: &[Update]) -> bool {
        for Update { key, cell, .. } in updates {
            self.bytes += bytes_of(key, cell);
            self.since.push((key.clone(), Arc::clone(cell)));
        }
        self.bytes <= MAX_REMEMBERED
    }

    pub(super) fn is_ready(&self, cut: u64) -> bool {
        self.until <= cut
    }

    pub(super) fn until(&self) -> u64 {
        self.until
    }

    pub(super) fn finish(self, snapshot: Snapshot) {
        let mut since: HashMap<CellKey, Vec<Arc<Cell>>> = HashMap::new();
        for (key, cell) in self.since {
            since.entry(key).or_default().push(cell);
        }
        let checkpoint = Checkpoint {
            snapshot,
            view: self.view,
            since,
        };
        // Whoever has stopped waiting does not need it.
        let _ = self.receiver.send(Ok(checkpoint));
    }

    pub(super) fn fail(self, error: ReplicaError) {
        let _ = self.receiver.send(Err(error));
    }
}

/// All cells at one cut.
pub struct Checkpoint {
    snapshot: Snapshot,
    view: Box<dyn StoreView>,
    /// What was committed after the view was taken.
    since: HashMap<CellKey, Vec<Arc<Cell>>>,
}

impl Checkpoint {
    /// The tree, and its cut.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A cell that the tree has, if it is not to be looked for in the view.
    fn at_hand(&self, key: &CellKey, held: &Held) -> Option<Arc<Cell>> {
        held.cell().or_else(|| self.remembered(key, &held.meta()))
    }

    fn remembered(&self, key: &CellKey, meta: &CellMeta) -> Option<Arc<Cell>> {
        let cells = self.since.get(key)?;
        let cell = cells
            .iter()
            .rev()
            .find(|cell| cell.stamp == meta.version.stamp && CellMeta::of(key, cell) == *meta);
        cell.cloned()
    }

    /// The cell that the tree has at `key`; nothing if it is damaged. Blocks on
    /// disk.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn read(&self, key: &CellKey, meta: &CellMeta) -> Result<Option<Arc<Cell>>, StoreError> {
        let Ok(held) = self.snapshot.tree.get(key);
        let held = held.and_then(Held::cell);
        if let Some(cell) = held.or_else(|| self.remembered(key, meta)) {
            return Ok(Some(cell));
        }
        let found = self.view.read(key)?;
        Ok(found.and_then(|(cell, found)| (found == *meta).then_some(cell)))
    }

    /// Shows all cells of the tree, ascending by key, until `visit` says no. A cell
    /// that is damaged is shown as nothing. O(n). Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(&CellKey, &CellMeta, Option<Arc<Cell>>) -> bool,
    ) -> Result<(), StoreError> {
        let Ok(cells) = self.snapshot.tree.iter();
        let mut cells = cells.map(|entry| {
            let Ok(entry) = entry;
            entry
        });
        let Some(mut next) = cells.next() else {
            return Ok(());
        };
        // The tree and the view are walked side by side.
        let (mut is_over, mut is_stopped) = (false, false);
        self.view.scan(None, &mut |key, cell, meta| {
            // What the tree has before this the view has not.
            while *next.0 < key {
                is_stopped = !visit(next.0, &next.1.meta(), self.at_hand(next.0, next.1));
                match cells.next().filter(|_| !is_stopped) {
                    Some(entry) => next = entry,
                    None => {
                        is_over = true;
                        return false;
                    }
                }
            }
            if *next.0 == key {
                let cell = match next.1.meta() == meta {
                    true => Some(cell),
                    false => self.remembered(next.0, &next.1.meta()),
                };
                is_stopped = !visit(next.0, &next.1.meta(), cell);
                match cells.next().filter(|_| !is_stopped) {
                    Some(entry) => next = entry,
                    None => is_over = true,
                }
            }
            !is_over
        })?;
        if is_over {
            return Ok(());
        }
        for (key, meta) in std::iter::once(next).chain(cells) {
            if !visit(key, &meta.meta(), self.at_hand(key, meta)) {
                break;
            }
        }
        Ok(())
    }
}
