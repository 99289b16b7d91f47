//! Hybrid logical timestamps.

use std::{fmt, time::Duration};

/// Bytes of a timestamp's ID.
pub const TIMESTAMP_ID_BYTES: usize = 16;

/// An HLC timestamp: a time, and the ID of the clock that gave it.
///
/// Ordered as Zenoh orders timestamps: by time, then by the ID's bytes as Zenoh
/// keeps them, which is little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// NTP64: seconds since 1970 in the upper 32 bits, and below them their
    /// fraction, of which the lowest bits may be a logical counter.
    pub time: u64,
    /// The ID of the clock, little-endian and padded with zeros. Never zero.
    pub id: [u8; TIMESTAMP_ID_BYTES],
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Timestamp {
    /// As Zenoh writes timestamps: the time as a number, then the ID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}", self.time, u128::from_le_bytes(self.id))
    }
}

/// A span of time in the unit of [`Timestamp::time`]; the longest there is, if it
/// does not fit.
#[must_use]
pub fn ntp64_span(duration: Duration) -> u64 {
    let seconds = duration.as_secs();
    if seconds > u64::from(u32::MAX) {
        return u64::MAX;
    }
    let fraction = (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000;
    seconds << 32 | fraction
}

/// A span of time in the unit of [`Timestamp::time`], as a duration.
#[must_use]
pub fn ntp64_duration(span: u64) -> Duration {
    Duration::from_secs(span >> 32)
        + Duration::from_nanos(((span & 0xffff_ffff) * 1_000_000_000) >> 32)
}

/// The whole milliseconds of a span of time in the unit of [`Timestamp::time`].
#[must_use]
pub fn ntp64_millis(span: u64) -> u64 {
    ((u128::from(span) * 1000) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_ntp64() {
        assert_eq!(ntp64_span(Duration::from_secs(3)), 3 << 32);
        assert_eq!(ntp64_span(Duration::from_millis(500)), 1 << 31);
        assert_eq!(ntp64_span(Duration::MAX), u64::MAX);
    }

    #[test]
    fn order_is_time_then_id() {
        let timestamp = |time, last| {
            let mut id = [1; TIMESTAMP_ID_BYTES];
            id[15] = last;
            Timestamp { time, id }
        };
        assert!(timestamp(1, 9) < timestamp(2, 0));
        assert!(timestamp(1, 0) < timestamp(1, 1));
    }
}
