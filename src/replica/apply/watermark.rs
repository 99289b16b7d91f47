//! The watermark: updates with a time below it are applied.
//!
//! It follows the clock at a distance, so that nearly all updates come before it passes them. One
//! that comes later is *late*. Watermarks are multiples of [`BUCKET`], so that replicas have some in
//! common. On the wire, in the status and in docs/replication.md a watermark is called a *cut*.

use std::time::Duration;

use crate::cell::ntp64_span;

/// The unit of the watermark, in NTP64: an eighth of a second.
pub const BUCKET: u64 = 1 << BUCKET_BITS;

const BUCKET_BITS: u32 = 29;

/// The watermark at the time `now`: the last one that lies `settle` back.
#[must_use]
pub fn cut_at(now: u64, settle: Duration) -> u64 {
    cut_below(now.saturating_sub(ntp64_span(settle)))
}

/// The last watermark that is not above `time`.
pub(in crate::replica) fn cut_below(time: u64) -> u64 {
    time >> BUCKET_BITS << BUCKET_BITS
}

/// The first watermark that has `time` below it; the last there is, if none has.
pub(in crate::replica) fn cut_above(time: u64) -> u64 {
    match time >> BUCKET_BITS {
        bucket if bucket >= u64::MAX >> BUCKET_BITS => u64::MAX,
        bucket => (bucket + 1) << BUCKET_BITS,
    }
}

/// The first whole second that is not before `cut`.
pub(in crate::replica) fn whole_second(cut: u64) -> u64 {
    cut.checked_next_multiple_of(1 << 32).unwrap_or(u64::MAX)
}
