//! A store whose commits, written ahead or not, fail, wait or panic when a test says so.

use std::sync::{
    atomic::{AtomicUsize, Ordering},
    Arc,
};

use super::{Commit, Store, StoreError, StoreView, Versioned, Write};
use crate::cell::{Cell, CellKey, CellMeta, Key, Part, Version};

/// What becomes of a commit.
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
    /// Of the commit of a number, counted from 0.
    verdict: Box<dyn Fn(usize) -> Verdict + Send + Sync>,
    commits: AtomicUsize,
}

impl<S> FaultyStore<S> {
    pub(crate) fn new(
        inner: S,
        verdict: impl Fn(usize) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            verdict: Box::new(verdict),
            commits: AtomicUsize::new(0),
        }
    }

    /// The commits up to number `number` succeed; of that and of those after it this comes.
    pub(crate) fn failing_at(inner: S, number: usize, at: Verdict, after: Verdict) -> Self {
        Self::new(inner, move |commit| match commit.cmp(&number) {
            std::cmp::Ordering::Less => Verdict::Done,
            std::cmp::Ordering::Equal => at,
            std::cmp::Ordering::Greater => after,
        })
    }

    fn judged(&self, commit: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let verdict = (self.verdict)(self.commits.fetch_add(1, Ordering::SeqCst));
        if verdict != Verdict::Lost {
            commit()?;
        }
        match verdict {
            Verdict::Done => Ok(()),
            Verdict::Lost | Verdict::Kept => Err(StoreError::Made),
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        self.inner.scan(visit)
    }

    fn commit(&self, batch: &[Write], commit: Commit) -> Result<(), StoreError> {
        self.judged(|| self.inner.commit(batch, commit))
    }

    fn write_ahead<'a>(
        &self,
        cells: &mut dyn Iterator<Item = (&'a CellKey, &'a Cell)>,
        commit: Commit,
    ) -> Result<(), StoreError> {
        self.judged(|| self.inner.write_ahead(cells, commit))
    }

    fn clear_ahead(&self) -> Result<(), StoreError> {
        self.judged(|| self.inner.clear_ahead())
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

    fn read_parts(&self, key: &Key) -> Result<Vec<(Part, Arc<Cell>)>, StoreError> {
        self.inner.read_parts(key)
    }

    fn remove(&self, keys: &[CellKey]) -> Result<(), StoreError> {
        self.inner.remove(keys)
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.inner.disk_bytes()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }
    fn reread(&self, key: &CellKey) -> Result<Option<(Arc<Cell>, CellMeta)>, StoreError> {
        self.inner.reread(key)
    }

    fn view(&self) -> Result<Box<dyn StoreView>, StoreError> {
        self.inner.view()
    }

    fn quarantine(&self, key: &CellKey, meta: &CellMeta) -> Result<(), StoreError> {
        self.inner.quarantine(key, meta)
    }

    fn quarantined(&self) -> Result<Vec<(CellKey, CellMeta)>, StoreError> {
        self.inner.quarantined()
    }

    fn release(&self, keys: &[CellKey]) -> Result<(), StoreError> {
        self.inner.release(keys)
    }
}
