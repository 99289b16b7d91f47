//! What has changed since a root that both replicas have had.
//!
//! A replica that had the root R held all that R is of, and holds at least that
//! still. So of a peer that had R too it can lack only what has changed there
//! since. (In the literature on delta-state CRDTs this is a delta interval: Almeida,
//! Shoker and Baquero, *Delta state replicated data types*, 2018. That both had R
//! is its causal merging condition.) Trees need not be compared then: the asker
//! names the roots that it has had, and says what has changed at its own side; the
//! answer is the cells that changed at the other side, without those that the
//! asker has. This is the usual case: two replicas were equal, a link was down,
//! and few cells were written meanwhile, on one side or on both.

use std::collections::BTreeSet;

use super::{
    MAX_CELLS, MESSAGE_BYTES,
    cells::{CellsWriter, Received, open_cells},
    pieces::{Notice, read_notices, write_notices},
    salted::{Salted, Short},
    view::View,
    wire::{MessageError, begin, kind, open, read_terms, write_terms},
};
use crate::{cell::Version, hash::HASH_BYTES, mst::RootHash};

/// Roots that an asker names, at the most.
pub const MAX_ROOTS: usize = 4;

/// Cells of its own that an asker says it has, at the most. If more have changed
/// since a root it is of little use: to compare the trees may cost less.
pub const MAX_HELD: usize = 4096;

/// Asks for the cells that have changed since the tree had a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaQuery {
    /// How digests are shortened.
    pub salted: Salted,
    /// Bytes that the answer may have, about.
    pub max_bytes: u32,
    /// The asker's watermark: what is dead there need not be sent. 0 if nothing is.
    pub watermark: u64,
    /// Changes up to this one need not be sent: what the last answer said, or 0.
    pub after: u64,
    /// Roots that the asker has had.
    pub roots: Vec<RootHash>,
    /// Digests of cells that the asker has, or does not take, ascending.
    pub held: Vec<Short>,
}

impl DeltaQuery {
    /// A query that names those of `candidates` since which not too much has changed
    /// at the own side; nothing if there is none. Those `refused` need not be sent either.
    pub(super) fn new<'a>(
        candidates: impl Iterator<Item = RootHash>,
        refused: impl Iterator<Item = &'a Version>,
        view: &dyn View,
        salted: Salted,
    ) -> Option<Self> {
        let (mut roots, mut changed) = (Vec::new(), Vec::new());
        // Many peers may have one root, and to list what has changed since takes long.
        let mut tried = BTreeSet::new();
        for root in candidates {
            if roots.len() >= MAX_ROOTS || !tried.insert(root) {
                continue;
            }
            let Some(since) = view.changes_since(&root, 0) else {
                continue;
            };
            if since.len() <= MAX_HELD {
                roots.push(root);
                // What has changed since a later root has changed since an earlier.
                if since.len() > changed.len() {
                    changed = since;
                }
            }
        }
        if roots.is_empty() {
            return None;
        }
        let tree = view.tree();
        let versions = changed.iter().filter_map(|(_, key)| {
            let Ok(version) = tree.get(key);
            version
        });
        let held: BTreeSet<Short> = versions
            .map(|entry| entry.version().digest)
            .chain(refused.map(|version| version.digest))
            .take(MAX_HELD)
            .map(|digest| salted.short(&digest.0))
            .collect();
        Some(Self {
            salted,
            max_bytes: MESSAGE_BYTES as u32,
            watermark: 0,
            after: 0,
            roots,
            held: held.into_iter().collect(),
        })
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = begin(kind::DELTA_QUERY);
        self.salted.write_head(&mut writer);
        write_terms(self.max_bytes, self.watermark, &mut writer);
        writer.number(self.after);
        writer.count(self.roots.len());
        self.roots.iter().for_each(|root| writer.raw(&root.0));
        for held in &self.held {
            self.salted.write(*held, &mut writer);
        }
        writer.into_bytes()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::DELTA_QUERY)?;
        let salted = Salted::read_head(&mut reader)?;
        let (max_bytes, watermark) = read_terms(&mut reader)?;
        let after = reader.number("change")?;
        let count = reader.count(HASH_BYTES, "roots")?;
        if !(1..=MAX_ROOTS).contains(&count) {
            return Err(MessageError::Range("number of roots"));
        }
        let mut roots = Vec::with_capacity(count);
        for _ in 0..count {
            roots.push(RootHash(reader.array("root")?));
        }
        let mut held: Vec<Short> = Vec::new();
        while reader.left() > 0 {
            if held.len() >= MAX_HELD {
                return Err(MessageError::TooLarge("digests"));
            }
            let next = salted.read(&mut reader)?;
            if held.last().is_some_and(|last| *last >= next) {
                return Err(MessageError::Range("digest"));
            }
            held.push(next);
        }
        Ok(Self {
            salted,
            max_bytes,
            watermark,
            after,
            roots,
            held,
        })
    }

    /// Whether the asker has a cell of this digest.
    pub(super) fn holds(&self, digest: &[u8; HASH_BYTES]) -> bool {
        let short = self.salted.short(digest);
        self.held.binary_search(&short).is_ok()
    }
}

/// How far a [`DeltaQuery`] is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// None of the roots is known: the trees have to be compared.
    Unknown,
    /// That was all.
    Done,
    /// There is more after this change.
    After(u64),
}

const UNKNOWN: u8 = 0;
const DONE: u8 = 1;
const AFTER: u8 = 2;

/// The message that carries these, and says how far they go.
pub(super) fn delta_reply(
    progress: Progress,
    cells: CellsWriter,
    notices: &[Notice],
    compress: bool,
) -> Vec<u8> {
    let mut head = begin(kind::DELTA_REPLY);
    match progress {
        Progress::Unknown => {
            head.u8(UNKNOWN);
            return head.into_bytes();
        }
        Progress::Done => head.u8(DONE),
        Progress::After(change) => {
            head.u8(AFTER);
            head.number(change);
        }
    }
    write_notices(notices, &mut head);
    cells.finish(head, compress)
}

/// Answers a [`DeltaQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaReply {
    /// How far the cells go.
    pub progress: Progress,
    /// The cells, ascending by key.
    pub cells: Vec<Received>,
    /// Those that are too large for this message, ascending by key.
    pub notices: Vec<Notice>,
}

impl DeltaReply {
    /// The message.
    #[must_use]
    pub fn encode(&self, compress: bool) -> Vec<u8> {
        let mut cells = CellsWriter::default();
        for Received { key, cell, check } in &self.cells {
            cells.push(key, cell, check);
        }
        delta_reply(self.progress, cells, &self.notices, compress)
    }

    /// Reads the answer to a query of what changed after `after`.
    ///
    /// # Errors
    /// If it is none, makes no progress, or or carries more than `max_bytes`.
    pub fn decode(bytes: &[u8], after: u64, max_bytes: usize) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::DELTA_REPLY)?;
        let progress = match reader.u8("progress")? {
            UNKNOWN => {
                reader.finish()?;
                return Ok(Self {
                    progress: Progress::Unknown,
                    cells: Vec::new(),
                    notices: Vec::new(),
                });
            }
            DONE => Progress::Done,
            AFTER => Progress::After(reader.number("change")?),
            _ => return Err(MessageError::Range("progress")),
        };
        let notices = read_notices(&mut reader)?;
        if !notices.is_sorted_by(|a, b| a.key < b.key) {
            return Err(MessageError::KeyOrder);
        }
        let mut room = Vec::new();
        let mut reader = open_cells(reader, &mut room, max_bytes)?;
        let mut cells: Vec<Received> = Vec::new();
        while let Some(received) = reader.next()? {
            if reader.bytes > max_bytes || cells.len() >= MAX_CELLS {
                return Err(MessageError::TooLarge("bytes"));
            }
            if let Some(last) = cells.last()
                && received.key <= last.key
            {
                return Err(MessageError::KeyOrder);
            }
            cells.push(received);
        }
        let is_empty = cells.is_empty() && notices.is_empty();
        if matches!(progress, Progress::After(change) if change <= after || is_empty) {
            return Err(MessageError::NoProgress);
        }
        Ok(Self {
            progress,
            cells,
            notices,
        })
    }
}
