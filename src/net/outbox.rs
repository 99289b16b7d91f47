//! Where replies wait to be sent.
//!
//! Zenoh waits for a reader that takes nothing, for seconds or for as long as it is configured, and
//! nothing can call that off. So a reply is sent by a thread that holds nothing of the storage: whoever
//! makes replies gives them away, and a storage that is closed waits for no reader.

use std::{cell::RefCell, time::Duration};

use tokio::{runtime::Handle, sync::mpsc, time::timeout};

/// Sends a reply; false if no further one has to be tried.
pub(crate) type Sending = Box<dyn FnOnce() -> bool + Send>;

/// How often one that waits for room looks whether it is to go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Replies that wait while one is being sent. What they hold is in memory.
const WAITING: usize = 1;

/// Where replies go.
pub(crate) enum Outbox {
    /// To a thread that sends them meanwhile: there may be any number.
    Stream(mpsc::Sender<Sending>),
    /// Nowhere yet: they are sent when the storage is let go of. There are few.
    Few(RefCell<Vec<Sending>>),
}

impl Outbox {
    /// For any number of replies. Has to be called on a thread of the runtime.
    pub(crate) fn stream() -> Self {
        let (sender, mut waiting) = mpsc::channel::<Sending>(WAITING);
        Handle::current().spawn_blocking(move || {
            while let Some(send) = waiting.blocking_recv() {
                if !send() {
                    return;
                }
            }
        });
        Self::Stream(sender)
    }

    /// For few replies, which whoever has it sends at last: see [`send_all`](Self::send_all).
    pub(crate) fn few() -> Self {
        Self::Few(RefCell::default())
    }

    /// Gives a reply away, waiting for room for as long as `goes_on` says; false if it was not taken, or
    /// no further one would be. Blocks.
    pub(crate) fn put(&self, send: Sending, goes_on: &dyn Fn() -> bool) -> bool {
        let sender = match self {
            Self::Stream(sender) => sender,
            Self::Few(few) => {
                few.borrow_mut().push(send);
                return true;
            }
        };
        let send = match sender.try_send(send) {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            Err(mpsc::error::TrySendError::Full(send)) => send,
        };
        loop {
            let waited = timeout(LOOK_EVERY, sender.reserve());
            match Handle::current().block_on(waited) {
                Ok(Ok(room)) => {
                    room.send(send);
                    return true;
                }
                Ok(Err(_)) => return false,
                Err(_) if !goes_on() => return false,
                Err(_) => {}
            }
        }
    }

    /// Sends what waits, if that is not done meanwhile. Blocks, and has to be done by somebody who holds
    /// nothing.
    pub(crate) fn send_all(self) {
        if let Self::Few(few) = self {
            // The others are not worth to be tried either.
            let _ = few.into_inner().into_iter().all(|send| send());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    };

    use super::*;
    use crate::serve::runtime;

    /// Runs on a thread of the runtime that may block.
    fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let runtime = runtime().expect("threads");
        let running = runtime.spawn_blocking(work);
        runtime.block_on(running).expect("no panic")
    }

    #[test]
    fn a_reader_that_takes_nothing_is_waited_for_as_long_as_one_likes() {
        let (release, released) = channel::<()>();
        let taken = run(move || {
            let outbox = Outbox::stream();
            let stalled: Sending = Box::new(move || released.recv().is_ok());
            assert!(outbox.put(stalled, &|| true));
            // One waits beside it, and there is no room for another.
            let mut taken = 0;
            while outbox.put(Box::new(|| true), &|| false) {
                taken += 1;
            }
            taken
        });
        // The first may have been taken by the thread meanwhile, or not.
        assert!((0..=1).contains(&taken), "{taken}");
        release.send(()).expect("it is still waited for");
    }

    #[test]
    fn all_are_sent_in_order_until_one_fails() {
        let (sent, order) = channel();
        let taken = run(move || {
            let outbox = Outbox::stream();
            let send = |number: u32| {
                let sent = sent.clone();
                let sending: Sending = Box::new(move || sent.send(number).is_ok() && number < 2);
                sending
            };
            (0..100)
                .take_while(|n| outbox.put(send(*n), &|| true))
                .count()
        });
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(taken < 100, "nobody takes more when one has failed");
    }

    #[test]
    fn few_are_sent_when_they_are_let_go() {
        let count = Arc::new(AtomicU32::new(0));
        let outbox = Outbox::few();
        for _ in 0..3 {
            let count = Arc::clone(&count);
            let send = move || count.fetch_add(1, Ordering::Relaxed) < 1;
            assert!(outbox.put(Box::new(send), &|| false));
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
        outbox.send_all();
        assert_eq!(
            count.load(Ordering::Relaxed),
            2,
            "none after one that failed"
        );
    }
}
