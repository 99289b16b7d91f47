//! Whether a key has a value, told by when its cells were written.

use crate::{
    cell::{Part, Timestamp},
    wildcard::Ruled,
};

/// What is shown of a key for which there are rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replica) enum Shown {
    /// It has no value.
    Nothing,
    /// Its cells that no delete rule covers.
    Cells(Timestamp),
    /// The value of the put rule.
    Put(Timestamp),
}

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

    /// What is shown, by these rules.
    pub(in crate::replica) fn shown(&self, ruled: &Ruled) -> Shown {
        let Some(written) = self.last_write().filter(|at| Some(*at) > ruled.deleted) else {
            return Shown::Nothing;
        };
        // A put rule is for keys of which the last writer wins.
        let is_own =
            self.own.is_some_and(|(own, _)| own == written) && self.newest_part <= Some(written);
        let put = ruled.put.as_ref().map(|put| put.timestamp);
        match put.filter(|put| is_own && *put > written) {
            Some(put) => Shown::Put(put),
            None => Shown::Cells(written),
        }
    }

    /// When what is shown by these rules was written, if anything is.
    pub(in crate::replica) fn last_write_by(&self, ruled: Option<&Ruled>) -> Option<Timestamp> {
        match ruled.map(|ruled| self.shown(ruled)) {
            None => self.last_write(),
            Some(Shown::Nothing) => None,
            Some(Shown::Cells(at) | Shown::Put(at)) => Some(at),
        }
    }

    /// When the value was last written, if there is one. Rules are not looked at.
    pub(in crate::replica) fn last_write(&self) -> Option<Timestamp> {
        let own = self.own.map(|(timestamp, _)| timestamp);
        match self.newest_part > own {
            true => self.newest_part,
            false => self.own.filter(|(_, is_value)| *is_value).and(own),
        }
    }
}
