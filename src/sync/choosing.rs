//! Chooses the peer to pull from, and how the pull begins.

use std::{collections::BTreeMap, time::Duration};

use super::{
    MESSAGE_BYTES,
    delta::DeltaQuery,
    identity::ReplicaId,
    interface::Context,
    machine::Machine,
    peers::{Peer, Relation},
    pull::Pull,
    salted::{Salted, WIDTHS},
};
use crate::mst::RootHash;

/// All others pull at once what one replica has alone: each spreads its pull over this
/// time for every other replica beside itself and the peer, up to a bound.
const SPREAD_EACH: Duration = Duration::from_millis(2);
const MAX_SPREAD: Duration = Duration::from_millis(500);

/// Cells that are not taken and that a delta query names, at the most: to compare the trees costs less
/// than to name more each time.
const MAX_REFUSED_IN_DELTA: usize = 128;

/// Whether a peer has something to pull.
pub(super) fn is_candidate(peer: &Peer) -> bool {
    peer.relation == Relation::Divergent && peer.is_source()
}

impl Machine {
    /// Whether all that a peer has announced is here, or was rejected: then there is nothing to pull.
    pub(super) fn is_all_refused(&mut self, id: &ReplicaId, context: &Context<'_>) -> bool {
        self.refused.tidy(id, context.wall, context.now);
        let announced = self.peers.get(id).and_then(|peer| peer.announced);
        let beside = self.refused.beside(&context.view.tree(), id);
        announced.zip(beside).is_some_and(|(announced, beside)| {
            let Ok(root) = beside.root();
            root == announced.span.root
        })
    }

    /// A pull from a peer, according to its state.
    pub(super) fn pull_from(&self, id: ReplicaId, salt: [u8; 8], context: &Context<'_>) -> Pull {
        let Some(peer) = self.peers.get(&id) else {
            return Pull::new(id, Salted::new(salt, *WIDTHS.end()), MESSAGE_BYTES);
        };
        // Other digests find what these missed by chance.
        let salted = Salted::new(salt, *WIDTHS.start() << peer.failures.min(1));
        let beside = self.refused.beside(&context.view.tree(), &id);
        let pull = Pull::new(id, salted, peer.pace.message_bytes()).beside(beside);
        let is_much_refused = self.refused.count(&id) > MAX_REFUSED_IN_DELTA;
        if peer.is_walk_due || is_much_refused || context.view.tree().is_empty() {
            return pull;
        }
        // A replica that is behind had its own root in common with the peer. Otherwise
        // there is the last root that both are known to have had, or that others have had
        // too.
        let latest = context.view.latest().map(|(span, _)| span.root);
        let of_others = self.peers.iter().filter_map(|(_, peer)| peer.common);
        let roots = latest.into_iter().chain(peer.common).chain(of_others);
        let refused = self.refused.versions(&id);
        let delta = DeltaQuery::new(roots, refused, context.view, salted);
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
        let candidates: Vec<(ReplicaId, RootHash, &Peer)> = present
            .filter(|(_, peer)| is_candidate(peer))
            .filter_map(|(id, peer)| Some((*id, peer.announced.as_ref()?.span.root, peer)))
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
        let is_ready = |peer: &Peer| peer.not_before <= context.now;
        let ready = candidates.iter().filter(|(.., peer)| is_ready(peer));
        // Those whose last turn was the longest time ago, or who had none: so nobody, however slow or
        // false, keeps another from its turn.
        let last_turn = ready.clone().map(|(.., peer)| peer.last_turn).min()?;
        let next = ready.filter(|(.., peer)| peer.last_turn == last_turn);
        // Draws one of the different roots, and one of the peers that have it.
        let mut by_root: BTreeMap<RootHash, Vec<ReplicaId>> = BTreeMap::new();
        next.for_each(|(id, root, _)| by_root.entry(*root).or_default().push(*id));
        let roots = by_root.len() as u64;
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
