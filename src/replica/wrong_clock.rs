//! What a storage whose keys have lifetimes tells of a clock that is behind: what its clients put is stamped
//! by it, and dead where the time is right.

use super::state::State;
use crate::cell::ntp64_span;

impl State {
    /// The own clock shows `own`, and `what` says that it is `theirs`, or later: tells if that is more
    /// than clocks may differ by.
    pub(super) fn tell_if_behind(&self, own: u64, theirs: u64, what: &str) {
        let behind = theirs.saturating_sub(own);
        let is_behind = behind > ntp64_span(self.options.max_clock_drift);
        if self.lifetimes.is_empty() || !is_behind || !self.is_to_be_told(&self.told_behind) {
            return;
        }
        let (storage, seconds) = (&self.name, behind >> 32);
        tracing::warn!(
            "storage '{storage}': the clock is {seconds} s behind {what}: what is put here is stamped by it, \
             and dropped, as its lifetime is over, by replicas whose clocks are right, and here as soon as \
             this one is; set it, or start the router when it is set (told once a minute)"
        );
    }
}
