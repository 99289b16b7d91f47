//! Proofs of keys.

use std::sync::Arc;

use super::{AdminError, Administration};
use crate::{
    cell::{Cell, CellKey, Key, Version},
    mst::RootHash,
    proof::{prove, ProveError},
    replica::{Kept, Snapshot},
    store::StoreError,
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
    /// Proves what cells `key` has, or that it has none, against the current root;
    /// only if that is `root`, where one is given. O(log n). Blocks on disk.
    ///
    /// A cell beside the key may have been written since the last cut. Then all
    /// cells are taken at one cut, which takes about the settle time.
    ///
    /// # Errors
    /// If the root is another, a cell that the proof shows is damaged, or one of the
    /// key is in quarantine: that it is not in the tree is no proof that it is none.
    pub fn prove(&self, key: &Key, root: Option<&RootHash>) -> Result<KeyProof, AdminError> {
        let replica = &self.replica;
        replica.check_whole(key)?;
        let read = |key: &CellKey, version: Version| -> Result<Option<Arc<Cell>>, StoreError> {
            Ok(match replica.settled_cell(key, version)? {
                Kept::Cell(cell) => Some(cell),
                Kept::Covered | Kept::Missing => None,
            })
        };
        match make(&replica.snapshot(), key, root, read) {
            Err(AdminError::Changing) => {}
            made => return made,
        }
        let checkpoint = replica.checkpoint()?;
        let tree = &checkpoint.snapshot().tree;
        make(checkpoint.snapshot(), key, root, |key, _| {
            let Ok(meta) = tree.get(key);
            meta.map_or(Ok(None), |meta| checkpoint.read(key, &meta.meta()))
        })
    }
}

fn make(
    snapshot: &Snapshot,
    key: &Key,
    expected: Option<&RootHash>,
    mut read: impl FnMut(&CellKey, Version) -> Result<Option<Arc<Cell>>, StoreError>,
) -> Result<KeyProof, AdminError> {
    let root = snapshot.root();
    if expected.is_some_and(|expected| *expected != root) {
        let root = root.to_string();
        return Err(AdminError::Root { root });
    }
    let read = |key: &CellKey, version: Version| {
        let cell = read(key, version)?;
        cell.ok_or_else(|| AdminError::Damaged(key.key.to_string()))
    };
    match prove(&snapshot.tree, key, read) {
        Ok(proof) => Ok(KeyProof {
            proof,
            root,
            cut: snapshot.cut,
        }),
        Err(ProveError::Read(error)) => Err(error),
        Err(ProveError::Changed(_)) => Err(AdminError::Changing),
        Err(ProveError::TooLarge) => Err(AdminError::TooManyCells),
    }
}
