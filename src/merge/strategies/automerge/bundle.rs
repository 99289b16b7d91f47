//! Bundles: the changes of a document that are final, in few cells.
//!
//! A bundle is changes as chunks, one after the other, ascending by hash; its part says what is in
//! it. Which bundles there are is a function of the changes alone, not of the bundles that they were
//! in before, nor of the library: so replicas make the same ones. Nothing of the history goes, which
//! Automerge needs.

use super::{
    change_of,
    chunk::{Budget, Chunk, HASH_BYTES, KIND_AT, Kind, Unreadable},
    read_change,
};
use crate::{
    cell::Cell,
    hash::sha256,
    merge::{MAX_CELLS, collect::MAX_COLLECTED_BYTES},
};

use ::automerge::Change;

/// Bytes of the part of a bundle: fewer than that of a change has, so that it fits where that did.
pub(super) const PART_BYTES: usize = 24;

type Hash = [u8; HASH_BYTES];

/// The beginning of the payload's SHA-256.
pub(super) fn part_of(payload: &[u8]) -> [u8; PART_BYTES] {
    let mut part = [0; PART_BYTES];
    part.copy_from_slice(&sha256(&[payload])[..PART_BYTES]);
    part
}

/// The hash of the change that an uncompressed chunk is: that of all after the checksum.
fn hash_of(chunk: &Chunk<'_>) -> Hash {
    sha256(&[&chunk.bytes[KIND_AT..]])
}

/// The chunks of a payload that are uncompressed changes, with their hashes; all of them have to be.
fn chunks(payload: &[u8]) -> impl Iterator<Item = Result<(Hash, Chunk<'_>), Unreadable>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = Chunk::next(rest).and_then(|(chunk, after)| {
            rest = after;
            match chunk.kind {
                Kind::Change => Ok((hash_of(&chunk), chunk)),
                Kind::Document | Kind::CompressedChange => Err(Unreadable::Malformed),
            }
        });
        if next.is_err() {
            rest = &[];
        }
        Some(next)
    })
}

/// What one bundle may still take.
struct Room {
    budget: Budget,
    bytes: usize,
    changes: usize,
}

impl Room {
    fn new() -> Self {
        Self {
            budget: Budget::default(),
            bytes: 0,
            changes: 0,
        }
    }

    /// The first change always fits, as it did into a cell.
    fn take(&mut self, chunk: &Chunk<'_>) -> Result<(), Unreadable> {
        chunk.pay(&mut self.budget)?;
        self.bytes += chunk.bytes.len();
        self.changes += 1;
        match self.changes > MAX_CELLS || (self.changes > 1 && self.bytes > MAX_COLLECTED_BYTES) {
            true => Err(Unreadable::Operations),
            false => Ok(()),
        }
    }
}

/// The changes of a bundle, ascending by hash.
pub(super) fn read(payload: &[u8]) -> Result<Vec<Change>, Unreadable> {
    let mut room = Room::new();
    let mut changes = Vec::new();
    let mut last: Option<Hash> = None;
    for chunk in chunks(payload) {
        let (hash, chunk) = chunk?;
        if last >= Some(hash) {
            return Err(Unreadable::Malformed);
        }
        last = Some(hash);
        room.take(&chunk)?;
        changes.push(read_change(&chunk).ok_or(Unreadable::Malformed)?);
    }
    match changes.is_empty() {
        true => Err(Unreadable::Malformed),
        false => Ok(changes),
    }
}

/// The changes of a cell, which is one or a bundle.
pub(super) fn changes_of(part: &[u8], cell: &Cell) -> Result<Vec<Change>, Unreadable> {
    match part.len() {
        PART_BYTES => read(&cell.value().ok_or(Unreadable::Malformed)?.payload),
        _ => change_of(cell).map(|change| vec![change]),
    }
}

/// The payloads of the bundles of all changes in these payloads.
pub(super) fn make<'a>(
    payloads: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut all = Vec::new();
    for payload in payloads {
        if payload.is_empty() {
            return Err(Unreadable::Malformed);
        }
        for chunk in chunks(payload) {
            all.push(chunk?);
        }
    }
    all.sort_by_key(|(hash, _)| *hash);
    all.dedup_by(|(a, _), (b, _)| a == b);
    let mut bundles = Vec::new();
    let (mut room, mut bundle) = (Room::new(), Vec::new());
    for (_, chunk) in all {
        if room.take(&chunk).is_err() {
            bundles.push(std::mem::take(&mut bundle));
            room = Room::new();
            room.take(&chunk)?;
        }
        bundle.extend_from_slice(chunk.bytes);
    }
    bundles.push(bundle);
    bundles.retain(|bundle| !bundle.is_empty());
    Ok(bundles)
}
