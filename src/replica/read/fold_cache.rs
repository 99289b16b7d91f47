//! Reading keys whose values are made of several cells.
//!
//! Such a key is folded once; what is written to it afterwards is logged, and
//! applied to the fold when it is read again. So reading a busy counter costs what
//! was added since, not all that was ever added.
//!
//! A fold is in a [`FoldSlot`] of a cache. The log of a key is kept by the write queue, under
//! the lock under which updates are taken, and names the slot that it is for: as
//! long as that is there, and what came fits in, the log has every cell that was
//! taken after the fold was begun.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::cells_of;
use crate::{
    cell::{Cell, Key, Part},
    merge::{Applied, Form, Merged, PartCell, raw, shown_until},
    replica::{GetError, Shared},
    store::StoreError,
};

/// Memory for the folds of a storage, about.
pub(in crate::replica) const CACHE_BYTES: u64 = 32 << 20;

/// Keys that are reckoned with.
const CACHE_KEYS: usize = 16_384;

/// Pieces of the cache that have locks of their own.
const CACHE_SHARDS: usize = 2;

/// What is done without leaving it to a thread that may take its time: cells
/// applied, and bytes of a fold that is read.
const QUICK_CELLS: usize = 256;
const QUICK_BYTES: usize = 64 << 10;

/// Times that a key is folded anew because it has changed meanwhile in a way that
/// cannot be applied.
const ATTEMPTS: usize = 3;

/// A fold, and when the first of its cells expires, as far as is known.
struct Kept {
    merged: Merged,
    expires: u64,
}

impl Kept {
    /// Applies cells of the key that came since, of which `folded` are in the fold already.
    fn add(
        &mut self,
        shared: &Shared,
        key: &Key,
        came: &[(Part, Arc<Cell>)],
        folded: &KeyCells,
    ) -> Applied {
        let expires = expiry(shared, key, came.iter().map(|(part, cell)| (part, cell)));
        self.expires = self.expires.min(expires);
        apply(&mut self.merged, came, folded)
    }

    /// Whether it shows a cell that is not to be shown any more.
    fn has_expired(&self, shared: &Shared) -> bool {
        self.expires < u64::MAX && self.expires <= (shared.clock)()
    }
}

/// The fold of a key, if it was made.
#[derive(Default)]
pub(in crate::replica) struct FoldSlot {
    merged: Mutex<Option<Kept>>,
    /// Bytes of it, about.
    weight: AtomicUsize,
}

impl FoldSlot {
    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        // A strategy that panicked: its fold is not to be used.
        self.merged.lock().unwrap_or_else(|poisoned| {
            self.merged.clear_poison();
            let mut merged = poisoned.into_inner();
            *merged = None;
            merged
        })
    }
}

/// A slot, as the cache has it: what grows is put there anew, since the cache asks
/// for the weight again when it lets go of it.
#[derive(Clone)]
struct Weighed {
    slot: Arc<FoldSlot>,
    weight: usize,
}

#[derive(Clone)]
struct SlotWeight;

impl Weighter<Key, Weighed> for SlotWeight {
    fn weight(&self, key: &Key, weighed: &Weighed) -> u64 {
        let text = key.as_str().map_or(0, str::len);
        (size_of::<FoldSlot>() + text + weighed.weight) as u64
    }
}

/// The folds that are kept.
pub(in crate::replica) struct Folds(Cache<Key, Weighed, SlotWeight>);

/// The cells of a key, of each part the newest.
type KeyCells = BTreeMap<Part, Arc<Cell>>;

fn part_cells(cells: &KeyCells) -> Vec<PartCell<'_>> {
    let cells = cells.iter();
    cells
        .map(|(part, cell)| PartCell {
            part: part.as_bytes(),
            cell,
        })
        .collect()
}

/// Applies cells, but for those that the fold has already.
fn apply(merged: &mut Merged, cells: &[(Part, Arc<Cell>)], folded: &KeyCells) -> Applied {
    for (part, cell) in cells {
        let has = folded.get(part);
        let has = has.is_some_and(|folded| folded.timestamp >= cell.timestamp);
        if !has && merged.apply(part.as_bytes(), cell) == Applied::NeedsRefold {
            return Applied::NeedsRefold;
        }
    }
    Applied::Yes
}

/// When the first of these cells of a key expires. Its own may say so itself; others do not.
fn expiry<'a>(
    shared: &Shared,
    key: &Key,
    cells: impl Iterator<Item = (&'a Part, &'a Arc<Cell>)>,
) -> u64 {
    let lifetime = shared.state.lifetimes.of(key);
    let expires = cells.map(|(part, cell)| {
        let dies = lifetime.map_or(u64::MAX, |lifetime| lifetime.death(cell.timestamp.time));
        let is_value = part.is_empty() && cell.value().is_some();
        match is_value {
            true => dies.min(shown_until(cell)),
            false => dies,
        }
    });
    expires.min().unwrap_or(u64::MAX)
}

/// To readers a key's own value that is hidden by now is a tombstone: what it covers stays covered.
fn hide_own(shared: &Shared, cells: &mut KeyCells) {
    if let Some(own) = cells.get_mut(&Part::EMPTY)
        && own.value().is_some()
        && shared.is_hidden(shown_until(own))
    {
        *own = Arc::new(Cell::tombstone(own.timestamp));
    }
}

impl Folds {
    pub(in crate::replica) fn new() -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(CACHE_KEYS)
            .weight_capacity(CACHE_BYTES)
            // What is larger than a shard is not kept at all.
            .shards(CACHE_SHARDS)
            .build();
        Self(match options {
            Ok(options) => Cache::with_options(
                options,
                SlotWeight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // It cannot be: all that is required is given.
            Err(_) => Cache::with_weighter(CACHE_KEYS, CACHE_BYTES, SlotWeight),
        })
    }

    /// Reads a key if that is quickly done; nothing if it is not.
    pub(in crate::replica) fn try_read(
        &self,
        shared: &Shared,
        key: &Key,
        form: Form,
    ) -> Option<Option<Arc<Cell>>> {
        // What panics here does so again where it is reported.
        catch_unwind(AssertUnwindSafe(|| self.read_quickly(shared, key, form)))
            .ok()
            .flatten()
    }

    fn read_quickly(&self, shared: &Shared, key: &Key, form: Form) -> Option<Option<Arc<Cell>>> {
        let Weighed { slot, .. } = self.0.get(key)?;
        if slot.weight.load(Ordering::Relaxed) > QUICK_BYTES {
            return None;
        }
        let mut merged = match slot.merged.try_lock() {
            Ok(merged) => merged,
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return None,
        };
        let fold = merged.as_mut()?;
        let came = shared.state.queue.drain_log(key, &slot, QUICK_CELLS)?;
        let applied = fold.add(shared, key, &came, &KeyCells::new());
        if applied == Applied::NeedsRefold || fold.has_expired(shared) {
            *merged = None;
            return None;
        }
        let value = fold.merged.read(form).ok();
        if !came.is_empty() {
            let weight = fold.merged.weight();
            drop(merged);
            self.weigh(key, &slot, weight);
        }
        value
    }

    /// Reads a key. Blocks on disk.
    pub(in crate::replica) fn read(
        &self,
        shared: &Shared,
        key: &Key,
        form: Form,
    ) -> Result<Option<Arc<Cell>>, GetError> {
        // A strategy of the user's own must not take the storage down.
        catch_unwind(AssertUnwindSafe(|| self.read_slowly(shared, key, form)))
            .unwrap_or(Err(GetError::Panic))
    }

    fn read_slowly(
        &self,
        shared: &Shared,
        key: &Key,
        form: Form,
    ) -> Result<Option<Arc<Cell>>, GetError> {
        let slot = match self.0.get(key) {
            Some(weighed) => weighed.slot,
            None => {
                let slot = Arc::new(FoldSlot::default());
                self.insert(key, &slot, 0);
                slot
            }
        };
        let mut kept = slot.lock();
        if let Some(mut fold) = kept.take() {
            let came = shared.state.queue.drain_log(key, &slot, usize::MAX);
            let none = KeyCells::new();
            let is_applied =
                came.is_some_and(|came| fold.add(shared, key, &came, &none) == Applied::Yes);
            if is_applied && !fold.has_expired(shared) {
                return self.keep(&slot, kept, key, fold, form);
            }
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut cells = gather(shared, key, Some(&slot))?;
            hide_own(shared, &mut cells);
            let expires = expiry(shared, key, cells.iter());
            let merged = Merged::fold(&part_cells(&cells));
            let mut fold = Kept { merged, expires };
            let came = shared.state.queue.drain_log(key, &slot, usize::MAX);
            let is_applied =
                came.is_some_and(|came| fold.add(shared, key, &came, &cells) == Applied::Yes);
            // What has expired since is shown to nobody who asks later.
            if is_applied && !fold.has_expired(shared) {
                return self.keep(&slot, kept, key, fold, form);
            }
            if attempts == ATTEMPTS {
                // As it was when it was gathered, which is after it was asked for.
                return Ok(Merged::fold(&part_cells(&cells)).read(form)?);
            }
        }
    }

    fn keep(
        &self,
        slot: &Arc<FoldSlot>,
        mut kept: MutexGuard<'_, Option<Kept>>,
        key: &Key,
        mut fold: Kept,
        form: Form,
    ) -> Result<Option<Arc<Cell>>, GetError> {
        let (value, weight) = (fold.merged.read(form), fold.merged.weight());
        *kept = Some(fold);
        drop(kept);
        self.weigh(key, slot, weight);
        Ok(value?)
    }

    /// Tells the cache, if it is not about what it knows.
    fn weigh(&self, key: &Key, slot: &Arc<FoldSlot>, weight: usize) {
        let known = slot.weight.load(Ordering::Relaxed);
        if weight > known + known / 4 || weight < known / 2 {
            slot.weight.store(weight, Ordering::Relaxed);
            self.insert(key, slot, weight);
        }
    }

    fn insert(&self, key: &Key, slot: &Arc<FoldSlot>, weight: usize) {
        let slot = Arc::clone(slot);
        self.0.insert(key.clone(), Weighed { slot, weight });
    }

    /// Has a key folded anew when it is read next.
    pub(in crate::replica) fn forget(&self, key: &Key) {
        self.0.remove(key);
    }

    /// Memory that all of it takes, about.
    #[cfg(test)]
    pub(in crate::replica) fn bytes(&self) -> u64 {
        self.0.weight()
    }

    /// The cells of a key, as JSON for people. Blocks on disk.
    pub(in crate::replica) fn raw(shared: &Shared, key: &Key) -> Result<Option<Cell>, StoreError> {
        let cells = gather(shared, key, None)?;
        Ok(raw(&part_cells(&cells)))
    }
}

/// The cells of a key, pending or applied; those that come from now on are logged for `reader`, if
/// there is one.
fn gather(
    shared: &Shared,
    key: &Key,
    reader: Option<&Arc<FoldSlot>>,
) -> Result<KeyCells, StoreError> {
    // What the tree has is pending, or in a row, or here, unless it is covered meanwhile.
    let settled = cells_of(&shared.state.current_tree(), key);
    // First what is pending: what is applied between is in both.
    let pending = shared.state.queue.begin_log(key, reader);
    let stored = shared.store.view().parts(key)?;
    let mut cells: KeyCells = stored.into_iter().collect();
    if !shared.store.keeps_cells() {
        // What was pending has not settled unseen, as it is looked for later.
        let held = cells_of(&shared.state.current_tree(), key).into_iter();
        cells.extend(held.filter_map(|(key, held)| Some((key.part, held.cell()?))));
    }
    for (part, cell) in pending {
        let is_newer = cells
            .get(&part)
            .is_none_or(|old| old.timestamp <= cell.timestamp);
        if is_newer {
            cells.insert(part, cell);
        }
    }
    // What came after the log was begun ends it, be it a rule.
    let deleted = shared.ruling().deleted(key);
    cells.retain(|_, cell| Some(cell.timestamp) > deleted);
    for (key, held) in settled {
        if deleted >= Some(held.timestamp()) {
            continue;
        }
        let found = cells.get(&key.part).map(|cell| cell.timestamp);
        let is_there = found.is_some_and(|found| found >= held.timestamp());
        if !is_there && shared.state.applied().get(&key) == Some(&held) {
            return Err(StoreError::Lost {
                key: key.key.to_string(),
            });
        }
    }
    Ok(cells)
}
