//! Keeps the log short: of what anyone can cause as often as they like there is a line
//! once in a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

#[derive(Default)]
struct State {
    last: Option<Instant>,
    since: u64,
}

/// Lets one of many through each span of time, with how many there were.
pub(super) struct LogLimit {
    every: Duration,
    state: Mutex<State>,
}

impl LogLimit {
    pub(super) fn new(every: Duration) -> Self {
        let state = Mutex::default();
        Self { every, state }
    }

    /// One more. If it is to be logged: how many there were since the last that was,
    /// this one among them.
    pub(super) fn one_more(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        let is_due = state.last.is_none_or(|last| now >= last + self.every);
        is_due.then(|| {
            state.last = Some(now);
            std::mem::take(&mut state.since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_let_through_in_each_span() {
        let limit = LogLimit::new(Duration::from_secs(60));
        let start = Instant::now();
        let at = |seconds| limit.one_more(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        assert_eq!((at(1), at(59)), (None, None));
        assert_eq!(at(60), Some(3));
        assert_eq!(at(119), None);
        assert_eq!(at(500), Some(2));
    }
}
