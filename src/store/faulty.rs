//! A store whose commits fail when a test says so.

use std::sync::{
    atomic::{AtomicUsize, Ordering},
    Arc,
};

use super::{Commit, Store, StoreError, Write};
use crate::cell::{Cell, CellKey, CellMeta, Version};

/// When, counted in commits from now, one fails, and what of it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The commit does not reach the disk.
    Lost(usize),
    /// The commit is on the disk, and yet an error is returned.
    Kept(usize),
}

pub(crate) struct FaultyStore<S> {
    inner: S,
    fault: Fault,
    commits: AtomicUsize,
}

impl<S> FaultyStore<S> {
    pub(crate) fn new(inner: S, fault: Fault) -> Self {
        Self {
            inner,
            fault,
            commits: AtomicUsize::new(0),
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn scan(&self, visit: &mut dyn FnMut(CellKey, CellMeta)) -> Result<(), StoreError> {
        self.inner.scan(visit)
    }

    fn commit(&self, batch: &[Write], commit: Commit) -> Result<(), StoreError> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Lost(fails) if number >= fails => Err(StoreError::Made),
            Fault::Kept(fails) if number == fails => {
                self.inner.commit(batch, commit)?;
                Err(StoreError::Made)
            }
            Fault::Kept(fails) if number > fails => Err(StoreError::Made),
            _ => self.inner.commit(batch, commit),
        }
    }

    fn read(&self, key: &CellKey, at_least: Version) -> Result<Option<Arc<Cell>>, StoreError> {
        self.inner.read(key, at_least)
    }

    fn peek(&self, key: &CellKey, at_least: Version) -> Option<Arc<Cell>> {
        self.inner.peek(key, at_least)
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.inner.disk_bytes()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }
}
