//! Answers to queries of other replicas.
//!
//! An answerer remembers nothing of its askers: each query is answered from the
//! tree as it is then. What an asker has learnt stays true if the tree changes
//! meanwhile, since cells are only ever replaced by newer ones.

use std::sync::Arc;

use thiserror::Error;

use super::{
    MAX_CELLS, MAX_QUERY, MESSAGE_BYTES,
    asked::Asked,
    cells::{CELL_OVERHEAD, CHECK_BYTES, CellsWriter},
    compare,
    delta::{DeltaQuery, Progress, delta_reply},
    digests::DigestQueryReader,
    entries::{EntriesQuery, Want, entries_reply},
    lineages::standing_of,
    pieces::{AtHand, MAX_NOTICES, Notice, PieceQuery, PieceReply, piece},
    wire::{MessageError, kind},
};
use crate::{
    cell::{Cell, CellKey, Key, Timestamp, Version},
    merge::Lifetimes,
    mst::RootHash,
    replica::{Change, MemberState, ReplicaError, Snapshot, Tree, TreeEntry},
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
    /// What is not newer than this is dead of a key at a watermark.
    fn dead(&self, _: &Key, _watermark: u64) -> Option<Timestamp> {
        None
    }
    /// A cell is not what the tree says it is.
    fn damaged(&self, key: &CellKey, version: &Version);
    /// Where the value that is being sent in pieces is kept, so that it is not read for each.
    fn at_hand(&self) -> Option<&AtHand> {
        None
    }
}

/// Why a query is not answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RespondError {
    /// It cannot be read.
    #[error("the query cannot be read: {0}")]
    Query(#[from] MessageError),
    /// It is for another horizon.
    #[error("the query is for another horizon than that of this replica")]
    Horizon,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The replica has failed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

fn check_length(query: &[u8]) -> Result<(), MessageError> {
    match query.len() > MAX_QUERY {
        true => Err(MessageError::TooLarge("bytes")),
        false => Ok(()),
    }
}

/// No asker gets more than it asked for, or than one message is to have.
fn room(asked: u32) -> usize {
    (asked as usize).min(MESSAGE_BYTES)
}

/// Answers a query of digests from `tree`, but for what is dead at the asker's watermark by these
/// lifetimes, as far as that can be told cell by cell. O(d log n) for d differences.
///
/// # Errors
/// If the query cannot be read.
pub fn answer_digests(
    tree: &Tree,
    lifetimes: &Lifetimes,
    query: &[u8],
) -> Result<Vec<u8>, MessageError> {
    let is_mirror = false;
    answer_digests_to(tree, lifetimes, query, is_mirror)
}

/// As [`answer_digests`]; to one that catches up, as `is_mirror` says, also where the asker has
/// something and `tree` nothing.
///
/// # Errors
/// If the query cannot be read.
pub fn answer_digests_to(
    tree: &Tree,
    lifetimes: &Lifetimes,
    query: &[u8],
    is_mirror: bool,
) -> Result<Vec<u8>, MessageError> {
    check_length(query)?;
    let query = DigestQueryReader::open(query)?;
    let room = room(query.max_bytes);
    compare::answer(tree, lifetimes, query, room, is_mirror)
}

/// Looks what a query says of the horizon, if the answerer collects, and returns whether the asker
/// catches up, and the query itself. To be called before a query is answered, and once more with the
/// answer, as a horizon may be adopted meanwhile.
///
/// Without a horizon only digests are told, to operators who look for differences.
///
/// # Errors
/// If the query cannot be read, or it is not for the horizon that is, or what is there is no
/// horizon's yet.
pub fn admit_query<'a>(
    own: Option<&MemberState>,
    query: &'a [u8],
) -> Result<(bool, &'a [u8]), RespondError> {
    let (asked, query) = Asked::open(query)?;
    match (own, asked) {
        (None, None) => Ok((false, query)),
        (Some(_), None) if query.get(1) == Some(&kind::DIGEST_QUERY) => Ok((false, query)),
        (Some(own), Some(asked))
            if !own.is_busy
                && !own.kept.is_catching
                && standing_of(&own.kept).admits(&asked.standing) =>
        {
            Ok((asked.is_mirror, query))
        }
        _ => Err(RespondError::Horizon),
    }
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
        Some(&kind::PIECE_QUERY) => answer_piece(source, &PieceQuery::decode(query)?, compress),
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

/// The notice of a cell, if it is too large for a message of so many bytes.
fn notice(key: &CellKey, version: &Version, cell: &Cell, max_bytes: usize) -> Option<Notice> {
    let value = cell.value()?;
    let is_large = cell.value_bytes() + CELL_OVERHEAD > max_bytes;
    is_large.then(|| Notice::of(key, version, value))
}

/// Bytes of a notice in a message, at the most, besides its key.
const NOTICE_OVERHEAD: usize = 96;

/// The piece of a value, as long as the cell is there in this version.
fn answer_piece(
    source: &dyn Source,
    query: &PieceQuery,
    compress: bool,
) -> Result<Vec<u8>, RespondError> {
    let snapshot = source.snapshot()?;
    let Ok(entry) = snapshot.tree.get(&query.key);
    let version = entry.map(TreeEntry::version);
    let is_wanted =
        |version: &Version| (version.timestamp, version.digest) == (query.timestamp, query.digest);
    let gone = || PieceReply(None).encode(compress);
    let Some(version) = version.filter(is_wanted) else {
        return Ok(gone());
    };
    let at_hand = source.at_hand();
    let cell = match at_hand.and_then(|at_hand| at_hand.get(&query.key, &version)) {
        Some(cell) => Some(cell),
        None => sound(source, &snapshot, &query.key, &version)?.map(|(cell, _)| cell),
    };
    let Some(value) = cell.as_ref().and_then(|cell| cell.value()) else {
        return Ok(gone());
    };
    let piece = piece(value, query.offset, room(query.max_bytes));
    let next = query.offset + piece.as_ref().map_or(0, Vec::len) as u64;
    if let (Some(at_hand), Some(cell)) = (at_hand, &cell) {
        match next < Notice::of(&query.key, &version, value).bytes {
            true => at_hand.keep(&query.key, &version, cell),
            false => at_hand.clear(),
        }
    }
    Ok(PieceReply(piece).encode(compress))
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
    let (mut notices, mut notice_bytes) = (Vec::new(), 0);
    let mut done = 0;
    let is_dead = |key: &CellKey, held: &TreeEntry| {
        source.dead(&key.key, query.watermark) >= Some(held.timestamp())
    };
    // False if there is no more room.
    let mut send = |key: &CellKey, version: &Version| -> Result<bool, StoreError> {
        let Some((cell, check)) = sound(source, &snapshot, key, version)? else {
            return Ok(true);
        };
        if let Some(notice) = notice(key, version, &cell, max_bytes) {
            notice_bytes += key.canonical_len() + NOTICE_OVERHEAD;
            let has_room = notices.is_empty() || notice_bytes <= max_bytes / 4;
            if has_room {
                notices.push(notice);
            }
            return Ok(has_room);
        }
        let bytes = cell.value_bytes() + CELL_OVERHEAD + notice_bytes;
        let has_room = writer.has_room(key, bytes, max_bytes);
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
                let version = version.filter(is_newer);
                if let Some(version) = version.filter(|held| !is_dead(key, held))
                    && !send(key, &version.version())?
                {
                    break 'wants;
                }
            }
            Want::All(range) => {
                use std::ops::Bound::{Excluded, Unbounded};
                let low = range.low.clone().map_or(Unbounded, Excluded);
                let high = range.high.clone().map_or(Unbounded, Excluded);
                let Ok(cells) = tree.range((low, high));
                for cell in cells {
                    let Ok((key, version)) = cell;
                    if is_dead(key, version) {
                        continue;
                    }
                    if !send(key, &version.version())? {
                        break 'wants;
                    }
                }
            }
        }
        done += 1;
    }
    Ok(entries_reply(writer, &notices, done, compress))
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
        return Ok(delta_reply(Progress::Unknown, nothing, &[], compress));
    };
    // Taken afterwards: it has all these changes, and perhaps more.
    let snapshot = source.snapshot()?;
    let tree = &snapshot.tree;
    let max_bytes = room(query.max_bytes);
    let mut progress = Progress::Done;
    let (mut cells, mut notices) = (Vec::new(), Vec::new());
    let (mut bytes, mut last) = (0, query.after);
    for (change, key) in changes {
        let Ok(version) = tree.get(&key);
        let is_wanted = |entry: &&TreeEntry| {
            let is_dead = source.dead(&key.key, query.watermark) >= Some(entry.timestamp());
            !is_dead && !query.holds(&entry.version().digest.0)
        };
        // What is not there any more was covered, by a cell that changed later.
        if let Some(version) = version.filter(is_wanted) {
            let version = version.version();
            if let Some((cell, check)) = sound(source, &snapshot, &key, &version)? {
                let notice = notice(&key, &version, &cell, max_bytes);
                bytes += key.canonical_len()
                    + match notice {
                        Some(_) => NOTICE_OVERHEAD,
                        None => cell.value_bytes() + CELL_OVERHEAD,
                    };
                let is_empty = cells.is_empty() && notices.is_empty();
                let is_full =
                    bytes > max_bytes || notices.len() >= MAX_NOTICES || cells.len() >= MAX_CELLS;
                if is_full && !is_empty {
                    progress = Progress::After(last);
                    break;
                }
                match notice {
                    Some(notice) => notices.push(notice),
                    None => cells.push((key, cell, check)),
                }
            }
        }
        last = change;
    }
    cells.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    notices.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let mut writer = CellsWriter::default();
    for (key, cell, check) in &cells {
        writer.push(key, cell, check);
    }
    Ok(delta_reply(progress, writer, &notices, compress))
}
