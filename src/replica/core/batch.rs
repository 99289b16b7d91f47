//! The apply phases: a batch goes into the tree and to its rows, and the root is made.

use std::{sync::Arc, time::Duration};

use super::{ApplyPhase, Cached, Core, Task};
use crate::{
    cell::{Cell, CellKey, Key, Version},
    merge::shown_until,
    replica::{
        Failure, Now, TreeEntry,
        apply::{bucket::PendingCell, joined::Joined},
        state::State,
    },
    store::{RowBatch, StoreError, Versioned, Write, is_apart},
};

/// Rows that are removed at a time, while commits wait: as they are not read for it, it takes less
/// than to write as many.
const REMOVED_FOR_EACH_WRITTEN: usize = 4;

/// Cells that are applied together. Until all are, nobody takes a snapshot.
pub(super) struct Batch {
    /// The watermark that applies the first of them, and where it goes.
    pub(super) first: u64,
    cut: u64,
    /// What has a time below this came late.
    late_before: u64,
    /// The last update that was committed when it began: all up to that are in it, or in the tree, or
    /// wait for their time.
    committed: u64,
    due: std::vec::IntoIter<(CellKey, PendingCell)>,
    /// Those that were joined; and the cells, if there is a store.
    done: Vec<(CellKey, TreeEntry)>,
    cells: Vec<Arc<Cell>>,
    joined: Joined,
    /// What is to be written, when all are joined.
    rows: RowBatch,
    /// Whether the root is to be made then.
    is_root_due: bool,
    /// What is to be collected. Such a batch joins nothing.
    garbage: Vec<CellKey>,
    is_collection: bool,
}

impl Core {
    /// The next step of what is due; nothing if there is none, or it is deferred.
    pub(super) fn apply_next(&mut self, now: Now) -> Option<Task> {
        if self.deferred_until(now).is_some() {
            return None;
        }
        match std::mem::replace(&mut self.apply, ApplyPhase::Idle) {
            ApplyPhase::Idle => self.begin_next(now),
            ApplyPhase::Joining(batch) => Some(self.join_some(batch, now)),
            ApplyPhase::Covering(batch) => Some(self.cover_some(batch, now)),
            ApplyPhase::Storing(batch) => Some(self.store_some(batch)),
            ApplyPhase::Rooting => Some(self.root_some()),
        }
    }

    fn begin_next(&mut self, now: Now) -> Option<Task> {
        if self.is_extra_root_due(now) {
            // However fast updates come.
            self.apply = ApplyPhase::Rooting;
            return Some(Task::Again);
        }
        let cut = self.due_cut(now);
        if self.next_death.is_some_and(|death| death <= cut) {
            self.look_at_death_pace(now);
        }
        let death = self.due_death(now, cut);
        let is_stale = self.stale_since.is_some();
        if let Some((step, is_root_due)) = self.buckets.next_step(cut, death, is_stale) {
            self.has_applied = true;
            return Some(self.begin_batch(step, is_root_due, now));
        }
        let is_awaited = self.checkpoints.iter().any(|(until, _)| *until <= cut);
        let has_applied = std::mem::take(&mut self.has_applied);
        let is_behind = self.buckets.watermark() < cut;
        ((has_applied || is_awaited) && is_behind).then(|| self.begin_batch(cut, false, now))
    }

    pub(super) fn begin_batch(&mut self, cut: u64, is_root_due: bool, now: Now) -> Task {
        let first = self.buckets.next_cut().into_iter().chain(self.next_death);
        let first = first.min().unwrap_or(cut);
        let late_before = self.buckets.watermark();
        let due = self.buckets.advance(cut);
        let cut = self.buckets.watermark();
        self.state.queue.begin_batch(cut);
        if self.has_lifetimes {
            // What is dead then is not joined, so nothing of this batch dies in it.
            self.look_at_death_pace(now);
            let until = self.deaths_until(now, cut);
            self.state.applied_mut().begin_deaths(until);
        }
        let cells = match self.has_rows {
            true => Vec::with_capacity(due.len()),
            false => Vec::new(),
        };
        self.apply = ApplyPhase::Joining(Box::new(Batch {
            first,
            cut,
            late_before,
            committed: self.committed,
            done: Vec::with_capacity(due.len()),
            cells,
            due: due.into_iter(),
            joined: Joined::new(self.has_rows),
            rows: RowBatch::default(),
            is_root_due,
            garbage: Vec::new(),
            is_collection: false,
        }));
        Task::Again
    }

    /// Has cells leave the tree that were found to be collectable. Nothing else is being applied.
    pub(super) fn begin_collection(&mut self, garbage: Vec<CellKey>) {
        let cut = self.buckets.watermark();
        self.state.queue.begin_batch(cut);
        self.apply = ApplyPhase::Covering(Box::new(Batch {
            first: cut,
            cut,
            late_before: cut,
            // What is committed and late is not in it.
            committed: self.applied,
            done: Vec::new(),
            cells: Vec::new(),
            due: Vec::new().into_iter(),
            joined: Joined::new(self.has_rows),
            rows: RowBatch::default(),
            is_root_due: false,
            garbage,
            is_collection: true,
        }));
    }

    fn join_some(&mut self, mut batch: Box<Batch>, now: Now) -> Task {
        let most = self.state.tuning.joined_at_once;
        let from = batch.done.len();
        for (key, pending) in batch.due.by_ref().take(most) {
            let version = pending.version(&key);
            let held = match self.has_rows {
                true => {
                    let cell = &*pending.cell;
                    TreeEntry::in_row(version, is_apart(cell), shown_until(cell))
                }
                false => TreeEntry::new(version, Some(Arc::clone(&pending.cell))),
            };
            batch.done.push((key, held));
            if self.has_rows {
                batch.cells.push(pending.cell);
            }
        }
        let joined = &batch.done[from..];
        self.owed = self.owed.saturating_sub(most);
        if !joined.is_empty() {
            let into = &mut batch.joined;
            self.state.change_tree(|tree| tree.join_all(joined, into));
        }
        if batch.due.len() > 0 {
            self.apply = ApplyPhase::Joining(batch);
            return Task::Again;
        }
        self.cover_some(batch, now)
    }

    fn cover_some(&mut self, mut batch: Box<Batch>, now: Now) -> Task {
        let most = self.state.tuning.joined_at_once;
        self.owed = self.owed.saturating_sub(most);
        let Batch {
            joined, garbage, ..
        } = &mut *batch;
        if joined.is_covering() && self.state.change_tree(|tree| tree.cover(joined, most)) {
            self.apply = ApplyPhase::Covering(batch);
            return Task::Again;
        }
        if self.has_lifetimes && self.state.change_tree(|tree| tree.fade(joined, most)) {
            self.apply = ApplyPhase::Covering(batch);
            return Task::Again;
        }
        if !garbage.is_empty() {
            let from = garbage.len().saturating_sub(most);
            self.state.change_tree(|tree| {
                let some = garbage.drain(from..);
                some.for_each(|key| tree.collect(key, joined));
            });
            self.apply = ApplyPhase::Covering(batch);
            return Task::Again;
        }
        let replaced = self.replaced(&batch);
        if self.has_rows {
            batch.rows = self.rows(&mut batch, replaced);
            if !batch.rows.is_empty() {
                return self.store_some(batch);
            }
        }
        self.complete(*batch, now, &|_| {});
        Task::Again
    }

    /// Cells in quarantine that the batch replaces.
    fn replaced(&self, batch: &Batch) -> Vec<CellKey> {
        let done = batch.done.iter().map(|(key, held)| (key, held.version()));
        let mut replaced = self.state.quarantine.replaced_by(done);
        if self.has_lifetimes && self.state.quarantine.len() > 0 {
            let tree = self.state.applied();
            let dead = |key: &Key| tree.deaths().dead(key);
            replaced.extend(self.state.quarantine.dead(dead));
        }
        if !replaced.is_empty() {
            self.state.counters.repaired.add_many(replaced.len());
            let (name, replaced) = (&self.state.name, replaced.len());
            tracing::info!("storage '{name}': {replaced} damaged cells have been replaced");
        }
        replaced
    }

    /// All that is to be written for a batch that is in the tree.
    fn rows(&mut self, batch: &mut Batch, released: Vec<CellKey>) -> RowBatch {
        let joined = &mut batch.joined;
        let mut won = std::mem::take(&mut joined.won).into_iter().peekable();
        let done = batch.done.iter().zip(&batch.cells);
        let applied = joined.has_delete_rule.then(|| self.state.current_tree());
        let is_there = |key: &CellKey, held: &TreeEntry| {
            applied.as_ref().is_none_or(|tree| {
                let Ok(found) = tree.get(key);
                found == Some(held)
            })
        };
        let puts = done.filter_map(|((key, held), cell)| {
            won.next_if_eq(key)?;
            // A rule of the batch may have covered it since.
            is_there(key, held).then(|| Write {
                key: key.clone(),
                cell: Arc::clone(cell),
                version: held.version(),
            })
        });
        let puts: Vec<_> = puts.collect();
        debug_assert!(
            won.peek().is_none(),
            "what won is of the batch, in its order"
        );
        let is_in_rows =
            |logged: &&super::Logged| logged.until <= batch.cut && !batch.is_collection;
        let applied = self.logged.iter().take_while(is_in_rows).last();
        let applied = applied.map(|logged| logged.number);
        while self.logged.front().as_ref().is_some_and(is_in_rows) {
            self.logged.pop_front();
        }
        RowBatch {
            puts,
            stale_payloads: std::mem::take(&mut joined.stale_payloads),
            removes: std::mem::take(&mut joined.covered),
            released,
            applied,
        }
    }

    /// Has some rows written, the last ones first; when all are, has those removed that they cover: a
    /// loss of power may leave the first steps of a batch, and what a delete covers must not be gone
    /// without it. What is said of the log comes at the end.
    fn store_some(&mut self, mut batch: Box<Batch>) -> Task {
        let written = self.state.tuning.applied_at_once;
        let removed = REMOVED_FOR_EACH_WRITTEN * written;
        let rows = &mut batch.rows;
        let some = if rows.puts.len() > written {
            let puts = rows.puts.split_off(rows.puts.len() - written);
            // A payload goes together with the row that it was of.
            let stale = &mut rows.stale_payloads;
            let with_these = stale.partition_point(|key| *key < puts[0].key);
            let stale_payloads = stale.split_off(with_these);
            RowBatch {
                puts,
                stale_payloads,
                ..RowBatch::default()
            }
        } else if rows.removes.len() > removed {
            let removes = rows.removes.split_off(rows.removes.len() - removed);
            RowBatch {
                puts: std::mem::take(&mut rows.puts),
                stale_payloads: std::mem::take(&mut rows.stale_payloads),
                removes,
                ..RowBatch::default()
            }
        } else {
            std::mem::take(rows)
        };
        // The rows that are written are of cells that were joined, and counted then.
        self.owed = self.owed.saturating_sub(some.removes.len());
        self.apply = ApplyPhase::Storing(batch);
        Task::Store(some)
    }

    /// Rows were changed, or that failed. `cached` gets what readers find in rows from now on.
    pub(crate) fn stored(&mut self, stored: Result<(), StoreError>, now: Now, cached: Cached<'_>) {
        if let Err(error) = stored {
            return self.state.fail(Failure::from(error));
        }
        match std::mem::replace(&mut self.apply, ApplyPhase::Idle) {
            ApplyPhase::Storing(batch) if batch.rows.is_empty() => {
                self.complete(*batch, now, cached);
            }
            phase => {
                debug_assert!(
                    matches!(phase, ApplyPhase::Storing(_)),
                    "rows were to be stored"
                );
                self.apply = phase;
            }
        }
    }

    fn complete(&mut self, batch: Batch, now: Now, cached: Cached<'_>) {
        debug_assert!(
            batch.due.len() == 0 && batch.rows.is_empty() && !batch.joined.is_covering(),
            "rows are the tree when a batch ends"
        );
        let state = Arc::clone(&self.state);
        let mut joined = batch.joined;
        let mut tree = state.applied_mut();
        tree.set_cut(batch.cut);
        tree.see_garbage(joined.garbage_from);
        self.next_death = tree.deaths().next_cut();
        tree.forget_merged(&mut joined);
        if let Some(earliest) = joined.earliest {
            self.stale_since.get_or_insert(now.monotonic);
            state.roots_mut().changed(earliest);
        }
        drop(tree);
        state.queue.gate.end();
        // What comes late, as from another replica or a backup, nobody is about to read.
        let is_timely = |(_, cell, _): &Versioned| cell.timestamp.time >= batch.late_before;
        state
            .queue
            .forget(&batch.done, |cells| cached(&mut cells.filter(is_timely)));
        debug_assert!(
            batch.done.iter().all(|(key, _)| {
                let (_, pending) = state.queue.look_up(key);
                let applied = state.applied().get(key).map(TreeEntry::version);
                pending.is_none_or(|cell| applied < Some(Version::of(key, &cell)))
            }),
            "what is pending is newer than the tree"
        );
        state.queue.unmerged(&joined.unmerged);
        if batch.is_collection {
            let (tombstones, rules) = (joined.collected_tombstones, joined.collected_rules);
            state.counters.collected_tombstones.add_many(tombstones);
            state.counters.collected_rules.add_many(rules.len());
            state.queue.rules_collected(&rules);
        }
        let keys = batch.done.into_iter().map(|(key, _)| key);
        let earliest = joined.earliest.filter(|_| !batch.is_collection);
        state.roots_mut().joined(keys, earliest);
        if joined.died > 0 {
            state.counters.expired.add_many(joined.died);
            state.tell_dead(&joined.dead);
            let tree = state.current_tree();
            state.roots_mut().died(&tree);
        }
        self.applied_at = now.monotonic;
        self.applied = batch.committed;
        self.apply = match batch.is_root_due {
            true => ApplyPhase::Rooting,
            false => ApplyPhase::Idle,
        };
        self.tell_next_cut();
    }

    fn root_some(&mut self) -> Task {
        let tree = self.state.applied();
        if !tree.hash_some(self.state.tuning.hashed_at_once) {
            drop(tree);
            self.apply = ApplyPhase::Rooting;
            return Task::Again;
        }
        let published = tree.publish();
        drop(tree);
        let mut roots = self.state.roots_mut();
        roots.made(published);
        roots.set_covered(self.applied);
        drop(roots);
        self.stale_since = None;
        self.buckets.root_made();
        Task::Tell { is_made: true }
    }

    /// Takes a cell out of the tree that is not to be had any more, as if it had never come. No batch
    /// is half applied.
    pub(crate) fn evict(&mut self, key: &CellKey, version: Version, now: Duration) {
        let State { queue, .. } = &*self.state;
        self.state.quarantine.insert(key, version);
        queue.begin_batch(self.buckets.watermark());
        let is_unmerged = self.state.applied_mut().evict(key);
        if key.key.is_pattern() {
            queue.lose_rule(key);
        }
        queue.gate.end();
        if is_unmerged {
            queue.unmerged(std::slice::from_ref(&key.key));
        }
        self.state.roots_mut().lost();
        self.applied_at = now;
        self.stale_since.get_or_insert(now);
    }
}
