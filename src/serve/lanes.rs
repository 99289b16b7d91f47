//! Bounded pools in which work waits for its turn.

use std::sync::Arc;

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Work of one kind: so much is done at a time, and so much more waits.
#[derive(Clone)]
pub(super) struct Lane {
    runtime: Handle,
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    /// Of all storages together.
    shared: Option<Arc<Semaphore>>,
}

/// There is no place in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Lane {
    pub(super) fn new(runtime: &Handle, at_a_time: usize, waiting: usize) -> Self {
        Self {
            runtime: runtime.clone(),
            room: Arc::new(Semaphore::new(at_a_time + waiting)),
            turns: Arc::new(Semaphore::new(at_a_time)),
            shared: None,
        }
    }

    /// As it is, but `shared` limits it, too.
    pub(super) fn sharing(self, shared: &Arc<Semaphore>) -> Self {
        let shared = Some(Arc::clone(shared));
        Self { shared, ..self }
    }

    /// Takes a place for work, if there is one.
    pub(super) fn enter(&self) -> Result<Place, Full> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        Ok(Place {
            lane: self.clone(),
            _room: room.map_err(|_| Full)?,
        })
    }
}

/// A place in a lane.
pub(super) struct Place {
    lane: Lane,
    _room: OwnedSemaphorePermit,
}

impl Place {
    /// Does the work on a thread that may block, when it is its turn.
    pub(super) fn run(self, work: impl FnOnce() + Send + 'static) {
        let runtime = self.lane.runtime.clone();
        let turn = Arc::clone(&self.lane.turns).try_acquire_owned();
        let shared = self.lane.shared.clone();
        let of_all = shared.map(Semaphore::try_acquire_owned);
        if let (Ok(turn), Ok(of_all)) = (turn, of_all.transpose()) {
            runtime.spawn_blocking(move || {
                work();
                drop((turn, of_all, self));
            });
            return;
        }
        let on = runtime.clone();
        runtime.spawn(async move {
            let turn = Arc::clone(&self.lane.turns).acquire_owned().await;
            let of_all = match self.lane.shared.clone() {
                Some(shared) => Some(shared.acquire_owned().await),
                None => None,
            };
            on.spawn_blocking(move || {
                work();
                drop((turn, of_all, self));
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn so_much_is_done_at_a_time_and_the_rest_waits_or_is_turned_away() {
        let runtime = crate::serve::runtime().expect("threads");
        let lane = Lane::new(runtime, 2, 1);
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        for number in 0..3 {
            let (started, released) = (started.clone(), Arc::clone(&released));
            lane.enter().map_err(|_| ()).expect("room").run(move || {
                started.send(number).expect("the test waits");
                let _ = released.lock().expect("no panic").recv();
            });
        }
        assert!(lane.enter().is_err(), "two are done, one waits");
        let first = [starts.recv().expect("one"), starts.recv().expect("another")];
        assert!(!first.contains(&2) && starts.try_recv().is_err());
        release.send(()).expect("someone waits");
        assert_eq!(starts.recv(), Ok(2));
        (0..2).for_each(|_| release.send(()).expect("someone waits"));
    }
}
