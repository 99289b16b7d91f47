//! The gate between a batch that is being applied and those who want to see all of it or nothing.

use std::sync::{Condvar, Mutex, PoisonError};

/// What becomes of the batch that is being applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BatchState {
    /// There is none.
    #[default]
    None,
    /// It is half applied.
    Half,
    /// It was cut off by a failure, and stays half applied.
    CutOff,
}

/// Open while no batch is half applied.
#[derive(Default)]
pub(in crate::replica) struct BatchGate {
    batch: Mutex<BatchState>,
    ended: Condvar,
}

impl BatchGate {
    /// A batch is applied from now on.
    pub(super) fn begin(&self) {
        self.set(BatchState::Half);
    }

    /// The batch is applied.
    pub(in crate::replica) fn end(&self) {
        self.set(BatchState::None);
    }

    /// A batch that is half applied stays so.
    pub(in crate::replica) fn abandon(&self) {
        let batch = *self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if batch == BatchState::Half {
            self.set(BatchState::CutOff);
        }
    }

    fn set(&self, batch: BatchState) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = batch;
        self.ended.notify_all();
    }

    /// Runs `read` while no batch is half applied; nothing if one stays so.
    pub(in crate::replica) fn between_batches<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        let batch = self.batch.lock();
        let mut batch = batch.unwrap_or_else(PoisonError::into_inner);
        while *batch == BatchState::Half {
            let waited = self.ended.wait(batch);
            batch = waited.unwrap_or_else(PoisonError::into_inner);
        }
        (*batch == BatchState::None).then(read)
    }
}
