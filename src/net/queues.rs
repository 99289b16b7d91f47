//! The queues of operators' queries.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::authority::Pace;

/// Queries of one pace: so many are answered at a time, and so many more wait.
pub(super) struct Queue {
    room: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Queue {
    fn new(at_a_time: usize, waiting: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(at_a_time + waiting)),
            turns: Arc::new(Semaphore::new(at_a_time)),
        }
    }

    /// A place, if there is one; it is given back when it is dropped.
    pub(super) fn enter(&self) -> Option<Place> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Place {
            _room: room,
            turns: Arc::clone(&self.turns),
        })
    }
}

/// A place in a queue.
pub(super) struct Place {
    _room: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

impl Place {
    /// Waits until it is one's turn, which lasts as long as what is returned.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

/// The queues of a storage. None of them holds up another.
pub(super) struct Queues {
    pub(super) quick: Queue,
    frames: Queue,
    peers: Queue,
    long: Queue,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            quick: Queue::new(4, 64),
            frames: Queue::new(2, 16),
            peers: Queue::new(2, 16),
            // What takes long is not worth to wait for.
            long: Queue::new(2, 0),
        }
    }

    pub(super) fn of(&self, pace: Pace) -> &Queue {
        match pace {
            Pace::Quick => &self.quick,
            Pace::Frame => &self.frames,
            Pace::Peer => &self.peers,
            Pace::Long => &self.long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_an_end_and_holds_up_no_other() {
        let queues = Queues::new();
        let long: Vec<_> = std::iter::from_fn(|| queues.long.enter()).collect();
        assert_eq!(long.len(), 2);
        let peers: Vec<_> = std::iter::from_fn(|| queues.peers.enter()).collect();
        assert_eq!(peers.len(), 18);
        for pace in [Pace::Quick, Pace::Frame] {
            let place = queues.of(pace).enter().expect("room");
            let turn = Arc::clone(&place.turns).try_acquire_owned();
            assert!(turn.is_ok(), "{pace:?}");
        }
        drop(long);
        assert!(queues.long.enter().is_some());
    }
}
