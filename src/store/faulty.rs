//! A store whose writes fail, wait or panic when a test says so.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    CellStore, Commit, KeyWalk, QuarantineStore, RowBatch, RowHead, Store, StoreError, StoreView,
    Versioned,
};
use crate::{
    cell::{Cell, CellKey, Version},
    collection::kept::Kept,
};

/// What becomes of a write: of a group of the log, or of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It succeeds.
    Done,
    /// It does not reach the disk, and an error is returned.
    Lost,
    /// It is on the disk, and yet an error is returned.
    Kept,
}

pub(crate) struct FaultyStore<S> {
    inner: S,
    /// Of the write of a number, counted from 0.
    verdict: Box<dyn Fn(usize) -> Verdict + Send + Sync>,
    writes: AtomicUsize,
    /// Whether rows are always written.
    is_of_log: bool,
}

impl<S> FaultyStore<S> {
    pub(crate) fn new(
        inner: S,
        verdict: impl Fn(usize) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            verdict: Box::new(verdict),
            writes: AtomicUsize::new(0),
            is_of_log: false,
        }
    }

    /// Of the writes to the log alone.
    pub(crate) fn appending(
        inner: S,
        verdict: impl Fn(usize) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self {
            is_of_log: true,
            ..Self::new(inner, verdict)
        }
    }

    /// The writes up to number `number` succeed; of that and of those after it this comes.
    pub(crate) fn failing_at(inner: S, number: usize, at: Verdict, after: Verdict) -> Self {
        Self::new(inner, move |write| match write.cmp(&number) {
            std::cmp::Ordering::Less => Verdict::Done,
            std::cmp::Ordering::Equal => at,
            std::cmp::Ordering::Greater => after,
        })
    }

    /// `lost` is what would have come of a write that is not made.
    fn judged<T>(
        &self,
        lost: T,
        write: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let verdict = (self.verdict)(self.writes.fetch_add(1, Ordering::SeqCst));
        let written = match verdict {
            Verdict::Lost => lost,
            Verdict::Done | Verdict::Kept => write()?,
        };
        match verdict {
            Verdict::Done => Ok(written),
            Verdict::Lost | Verdict::Kept => Err(StoreError::Made),
        }
    }
}

impl<S: Store> CellStore for FaultyStore<S> {
    fn keeps_cells(&self) -> bool {
        self.inner.keeps_cells()
    }

    fn scan(&self, visit: &mut dyn FnMut(CellKey, RowHead)) -> Result<(), StoreError> {
        self.inner.scan(visit)
    }

    fn append<'a>(
        &self,
        group: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<u64, StoreError> {
        self.judged(0, || self.inner.append(group, commit))
    }

    fn apply(&self, batch: &RowBatch) -> Result<(), StoreError> {
        match self.is_of_log {
            true => self.inner.apply(batch),
            false => self.judged((), || self.inner.apply(batch)),
        }
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        self.inner.read(key, at_least)
    }

    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>> {
        self.inner.peek(key, at_least)
    }

    fn cache(&self, cells: &mut dyn Iterator<Item = Versioned>) {
        self.inner.cache(cells);
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.inner.disk_bytes()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn wants_rewrite(&self, is_quiet: bool) -> Result<bool, StoreError> {
        self.inner.wants_rewrite(is_quiet)
    }

    fn rewrite(&self, walk: &mut KeyWalk<'_>) -> Result<bool, StoreError> {
        self.inner.rewrite(walk)
    }

    fn collection(&self) -> Result<Kept, StoreError> {
        self.inner.collection()
    }

    fn keep_collection(&self, kept: &Kept) -> Result<(), StoreError> {
        self.judged((), || self.inner.keep_collection(kept))
    }

    fn set_aside(&self, cells: &[(CellKey, Arc<Cell>)]) -> Result<(), StoreError> {
        self.judged((), || self.inner.set_aside(cells))
    }

    fn aside(&self, visit: &mut dyn FnMut(CellKey, Cell)) -> Result<(), StoreError> {
        self.inner.aside(visit)
    }

    fn drop_aside(&self) -> Result<(), StoreError> {
        self.judged((), || self.inner.drop_aside())
    }

    fn view(&self) -> Box<dyn StoreView> {
        self.inner.view()
    }
}

impl<S: Store> QuarantineStore for FaultyStore<S> {
    fn quarantine(&self, key: &CellKey, version: &Version) -> Result<(), StoreError> {
        self.judged((), || self.inner.quarantine(key, version))
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, Version)>, StoreError> {
        self.inner.quarantined()
    }
}
