//! Changes that wait to be published. No clock and no I/O.

use std::{collections::VecDeque, sync::Arc};

use crate::cell::{Key, Timestamp};

/// Changes that may wait, and memory that they may take.
const MAX_QUEUED: usize = 16_384;
const MAX_QUEUED_BYTES: usize = 8 << 20;

/// What a change takes in memory beside its key.
const OVERHEAD: usize = 128;

/// By which way a change came that was not by pub/sub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Another replica had it.
    Repair,
    /// An operator restored a backup.
    Restore,
    /// An operator rolled the storage back.
    Rollback,
    /// The lifetime of a value was over.
    Expiry,
}

impl Way {
    /// As the attachment of a sample has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Restore => "restore",
            Self::Rollback => "rollback",
            Self::Expiry => "expired",
        }
    }
}

/// A key that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) key: Key,
    /// The timestamp of the key's own cell that came; none if cells came of which the value is to be
    /// folded.
    pub(super) own: Option<Timestamp>,
    /// The timestamp of the cell that came, or went.
    pub(super) timestamp: Timestamp,
    pub(super) way: Way,
    /// The replica, or the session of the operator.
    pub(super) from: Arc<str>,
}

impl Changed {
    fn bytes(&self) -> usize {
        OVERHEAD + self.key.as_key_expr().map_or(0, |key| key.len())
    }
}

/// Changes in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    changes: VecDeque<Changed>,
    bytes: usize,
}

impl Queue {
    /// Adds a change. False if there is no room for it.
    pub(super) fn push(&mut self, changed: Changed) -> bool {
        if let Some(last) = self.changes.back_mut() {
            // The cells of a key come one after the other; what is published is the value.
            if last.key == changed.key && last.way == changed.way && last.from == changed.from {
                last.own = last.own.and(changed.own);
                last.timestamp = last.timestamp.max(changed.timestamp);
                return true;
            }
        }
        let bytes = changed.bytes();
        if self.changes.len() >= MAX_QUEUED || self.bytes + bytes > MAX_QUEUED_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.changes.push_back(changed);
        true
    }

    pub(super) fn pop(&mut self) -> Option<Changed> {
        let changed = self.changes.pop_front()?;
        self.bytes -= changed.bytes();
        Some(changed)
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::tests::key;

    fn changed(name: &str, own: Option<u64>) -> Changed {
        Changed {
            key: key(name),
            own: own.map(|time| Timestamp { time, id: [1; 16] }),
            timestamp: Timestamp {
                time: own.unwrap_or(0),
                id: [1; 16],
            },
            way: Way::Repair,
            from: Arc::from("someone"),
        }
    }

    #[test]
    fn changes_come_out_in_order_and_those_of_one_key_once() {
        let mut queue = Queue::default();
        for change in [
            changed("a", Some(1)),
            changed("b", Some(2)),
            changed("b", None),
            changed("b", None),
            changed("a", Some(3)),
            Changed {
                way: Way::Restore,
                ..changed("a", Some(4))
            },
        ] {
            assert!(queue.push(change));
        }
        let out: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let keys: Vec<_> = out.iter().map(|changed| changed.key.to_string()).collect();
        assert_eq!(keys, ["a", "b", "a", "a"]);
        assert_eq!(out[1].own, None, "one of its cells has to be folded");
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut queue = Queue::default();
        let mut taken = 0;
        while queue.push(changed(&format!("k{taken}"), Some(1))) {
            taken += 1;
        }
        assert_eq!(taken, MAX_QUEUED);
        assert!(queue.pop().is_some() && queue.push(changed("again", Some(1))));
        queue.clear();
        let long = "x".repeat(60_000);
        let mut taken = 0;
        while queue.push(changed(&format!("{taken}{long}"), Some(1))) {
            taken += 1;
        }
        assert!(taken < 150 && queue.bytes <= MAX_QUEUED_BYTES, "{taken}");
    }
}
