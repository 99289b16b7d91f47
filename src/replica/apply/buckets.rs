//! Committed updates waiting for the watermark, by time bucket.
//!
//! No clock and no I/O: times are parameters.

use std::collections::BTreeMap;

use super::{
    bucket::{PendingCell, TimeBucket},
    watermark::{cut_above, whole_second},
};
use crate::{cell::CellKey, replica::write::group::Update};

/// The updates that are committed and not applied.
///
/// Invariant: of the updates with times from the watermark on, each bucket has the join per cell,
/// perhaps with some that lost. Late ones are in the bucket of the watermark.
pub(in crate::replica) struct PendingBuckets {
    watermark: u64,
    /// The last whole second at which the root was made.
    last_second: Option<u64>,
    /// By the watermark that applies them.
    buckets: BTreeMap<u64, TimeBucket>,
    /// Bytes of values at which it is looked for those that have lost; and the least of that.
    sift_at: usize,
    least_sift_at: usize,
}

impl PendingBuckets {
    pub(in crate::replica) fn new(watermark: u64, sift_bytes: usize) -> Self {
        Self {
            watermark,
            last_second: None,
            buckets: BTreeMap::new(),
            sift_at: sift_bytes,
            least_sift_at: sift_bytes,
        }
    }

    /// Takes committed updates, and leaves none. They are neither sorted nor hashed before they are
    /// applied, unless they are to be sifted: then those that lost take no room until then.
    pub(in crate::replica) fn hold(&mut self, updates: &mut Vec<Update>, is_sifted: bool) {
        let mut held: BTreeMap<u64, TimeBucket> = BTreeMap::new();
        let most = updates.len();
        for (index, update) in updates.drain(..).enumerate() {
            let Update {
                key, cell, version, ..
            } = update;
            let bucket = held.entry(self.bucket_of(cell.timestamp.time)).or_default();
            bucket.push(key, PendingCell { cell, version }, most - index);
        }
        for (cut, mut bucket) in held {
            if is_sifted {
                bucket.join();
            }
            self.buckets.entry(cut).or_default().append(bucket);
        }
        if self.value_bytes() >= self.sift_at {
            self.buckets.values_mut().for_each(TimeBucket::join);
            self.set_sift_at();
        }
    }

    /// Twice what is there after it was sifted: so that each cell is seldom looked at.
    fn set_sift_at(&mut self) {
        self.sift_at = self.least_sift_at.max(2 * self.value_bytes());
    }

    /// The watermark that applies an update with this time.
    pub(in crate::replica) fn bucket_of(&self, time: u64) -> u64 {
        cut_above(time).max(self.watermark)
    }

    /// Bytes of the values that wait.
    pub(in crate::replica) fn value_bytes(&self) -> usize {
        self.buckets.values().map(TimeBucket::value_bytes).sum()
    }

    /// What is applied has times below this.
    pub(in crate::replica) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The watermark that applies something next, if anything waits.
    pub(in crate::replica) fn next_cut(&self) -> Option<u64> {
        self.buckets.keys().next().copied()
    }

    /// The watermark that applies all that waits.
    pub(in crate::replica) fn last_cut(&self) -> u64 {
        let last = self.buckets.keys().next_back();
        last.map_or(self.watermark, |last| self.watermark.max(*last))
    }

    /// How far to move the watermark next, if there is something to do by `cut`, and whether the
    /// root is to be made there.
    ///
    /// That is at each whole second, if the tree has changed since the root was made: all replicas do
    /// so, and so have roots of one cut to compare. `death` is the watermark at which something
    /// may die.
    pub(in crate::replica) fn next_step(
        &self,
        cut: u64,
        death: Option<u64>,
        is_root_stale: bool,
    ) -> Option<(u64, bool)> {
        let death = death.map(|death| death.max(self.watermark));
        let next = self.next_cut().into_iter().chain(death).min();
        let next = next.filter(|next| *next <= cut);
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

    /// The watermark by which there is something to do, if there will be.
    pub(in crate::replica) fn next_due(&self, is_root_stale: bool) -> Option<u64> {
        let second = self.next_second(is_root_stale);
        self.next_cut().into_iter().chain(second).min()
    }

    /// The whole second at which a stale root is to be made.
    fn next_second(&self, is_root_stale: bool) -> Option<u64> {
        let second = whole_second(self.watermark);
        let second = match self.last_second == Some(second) {
            true => whole_second(second.saturating_add(1)),
            false => second,
        };
        is_root_stale.then_some(second)
    }

    /// The root was made at the watermark that is.
    pub(in crate::replica) fn root_made(&mut self) {
        if whole_second(self.watermark) == self.watermark {
            self.last_second = Some(self.watermark);
        }
    }

    /// Moves the watermark, never back, and takes out what it has passed: ascending by key, each key
    /// once.
    pub(in crate::replica) fn advance(&mut self, cut: u64) -> Vec<(CellKey, PendingCell)> {
        self.watermark = self.watermark.max(cut);
        let mut due = TimeBucket::default();
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() > self.watermark {
                break;
            }
            due.append(bucket.remove());
        }
        due.join();
        self.set_sift_at();
        let due = due.take();
        debug_assert!(
            due.is_sorted_by(|(a, _), (b, _)| a < b),
            "what is due ascends, each key once"
        );
        due
    }
}
