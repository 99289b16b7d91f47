//! What peers have, and this replica does not take: so that it is not fetched again.
//!
//! A cell that was rejected is rejected again, until the clock has come as far as its timestamp, or
//! the peer has another in its place: the rules themselves stay as they are while the process runs.
//! So the replica remembers, of each peer, the key and the version of what it rejected. The next
//! pull [compares](Refused::beside) the peer's tree with its own tree and these, and only what is
//! new there makes a difference.

use std::{collections::BTreeMap, time::Duration};

use super::{identity::ReplicaId, pieces::Notice};
use crate::{
    cell::{CellKey, Version},
    replica::{Tree, TreeEntry},
};

/// What all that is remembered may take, about. Beyond that what a peer has is fetched, and rejected,
/// in each pull, ever more rarely.
const MAX_BYTES: usize = 8 << 20;

/// Bytes that one takes, besides its key.
const OVERHEAD: usize = 256;

/// For how long one is remembered: after that the replica looks whether it is still so.
const KEPT: Duration = Duration::from_secs(86_400);

/// A cell that was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) key: CellKey,
    pub(super) version: Version,
    /// If it is too far ahead of the clock: what the clock has to show until it is not.
    pub(super) until: Option<u64>,
}

impl Refusal {
    /// Of a large value, of which there was a notice.
    pub(super) fn of(notice: &Notice, until: Option<u64>) -> Self {
        let version = Version {
            timestamp: notice.timestamp,
            tombstone: false,
            digest: notice.digest,
        };
        Self {
            key: notice.key.clone(),
            version,
            until,
        }
    }

    fn bytes(key: &CellKey) -> usize {
        key.canonical_len() + OVERHEAD
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    version: Version,
    until: Option<u64>,
    at: Duration,
}

#[derive(Debug, Default)]
struct OfPeer {
    cells: BTreeMap<CellKey, Known>,
    bytes: usize,
}

impl OfPeer {
    fn remove(&mut self, key: &CellKey) {
        if self.cells.remove(key).is_some() {
            self.bytes -= Refusal::bytes(key);
        }
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Refused {
    of_peers: BTreeMap<ReplicaId, OfPeer>,
}

impl Refused {
    /// Nothing was refused.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A cell of a peer was rejected.
    pub(super) fn add(&mut self, peer: ReplicaId, refusal: Refusal, now: Duration) {
        let bytes = Refusal::bytes(&refusal.key);
        let all: usize = self.of_peers.values().map(|of_peer| of_peer.bytes).sum();
        if all + bytes > MAX_BYTES {
            // Whoever has most makes room for the others, and is begun with anew.
            let largest = self.of_peers.iter().max_by_key(|(_, known)| known.bytes);
            match largest.map(|(id, _)| *id) {
                Some(largest) if largest != peer => drop(self.of_peers.remove(&largest)),
                _ => return,
            }
        }
        let of_peer = self.of_peers.entry(peer).or_default();
        of_peer.remove(&refusal.key);
        of_peer.bytes += bytes;
        let Refusal {
            key,
            version,
            until,
        } = refusal;
        of_peer.cells.insert(
            key,
            Known {
                version,
                until,
                at: now,
            },
        );
    }

    /// A peer has another cell in the place of this one.
    pub(super) fn replaced(&mut self, peer: &ReplicaId, key: &CellKey) {
        if let Some(of_peer) = self.of_peers.get_mut(peer) {
            of_peer.remove(key);
        }
    }

    /// Forgets what may be taken by now, as the clock shows `wall`, and what is to be looked at anew.
    pub(super) fn tidy(&mut self, peer: &ReplicaId, wall: u64, now: Duration) {
        let Some(of_peer) = self.of_peers.get_mut(peer) else {
            return;
        };
        let OfPeer { cells, bytes } = of_peer;
        cells.retain(|key, known| {
            let is_kept = known.until.is_none_or(|until| wall < until) && now < known.at + KEPT;
            if !is_kept {
                *bytes -= Refusal::bytes(key);
            }
            is_kept
        });
        if cells.is_empty() {
            self.of_peers.remove(peer);
        }
    }

    /// Forgets all of the peers of which this is not true.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&ReplicaId) -> bool) {
        self.of_peers.retain(|peer, _| is_kept(peer));
    }

    /// Cells of a peer that are remembered.
    pub(super) fn count(&self, peer: &ReplicaId) -> usize {
        self.of_peers.get(peer).map_or(0, |known| known.cells.len())
    }

    /// The versions that are remembered of a peer.
    pub(super) fn versions(&self, peer: &ReplicaId) -> impl Iterator<Item = &Version> + use<'_> {
        let of_peer = self.of_peers.get(peer).into_iter();
        of_peer.flat_map(|known| known.cells.values().map(|known| &known.version))
    }

    /// Whether this large value of a peer was rejected.
    pub(super) fn has(&self, peer: &ReplicaId, notice: &Notice) -> bool {
        let of_peer = self.of_peers.get(peer);
        let known = of_peer.and_then(|of_peer| of_peer.cells.get(&notice.key));
        known.is_some_and(|known| {
            (known.version.timestamp, known.version.digest) == (notice.timestamp, notice.digest)
        })
    }

    /// The tree, with what is remembered of a peer in it: the tree of a peer that has nothing else
    /// to give. Nothing if nothing is remembered. O(r log n).
    pub(super) fn beside(&self, tree: &Tree, peer: &ReplicaId) -> Option<Tree> {
        let of_peer = self.of_peers.get(peer)?;
        let entries = of_peer.cells.iter();
        let entries: Vec<(CellKey, TreeEntry)> = entries
            .map(|(key, known)| (key.clone(), known.version.into()))
            .collect();
        let mut beside = tree.clone();
        let Ok(()) = beside.put_sorted(&entries, |_, _, _| true);
        Some(beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cell::{Cell, Key, Timestamp},
        sync::machine_tests::received,
    };

    const NOW: Duration = Duration::ZERO;

    fn peer(number: u8) -> ReplicaId {
        ReplicaId([number; 16])
    }

    fn refusal(number: usize, until: Option<u64>) -> Refusal {
        let key = received(&format!("k/{number}"), 1).key;
        let timestamp = Timestamp {
            time: 1,
            id: [1; 16],
        };
        let version = Version::of(&key, &Cell::tombstone(timestamp));
        Refusal {
            key,
            version,
            until,
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_largest_makes_room() {
        let mut refused = Refused::default();
        let most = MAX_BYTES / OVERHEAD;
        (0..most).for_each(|number| refused.add(peer(1), refusal(number, None), NOW));
        let of_first = refused.count(&peer(1));
        assert!((most / 2..most).contains(&of_first), "{of_first}");
        refused.add(peer(2), refusal(0, None), NOW);
        assert_eq!((refused.count(&peer(1)), refused.count(&peer(2))), (0, 1));
    }

    #[test]
    fn what_may_be_taken_and_what_is_old_is_forgotten() {
        let mut refused = Refused::default();
        refused.add(peer(1), refusal(1, Some(100)), NOW);
        refused.add(peer(1), refusal(2, Some(200)), NOW);
        refused.add(peer(1), refusal(3, None), NOW);
        refused.add(peer(1), refusal(3, None), NOW);
        for (wall, left) in [(99, 3), (100, 2), (200, 1)] {
            refused.tidy(&peer(1), wall, NOW);
            assert_eq!(refused.count(&peer(1)), left);
        }
        refused.replaced(&peer(1), &CellKey::own(Key::NONE));
        assert_eq!(refused.count(&peer(1)), 1);
        refused.tidy(&peer(1), 200, KEPT);
        assert!(refused.of_peers.is_empty());
    }

    #[test]
    fn beside_it_a_tree_is_that_of_the_peer() {
        let mut refused = Refused::default();
        let (mut own, mut theirs) = (Tree::default(), Tree::default());
        for number in 0..100 {
            let Refusal { key, version, .. } = refusal(number, None);
            let Ok(_) = theirs.upsert(key.clone(), version.into());
            match number % 3 {
                0 => refused.add(peer(1), refusal(number, None), NOW),
                _ => {
                    let Ok(_) = own.upsert(key, version.into());
                }
            }
        }
        assert!(refused.beside(&own, &peer(2)).is_none());
        let beside = refused.beside(&own, &peer(1)).expect("something");
        assert_eq!(beside.root(), theirs.root());
        assert_ne!(own.root(), theirs.root());
    }
}
