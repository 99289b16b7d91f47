//! Pauses that double: between what others can provoke.

use std::time::Duration;

/// The time between two new names of this replica, and between two declarations of what a double
/// undeclared; it doubles each time, up to the longest: anyone who may announce can claim its name.
const RENAME_EVERY: Duration = Duration::from_secs(10);
const LONGEST_RENAMING: Duration = Duration::from_secs(3600);

/// How long after an announcement of a replica without a token to look at all tokens anew; it doubles
/// each time, up to the sync interval. And how often for a replica whose token is not seen then.
const LOOK: Duration = Duration::from_secs(2);
pub(super) const MAX_LOOKS: u32 = 6;

/// What others can provoke, and so has longer and longer pauses.
#[derive(Clone, Copy, Default)]
pub(super) struct Doubling {
    /// The earliest time for the next.
    pub(super) not_before: Duration,
    /// The pause after the last.
    pause: Duration,
}

impl Doubling {
    /// It happens now. The pause after it is twice that before, unless it was long ago.
    pub(super) fn happens(&mut self, now: Duration) {
        let is_long_ago = now >= self.not_before + LONGEST_RENAMING;
        self.pause = match self.pause.is_zero() || is_long_ago {
            true => RENAME_EVERY,
            false => (self.pause * 2).min(LONGEST_RENAMING),
        };
        self.not_before = now + self.pause;
    }
}

/// How long after such a replica was heard tokens are looked at, when they were so often already.
pub(super) fn look_after(looks: u32) -> Duration {
    LOOK * 2u32.saturating_pow(looks.min(16))
}
