//! Documents: the value is an Automerge document.
//!
//! A put is a document or some changes of one, as Automerge saves them; it writes
//! one cell for each change, whose part is the change's hash. A change whose
//! predecessors are not there yet waits in the document until they are.

//!
//! | part | what it is |
//! |---|---|
//! | `bundle` | the changes that are final, in few cells |
//! | `chunk` | the binary format, as far as it takes to know what reading it costs |
//! | `document` | a document of changes, of which some may contradict each other |
//! | `document_json` | a document as JSON |

mod bundle;
mod chunk;
mod document;
mod document_json;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::automerge::{Automerge, Change};
use bytes::Bytes;

use self::{
    chunk::{Budget, Chunk, HASH_BYTES, Kind, MAX_INFLATED_BYTES, MAX_OPERATIONS, Unreadable},
    document::{Built, apply},
    document_json::document_json,
};
use crate::{
    cell::{Cell, Content, Value},
    merge::{
        MAX_CELLS, encoding,
        strategy::{
            Applied, CollectedCell, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading,
            Strategy,
        },
    },
};

/// Merges [Automerge](https://automerge.org) documents.
///
/// A put is what Automerge saves: a document, or changes. A get returns the
/// document, in the encoding of the newest put; or as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutomergeCrdt;

const ALLOWED: &str = "allowed is what Automerge saves: a document, or changes";

/// Runs what reads bytes of others in a library that is not made for hostile
/// ones.
fn guarded<T>(run: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok().flatten()
}

/// Reads a chunk that is a change, and was paid for. The library does not look at its
/// checksum, which is the beginning of its hash.
fn read_change(chunk: &Chunk<'_>) -> Option<Change> {
    let change = guarded(|| Change::from_bytes(chunk.bytes.to_vec()).ok())?;
    change
        .hash()
        .0
        .starts_with(chunk.checksum())
        .then_some(change)
}

/// The changes of a put.
fn changes(payload: &[u8]) -> Result<Vec<Change>, Unreadable> {
    let mut budget = Budget::default();
    let mut changes = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let (chunk, after) = Chunk::next(rest)?;
        rest = after;
        chunk.pay(&mut budget)?;
        let of_chunk = match chunk.kind {
            Kind::Document => guarded(|| {
                let document = Automerge::load(chunk.bytes).ok()?;
                Some(document.get_changes(&[]))
            }),
            Kind::Change | Kind::CompressedChange => read_change(&chunk).map(|change| vec![change]),
        };
        changes.extend(of_chunk.ok_or(Unreadable::Malformed)?);
    }
    match changes.is_empty() {
        true => Err(Unreadable::Malformed),
        false => Ok(changes),
    }
}

/// The one change that a cell holds.
fn change_of(cell: &Cell) -> Result<Change, Unreadable> {
    let payload = &cell.value().ok_or(Unreadable::Malformed)?.payload;
    let (chunk, rest) = Chunk::next(payload)?;
    // Not a compressed one: that it becomes large is for whoever puts it to see.
    if chunk.kind != Kind::Change || !rest.is_empty() {
        return Err(Unreadable::Malformed);
    }
    chunk.pay(&mut Budget::default())?;
    read_change(&chunk).ok_or(Unreadable::Malformed)
}

/// What exceeds the limits, in words.
fn too_much(unreadable: Unreadable) -> Option<InvalidPut> {
    match unreadable {
        Unreadable::Malformed => None,
        Unreadable::Inflated => Some(InvalidPut::new(format!(
            "it inflates to too many bytes, allowed are {MAX_INFLATED_BYTES}"
        ))),
        Unreadable::Operations => Some(InvalidPut::new(format!(
            "it has too many operations or changes, allowed are {MAX_OPERATIONS} and {MAX_CELLS}"
        ))),
    }
}

impl Strategy for AutomergeCrdt {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        let payload = &put.value.payload;
        let changes = changes(payload).map_err(|unreadable| {
            too_much(unreadable).unwrap_or_else(|| {
                let found = super::additive::excerpt(payload);
                InvalidPut::new(format!("found {found}, {ALLOWED}"))
            })
        })?;
        let writes = changes.iter().map(|change| PartWrite {
            part: change.hash().0.to_vec(),
            content: Content::Value(Value {
                payload: Bytes::copy_from_slice(change.raw_bytes()),
                ..put.value.clone()
            }),
        });
        let mut writes: Vec<_> = writes.collect();
        writes.sort_by(|a, b| a.part.cmp(&b.part));
        writes.dedup_by(|a, b| a.part == b.part);
        Ok(writes)
    }

    fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
        if cell.value().is_none() {
            return Err(InvalidPut::new("a change cannot be removed"));
        }
        if part.len() == bundle::PART_BYTES {
            let payload = cell.value().map(|value| &value.payload[..]);
            let payload = payload.unwrap_or_default();
            if bundle::part_of(payload) != *part {
                return Err(InvalidPut::new("the part is not the hash of the bundle"));
            }
            return bundle::read(payload).map(drop).map_err(|unreadable| {
                let reason = "the value is not changes in the order of their hashes";
                too_much(unreadable).unwrap_or_else(|| InvalidPut::new(reason))
            });
        }
        match change_of(cell) {
            Ok(change) if change.hash().0[..] == *part => Ok(()),
            Ok(_) => Err(InvalidPut::new("the part is not the hash of the change")),
            Err(unreadable) => Err(too_much(unreadable)
                .unwrap_or_else(|| InvalidPut::new("the value is not a change"))),
        }
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let changes = cells.iter();
        let changes = changes.filter_map(|part| bundle::changes_of(part.part, part.cell).ok());
        let mut changes: Vec<Change> = changes.flatten().collect();
        // As they would be if each were in a cell of its own.
        changes.sort_by_key(|change| change.hash().0);
        changes.dedup_by_key(|change| change.hash().0);
        let bytes = changes.iter().map(|change| change.raw_bytes().len()).sum();
        let Built {
            document, is_whole, ..
        } = Built::of(changes);
        Box::new(AutomergeFold {
            document,
            bytes,
            is_whole,
        })
    }

    fn may_collect(&self) -> bool {
        true
    }

    /// Bundles of all changes, which bear the newest timestamp. Of what cannot be read nothing is
    /// made.
    fn collect(&self, stable: &[PartCell<'_>], _: &[PartCell<'_>]) -> Option<Vec<CollectedCell>> {
        let newest = stable
            .iter()
            .max_by_key(|cell| (cell.cell.timestamp, cell.part))?;
        let value = newest.cell.value()?;
        let payloads: Option<Vec<&[u8]>> = stable
            .iter()
            .map(|cell| cell.cell.value().map(|value| &value.payload[..]))
            .collect();
        let bundles = bundle::make(payloads?.into_iter()).ok()?;
        let cells = bundles.into_iter().map(|payload| CollectedCell {
            part: bundle::part_of(&payload).to_vec(),
            cell: Cell {
                timestamp: newest.cell.timestamp,
                content: Content::Value(Value {
                    payload: payload.into(),
                    attachment: None,
                    ..value.clone()
                }),
            },
        });
        Some(cells.collect())
    }
}

struct AutomergeFold {
    document: Automerge,
    /// Of the changes.
    bytes: usize,
    /// Whether all changes could be applied.
    is_whole: bool,
}

impl Fold for AutomergeFold {
    fn apply(&mut self, part: &[u8], cell: &Cell) -> Applied {
        if !self.is_whole || part.len() != HASH_BYTES {
            return Applied::NeedsRefold;
        }
        let Ok(change) = change_of(cell) else {
            return Applied::Yes;
        };
        let bytes = change.raw_bytes().len();
        match apply(&mut self.document, std::slice::from_ref(&change)) {
            true => {
                self.bytes += bytes;
                Applied::Yes
            }
            false => Applied::NeedsRefold,
        }
    }

    fn read(&self, form: Form) -> Reading {
        match form {
            Form::Native => Reading {
                encoding_id: None,
                payload: guarded(|| Some(self.document.save()))
                    .unwrap_or_default()
                    .into(),
            },
            Form::Json => Reading {
                encoding_id: Some(encoding::APPLICATION_JSON),
                payload: guarded(|| document_json(&self.document))
                    .unwrap_or_default()
                    .into(),
            },
        }
    }

    fn weight(&self) -> usize {
        // What a document takes for each byte of its changes, measured.
        const FACTOR: usize = 8;
        size_of::<Self>() + self.bytes * FACTOR
    }
}
