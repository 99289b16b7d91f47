//! The messages that carry cells.
//!
//! The asker names keys and ranges; the answer is what the answerer has there, in
//! order and as far as there is room. What was not answered is asked for again.

use bytes::Bytes;

use super::{
    digests::Range,
    wire::{begin, flag, kind, open, MessageError, Reader, Writer},
};
use crate::cell::{Cell, CellKey, CellMeta, Content, Stamp, Value, MAX_KEY_BYTES, STAMP_ID_BYTES};

/// Bytes of a cell's digest that are sent with it.
///
/// The receiver makes the digest anew from what it got; these tell whether it got
/// what was meant.
pub const CHECK_BYTES: usize = 8;

/// Bytes of a cell in a message, beside key, schema and payload, at the most.
pub(crate) const CELL_OVERHEAD: usize = 64;

/// What the asker wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The cell of a key; only if it is not older than this, where a time is
    /// given.
    Key(CellKey, Option<u64>),
    /// All cells in a range.
    All(Range),
}

impl Want {
    fn admits(&self, key: &CellKey) -> bool {
        match self {
            Self::Key(wanted, _) => wanted == key,
            Self::All(range) => range.contains(key),
        }
    }
}

const MISSING: u8 = 0;
const NEWER: u8 = 1;
/// And the flags of the range.
const ALL: u8 = 4;

/// Asks for cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesQuery {
    /// Bytes that the answer may have, about.
    pub max_bytes: u32,
    /// What is wanted.
    pub wants: Vec<Want>,
}

impl EntriesQuery {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_wants(self.max_bytes, &self.wants, usize::MAX).0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::ENTRIES_QUERY)?;
        let max_bytes = reader.number("size of the answer")?;
        let max_bytes = u32::try_from(max_bytes).map_err(|_| MessageError::Range("size"))?;
        let mut wants = Vec::new();
        while reader.left() > 0 {
            wants.push(match reader.u8("want")? {
                MISSING => Want::Key(reader.key()?, None),
                NEWER => {
                    let key = reader.key()?;
                    let time = u64::from_be_bytes(reader.array("time")?);
                    Want::Key(key, Some(time))
                }
                flags if flags & ALL != 0 => {
                    let (has_low, has_high) = Range::bounds(flags & !ALL)?;
                    let low = reader.optional_key(has_low)?;
                    let high = reader.optional_key(has_high)?;
                    Want::All(Range { low, high })
                }
                _ => return Err(MessageError::Range("kind of want")),
            });
        }
        Ok(Self { max_bytes, wants })
    }
}

/// The message that asks for as many of `wants` as there is room for, and how
/// many that are.
pub(super) fn encode_wants(max_bytes: u32, wants: &[Want], room: usize) -> (Vec<u8>, usize) {
    let mut writer = begin(kind::ENTRIES_QUERY);
    writer.number(max_bytes.into());
    let mut written = 0;
    for want in wants {
        if written > 0 && (writer.len() >= room || writer.key_text() >= super::MAX_KEY_TEXT_SENT) {
            break;
        }
        match want {
            Want::Key(key, None) => {
                writer.u8(MISSING);
                writer.key(key);
            }
            Want::Key(key, Some(time)) => {
                writer.u8(NEWER);
                writer.key(key);
                writer.raw(&time.to_be_bytes());
            }
            Want::All(range) => {
                writer.u8(ALL | range.flags());
                writer.optional_key(range.low.as_ref());
                writer.optional_key(range.high.as_ref());
            }
        }
        written += 1;
    }
    (writer.into_bytes(), written)
}

/// A cell, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its key.
    pub key: CellKey,
    /// It.
    pub cell: Cell,
    /// The beginning of the digest that the sender has of it.
    pub check: [u8; CHECK_BYTES],
}

impl Received {
    /// Whether the cell is the one that the sender meant. Hashes it.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let digest = CellMeta::of(&self.key, &self.cell).version.digest;
        digest.0.starts_with(&self.check)
    }
}

/// Answers an [`EntriesQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesReply {
    /// How many of what was wanted are answered in full. If it was not all, the
    /// next begins with what is above the last cell, in a range, or all of it.
    pub done: usize,
    /// The cells, in the order in which they were asked for.
    pub cells: Vec<Received>,
}

const TOMBSTONE: u8 = 1;
const SCHEMA: u8 = 2;
const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

/// Compression is not tried on less, or on more: a receiver has to make room for
/// what it is told will come out.
const COMPRESSIBLE: std::ops::RangeInclusive<usize> = 256..=64 << 20;

/// Writes an answer.
pub(crate) struct EntriesReplyWriter {
    writer: Writer,
    ids: Vec<[u8; STAMP_ID_BYTES]>,
    cells: usize,
}

impl EntriesReplyWriter {
    pub(crate) fn new() -> Self {
        Self {
            writer: Writer::default(),
            ids: Vec::new(),
            cells: 0,
        }
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// Whether a cell of this key and about this size may be added: one may
    /// always.
    pub(crate) fn has_room(&self, key: &CellKey, bytes: usize, max_bytes: usize) -> bool {
        self.cells == 0
            || self.writer.len() + key.canonical_len() + bytes <= max_bytes
                && self.writer.key_text() + MAX_KEY_BYTES <= super::MAX_KEY_TEXT_SENT
    }

    pub(crate) fn push(&mut self, key: &CellKey, cell: &Cell, check: &[u8; CHECK_BYTES]) {
        self.cells += 1;
        let writer = &mut self.writer;
        writer.key(key);
        let schema = cell.value().and_then(|value| value.schema.as_deref());
        let is_tombstone = cell.value().is_none();
        writer.u8(flag(is_tombstone, TOMBSTONE) | flag(schema.is_some(), SCHEMA));
        writer.raw(&cell.stamp.time.to_be_bytes());
        // Few clocks stamp many cells.
        match self.ids.iter().position(|id| *id == cell.stamp.id) {
            Some(place) => writer.count(place + 1),
            None => {
                writer.count(0);
                writer.raw(&cell.stamp.id);
                if self.ids.len() < MAX_IDS {
                    self.ids.push(cell.stamp.id);
                }
            }
        }
        if let Some(value) = cell.value() {
            writer.number(value.encoding_id.into());
            if let Some(schema) = schema {
                writer.bytes(schema);
            }
            writer.bytes(&value.payload);
        }
        writer.raw(check);
    }

    /// The message. It is compressed if that is `wanted`, and helps.
    pub(crate) fn finish(self, done: usize, compress: bool) -> Vec<u8> {
        let body = self.writer.into_bytes();
        let mut writer = begin(kind::ENTRIES_REPLY);
        writer.count(done);
        if compress && COMPRESSIBLE.contains(&body.len()) {
            let compressed = lz4_flex::block::compress(&body);
            if compressed.len() < body.len() - body.len() / 16 {
                writer.u8(COMPRESSED);
                writer.count(body.len());
                writer.raw(&compressed);
                return writer.into_bytes();
            }
        }
        writer.u8(PLAIN);
        writer.raw(&body);
        writer.into_bytes()
    }
}

/// Clocks that are remembered in a message.
const MAX_IDS: usize = 256;

impl EntriesReply {
    /// The message.
    #[must_use]
    pub fn encode(&self, compress: bool) -> Vec<u8> {
        let mut writer = EntriesReplyWriter::new();
        for Received { key, cell, check } in &self.cells {
            writer.push(key, cell, check);
        }
        writer.finish(self.done, compress)
    }

    /// Reads the answer to what was `wanted`.
    ///
    /// # Errors
    /// If it is none, or carries what was not asked for, or more than `max_bytes`
    /// and more than one cell.
    pub fn decode(bytes: &[u8], wanted: &[Want], max_bytes: usize) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::ENTRIES_REPLY)?;
        let done = reader.size("number of answers")?;
        if done > wanted.len() {
            return Err(MessageError::Range("number of answers"));
        }
        let compression = reader.u8("compression")?;
        let decompressed;
        let mut reader = match compression {
            PLAIN => reader,
            COMPRESSED => {
                let length = reader.size("length")?;
                if length > *COMPRESSIBLE.end() {
                    return Err(MessageError::TooLarge("bytes"));
                }
                // LZ4 makes at most 255 bytes of one.
                if length / 255 > reader.left() {
                    return Err(MessageError::Compression);
                }
                let block = reader.take(reader.left(), "cells")?;
                decompressed = lz4_flex::block::decompress(block, length)
                    .ok()
                    .filter(|body| body.len() == length)
                    .ok_or(MessageError::Compression)?;
                Reader::new(&decompressed)
            }
            _ => return Err(MessageError::Range("compression")),
        };
        let body = reader.left();
        let mut ids = Vec::new();
        let mut cells: Vec<Received> = Vec::new();
        let mut place = 0;
        while reader.left() > 0 {
            let received = read_cell(&mut reader, &mut ids)?;
            if let Some(last) = cells.last() {
                if body > max_bytes {
                    return Err(MessageError::TooLarge("bytes"));
                }
                let is_of_one = wanted.get(place).is_some_and(|want| want.admits(&last.key));
                if is_of_one && received.key <= last.key && wanted[place].admits(&received.key) {
                    return Err(MessageError::KeyOrder);
                }
            }
            while !wanted
                .get(place)
                .ok_or(MessageError::KeyOrder)?
                .admits(&received.key)
            {
                place += 1;
            }
            cells.push(received);
        }
        // A range may go on after the last of its cells.
        if place > done
            || place == done
                && matches!(wanted.get(place), Some(Want::Key(..)))
                && !cells.is_empty()
        {
            return Err(MessageError::Range("number of answers"));
        }
        if done == 0 && cells.is_empty() && !wanted.is_empty() {
            return Err(MessageError::NoProgress);
        }
        Ok(Self { done, cells })
    }
}

fn read_cell(
    reader: &mut Reader<'_>,
    ids: &mut Vec<[u8; STAMP_ID_BYTES]>,
) -> Result<Received, MessageError> {
    let key = reader.key()?;
    let flags = reader.u8("cell")?;
    if flags & !(TOMBSTONE | SCHEMA) != 0 || flags == TOMBSTONE | SCHEMA {
        return Err(MessageError::Range("kind of cell"));
    }
    let time = u64::from_be_bytes(reader.array("timestamp")?);
    let id = match reader.size("timestamp")?.checked_sub(1) {
        None => {
            let id = reader.array("timestamp")?;
            if id == [0; STAMP_ID_BYTES] || ids.contains(&id) {
                return Err(MessageError::Range("ID of a timestamp"));
            }
            if ids.len() < MAX_IDS {
                ids.push(id);
            }
            id
        }
        Some(place) => *ids
            .get(place)
            .ok_or(MessageError::Range("ID of a timestamp"))?,
    };
    let content = match flags & TOMBSTONE {
        0 => {
            let encoding_id = reader.number("encoding")?;
            let encoding_id =
                u16::try_from(encoding_id).map_err(|_| MessageError::Range("encoding"))?;
            let schema = match flags & SCHEMA {
                0 => None,
                _ => Some(reader.bytes("schema")?.into()),
            };
            Content::Value(Value {
                encoding_id,
                schema,
                payload: Bytes::copy_from_slice(reader.bytes("payload")?),
            })
        }
        _ => Content::Tombstone,
    };
    Ok(Received {
        key,
        cell: Cell {
            stamp: Stamp { time, id },
            content,
        },
        check: reader.array("digest")?,
    })
}
