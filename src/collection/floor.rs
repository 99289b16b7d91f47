//! The floor: the time below which a storage takes no client's write any more, and how it rises.
//!
//! It lies on a grid, so that it rises seldom and storages with one `after` have the same floors. It
//! follows the clock at the distance `after`, but no faster than eight times the monotonic clock:
//! a clock that leaps ahead by a day would else have a day of writes refused at once. No clock here:
//! times are parameters, in NTP64 where they are of the clock.

use std::time::Duration;

use crate::cell::{ntp64_duration, ntp64_span};

/// How much faster than the monotonic clock the floor rises at the most.
pub const CATCH_UP: u32 = 8;

/// How many steps of the grid `after` has at least.
const STEPS: u64 = 16;

/// The finest grid: an eighth of a second, which is the unit of watermarks.
const FINEST: u64 = 1 << 29;

/// The step of the grid on which floors lie: the largest power of two seconds, or parts of one, that
/// is at most a sixteenth of `after`.
#[must_use]
pub fn grid(after: Duration) -> u64 {
    let most = (ntp64_span(after) / STEPS).max(FINEST);
    1 << most.ilog2()
}

/// How the floor of a storage rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorPace {
    after: u64,
    grid: u64,
    /// How far the floor might rise when the clocks were looked at last.
    reach: u64,
    /// When that was, on the monotonic clock.
    at: Duration,
}

impl FloorPace {
    /// When a storage is opened whose floor is `floor`: `known` is a time that has been, as a cell of
    /// the storage is stamped with it.
    #[must_use]
    pub fn new(after: Duration, known: u64, floor: u64) -> Self {
        let (grid, after) = (grid(after), ntp64_span(after));
        Self {
            after,
            grid,
            reach: floor.max(known.saturating_sub(after)),
            at: Duration::ZERO,
        }
    }

    /// The step of the grid.
    #[must_use]
    pub fn grid(&self) -> u64 {
        self.grid
    }

    /// Where the floor is by the clock, and by the watermark, alone.
    #[must_use]
    pub fn candidate(&self, clock: u64, watermark: u64) -> u64 {
        self.below(clock.saturating_sub(self.after).min(watermark))
    }

    /// Where the floor may be at `now` on the monotonic clock. Never above the
    /// [candidate](Self::candidate).
    #[must_use]
    pub fn floor(&self, clock: u64, watermark: u64, now: Duration) -> u64 {
        let candidate = self.candidate(clock, watermark);
        candidate.min(self.below(self.reach_at(now)))
    }

    /// The first floor above `time`, and above the floor that is.
    #[must_use]
    pub fn first_above(&self, time: u64, floor: u64) -> u64 {
        let above = time.max(floor);
        self.below(above).saturating_add(self.grid)
    }

    /// How long it takes from `now` on until the floor may be `floor`, if the clock goes on as it does.
    #[must_use]
    pub fn wait_for(&self, floor: u64, clock: u64, now: Duration) -> Duration {
        let by_clock = floor.saturating_add(self.after).saturating_sub(clock);
        let by_pace = floor.saturating_sub(self.reach_at(now)) / u64::from(CATCH_UP);
        ntp64_duration(by_clock.max(by_pace)) + Duration::from_millis(1)
    }

    /// Looks at the clocks. What the monotonic clock allows beyond what the other says is not saved up.
    pub fn look(&mut self, clock: u64, now: Duration) {
        let by_clock = clock.saturating_sub(self.after);
        self.reach = self.reach.max(self.reach_at(now).min(by_clock));
        self.at = self.at.max(now);
    }

    /// An operator says that the clock is right.
    pub fn trust(&mut self, clock: u64, now: Duration) {
        self.reach = self.reach.max(clock.saturating_sub(self.after));
        self.at = self.at.max(now);
    }

    fn reach_at(&self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.at).saturating_mul(CATCH_UP);
        self.reach.saturating_add(ntp64_span(passed))
    }

    fn below(&self, time: u64) -> u64 {
        time & !(self.grid - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ntp(seconds: u64) -> u64 {
        seconds << 32
    }

    #[test]
    fn the_grid_is_a_power_of_two() {
        let seconds = |seconds| Duration::from_secs(seconds);
        for (after, expected) in [
            (seconds(24 * 3600), ntp(4096)),
            (seconds(7 * 24 * 3600), ntp(32_768)),
            (seconds(60), ntp(2)),
            (seconds(16), ntp(1)),
            (seconds(2), FINEST),
            (Duration::from_millis(1), FINEST),
            (seconds(366 * 24 * 3600), ntp(1 << 20)),
        ] {
            assert_eq!(grid(after), expected, "{after:?}");
        }
    }

    #[test]
    fn a_leap_of_the_clock_is_followed_slowly_and_at_once_when_an_operator_says_so() {
        let after = 16 * SECOND;
        let mut pace = FloorPace::new(after, ntp(1000), 0);
        let floor = |pace: &FloorPace, clock, now| pace.floor(ntp(clock), u64::MAX, now) >> 32;
        assert_eq!(floor(&pace, 1000, Duration::ZERO), 984);
        pace.look(ntp(5000), SECOND);
        assert_eq!(floor(&pace, 5000, SECOND), 992);
        assert_eq!(floor(&pace, 5001, 2 * SECOND), 1000);
        pace.trust(ntp(5001), 2 * SECOND);
        assert_eq!(floor(&pace, 5001, 2 * SECOND), 4985);
        // What was allowed and not used is not there for a later leap, if the clocks were looked at.
        pace.look(ntp(5101), 102 * SECOND);
        assert_eq!(floor(&pace, 9000, 102 * SECOND), 5085);
    }

    proptest! {
        /// Whatever the clock does, and whenever it is looked at.
        #[test]
        fn floors_lie_on_the_grid_below_what_the_clocks_allow(
            after in 1u64..1 << 24,
            known in 0u64..1 << 31,
            looks in prop::collection::vec((0u64..1 << 31, 0u64..1 << 20, 0u64..1 << 31), 1..50),
        ) {
            let mut pace = FloorPace::new(Duration::from_secs(after), ntp(known), 0);
            let begun = ntp(known).saturating_sub(ntp(after));
            let mut now = Duration::ZERO;
            for (clock, passed, watermark) in looks {
                now += Duration::from_millis(passed);
                let (clock, watermark) = (ntp(clock), ntp(watermark));
                let floor = pace.floor(clock, watermark, now);
                prop_assert_eq!(floor % grid(Duration::from_secs(after)), 0);
                prop_assert!(floor <= clock.saturating_sub(ntp(after)) && floor <= watermark);
                prop_assert!(floor <= begun + ntp64_span(now * CATCH_UP));
                pace.look(clock, now);
                prop_assert!(pace.floor(clock, watermark, now) <= floor);
            }
        }

        /// Whoever waits as long as it says finds the floor there.
        #[test]
        fn a_wait_ends_when_the_floor_is_there(
            after in 1u64..1 << 20,
            known in 1u64 << 21..1 << 22,
            ahead in 0u64..1 << 22,
            time in 0u64..1 << 23,
        ) {
            let (clock, now) = (ntp(known + ahead), Duration::ZERO);
            let pace = FloorPace::new(Duration::from_secs(after), ntp(known), 0);
            let floor = pace.first_above(ntp(time), 0);
            prop_assert!(floor > ntp(time));
            let wait = pace.wait_for(floor, clock, now);
            let then = clock + ntp64_span(wait);
            prop_assert_eq!(pace.floor(then, u64::MAX, now + wait) >= floor, true);
        }
    }
}
