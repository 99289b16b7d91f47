//! Chooses the peer to pull from, and how the pull begins.

use std::{collections::BTreeMap, time::Duration};

use super::{
    delta::DeltaQuery,
    identity::ReplicaId,
    interface::Context,
    machine::Machine,
    peers::{Peer, Relation},
    pull::Pull,
    salted::{Salted, WIDTHS},
    MESSAGE_BYTES,
};
use crate::mst::RootHash;

/// All others pull at once what one replica has alone: each spreads its pull over this
/// time for every other replica beside itself and the peer, up to a bound.
const SPREAD_EACH: Duration = Duration::from_millis(2);
const MAX_SPREAD: Duration = Duration::from_millis(500);

/// Whether a peer has something to pull.
pub(super) fn is_candidate(peer: &Peer) -> bool {
    peer.relation == Relation::Divergent
}

impl Machine {
    /// A pull from a peer, according to its state.
    pub(super) fn pull_from(&self, id: ReplicaId, salt: [u8; 8], context: &Context<'_>) -> Pull {
        let Some(peer) = self.peers.get(&id) else {
            return Pull::new(id, Salted::new(salt, *WIDTHS.end()), MESSAGE_BYTES);
        };
        // Other digests find what these missed by chance.
        let salted = Salted::new(salt, *WIDTHS.start() << peer.failures.min(1));
        let pull = Pull::new(id, salted, peer.pace.message_bytes());
        if peer.is_walk_due || context.view.tree().is_empty() {
            return pull;
        }
        // A replica that is behind had its own root in common with the peer. Otherwise
        // there is the last root that both are known to have had, or that others have had
        // too.
        let latest = context.view.latest().map(|(span, _)| span.root);
        let of_others = self.peers.iter().filter_map(|(_, peer)| peer.common);
        let roots = latest.into_iter().chain(peer.common).chain(of_others);
        let delta = DeltaQuery::new(roots, context.view, salted);
        pull.with_delta(delta.map(|delta| DeltaQuery {
            max_bytes: peer.pace.message_bytes() as u32,
            ..delta
        }))
    }

    /// The peer to pull from now, if any, and its announced root.
    pub(super) fn choose_peer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Option<(ReplicaId, RootHash)> {
        let present = self.peers.present();
        let candidates: Vec<(ReplicaId, RootHash, Duration)> = present
            .filter(|(_, peer)| is_candidate(peer))
            .filter_map(|(id, peer)| {
                Some((*id, peer.announced.as_ref()?.span.root, peer.not_before))
            })
            .collect();
        if candidates.is_empty() {
            self.pull_at = None;
            return None;
        }
        let others = self.peers.present().count().saturating_sub(2);
        let spread = (SPREAD_EACH * others as u32).min(MAX_SPREAD);
        let pull_at = match self.pull_at {
            Some(pull_at) => pull_at,
            None => *self.pull_at.insert(context.now + context.up_to(spread)),
        };
        if context.now < pull_at {
            return None;
        }
        let ready = candidates.iter().filter(|(.., at)| *at <= context.now);
        // Draws one of the different roots, and one of the peers that have it.
        let mut by_root: BTreeMap<RootHash, Vec<ReplicaId>> = BTreeMap::new();
        ready.for_each(|(id, root, _)| by_root.entry(*root).or_default().push(*id));
        let roots = by_root.len() as u64;
        if roots == 0 {
            return None;
        }
        let index = ((context.random)() % roots) as usize;
        let (root, peers) = by_root.into_iter().nth(index)?;
        Some((
            peers[((context.random)() % peers.len() as u64) as usize],
            root,
        ))
    }

    /// Whether there are peers beside this one that have another root than this, and could be
    /// pulled from.
    pub(super) fn are_others_ready(&self, id: ReplicaId, root: RootHash, now: Duration) -> bool {
        let others = self.peers.present().filter(|(other, _)| **other != id);
        let mut ready = others.filter(|(_, peer)| is_candidate(peer) && peer.not_before <= now);
        ready.any(|(_, peer)| {
            let announced = peer.announced.map(|announced| announced.span.root);
            announced != Some(root)
        })
    }
}
