//! The books of the writer: what has to be written, and what has to settle.
//!
//! No clock and no I/O: times are parameters, writes are results.

use std::{
    collections::{hash_map::Entry, BTreeMap, HashMap},
    time::Duration,
};

use super::inbox::Update;
use crate::{
    cell::{ntp64_span, CellKey, CellMeta, Version},
    store::Write,
};

/// The unit of the cut, in NTP64: an eighth of a second.
///
/// Cuts are multiples of it, so that replicas have cuts in common.
pub const BUCKET: u64 = 1 << BUCKET_BITS;

const BUCKET_BITS: u32 = 29;

/// The cut at the time `now`: the last one that lies `settle` back.
#[must_use]
pub fn cut_at(now: u64, settle: Duration) -> u64 {
    now.saturating_sub(ntp64_span(settle)) >> BUCKET_BITS << BUCKET_BITS
}

/// The first cut that has `time` below it; the last there is, if none has.
pub(super) fn cut_above(time: u64) -> u64 {
    match time >> BUCKET_BITS {
        bucket if bucket >= u64::MAX >> BUCKET_BITS => u64::MAX,
        bucket => (bucket + 1) << BUCKET_BITS,
    }
}

/// Where updates are that are not in the tree yet.
///
/// Invariants: every update admitted, if it is not older than what is settled,
/// is in the bucket of its time, joined with the others of its cell there, or,
/// being late, in that of the cut; `newest` holds for each cell that is in a
/// bucket the greatest version admitted, which is the one in the store.
pub(super) struct Ledger {
    cut: u64,
    /// By the cut that settles them.
    buckets: BTreeMap<u64, HashMap<CellKey, CellMeta>>,
    newest: HashMap<CellKey, Version>,
}

impl Ledger {
    pub(super) fn new(cut: u64) -> Self {
        Self {
            cut,
            buckets: BTreeMap::new(),
            newest: HashMap::new(),
        }
    }

    /// Takes updates in any order, and returns what is to be written, ascending
    /// by key and each key once. `settled` tells the version in the tree.
    ///
    /// Of a cell only the greatest version is written; the others of its bucket
    /// are gone. Those of other buckets are not written, yet kept for the root
    /// of their cut.
    pub(super) fn admit(
        &mut self,
        updates: Vec<Update>,
        settled: impl Fn(&CellKey) -> Option<Version>,
    ) -> Vec<Write> {
        let mut writes: HashMap<CellKey, Write> = HashMap::with_capacity(updates.len());
        for Update { key, cell } in updates {
            let meta = CellMeta::of(&key, &cell);
            let time = meta.version.stamp.time;
            // Only what is late can be older than what is settled.
            if time < self.cut && settled(&key).is_some_and(|version| version >= meta.version) {
                continue;
            }
            let bucket = cut_above(time).max(self.cut);
            join(self.buckets.entry(bucket).or_default(), &key, meta);
            match self.newest.entry(key) {
                Entry::Occupied(newest) if *newest.get() >= meta.version => {}
                newest => {
                    let key = newest.key().clone();
                    newest.insert_entry(meta.version);
                    let write = Write {
                        key: key.clone(),
                        cell,
                        meta,
                    };
                    writes.insert(key, write);
                }
            }
        }
        let mut writes: Vec<Write> = writes.into_values().collect();
        writes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        writes
    }

    /// What is settled has times below this.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// The cut by which something is to settle, if anything is.
    pub(super) fn next_cut(&self) -> Option<u64> {
        self.buckets.keys().next().copied()
    }

    /// Moves the cut, never back, and takes out what has settled by it:
    /// ascending by key, each key once.
    pub(super) fn settle(&mut self, cut: u64) -> (u64, Vec<(CellKey, CellMeta)>) {
        self.cut = self.cut.max(cut);
        let mut due = HashMap::new();
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() > self.cut {
                break;
            }
            let bucket = bucket.remove();
            if due.is_empty() {
                due = bucket;
            } else {
                for (key, meta) in bucket {
                    join(&mut due, &key, meta);
                }
            }
        }
        let mut due: Vec<_> = due.into_iter().collect();
        due.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (key, meta) in &due {
            if self.newest.get(key) == Some(&meta.version) {
                self.newest.remove(key);
            }
        }
        (self.cut, due)
    }
}

fn join(cells: &mut HashMap<CellKey, CellMeta>, key: &CellKey, meta: CellMeta) {
    match cells.get_mut(key) {
        Some(old) if old.version >= meta.version => {}
        Some(old) => *old = meta,
        None => {
            cells.insert(key.clone(), meta);
        }
    }
}
