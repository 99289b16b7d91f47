//! Whether a key has a value, told by when its cells were written.

use crate::{
    cell::{Part, Timestamp},
    merge::shown_until,
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

/// Whether what is [shown until](shown_until) then is hidden at `now`.
pub(in crate::replica) fn has_passed(until: u64, now: u64) -> bool {
    until < u64::MAX && until <= now
}

/// When the cells of a key were written: enough to say whether it has a value.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::replica) struct KeyLiveness {
    /// Of its own cell, and until when that is shown by what it says itself: of a tombstone 0.
    own: Option<(Timestamp, u64)>,
    /// Of the newest of the others.
    newest_part: Option<Timestamp>,
}

impl KeyLiveness {
    /// There is this cell, which is shown until then; the newest of a part is seen first, or alone.
    pub(in crate::replica) fn see(&mut self, part: &Part, timestamp: Timestamp, shown_until: u64) {
        if !part.is_empty() {
            self.see_part(timestamp);
        } else if self.own.is_none() {
            self.own = Some((timestamp, shown_until));
        }
    }

    /// There is a cell of some part.
    pub(in crate::replica) fn see_part(&mut self, timestamp: Timestamp) {
        self.newest_part = self.newest_part.max(Some(timestamp));
    }

    /// What is shown at `now`, by these rules.
    pub(in crate::replica) fn shown(&self, ruled: &Ruled, now: u64) -> Shown {
        // Before any rule.
        let Some(written) = self.last_write(0).filter(|at| Some(*at) > ruled.deleted) else {
            return Shown::Nothing;
        };
        // A put rule is for keys of which the last writer wins. What it shows goes with what it hides.
        let own = self.own.filter(|(own, _)| *own == written);
        let own = own.filter(|_| self.newest_part <= Some(written));
        let put = ruled.put.as_ref();
        let put = put.filter(|put| own.is_some() && put.timestamp > written);
        let until = own.map_or(u64::MAX, |(_, until)| until);
        let until = put.map_or(until, |put| until.min(shown_until(put)));
        match put {
            _ if has_passed(until, now) => Shown::Nothing,
            Some(put) => Shown::Put(put.timestamp),
            None => Shown::Cells(written),
        }
    }

    /// When what is shown by these rules at `now` was written, if anything is.
    pub(in crate::replica) fn last_write_by(
        &self,
        ruled: Option<&Ruled>,
        now: u64,
    ) -> Option<Timestamp> {
        match ruled.map(|ruled| self.shown(ruled, now)) {
            None => self.last_write(now),
            Some(Shown::Nothing) => None,
            Some(Shown::Cells(at) | Shown::Put(at)) => Some(at),
        }
    }

    /// When the value was last written, if there is one that is shown at `now`. Rules are not looked
    /// at.
    fn last_write(&self, now: u64) -> Option<Timestamp> {
        let own = self.own.map(|(timestamp, _)| timestamp);
        match self.newest_part > own {
            true => self.newest_part,
            false => self
                .own
                .filter(|(_, until)| !has_passed(*until, now))
                .and(own),
        }
    }
}
