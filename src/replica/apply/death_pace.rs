//! How far deaths may go by a clock that may have leapt.
//!
//! A router whose clock leaps ahead would destroy at once everything that has a lifetime. So deaths
//! follow the clock only as far as something else says the same: the monotonic clock since the last
//! look, or another replica. No clock and no I/O here: times are parameters.

use std::time::Duration;

use crate::cell::ntp64_span;

/// How much faster than the monotonic clock deaths catch up with a clock that nothing else confirms.
const CATCH_UP: u32 = 8;

/// Up to which watermark deaths may go.
#[derive(Clone, Copy, Debug)]
pub(in crate::replica) struct DeathPace {
    /// When it was looked at last, on the monotonic clock, and how far deaths might go then.
    at: Duration,
    until: u64,
    /// Whether that was less than the clock said.
    is_held: bool,
    /// How far ahead the clock may be without being held for wrong.
    tolerance: u64,
}

impl DeathPace {
    /// When the storage is opened: `known` is the time up to which cells of the storage are proof.
    pub(in crate::replica) fn new(known: u64, tolerance: Duration) -> Self {
        Self {
            at: Duration::ZERO,
            until: known,
            is_held: false,
            tolerance: ntp64_span(tolerance),
        }
    }

    /// How far deaths may go at `now` when the clock gives `cut`, and another replica has confirmed
    /// that it is as late as `witnessed`.
    pub(in crate::replica) fn until(&self, cut: u64, witnessed: u64, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.at);
        let passed = match self.is_held {
            true => passed * CATCH_UP,
            false => passed,
        };
        let until = self.until.saturating_add(ntp64_span(passed)).max(witnessed);
        match until.saturating_add(self.tolerance) >= cut {
            // No further than any clock has said.
            true => self.until.max(cut),
            false => until,
        }
    }

    /// Looks at the clocks.
    pub(in crate::replica) fn look(&mut self, cut: u64, witnessed: u64, now: Duration) {
        self.until = self.until(cut, witnessed, now);
        self.is_held = self.until < cut;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp(seconds: u64) -> u64 {
        seconds << 32
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_that_goes_as_the_monotonic_one_holds_nothing() {
        let mut pace = DeathPace::new(ntp(100), 10 * SECOND);
        for second in 0..50 {
            pace.look(ntp(100 + second), 0, SECOND * second as u32);
            assert_eq!(pace.until, ntp(100 + second));
        }
        // However long nobody looked, and if it is a little off.
        let until = pace.until(ntp(1150), 0, SECOND * 1045);
        assert_eq!(until, ntp(1150));
    }

    #[test]
    fn what_leaps_is_caught_up_with_slowly_or_when_a_witness_says_so() {
        let mut pace = DeathPace::new(ntp(100), 10 * SECOND);
        pace.look(ntp(100), 0, Duration::ZERO);
        pace.look(ntp(1100), 0, SECOND);
        assert!(pace.is_held);
        assert_eq!(pace.until, ntp(101));
        pace.look(ntp(1101), 0, 2 * SECOND);
        assert_eq!(pace.until, ntp(109));
        // A witness of another time says nothing.
        assert_eq!(pace.until(ntp(1101), ntp(500), 2 * SECOND), ntp(500));
        assert_eq!(pace.until(ntp(1101), ntp(1095), 2 * SECOND), ntp(1101));
        pace.look(ntp(1200), 0, 101 * SECOND);
        assert_eq!(pace.until, ntp(109 + 8 * 99));
        pace.look(ntp(1250), 0, 145 * SECOND);
        assert!(!pace.is_held && pace.until >= ntp(1250));
    }

    #[test]
    fn nothing_dies_before_a_clock_has_said_so() {
        let mut pace = DeathPace::new(ntp(100), 10 * SECOND);
        for second in 0..50 {
            pace.look(ntp(101), 0, SECOND * second);
            assert_eq!(pace.until, ntp(101), "the clock stands still");
        }
        assert_eq!(pace.until(ntp(60), ntp(90), SECOND * 50), ntp(101));
    }

    #[test]
    fn a_clock_that_is_set_back_and_right_again_holds_nothing() {
        let mut pace = DeathPace::new(ntp(1000), 10 * SECOND);
        pace.look(ntp(1000), 0, Duration::ZERO);
        pace.look(ntp(10), 0, SECOND);
        pace.look(ntp(1002), 0, 2 * SECOND);
        assert!(!pace.is_held);
    }
}
