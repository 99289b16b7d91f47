//! The books of the writer: what has to be written, and what has to settle.
//!
//! No clock and no I/O: times are parameters, writes are results.

use std::{collections::BTreeMap, sync::Arc, time::Duration, vec};

use super::{
    bucket::{Bucket, Due},
    inbox::Update,
};
use crate::{
    cell::{ntp64_span, CellKey, Stamp},
    mst::sort_by_tree_key,
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

/// The first whole second that is not before `cut`.
fn whole_second(cut: u64) -> u64 {
    cut.checked_next_multiple_of(1 << 32).unwrap_or(u64::MAX)
}

/// Bytes of values that are held before it is looked for those that have lost. Tests, whose
/// values are small, do that too.
const SIFTED_BYTES: usize = if cfg!(test) { 32 } else { 64 << 20 };

/// Where updates are that are not in the tree yet.
///
/// Invariant: of the updates committed with times from the cut on, each bucket
/// holds the join per cell, perhaps with some that lost; late ones are in the
/// bucket of the cut. What is in a bucket is committed, but if it is held it may be
/// written ahead only. Nothing settles before all that is held is [written
/// out](Self::write_out), if there is a store: so the tree holds nothing that the store
/// does not.
pub(super) struct Ledger {
    cut: u64,
    /// The last whole second at which the root was made.
    last_second: Option<u64>,
    /// By the cut that settles them.
    buckets: Buckets,
    /// The same of what is being committed.
    admitted: Buckets,
    /// What is held and on its way to its rows, by the cut that settles it; ascending by
    /// key, and each key once. Its values have at most so many bytes.
    to_write: BTreeMap<u64, vec::IntoIter<(CellKey, Due)>>,
    to_write_bytes: usize,
    /// When as many bytes are held, it is looked for those that have lost.
    sift_at: usize,
}

type Buckets = BTreeMap<u64, Bucket>;

impl Ledger {
    pub(super) fn new(cut: u64) -> Self {
        Self {
            cut,
            last_second: None,
            buckets: BTreeMap::new(),
            admitted: BTreeMap::new(),
            to_write: BTreeMap::new(),
            to_write_bytes: 0,
            sift_at: SIFTED_BYTES,
        }
    }

    /// Takes updates in the order in which they were offered, and returns what is
    /// to be written: ascending by key, and each key once. None of it settles before
    /// it is said to be [committed](Self::committed).
    ///
    /// Of a cell only the newest is written, and only if it was the newest when
    /// it was offered. If it was not, the newer one was offered before, so it is
    /// in an earlier group or in this one. The others are kept for the root of
    /// their bucket's cut.
    pub(super) fn admit(&mut self, updates: &mut [Update]) -> Vec<Write> {
        // Stable: the updates of a key stay in order.
        sort_by_tree_key(updates, |update| &update.key);
        let mut writes = Vec::with_capacity(updates.len());
        let mut to_come = updates.len();
        for of_key in updates.chunk_by(|a, b| a.key == b.key) {
            let newest = of_key.iter().rposition(|update| update.is_newest);
            let bucket_of = |update: &Update| cut_above(update.cell.stamp.time).max(self.cut);
            // Of a key that is written again and again only the newest of each bucket matters.
            let mut latest: BTreeMap<u64, Stamp> = BTreeMap::new();
            if of_key.len() > 1 {
                for update in of_key {
                    let latest = latest.entry(bucket_of(update)).or_insert(update.cell.stamp);
                    *latest = (*latest).max(update.cell.stamp);
                }
            }
            for (place, update) in of_key.iter().enumerate() {
                let Update { key, cell, .. } = update;
                let bucket = bucket_of(update);
                let is_written = newest == Some(place);
                let is_lost = latest
                    .get(&bucket)
                    .is_some_and(|latest| *latest > cell.stamp);
                if !is_written && is_lost {
                    continue;
                }
                let meta = update.meta();
                self.admitted.entry(bucket).or_default().push(
                    key.clone(),
                    Due::Stored(meta),
                    to_come,
                );
                if is_written {
                    writes.push(Write {
                        key: key.clone(),
                        cell: Arc::clone(cell),
                        meta,
                    });
                }
            }
            to_come -= of_key.len();
        }
        writes
    }

    /// What was admitted is committed. The cut may have moved on meanwhile.
    pub(super) fn committed(&mut self) {
        for (bucket, cells) in std::mem::take(&mut self.admitted) {
            let bucket = bucket.max(self.cut);
            self.buckets.entry(bucket).or_default().append(cells);
        }
    }

    /// Takes updates and leaves none: those that are written ahead, or for which there is
    /// no store. They count as committed.
    ///
    /// They are neither sorted nor hashed before they settle, unless many of them have
    /// been overwritten meanwhile: those are not to take room until then.
    pub(super) fn hold(&mut self, updates: &mut Vec<Update>, is_ahead: bool) {
        // What was not is shared with those who read it.
        let is_overwritten = |update: &&Update| Arc::strong_count(&update.cell) == 1;
        let overwritten = updates.iter().filter(is_overwritten).count();
        let is_sifted = overwritten > updates.len() / 4;
        let mut held = Buckets::new();
        let most = updates.len();
        for (place, update) in updates.drain(..).enumerate() {
            let bucket = cut_above(update.cell.stamp.time).max(self.cut);
            // What is not the newest gets no row.
            let due = match is_ahead && !update.is_newest {
                true => Due::Stored(update.meta()),
                false => Due::Here(update.cell, update.meta),
            };
            let key = update.key;
            held.entry(bucket).or_default().push(key, due, most - place);
        }
        for (bucket, mut cells) in held {
            if is_sifted {
                cells.join();
            }
            self.buckets.entry(bucket).or_default().append(cells);
        }
        if self.held_bytes() >= self.sift_at {
            self.buckets.values_mut().for_each(Bucket::join);
            self.set_sift_at();
        }
    }

    /// Whether anything is held.
    pub(super) fn is_holding(&self) -> bool {
        !self.to_write.is_empty() || self.buckets.values().any(|bucket| bucket.held() > 0)
    }

    /// Takes about so many cells, or none, of those that are held: the next that are to be
    /// written to their rows, ascending by key, and each key once. They are held no more.
    ///
    /// The versions of a cell come in their order, so that its row is the newest in the
    /// end: of two that were the newest when they came, the later one is newer, and so in
    /// the same bucket, where only one is left, or in a later one, or it came when those
    /// before were on their way.
    pub(super) fn write_out(&mut self, most: usize) -> Vec<Write> {
        if self.to_write.is_empty() {
            self.begin_to_write();
        }
        let mut writes = Vec::with_capacity(most);
        let Some(mut first) = self.to_write.first_entry() else {
            return writes;
        };
        let bucket = self.buckets.entry(*first.key()).or_default();
        let cells = first.get_mut();
        let left = cells.len();
        for (key, due) in cells.take(most) {
            let (meta, cell) = due.written(&key);
            bucket.push(key.clone(), Due::Stored(meta), left);
            writes.extend(cell.map(|cell| Write { key, cell, meta }));
        }
        if cells.len() == 0 {
            first.remove();
        }
        if self.to_write.is_empty() {
            self.to_write_bytes = 0;
        }
        writes
    }

    fn begin_to_write(&mut self) {
        let buckets = std::mem::take(&mut self.buckets).into_iter();
        let (held, others) = buckets.partition::<Buckets, _>(|(_, bucket)| bucket.held() > 0);
        self.buckets = others;
        for (cut, mut bucket) in held {
            bucket.join();
            self.to_write_bytes += bucket.held_bytes();
            self.to_write.insert(cut, bucket.take().into_iter());
        }
    }

    /// Twice what is there after it was sifted: so that each cell is seldom looked at.
    fn set_sift_at(&mut self) {
        self.sift_at = SIFTED_BYTES.max(2 * self.held_bytes());
    }

    /// Bytes of the values that wait to settle and are in no store.
    pub(super) fn held_bytes(&self) -> usize {
        let waiting: usize = self.buckets.values().map(Bucket::held_bytes).sum();
        waiting + self.to_write_bytes
    }

    /// What is settled has times below this.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// The cut by which something is to settle, if anything is, be it committed or not.
    pub(super) fn next_cut(&self) -> Option<u64> {
        let admitted = self.admitted.keys().next();
        let admitted = admitted.map(|bucket| self.cut.max(*bucket));
        self.next_bucket().into_iter().chain(admitted).min()
    }

    fn next_bucket(&self) -> Option<u64> {
        let to_write = self.to_write.keys().next();
        self.buckets
            .keys()
            .next()
            .into_iter()
            .chain(to_write)
            .min()
            .copied()
    }

    /// The cut by which all is settled that was admitted so far.
    pub(super) fn last_cut(&self) -> u64 {
        let last = self.buckets.keys().next_back();
        let last = last.into_iter().chain(self.to_write.keys().next_back());
        last.max().map_or(self.cut, |last| self.cut.max(*last))
    }

    /// How far to settle next, if there is something to do by `cut`, and whether
    /// the root is to be made there.
    ///
    /// That is at each whole second, if the tree has changed since the root was
    /// made: all replicas do so, and so have roots of one cut to compare.
    pub(super) fn next_step(&self, cut: u64, is_root_stale: bool) -> Option<(u64, bool)> {
        let next = self.next_bucket().filter(|next| *next <= cut);
        let second = self.next_second(is_root_stale);
        let second = second.filter(|second| *second <= cut);
        match (next, second) {
            (Some(next), Some(second)) if next > second => Some((second, true)),
            (None, Some(second)) => Some((second, true)),
            (Some(next), _) => {
                let second = whole_second(next);
                let is_due = second <= cut && self.last_second != Some(second);
                Some((cut.min(second), is_due))
            }
            (None, None) => None,
        }
    }

    /// The cut by which there is something to do, if there will be.
    pub(super) fn next_due(&self, is_root_stale: bool) -> Option<u64> {
        let second = self.next_second(is_root_stale);
        self.next_bucket().into_iter().chain(second).min()
    }

    /// The whole second at which a stale root is to be made.
    fn next_second(&self, is_root_stale: bool) -> Option<u64> {
        let second = whole_second(self.cut);
        let second = match self.last_second == Some(second) {
            true => whole_second(second.saturating_add(1)),
            false => second,
        };
        is_root_stale.then_some(second)
    }

    /// The root was made at the cut that is.
    pub(super) fn root_made(&mut self) {
        if whole_second(self.cut) == self.cut {
            self.last_second = Some(self.cut);
        }
    }

    /// Moves the cut, never back, and takes out what has settled by it:
    /// ascending by key, each key once.
    pub(super) fn settle(&mut self, cut: u64) -> (u64, Vec<(CellKey, Due)>) {
        self.cut = self.cut.max(cut);
        let mut due = Bucket::default();
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() > self.cut {
                break;
            }
            due.append(bucket.remove());
        }
        due.join();
        self.set_sift_at();
        (self.cut, due.take())
    }
}
