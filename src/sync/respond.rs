//! Answers to queries of other replicas.
//!
//! An answerer remembers nothing of its askers: each query is answered from the
//! tree as it is then. What an asker has learnt stays true if the tree changes
//! meanwhile, since cells are only ever replaced by newer ones.

use thiserror::Error;

use super::{
    compare,
    digests::DigestQuery,
    entries::{EntriesQuery, EntriesReplyWriter, Want, CELL_OVERHEAD, CHECK_BYTES},
    wire::MessageError,
    MAX_MESSAGE, MESSAGE_BYTES,
};
use crate::{
    cell::{CellKey, CellMeta, Version},
    replica::{Kept, Tree},
    store::StoreError,
};

/// Why a query is not answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RespondError {
    /// It cannot be read.
    #[error("the query cannot be read: {0}")]
    Query(#[from] MessageError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn check_length(query: &[u8]) -> Result<(), MessageError> {
    match query.len() > MAX_MESSAGE {
        true => Err(MessageError::TooLarge("bytes")),
        false => Ok(()),
    }
}

/// No asker gets more than it asked for, or than one message is to have.
fn room(asked: u32) -> usize {
    (asked as usize).min(MESSAGE_BYTES)
}

/// Answers a query of digests from `tree`. O(d log n) for d differences.
///
/// # Errors
/// If the query cannot be read.
pub fn answer_digests(tree: &Tree, query: &[u8]) -> Result<Vec<u8>, MessageError> {
    check_length(query)?;
    let query = DigestQuery::decode(query)?;
    Ok(compare::answer(tree, &query, room(query.max_bytes)))
}

/// Answers a query of cells: of those that `tree` names, `read` gives each. It is
/// given the version in the tree; what it gives may be newer, and what is covered
/// meanwhile is not sent.
///
/// A cell that is not what the tree says it is is left out: damage does not
/// spread. `damaged` is told of it.
///
/// # Errors
/// If the query cannot be read, or `read` fails.
pub fn answer_entries(
    tree: &Tree,
    query: &[u8],
    compress: bool,
    mut read: impl FnMut(&CellKey, Version) -> Result<Kept, StoreError>,
    mut damaged: impl FnMut(&CellKey, &CellMeta),
) -> Result<Vec<u8>, RespondError> {
    check_length(query)?;
    let query = EntriesQuery::decode(query)?;
    let max_bytes = room(query.max_bytes);
    let mut writer = EntriesReplyWriter::new();
    let mut done = 0;
    // False if there is no more room.
    let mut send = |key: &CellKey, meta: &CellMeta| -> Result<bool, StoreError> {
        let cell = match read(key, meta.version)? {
            Kept::Cell(cell) => cell,
            Kept::Covered => return Ok(true),
            Kept::Missing => {
                damaged(key, meta);
                return Ok(true);
            }
        };
        let found = CellMeta::of(key, &cell);
        if found < *meta {
            damaged(key, meta);
            return Ok(true);
        }
        if !writer.has_room(key, cell.value_bytes() + CELL_OVERHEAD, max_bytes) {
            return Ok(false);
        }
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&found.version.digest.0[..CHECK_BYTES]);
        writer.push(key, &cell, &check);
        Ok(true)
    };
    'wants: for want in &query.wants {
        match want {
            Want::Key(key, have) => {
                let Ok(meta) = tree.get(key);
                let is_newer =
                    |meta: &&CellMeta| have.is_none_or(|have| meta.version.stamp.time >= have);
                if let Some(meta) = meta.filter(is_newer) {
                    if !send(key, meta)? {
                        break 'wants;
                    }
                }
            }
            Want::All(range) => {
                use std::ops::Bound::{Excluded, Unbounded};
                let low = range.low.clone().map_or(Unbounded, Excluded);
                let high = range.high.clone().map_or(Unbounded, Excluded);
                let Ok(cells) = tree.range((low, high));
                for cell in cells {
                    let Ok((key, meta)) = cell;
                    if !send(key, meta)? {
                        break 'wants;
                    }
                }
            }
        }
        done += 1;
    }
    Ok(writer.finish(done, compress))
}
