//! Proofs of keys.

use super::{AdminError, Administration};
use crate::{
    cell::{CellKey, Key, Version},
    mst::RootHash,
    proof::{ProveError, prove},
};

/// A proof, and what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProof {
    /// The bytes.
    pub proof: Vec<u8>,
    /// The root that it is against.
    pub root: RootHash,
    /// The cut at which the root was that.
    pub cut: u64,
}

impl Administration {
    /// Proves what cells `key` has, or that it has none, against the current root; only if that is
    /// `root`, where one is given. O(log n). Blocks on disk.
    ///
    /// # Errors
    /// If the root is another, a cell that the proof shows is damaged, or one of the
    /// key is in quarantine: that it is not in the tree is no proof that it is none.
    pub fn prove(&self, key: &Key, root: Option<&RootHash>) -> Result<KeyProof, AdminError> {
        let replica = &self.replica;
        replica.check_whole(key)?;
        let snapshot = replica.snapshot()?;
        let current = snapshot.root();
        if root.is_some_and(|expected| *expected != current) {
            let root = current.to_string();
            return Err(AdminError::Root { root });
        }
        let read = |key: &CellKey, version: Version| {
            let cell = snapshot.read(key, &version)?;
            cell.ok_or_else(|| AdminError::Damaged(key.key.to_string()))
        };
        match prove(&snapshot.tree, key, read) {
            Ok(proof) => Ok(KeyProof {
                proof,
                root: current,
                cut: snapshot.cut,
            }),
            Err(ProveError::Read(error)) => Err(error),
            Err(ProveError::Changed(key)) => Err(AdminError::Damaged(key.key.to_string())),
            Err(ProveError::TooLarge) => Err(AdminError::TooManyCells),
        }
    }
}
