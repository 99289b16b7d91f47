//! The replicas that are known, for how long, and how many.

use std::{collections::BTreeMap, time::Duration};

use super::{identity::ReplicaId, peers::Peer};

/// How long a replica is remembered when its token is gone.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// The most replicas that are remembered.
pub(super) const MAX_PEERS: usize = 1024;

/// What came of forgetting a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is forgotten.
    Done,
    /// It was not known.
    Unknown,
    /// It is there, and known again at once.
    Present,
}

/// The replicas that are remembered.
#[derive(Default)]
pub(super) struct Peers(BTreeMap<ReplicaId, Peer>);

impl Peers {
    /// The peer, added if it was unknown; none if there are too many.
    pub(super) fn entry(&mut self, id: ReplicaId, now: Duration, wall: u64) -> Option<&mut Peer> {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&id) {
            let absent = self.0.iter().filter(|(_, peer)| !peer.present);
            let oldest = absent.min_by_key(|(_, peer)| peer.since);
            let oldest = oldest.map(|(id, _)| *id)?;
            self.0.remove(&oldest);
        }
        Some(self.0.entry(id).or_insert_with(|| Peer::new(now, wall)))
    }

    /// Forgets those that have been gone for long.
    pub(super) fn tidy(&mut self, now: Duration) {
        let is_kept = |peer: &Peer| peer.present || now < peer.absent_since + REMEMBERED;
        self.0.retain(|_, peer| is_kept(peer));
    }

    /// Forgets one that is known otherwise.
    pub(super) fn remove(&mut self, id: &ReplicaId) {
        self.0.remove(id);
    }

    /// Forgets one that is gone.
    pub(super) fn forget(&mut self, id: &ReplicaId) -> Forgotten {
        match self.0.get(id).map(|peer| peer.present) {
            Some(true) => Forgotten::Present,
            Some(false) => {
                self.0.remove(id);
                Forgotten::Done
            }
            None => Forgotten::Unknown,
        }
    }

    pub(super) fn get(&self, id: &ReplicaId) -> Option<&Peer> {
        self.0.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ReplicaId) -> Option<&mut Peer> {
        self.0.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ReplicaId, &mut Peer)> {
        self.0.iter_mut()
    }

    /// The peers of our group that are present.
    pub(super) fn present(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        let is_present = |peer: &Peer| peer.present && peer.isolation.is_none();
        self.iter().filter(move |(_, peer)| is_present(peer))
    }
}
