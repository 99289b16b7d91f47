//! What the queue has under its lock: nothing here waits, hashes, or looks into tree or store.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    group::{Group, Update},
    memtable::{Memtable, Offered, Tie, bytes_of},
    request::Request,
};
use crate::{
    cell::{Cell, CellKey, Version},
    replica::Tuning,
};

/// A cell that is offered, and its digest and version, if it was hashed before.
pub(in crate::replica) type Offer = (CellKey, Arc<Cell>, Option<Box<Version>>);

/// The cells of one write, which are taken together.
pub(in crate::replica) type Offers = SmallVec<[Offer; 1]>;

/// The ties of a write with what is pending, by the index of its offer.
pub(super) type Ties = SmallVec<[(usize, Tie); 1]>;

/// What is locked of the queue.
pub(super) struct State {
    pub(super) memtable: Memtable,
    /// What is queued, and the number of that group.
    pub(super) queued: Group,
    pub(super) group: u32,
    /// To be the room of the next queue.
    pub(super) spare: Vec<Update>,
    /// Updates that are being committed.
    pub(super) committing: usize,
    pub(super) committing_bytes: usize,
    pub(super) committing_earliest: Option<u64>,
    /// When the oldest of those that are queued came, and of those that are being committed.
    pub(super) since: Option<Duration>,
    pub(super) committing_since: Option<Duration>,
    /// The number of the last update that was taken, counted from 1.
    pub(super) sequence: u64,
    pub(super) watermark: u64,
    /// What clients stamped with an earlier time is not taken.
    pub(super) floor: u64,
    /// The horizon: what other replicas sent when it was another is not taken.
    pub(super) horizon: u64,
    /// Batches of which something was forgotten: what was looked up in the tree before may have
    /// changed since, and nothing here tells.
    pub(super) forgotten: u64,
    pub(super) requests: Vec<Request>,
    pub(super) commit_now: bool,
    pub(super) is_closed: bool,
    /// The thread knows that it is closed.
    pub(super) is_closing: bool,
    /// Something else has happened that the thread waits for.
    pub(super) is_nudged: bool,
    /// Whether the thread waits without a time.
    pub(super) is_asleep: bool,
}

impl State {
    pub(super) fn is_late(&self, (key, cell, _): &Offer) -> bool {
        cell.timestamp.time < self.watermark && !self.memtable.contains(key)
    }

    /// The first of the offers that bears the timestamp of what is pending, if which of them is newer
    /// is not among `ties`; and what is pending.
    pub(super) fn undecided_tie(&self, offers: &Offers, ties: &Ties) -> Option<(usize, Arc<Cell>)> {
        let mut offers = offers.iter().enumerate();
        offers.find_map(|(index, (key, cell, _))| {
            let pending = self.memtable.tied_with(key, cell)?;
            let mut of_offer = ties.iter().filter(|(other, _)| *other == index);
            let is_decided = of_offer.any(|(_, tie)| tie.is_with(pending));
            (!is_decided).then(|| (index, Arc::clone(pending)))
        })
    }

    /// True if it is the newest of its key.
    pub(super) fn take(
        &mut self,
        (key, cell, version): Offer,
        is_tied: bool,
        tie: Option<&Tie>,
    ) -> bool {
        self.sequence += 1;
        let offered = self.memtable.offer(&key, &cell, is_tied, tie, self.group);
        let is_newest = offered != Offered::Lost;
        let queued = &mut self.queued;
        queued.bytes += bytes_of(&key, &cell);
        queued.overwritten += usize::from(match offered {
            Offered::First => false,
            Offered::Newer(group) => group == self.group,
            Offered::Lost => true,
        });
        queued.sequence = self.sequence;
        let time = Some(cell.timestamp.time).filter(|time| *time >= self.watermark);
        queued.earliest = time.into_iter().chain(queued.earliest).min();
        queued.updates.push(Update {
            key,
            cell,
            version,
            is_newest,
        });
        is_newest
    }

    /// Whether what is queued is to be committed now: the oldest has waited for `linger`, or there
    /// are enough for a group, or someone asks for it.
    pub(super) fn is_commit_due(&self, now: Duration, linger: Duration, tuning: &Tuning) -> bool {
        let is_asked = self.commit_now || self.is_closed;
        let has_lingered = || self.since.is_some_and(|since| since + linger <= now);
        !self.queued.updates.is_empty()
            && (is_asked || self.queued.updates.len() >= tuning.group || has_lingered())
    }
}
