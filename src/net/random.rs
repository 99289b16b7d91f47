//! Random numbers from the operating system, through the standard library.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::sync::ReplicaId;

/// An unpredictable number: a keyed hash under a fresh key.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A random identity.
pub(super) fn identity() -> ReplicaId {
    let number = u128::from(number()) << 64 | u128::from(number());
    ReplicaId(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| number()).collect();
        assert_eq!(numbers.len(), 1000);
        assert_ne!(identity(), identity());
    }
}
