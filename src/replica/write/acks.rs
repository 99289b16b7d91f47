//! Futures that complete when a commit is durable.
//!
//! They are not tied to any runtime: the thread that commits wakes them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use crate::replica::{Failure, ReplicaError};

#[derive(Default)]
struct State {
    /// All updates up to this one are committed.
    done: u64,
    failure: Option<Arc<Failure>>,
    /// No more commits will come.
    closed: bool,
    wakers: Vec<(u64, Waker)>,
}

impl State {
    /// What is to be said of update `sequence`, if anything yet.
    fn outcome(&self, sequence: u64) -> Option<Result<(), ReplicaError>> {
        if sequence <= self.done {
            return Some(Ok(()));
        }
        if let Some(failure) = &self.failure {
            return Some(Err(ReplicaError::Failed(Arc::clone(failure))));
        }
        self.closed.then_some(Err(ReplicaError::Closed))
    }
}

#[derive(Default)]
pub(in crate::replica) struct CommitTracker {
    state: Mutex<State>,
    changed: Condvar,
}

impl CommitTracker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let (ready, waiting) = std::mem::take(&mut state.wakers)
            .into_iter()
            .partition(|(sequence, _)| state.outcome(*sequence).is_some());
        state.wakers = waiting;
        drop(state);
        let ready: Vec<(u64, Waker)> = ready;
        ready.into_iter().for_each(|(_, waker)| waker.wake());
        self.changed.notify_all();
    }

    /// How many are to be woken.
    #[cfg(test)]
    pub(in crate::replica) fn waiting(&self) -> usize {
        self.state().wakers.len()
    }

    pub(in crate::replica) fn done(&self, sequence: u64) {
        self.change(|state| state.done = sequence);
    }

    pub(in crate::replica) fn fail(&self, failure: Failure) {
        // The first is the reason of the others.
        self.change(|state| {
            state.failure.get_or_insert_with(|| Arc::new(failure));
        });
    }

    pub(in crate::replica) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    pub(in crate::replica) fn failure(&self) -> Option<Arc<Failure>> {
        self.state().failure.clone()
    }

    pub(in crate::replica) fn check(&self) -> Result<(), ReplicaError> {
        self.failure()
            .map_or(Ok(()), |failure| Err(ReplicaError::Failed(failure)))
    }

    pub(in crate::replica) fn wait(&self, sequence: u64) -> Result<(), ReplicaError> {
        let mut state = self.state();
        loop {
            if let Some(outcome) = state.outcome(sequence) {
                return outcome;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(in crate::replica) fn wait_until_closed(&self) {
        let mut state = self.state();
        while !state.closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(in crate::replica) fn committed(commits: &Arc<Self>, sequence: u64) -> Committed {
        Committed {
            commits: Arc::clone(commits),
            sequence,
            woken: None,
        }
    }
}

/// Ready when a write is committed, or will never be.
#[must_use = "a write is only durable when this is ready"]
pub struct Committed {
    commits: Arc<CommitTracker>,
    sequence: u64,
    /// Who is woken, so that being polled again and again takes no room.
    woken: Option<Waker>,
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Committed({})", self.sequence)
    }
}

impl Committed {
    /// Waits on this thread.
    ///
    /// # Errors
    /// If the store failed, or the replica was closed before.
    pub fn wait(self) -> Result<(), ReplicaError> {
        self.commits.wait(self.sequence)
    }
}

impl Committed {
    /// Whether it is known by now what became of the write.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.commits.state().outcome(self.sequence).is_some()
    }

    /// Waits on this thread until it is known what became of the write, or `deadline`;
    /// true if it is known.
    #[must_use]
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut state = self.commits.state();
        while state.outcome(self.sequence).is_none() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.commits.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Future for Committed {
    type Output = Result<(), ReplicaError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.commits.state();
        if let Some(outcome) = state.outcome(this.sequence) {
            return Poll::Ready(outcome);
        }
        let waker = context.waker();
        if !this
            .woken
            .as_ref()
            .is_some_and(|woken| woken.will_wake(waker))
        {
            state.wakers.push((this.sequence, waker.clone()));
            this.woken = Some(waker.clone());
        }
        Poll::Pending
    }
}
