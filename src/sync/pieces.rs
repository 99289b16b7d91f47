//! Values in pieces: what is too large for one message, and so for a slow link.
//!
//! In the place of such a cell an answer has its *notice*, which says how long its content is and
//! what its digest. The asker fetches the content piece by piece, when there is nothing smaller to
//! be fetched: so small cells never wait for large ones. What it has of a content it keeps if a
//! pull breaks off, and goes on from there, with any replica that has the same. It joins the cell
//! when it has all, and the digest is right.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{
    cells::{CHECK_BYTES, Received, pack, unpack},
    wire::{MessageError, Reader, Writer, begin, kind, open},
};
use crate::{
    cell::{Cell, CellDigest, CellKey, Content, TIMESTAMP_ID_BYTES, Timestamp, Value, Version},
    hash::HASH_BYTES,
    replica::MAX_VALUE_BYTES,
};

/// Bytes of a content besides schema and payload, at the most.
const CONTENT_OVERHEAD: u64 = 16;

/// The most bytes of a content.
pub(super) const MAX_CONTENT: u64 = MAX_VALUE_BYTES as u64 + CONTENT_OVERHEAD;

/// Notices that an asker keeps: with so many it fetches the values before it goes on.
pub(super) const MAX_NOTICES: usize = 1024;

/// How long what there is of a value is kept when nothing is added.
const KEPT: Duration = Duration::from_secs(600);

/// Values up to this size stay in memory while an answerer sends them; larger ones it reads anew
/// for each piece.
const MAX_AT_HAND: usize = 64 << 20;

/// A cell that is too large for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its key.
    pub key: CellKey,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its digest.
    pub digest: CellDigest,
    /// Bytes of its content.
    pub bytes: u64,
}

impl Notice {
    /// Of the cell of this version.
    pub(super) fn of(key: &CellKey, version: &Version, value: &Value) -> Self {
        Self {
            key: key.clone(),
            timestamp: version.timestamp,
            digest: version.digest,
            bytes: (content_head(value).len() + value.payload.len()) as u64,
        }
    }

    fn is_of_same(&self, other: &Self) -> bool {
        (self.digest, self.timestamp) == (other.digest, other.timestamp) && self.key == other.key
    }

    fn write(&self, writer: &mut Writer) {
        writer.key(&self.key);
        write_version(self.timestamp, &self.digest, writer);
        writer.number(self.bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, MessageError> {
        let key = reader.key()?;
        let (timestamp, digest) = read_version(reader)?;
        let bytes = reader.number("length of a value")?;
        if bytes > MAX_CONTENT {
            return Err(MessageError::TooLarge("bytes of a value"));
        }
        Ok(Self {
            key,
            timestamp,
            digest,
            bytes,
        })
    }
}

fn write_version(timestamp: Timestamp, digest: &CellDigest, writer: &mut Writer) {
    writer.raw(&timestamp.time.to_be_bytes());
    writer.raw(&timestamp.id);
    writer.raw(&digest.0);
}

fn read_version(reader: &mut Reader<'_>) -> Result<(Timestamp, CellDigest), MessageError> {
    let time = u64::from_be_bytes(reader.array("timestamp")?);
    let id: [u8; TIMESTAMP_ID_BYTES] = reader.array("timestamp")?;
    if id == [0; TIMESTAMP_ID_BYTES] {
        return Err(MessageError::Range("ID of a timestamp"));
    }
    let digest = CellDigest(reader.array("digest")?);
    Ok((Timestamp { time, id }, digest))
}

/// Writes the notices of an answer.
pub(super) fn write_notices(notices: &[Notice], writer: &mut Writer) {
    writer.count(notices.len());
    notices.iter().for_each(|notice| notice.write(writer));
}

/// Bytes of the smallest notice.
const MIN_NOTICE: usize = 1 + 8 + TIMESTAMP_ID_BYTES + HASH_BYTES + 1;

/// Reads what [`write_notices`] writes.
pub(super) fn read_notices(reader: &mut Reader<'_>) -> Result<Vec<Notice>, MessageError> {
    let count = reader.count(MIN_NOTICE, "notices")?;
    (0..count).map(|_| Notice::read(reader)).collect()
}

/// What a content begins with; the payload follows.
fn content_head(value: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.number(value.encoding_id.into());
    let parts = [&value.schema, &value.attachment];
    writer.u8(u8::from(parts[0].is_some()) | u8::from(parts[1].is_some()) << 1);
    for part in parts.into_iter().flatten() {
        writer.bytes(part);
    }
    writer.into_bytes()
}

fn read_content(content: Vec<u8>) -> Result<Value, MessageError> {
    let mut reader = Reader::new(&content);
    let encoding_id = reader.number("encoding")?;
    let encoding_id = u16::try_from(encoding_id).map_err(|_| MessageError::Range("encoding"))?;
    let parts = reader.u8("schema")?;
    if parts > 3 {
        return Err(MessageError::Range("schema"));
    }
    let mut part = |flag, what| match parts & flag {
        0 => Ok(None),
        _ => reader.bytes(what).map(|bytes| Some(bytes.into())),
    };
    let (schema, attachment) = (part(1, "schema")?, part(2, "attachment")?);
    let start = content.len() - reader.left();
    Ok(Value {
        encoding_id,
        schema,
        attachment,
        payload: Bytes::from(content).slice(start..),
    })
}

/// A query for a piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceQuery {
    /// The key.
    pub key: CellKey,
    /// The timestamp of the cell.
    pub timestamp: Timestamp,
    /// The digest of the cell.
    pub digest: CellDigest,
    /// Where the piece begins in the content.
    pub offset: u64,
    /// About how many bytes the answer may have.
    pub max_bytes: u32,
}

impl PieceQuery {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = begin(kind::PIECE_QUERY);
        writer.number(self.max_bytes.into());
        writer.key(&self.key);
        write_version(self.timestamp, &self.digest, &mut writer);
        writer.number(self.offset);
        writer.into_bytes()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::PIECE_QUERY)?;
        let max_bytes = reader.number("size of the answer")?;
        let max_bytes = u32::try_from(max_bytes).map_err(|_| MessageError::Range("size"))?;
        let key = reader.key()?;
        let (timestamp, digest) = read_version(&mut reader)?;
        let offset = reader.number("place of the piece")?;
        reader.finish()?;
        Ok(Self {
            key,
            timestamp,
            digest,
            offset,
            max_bytes,
        })
    }
}

/// An answer to a [`PieceQuery`]: nothing if the cell is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceReply(pub Option<Vec<u8>>);

const GONE: u8 = 0;
const HERE: u8 = 1;

impl PieceReply {
    /// The message.
    #[must_use]
    pub fn encode(&self, compress: bool) -> Vec<u8> {
        let mut writer = begin(kind::PIECE_REPLY);
        match &self.0 {
            None => {
                writer.u8(GONE);
                writer.into_bytes()
            }
            Some(piece) => {
                writer.u8(HERE);
                pack(piece, writer, compress)
            }
        }
    }

    /// Reads a message whose piece has no more than `max_bytes`.
    ///
    /// # Errors
    /// If it is none, or its piece has no bytes or more.
    pub fn decode(bytes: &[u8], max_bytes: usize) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::PIECE_REPLY)?;
        match reader.u8("piece")? {
            GONE => {
                reader.finish()?;
                Ok(Self(None))
            }
            HERE => {
                let mut room = Vec::new();
                let mut reader = unpack(reader, &mut room, max_bytes)?;
                if reader.left() == 0 {
                    return Err(MessageError::NoProgress);
                }
                if reader.left() > max_bytes {
                    return Err(MessageError::TooLarge("bytes"));
                }
                Ok(Self(Some(reader.take(reader.left(), "piece")?.to_vec())))
            }
            _ => Err(MessageError::Range("piece")),
        }
    }
}

/// The piece of a value that a query asks for, no longer than `room`; nothing if there is none.
pub(super) fn piece(value: &Value, offset: u64, room: usize) -> Option<Vec<u8>> {
    let head = content_head(value);
    let offset = usize::try_from(offset).ok()?;
    let length = (head.len() + value.payload.len()).checked_sub(offset)?;
    let length = length.min(room);
    let mut piece = Vec::with_capacity(length);
    piece.extend(head.iter().skip(offset).take(length));
    let from = (offset + piece.len()).saturating_sub(head.len());
    piece.extend_from_slice(&value.payload[from..][..length - piece.len()]);
    Some(piece).filter(|piece| !piece.is_empty())
}

/// The value that an answerer sends in pieces.
#[derive(Debug, Default)]
pub struct AtHand(Mutex<Option<(CellKey, Version, Arc<Cell>)>>);

impl AtHand {
    /// The cell, if it is at hand.
    pub(super) fn get(&self, key: &CellKey, version: &Version) -> Option<Arc<Cell>> {
        let at_hand = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (other, other_version, cell) = at_hand.as_ref()?;
        ((other, other_version) == (key, version)).then(|| Arc::clone(cell))
    }

    /// Keeps the cell at hand, in the place of another, if it is not too large.
    pub(super) fn keep(&self, key: &CellKey, version: &Version, cell: &Arc<Cell>) {
        let kept = cell.value_bytes() <= MAX_AT_HAND;
        let kept = kept.then(|| (key.clone(), *version, Arc::clone(cell)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// Lets go of it: its last piece was sent.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A value of which some pieces are here.
pub(super) struct Assembly {
    notice: Notice,
    content: Vec<u8>,
    /// When the last piece came.
    at: Duration,
}

impl Assembly {
    pub(super) fn new(notice: Notice, now: Duration) -> Self {
        Self {
            notice,
            content: Vec::new(),
            at: now,
        }
    }

    /// Whether it is of this cell.
    pub(super) fn is_of(&self, notice: &Notice) -> bool {
        self.notice.is_of_same(notice)
    }

    /// Whether nothing was added for so long that it is not worth its memory.
    pub(super) fn is_stale(&self, now: Duration) -> bool {
        now >= self.at + KEPT
    }

    /// The query for the next piece.
    pub(super) fn query(&self, max_bytes: usize) -> PieceQuery {
        PieceQuery {
            key: self.notice.key.clone(),
            timestamp: self.notice.timestamp,
            digest: self.notice.digest,
            offset: self.content.len() as u64,
            max_bytes: max_bytes as u32,
        }
    }

    /// Adds a piece; true if that was the last.
    ///
    /// # Errors
    /// If there is more than the notice said.
    pub(super) fn add(&mut self, piece: &[u8], now: Duration) -> Result<bool, MessageError> {
        let has = (self.content.len() + piece.len()) as u64;
        if has > self.notice.bytes {
            return Err(MessageError::TooLarge("bytes of a value"));
        }
        self.content.extend_from_slice(piece);
        self.at = now;
        Ok(has == self.notice.bytes)
    }

    /// The cell, when all of it is here; nothing if it is no content. Whether its digest is right the
    /// receiver checks.
    pub(super) fn finish(self) -> (Notice, Option<Received>) {
        let Self {
            notice, content, ..
        } = self;
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&notice.digest.0[..CHECK_BYTES]);
        let cell = read_content(content).ok().map(|value| Received {
            key: notice.key.clone(),
            cell: Cell {
                timestamp: notice.timestamp,
                content: Content::Value(value),
            },
            check,
        });
        (notice, cell)
    }
}
