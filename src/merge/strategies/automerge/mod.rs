//! Documents: the value is an Automerge document.
//!
//! A put is a document or some changes of one, as Automerge saves them; it writes
//! one cell for each change, whose part is the change's hash. A change whose
//! predecessors are not there yet waits in the document until they are.

use std::panic::{catch_unwind, AssertUnwindSafe};

use ::automerge::{Automerge, Change};
use bytes::Bytes;

use crate::{
    cell::{Cell, Content, Value},
    merge::{
        encoding,
        strategy::{Applied, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading, Strategy},
        values::document_json::document_json,
    },
};

/// Merges [Automerge](https://automerge.org) documents.
///
/// A put is what Automerge saves: a document, or changes. A get returns the
/// document, in the encoding of the newest put; or as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutomergeCrdt;

/// What each chunk of a saved document begins with, by Automerge's binary format.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// The magic bytes, a checksum of as many, and the kind.
const KIND_AT: usize = 8;
const DOCUMENT: u8 = 0;
const CHANGE: u8 = 1;
const COMPRESSED_CHANGE: u8 = 2;

/// Bytes of the hash of a change.
const HASH_BYTES: usize = 32;

const ALLOWED: &str = "allowed is what Automerge saves: a document, or changes";

/// Splits off the first chunk, and says of which kind it is.
fn next_chunk(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let kind = *bytes.get(KIND_AT)?;
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    // The length, as LEB128.
    let (mut length, mut shift, mut at) = (0u64, 0, KIND_AT + 1);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        match (byte & 0x80, shift) {
            (0, _) => break,
            (_, 63..) => return None,
            _ => {}
        }
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let (chunk, rest) = bytes.split_at_checked(end)?;
    Some((kind, chunk, rest))
}

/// Runs what reads bytes of others in a library that is not made for hostile
/// ones.
fn guarded<T>(run: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok().flatten()
}

/// Reads a chunk that is a change. The library does not look at its checksum,
/// which is the beginning of its hash.
fn read_change(chunk: &[u8]) -> Option<Change> {
    let change = guarded(|| Change::from_bytes(chunk.to_vec()).ok())?;
    let checksum = chunk.get(MAGIC.len()..KIND_AT)?;
    change.hash().0.starts_with(checksum).then_some(change)
}

fn changes(payload: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let (kind, chunk, after) = next_chunk(rest)?;
        rest = after;
        match kind {
            DOCUMENT => {
                let document = guarded(|| Automerge::load(chunk).ok())?;
                changes.extend(guarded(|| Some(document.get_changes(&[])))?);
            }
            CHANGE | COMPRESSED_CHANGE => {
                changes.push(read_change(chunk)?);
            }
            _ => return None,
        }
    }
    (!changes.is_empty()).then_some(changes)
}

impl Strategy for AutomergeCrdt {
    fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
        let payload = &put.value.payload;
        let Some(changes) = changes(payload) else {
            let found = super::additive::excerpt(payload);
            return Err(InvalidPut::new(format!("found {found}, {ALLOWED}")));
        };
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
        let Some(value) = cell.value() else {
            return Err(InvalidPut::new("a change cannot be removed"));
        };
        let hash = match next_chunk(&value.payload) {
            // Not a compressed one: nobody knows how large it becomes.
            Some((CHANGE, chunk, [])) => read_change(chunk).map(|change| change.hash()),
            _ => None,
        };
        match hash {
            Some(hash) if hash.0[..] == *part => Ok(()),
            Some(_) => Err(InvalidPut::new("the part is not the hash of the change")),
            None => Err(InvalidPut::new("the value is not a change")),
        }
    }

    fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
        let mut bytes = 0;
        let changes = cells.iter().filter_map(|part| change_of(part.cell));
        let changes: Vec<Change> = changes
            .inspect(|change| bytes += change.raw_bytes().len())
            .collect();
        let mut document = Automerge::new();
        let is_whole = apply(&mut document, &changes);
        if !is_whole {
            // Changes that contradict each other, as when two devices use one
            // actor: as many as can be, and all replicas the same, since they
            // are in the order of their hashes.
            document = Automerge::new();
            let mut taken = Vec::new();
            for change in changes {
                taken.push(change);
                if !apply(&mut document, &taken[taken.len() - 1..]) {
                    taken.pop();
                    document = Automerge::new();
                    let _ = apply(&mut document, &taken);
                }
            }
        }
        Box::new(AutomergeFold {
            document,
            bytes,
            is_whole,
        })
    }
}

fn change_of(cell: &Cell) -> Option<Change> {
    read_change(&cell.value()?.payload)
}

/// Whether all of the changes could be applied. If not, it is not known which
/// were.
fn apply(document: &mut Automerge, changes: &[Change]) -> bool {
    guarded(|| document.apply_changes(changes.iter().cloned()).ok()).is_some()
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
        let Some(change) = change_of(cell) else {
            return Applied::Yes;
        };
        let bytes = change.raw_bytes().len();
        match apply(&mut self.document, &[change]) {
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
