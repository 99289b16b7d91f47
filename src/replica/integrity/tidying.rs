//! Having the store rewrite its rows, where that is worth while.

use std::sync::atomic::Ordering;

use super::super::{Replica, ReplicaError, Shared};
use crate::store::StoreError;

impl Replica {
    /// Has the store write its rows anew, if a block of its files cannot be read; or if nothing was
    /// committed since this was called last, and much of its files is not needed any more. Returns
    /// whether it did: if it cannot write, the replica has failed. Blocks on disk; others read and write
    /// meanwhile.
    ///
    /// # Errors
    /// If the store cannot be read, or has no room for it.
    pub fn tidy(&self) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let committed = shared.state.counters.read().commits;
        let before = shared
            .committed_at_last_tidying
            .swap(committed, Ordering::Relaxed);
        let is_quiet = committed == before && self.queues().unsettled == 0;
        let is_over = self.failure().is_some() || shared.refuses_writes.load(Ordering::Relaxed);
        if is_over || !shared.store.wants_rewrite(is_quiet)? {
            return Ok(false);
        }
        let rewritten = shared
            .store
            .rewrite(&mut |visit| shared.walk(visit).unwrap_or(false));
        match rewritten {
            // The disk is slow, and what was written is given up.
            Err(StoreError::Stuck { .. }) | Ok(_) => rewritten,
            Err(error) => {
                // It is not known what is on the disk, as after any write that fails.
                shared.state.fail(error.into());
                Ok(false)
            }
        }
    }
}

impl Shared {
    /// Shows the keys of all rows; returns whether it did, and the replica was not closed meanwhile.
    fn walk(
        &self,
        visit: &mut dyn FnMut(&crate::cell::CellKey) -> bool,
    ) -> Result<bool, ReplicaError> {
        let snapshot = self.snapshot()?;
        let Ok(cells) = snapshot.tree.iter();
        for entry in cells {
            let Ok((key, _)) = entry;
            if self.state.queue.is_closed() || !visit(key) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
