//! Finds where two replicas differ, without repairing it.

use std::time::Duration;

use super::{
    MESSAGE_BYTES, entries::Want, identity::ReplicaId, pull::Pull, salted::Salted,
    wire::MessageError,
};
use crate::replica::Tree;

/// Differences after which a walk ends: operators do not read more.
const MAX_FOUND: usize = 100_000;

/// The first half of a pull: finds what a peer has and this replica lacks.
pub struct Walk {
    pull: Pull,
    tree: Tree,
}

impl Walk {
    /// Compares `tree` with what `peer` has; `salt` is random.
    #[must_use]
    pub fn new(tree: Tree, peer: ReplicaId, salt: u64) -> Self {
        // There is no second pull, so digests have the largest width.
        let salted = Salted::new(salt.to_be_bytes(), *super::WIDTHS.end());
        Self {
            pull: Pull::new(peer, salted, MESSAGE_BYTES),
            tree,
        }
    }

    /// The next digest query; none if all is found, or too much is.
    pub fn ask(&mut self) -> Option<Vec<u8>> {
        match self.pull.found() < MAX_FOUND {
            true => self.pull.ask_digests(&self.tree),
            false => None,
        }
    }

    /// Handles the answer to the last query.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<(), MessageError> {
        // It asks for no values.
        let (no_value, now) = (&mut None, Duration::ZERO);
        self.pull.answer(bytes, &self.tree, no_value, now).map(drop)
    }

    /// What the peer has and this replica lacks, and whether that is all.
    #[must_use]
    pub fn finish(self) -> (Vec<Want>, bool) {
        let is_all = self.pull.found() < MAX_FOUND;
        (self.pull.into_wants(), is_all)
    }
}
