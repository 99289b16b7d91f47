//! The last writes that were refused, for operators: their publishers are not told.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::{cell::Timestamp, replica::Refusal};

/// Refusals that are remembered.
const REMEMBERED: usize = 16;

/// Characters of the key that are kept, and of the reason.
const MAX_KEY: usize = 256;
const MAX_REASON: usize = 512;

/// A write that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// Its key, as the storage keeps it; of a long one the beginning.
    pub key: String,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// When it was refused, NTP64.
    pub at: u64,
    /// Why.
    pub reason: String,
}

/// The last of them.
#[derive(Debug, Default)]
pub(in crate::replica) struct Refusals(Mutex<VecDeque<RefusedWrite>>);

fn beginning(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Refusals {
    pub(in crate::replica) fn add(
        &self,
        key: &str,
        timestamp: Timestamp,
        at: u64,
        refusal: &Refusal,
    ) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED {
            last.pop_front();
        }
        last.push_back(RefusedWrite {
            key: beginning(key, MAX_KEY),
            timestamp,
            at,
            reason: beginning(&refusal.to_string(), MAX_REASON),
        });
    }

    /// The last, the newest at the end.
    pub(in crate::replica) fn list(&self) -> Vec<RefusedWrite> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_and_none_is_long() {
        let refusals = Refusals::default();
        let timestamp = Timestamp {
            time: 1,
            id: [1; 16],
        };
        for number in 0..20 {
            let refusal = Refusal::KeyTooLong { bytes: number };
            refusals.add(&"ä".repeat(60_000), timestamp, number as u64, &refusal);
        }
        let last = refusals.list();
        assert_eq!(last.len(), REMEMBERED);
        assert_eq!((last[0].at, last[15].at), (4, 19));
        assert_eq!(last[0].key, format!("{}...", "ä".repeat(MAX_KEY)));
        assert!(last[0].reason.contains("has 4 bytes"), "{}", last[0].reason);
    }
}
