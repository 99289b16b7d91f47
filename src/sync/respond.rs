//! Answers to queries of other replicas.
//!
//! An answerer remembers nothing of its askers: each query is answered from the
//! tree as it is then. What an asker has learnt stays true if the tree changes
//! meanwhile, since cells are only ever replaced by newer ones.

use std::sync::Arc;

use thiserror::Error;

use super::{
    cells::{CellsWriter, CELL_OVERHEAD, CHECK_BYTES},
    compare,
    delta::{delta_reply, DeltaQuery, Progress},
    digests::DigestQueryReader,
    entries::{entries_reply, EntriesQuery, Want},
    wire::{kind, MessageError},
    MAX_MESSAGE, MESSAGE_BYTES,
};
use crate::{
    cell::{Cell, CellKey, Version},
    mst::RootHash,
    replica::{Change, ReplicaError, Snapshot, Tree, TreeEntry},
    store::StoreError,
};

/// What an answerer reads of its replica.
pub trait Source {
    /// The tree, as it is settled, and its cells.
    ///
    /// # Errors
    /// If the replica has failed.
    fn snapshot(&self) -> Result<Snapshot, ReplicaError>;
    /// As [`RootHistory::changes_since`](crate::replica::RootHistory::changes_since).
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>>;
    /// A cell is not what the tree says it is.
    fn damaged(&self, key: &CellKey, version: &Version);
}

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
    /// The replica has failed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
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
    let query = DigestQueryReader::open(query)?;
    let room = room(query.max_bytes);
    compare::answer(tree, query, room)
}

/// Answers a query of cells: of those that the tree names, the store gives each.
///
/// A cell that is not what the tree says it is is left out: damage does not
/// spread. The source is told of it.
///
/// # Errors
/// If the query cannot be read, or the source fails.
pub fn answer_entries(
    source: &dyn Source,
    query: &[u8],
    compress: bool,
) -> Result<Vec<u8>, RespondError> {
    check_length(query)?;
    match query.get(1) {
        Some(&kind::DELTA_QUERY) => answer_delta(source, &DeltaQuery::decode(query)?, compress),
        _ => answer_wants(source, &EntriesQuery::decode(query)?, compress),
    }
}

/// A cell to be sent, and the beginning of its digest.
type Sound = (Arc<Cell>, [u8; CHECK_BYTES]);

/// The cell that the tree says is there, if it is to be sent.
fn sound(
    source: &dyn Source,
    snapshot: &Snapshot,
    key: &CellKey,
    version: &Version,
) -> Result<Option<Sound>, StoreError> {
    let cell = snapshot.read(key, version)?;
    // What is cached was not hashed since.
    let Some(cell) = cell.filter(|cell| Version::of(key, cell) == *version) else {
        source.damaged(key, version);
        return Ok(None);
    };
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&version.digest.0[..CHECK_BYTES]);
    Ok(Some((cell, check)))
}

fn answer_wants(
    source: &dyn Source,
    query: &EntriesQuery,
    compress: bool,
) -> Result<Vec<u8>, RespondError> {
    let snapshot = source.snapshot()?;
    let tree = &snapshot.tree;
    let max_bytes = room(query.max_bytes);
    let mut writer = CellsWriter::default();
    let mut done = 0;
    // False if there is no more room.
    let mut send = |key: &CellKey, version: &Version| -> Result<bool, StoreError> {
        let Some((cell, check)) = sound(source, &snapshot, key, version)? else {
            return Ok(true);
        };
        let has_room = writer.has_room(key, cell.value_bytes() + CELL_OVERHEAD, max_bytes);
        if has_room {
            writer.push(key, &cell, &check);
        }
        Ok(has_room)
    };
    'wants: for want in &query.wants {
        match want {
            Want::Key(key, have) => {
                let Ok(version) = tree.get(key);
                let is_newer =
                    |version: &&TreeEntry| have.is_none_or(|have| version.timestamp().time >= have);
                if let Some(version) = version.filter(is_newer) {
                    if !send(key, &version.version())? {
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
                    let Ok((key, version)) = cell;
                    if !send(key, &version.version())? {
                        break 'wants;
                    }
                }
            }
        }
        done += 1;
    }
    Ok(entries_reply(writer, done, compress))
}

/// O(c log n) for c cells that changed.
fn answer_delta(
    source: &dyn Source,
    query: &DeltaQuery,
    compress: bool,
) -> Result<Vec<u8>, RespondError> {
    // Since the latest of the roots the least has changed.
    let known = query.roots.iter();
    let known = known.filter_map(|root| source.changes_since(root, query.after));
    let Some(changes) = known.min_by_key(Vec::len) else {
        let nothing = CellsWriter::default();
        return Ok(delta_reply(Progress::Unknown, nothing, compress));
    };
    // Taken afterwards: it has all these changes, and perhaps more.
    let snapshot = source.snapshot()?;
    let tree = &snapshot.tree;
    let max_bytes = room(query.max_bytes);
    let mut progress = Progress::Done;
    let (mut cells, mut bytes, mut last) = (Vec::new(), 0, query.after);
    for (change, key) in changes {
        let Ok(version) = tree.get(&key);
        // What is not there any more was covered, by a cell that changed later.
        if let Some(version) = version.filter(|entry| !query.holds(&entry.version().digest.0)) {
            if let Some((cell, check)) = sound(source, &snapshot, &key, &version.version())? {
                bytes += key.canonical_len() + cell.value_bytes() + CELL_OVERHEAD;
                if bytes > max_bytes && !cells.is_empty() {
                    progress = Progress::After(last);
                    break;
                }
                cells.push((key, cell, check));
            }
        }
        last = change;
    }
    cells.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    let mut writer = CellsWriter::default();
    for (key, cell, check) in &cells {
        writer.push(key, cell, check);
    }
    Ok(delta_reply(progress, writer, compress))
}
