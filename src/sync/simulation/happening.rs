//! What happens in a simulated world, and when: messages arrive, something is written, cut, crashes.

use super::super::*;
use crate::cell::{Cell, CellKey};

pub(super) enum Happening {
    /// A replica has something to do.
    Wake(usize, u64),
    /// A message arrives.
    Arrive(usize, Message),
    Write,
    Cut,
    Crash,
    /// A clock is set.
    Jump,
    /// An operator opens a storage anew that has failed.
    Reopen(usize, u64),
    /// One that is down comes up again.
    Restart(usize),
}

#[derive(Clone)]
pub(super) enum Message {
    Update(Vec<(CellKey, Cell)>),
    /// The token of a node, of this name and version.
    Appeared(usize, ReplicaId, u8),
    Gone(usize, ReplicaId, u8),
    Announced(ReplicaId, Vec<u8>),
    /// Who asks, and whom.
    AskRoot(usize, ReplicaId),
    Query(usize, u64, Query, Vec<u8>),
    Answer(u64, Result<Vec<u8>, String>),
}

impl Message {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Announced(_, bytes) | Self::Query(.., bytes) | Self::Answer(_, Ok(bytes)) => {
                bytes.len()
            }
            Self::Update(cells) => {
                let cells = cells.iter();
                let bytes = cells.map(|(key, cell)| key.canonical_len() + cell.value_bytes());
                bytes.sum()
            }
            Self::Appeared(..) | Self::Gone(..) | Self::AskRoot(..) | Self::Answer(..) => 0,
        }
    }
}
