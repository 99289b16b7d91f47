//! Why there is no proof, or none that holds.

use thiserror::Error;

use super::{MAX_DEPTH, MAX_PROOF_BYTES, VERSION};
use crate::{
    cell::{CellKey, DecodeError},
    mst::RootHash,
};

/// Why a proof could not be made.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProveError<E> {
    /// A cell that has to be shown cannot be read.
    #[error("a cell that the proof has to show cannot be read: {0}")]
    Read(#[source] E),
    /// A cell is not the one that is in the tree.
    #[error("the cell {0:?} is no more the one in the tree: try again with the present tree")]
    Changed(CellKey),
    /// The key has too many cells, or the keys are too long.
    #[error(
        "the proof would have more than {MAX_PROOF_BYTES} bytes, \
         or {MAX_DEPTH} nodes below each other: the key has too many cells"
    )]
    TooLarge,
}

/// Why bytes prove nothing, or not what was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofError {
    /// Bytes that are not those of a proof.
    #[error("the proof is damaged: {0}")]
    Bytes(#[from] DecodeError),
    /// A version that is not ours.
    #[error("the proof is of version {0}, and this reads version {VERSION}")]
    Version(u8),
    /// More than a proof may have.
    #[error(
        "the proof has more than the {MAX_PROOF_BYTES} bytes, \
         or the {MAX_DEPTH} nodes below each other, that are allowed"
    )]
    TooLarge,
    /// Bytes that nobody who makes proofs would write.
    #[error("the proof is not written as proofs are: {0}")]
    Form(&'static str),
    /// A cell or a node is where no tree has it.
    #[error("the proof shows no tree: a cell or a node is on another level than in a tree")]
    Level,
    /// Cells that do not ascend.
    #[error("the proof shows no tree: its cells are not in the order of their keys")]
    Order,
    /// What is shown leaves room for more.
    #[error("the proof proves nothing: the key may have cells among what it does not show")]
    Gap,
    /// It proves something of another key.
    #[error("the proof is of another key: ask for one of this key")]
    OtherKey,
    /// It proves something under another root.
    #[error("the proof is against the root {proven}, and not {expected}: ask for one against this")]
    OtherRoot {
        /// That of the proof.
        proven: RootHash,
        /// That was asked for.
        expected: RootHash,
    },
}
