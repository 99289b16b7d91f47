//! Whether a key has a value, told by when its cells were written.

use crate::cell::{Part, Timestamp};

/// When the cells of a key were written: enough to say whether it has a value.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::replica) struct KeyLiveness {
    /// Of its own cell, and whether that is a value.
    own: Option<(Timestamp, bool)>,
    /// Of the newest of the others.
    newest_part: Option<Timestamp>,
}

impl KeyLiveness {
    /// There is this cell; the newest of a part is seen first, or alone.
    pub(in crate::replica) fn see(
        &mut self,
        part: &Part,
        timestamp: Timestamp,
        is_tombstone: bool,
    ) {
        if !part.is_empty() {
            self.see_part(timestamp);
        } else if self.own.is_none() {
            self.own = Some((timestamp, !is_tombstone));
        }
    }

    /// There is a cell of some part.
    pub(in crate::replica) fn see_part(&mut self, timestamp: Timestamp) {
        self.newest_part = self.newest_part.max(Some(timestamp));
    }

    /// When the value was last written, if there is one.
    pub(in crate::replica) fn last_write(&self) -> Option<Timestamp> {
        let own = self.own.map(|(timestamp, _)| timestamp);
        match self.newest_part > own {
            true => self.newest_part,
            false => self.own.filter(|(_, is_value)| *is_value).and(own),
        }
    }
}
