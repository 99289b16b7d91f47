//! Keeps the log short: of what anyone can cause as often as they like there are a few lines
//! once in a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

#[derive(Default)]
struct State {
    /// When the span began, and how many were let through in it.
    began: Option<Instant>,
    told: u32,
    since: u64,
}

/// Lets the first few of many through in each span of time, with how many there were.
pub(super) struct LogLimit {
    every: Duration,
    lines: u32,
    state: Mutex<State>,
}

impl LogLimit {
    /// So many lines in each span.
    pub(super) fn new(lines: u32, every: Duration) -> Self {
        let state = Mutex::default();
        Self {
            every,
            lines,
            state,
        }
    }

    /// One more. If it is to be logged: how many there were since the last that was,
    /// this one among them.
    pub(super) fn one_more(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        if state.began.is_none_or(|began| now >= began + self.every) {
            state.began = Some(now);
            state.told = 0;
        }
        (state.told < self.lines).then(|| {
            state.told += 1;
            std::mem::take(&mut state.since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_let_through_in_each_span() {
        let limit = LogLimit::new(1, Duration::from_secs(60));
        let start = Instant::now();
        let at = |seconds| limit.one_more(start + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        assert_eq!((at(1), at(59)), (None, None));
        assert_eq!(at(60), Some(3));
        assert_eq!(at(119), None);
        assert_eq!(at(500), Some(2));
    }

    #[test]
    fn the_first_few_are_each_let_through() {
        let limit = LogLimit::new(3, Duration::from_secs(60));
        let start = Instant::now();
        let at = |seconds| limit.one_more(start + Duration::from_secs(seconds));
        assert_eq!((at(0), at(0), at(30)), (Some(1), Some(1), Some(1)));
        assert_eq!((at(31), at(59)), (None, None));
        assert_eq!((at(60), at(60)), (Some(3), Some(1)));
    }
}
