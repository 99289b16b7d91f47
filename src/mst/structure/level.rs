//! Where a key stands in the tree: its position, and the level made from it.

use std::cmp::Ordering;

use crate::hash::{HASH_BYTES, sha256, tag};

/// Digits a position has in base 16, and so one more than the highest
/// [`Level::digit`].
pub const MAX_DIGITS: u8 = (HASH_BYTES * 2) as u8;

/// The SHA-256 of a key, from which its level is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub [u8; HASH_BYTES]);

impl Position {
    /// The position of the key with these canonical bytes: SHA-256 over a domain
    /// tag and the bytes.
    #[must_use]
    pub fn of_canonical(bytes: &[u8]) -> Self {
        Self(sha256(&[tag::POSITION, bytes]))
    }

    /// Leading zero digits of the position in base 16. O(1).
    ///
    /// The base is part of the tree's format: another base gives other roots.
    #[must_use]
    pub fn leading_zero_digits(&self) -> u8 {
        let mut digits = 0;
        for byte in self.0 {
            match byte {
                0 => digits += 2,
                1..=0x0f => return digits + 1,
                _ => return digits,
            }
        }
        digits
    }
}

/// A key that a [`Mst`](crate::mst::Mst) can hold.
///
/// Two keys are equal exactly if their canonical bytes are equal: the root
/// covers the bytes, the order decides the place.
pub trait TreeKey: Ord + Clone {
    /// Appends the key's canonical bytes, which no other key shares.
    fn write_canonical(&self, out: &mut Vec<u8>);

    /// Bytes to search by: a key whose head is below another's is below it.
    /// Where heads are equal, keys are compared. An empty head is always right.
    fn head(&self) -> &[u8] {
        &[]
    }

    /// How it compares with a key that has the same head. Whoever can say so without the
    /// head makes searches faster: its bytes need not be fetched.
    fn cmp_beyond_head(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    /// The key's position: that of its canonical bytes.
    ///
    /// Tests replace it to force any shape of tree.
    fn position(&self) -> Position {
        let mut bytes = Vec::with_capacity(64);
        self.write_canonical(&mut bytes);
        Position::of_canonical(&bytes)
    }
}

/// The height of an entry: first the leading zero digits of its key's
/// position, as in the paper, then the rank that it has in an over-wide run
/// (see [`MAX_WIDTH`](crate::mst::MAX_WIDTH)), which is 0 in all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level {
    /// Leading zero digits of the position.
    pub digit: u8,
    /// Rounds of thinning that the entry survives in an over-wide run.
    pub rank: u8,
}

impl Level {
    /// The level with rank 0.
    #[must_use]
    pub const fn of_digit(digit: u8) -> Self {
        Self { digit, rank: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_in_base_16() {
        let mut bytes = [0xff; HASH_BYTES];
        assert_eq!(Position(bytes).leading_zero_digits(), 0);
        bytes[0] = 0x0f;
        assert_eq!(Position(bytes).leading_zero_digits(), 1);
        bytes[0] = 0;
        assert_eq!(Position(bytes).leading_zero_digits(), 2);
        bytes[1] = 0x01;
        assert_eq!(Position(bytes).leading_zero_digits(), 3);
        assert_eq!(Position([0; HASH_BYTES]).leading_zero_digits(), MAX_DIGITS);
    }
}
