//! Blocks of cells: the end of two kinds of answers, and the content of a backup's
//! frames. A block does not depend on the protocol's version: its carrier has a version
//! of its own.

use bytes::Bytes;

use super::wire::{MessageError, Reader, Writer, flag};
use crate::cell::{
    Cell, CellKey, Content, MAX_KEY_BYTES, TIMESTAMP_ID_BYTES, Timestamp, Value, Version,
};

/// Bytes of a cell's digest that a message carries.
///
/// The receiver computes the digest from what it got; these bytes tell whether that is
/// what the sender meant.
pub const CHECK_BYTES: usize = 8;

/// The most bytes of a cell in a message, besides key, schema and payload.
pub(crate) const CELL_OVERHEAD: usize = 64;

const TOMBSTONE: u8 = 1;
const SCHEMA: u8 = 2;
const ATTACHMENT: u8 = 4;
const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

/// The sizes of cells to compress: fewer do not gain enough, and the receiver has to
/// reserve memory for the stated size.
const COMPRESSIBLE: std::ops::RangeInclusive<usize> = 256..=64 << 20;

/// Clocks that a message numbers.
const MAX_IDS: usize = 256;

/// A cell as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its key.
    pub key: CellKey,
    /// The cell.
    pub cell: Cell,
    /// The beginning of the sender's digest of it.
    pub check: [u8; CHECK_BYTES],
}

impl Received {
    /// The cell's metadata, if it is the one that the sender meant. Hashes it.
    #[must_use]
    pub fn intact(&self) -> Option<Version> {
        let version = Version::of(&self.key, &self.cell);
        version.digest.0.starts_with(&self.check).then_some(version)
    }
}

/// Writes the cells at the end of a message.
#[derive(Default)]
pub(crate) struct CellsWriter {
    writer: Writer,
    ids: Vec<[u8; TIMESTAMP_ID_BYTES]>,
    cells: usize,
}

impl CellsWriter {
    /// The number of cells.
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// Whether there is room for a cell of this key and about this size. There is always
    /// room for one.
    pub(crate) fn has_room(&self, key: &CellKey, bytes: usize, max_bytes: usize) -> bool {
        self.cells == 0
            || self.cells < super::MAX_CELLS
                && self.writer.len() + key.canonical_len() + bytes <= max_bytes
                && self.writer.key_text() + MAX_KEY_BYTES <= super::MAX_KEY_TEXT_SENT
    }

    pub(crate) fn push(&mut self, key: &CellKey, cell: &Cell, check: &[u8; CHECK_BYTES]) {
        self.cells += 1;
        let writer = &mut self.writer;
        writer.key(key);
        let schema = cell.value().and_then(|value| value.schema.as_deref());
        let attachment = cell.value().and_then(|value| value.attachment.as_deref());
        let is_tombstone = cell.value().is_none();
        writer.u8(flag(is_tombstone, TOMBSTONE)
            | flag(schema.is_some(), SCHEMA)
            | flag(attachment.is_some(), ATTACHMENT));
        writer.raw(&cell.timestamp.time.to_be_bytes());
        // Few clocks timestamp many cells, so a linear search does.
        match self.ids.iter().position(|id| *id == cell.timestamp.id) {
            Some(index) => writer.count(index + 1),
            None => {
                writer.count(0);
                writer.raw(&cell.timestamp.id);
                if self.ids.len() < MAX_IDS {
                    self.ids.push(cell.timestamp.id);
                }
            }
        }
        if let Some(value) = cell.value() {
            writer.number(value.encoding_id.into());
            if let Some(schema) = schema {
                writer.bytes(schema);
            }
            if let Some(attachment) = attachment {
                writer.bytes(attachment);
            }
            writer.bytes(&value.payload);
        }
        writer.raw(check);
    }

    /// The message that begins with `head`. Compresses the cells if that is wanted, and
    /// helps.
    pub(super) fn finish(self, head: Writer, compress: bool) -> Vec<u8> {
        pack(&self.writer.into_bytes(), head, compress)
    }
}

/// The message that begins with `head` and ends with `body`, which is compressed if that is wanted,
/// and helps.
pub(super) fn pack(body: &[u8], head: Writer, compress: bool) -> Vec<u8> {
    let mut writer = head;
    if compress && COMPRESSIBLE.contains(&body.len()) {
        let compressed = lz4_flex::block::compress(body);
        if compressed.len() < body.len() - body.len() / 16 {
            writer.u8(COMPRESSED);
            writer.count(body.len());
            writer.raw(&compressed);
            return writer.into_bytes();
        }
    }
    writer.u8(PLAIN);
    writer.raw(body);
    writer.into_bytes()
}

/// The body of a message that [`pack`] made, of no more than `max_bytes` if it was compressed: in
/// `room` then.
pub(super) fn unpack<'a>(
    mut reader: Reader<'a>,
    room: &'a mut Vec<u8>,
    max_bytes: usize,
) -> Result<Reader<'a>, MessageError> {
    match reader.u8("compression")? {
        // Its keys are written anew.
        PLAIN => Ok(Reader::new(reader.take(reader.left(), "cells")?)),
        COMPRESSED => {
            let length = reader.size("length")?;
            if length > max_bytes {
                return Err(MessageError::TooLarge("bytes"));
            }
            // LZ4 unpacks a byte to at most 255.
            if length / 255 > reader.left() {
                return Err(MessageError::Compression);
            }
            let block = reader.take(reader.left(), "cells")?;
            *room = lz4_flex::block::decompress(block, length)
                .ok()
                .filter(|body| body.len() == length)
                .ok_or(MessageError::Compression)?;
            Ok(Reader::new(room))
        }
        _ => Err(MessageError::Range("compression")),
    }
}

/// The block alone, compressed if that helps.
pub(crate) fn cells_block(cells: CellsWriter) -> Vec<u8> {
    cells.finish(Writer::default(), true)
}

/// Reads a block alone: cells strictly ascending by key, without further checks.
///
/// # Errors
/// If it is not a block, or has more than one cell and more than `max_bytes` of them.
pub(crate) fn read_cells_block(
    bytes: &[u8],
    max_bytes: usize,
) -> Result<Vec<Received>, MessageError> {
    let mut room = Vec::new();
    let mut reader = open_cells(Reader::new(bytes), &mut room, *COMPRESSIBLE.end())?;
    let mut cells: Vec<Received> = Vec::new();
    while let Some(received) = reader.next()? {
        if let Some(last) = cells.last() {
            if reader.bytes > max_bytes {
                return Err(MessageError::TooLarge("bytes"));
            }
            if received.key <= last.key {
                return Err(MessageError::KeyOrder);
            }
        }
        cells.push(received);
    }
    Ok(cells)
}

/// The bytes of the cells that [`CellsWriter::finish`] appended, in `room` if they were compressed;
/// then they are no more than `max_bytes`.
pub(super) fn open_cells<'a>(
    reader: Reader<'a>,
    room: &'a mut Vec<u8>,
    max_bytes: usize,
) -> Result<CellsReader<'a>, MessageError> {
    let reader = unpack(reader, room, max_bytes)?;
    Ok(CellsReader {
        bytes: reader.left(),
        reader,
        ids: Vec::new(),
    })
}

/// Reads cells.
pub(super) struct CellsReader<'a> {
    /// The bytes of all cells.
    pub(super) bytes: usize,
    reader: Reader<'a>,
    ids: Vec<[u8; TIMESTAMP_ID_BYTES]>,
}

impl CellsReader<'_> {
    /// The next, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Received>, MessageError> {
        match self.reader.left() {
            0 => Ok(None),
            _ => self.read().map(Some),
        }
    }

    fn read(&mut self) -> Result<Received, MessageError> {
        let Self { reader, ids, .. } = self;
        let key = reader.key()?;
        let flags = reader.u8("cell")?;
        let of_value = flags & (SCHEMA | ATTACHMENT);
        if flags & !(TOMBSTONE | of_value) != 0 || (flags & TOMBSTONE != 0 && of_value != 0) {
            return Err(MessageError::Range("kind of cell"));
        }
        let time = u64::from_be_bytes(reader.array("timestamp")?);
        let id = match reader.size("timestamp")?.checked_sub(1) {
            None => {
                let id = reader.array("timestamp")?;
                if id == [0; TIMESTAMP_ID_BYTES] || ids.contains(&id) {
                    return Err(MessageError::Range("ID of a timestamp"));
                }
                if ids.len() < MAX_IDS {
                    ids.push(id);
                }
                id
            }
            Some(index) => *ids
                .get(index)
                .ok_or(MessageError::Range("ID of a timestamp"))?,
        };
        let content = match flags & TOMBSTONE {
            0 => {
                let encoding_id = reader.number("encoding")?;
                let encoding_id =
                    u16::try_from(encoding_id).map_err(|_| MessageError::Range("encoding"))?;
                let mut part = |flag, what| match flags & flag {
                    0 => Ok(None),
                    _ => reader.bytes(what).map(|bytes| Some(bytes.into())),
                };
                let schema = part(SCHEMA, "schema")?;
                let attachment = part(ATTACHMENT, "attachment")?;
                Content::Value(Value {
                    encoding_id,
                    schema,
                    attachment,
                    payload: Bytes::copy_from_slice(reader.bytes("payload")?),
                })
            }
            _ => Content::Tombstone,
        };
        Ok(Received {
            key,
            cell: Cell {
                timestamp: Timestamp { time, id },
                content,
            },
            check: reader.array("digest")?,
        })
    }
}
