//! The messages that carry cells.
//!
//! The asker names keys and ranges; the answer has the cells there, in order and as far
//! as there is room. The asker asks again for the rest.

use super::{
    cells::{open_cells, CellsWriter, Received},
    fragment::Range,
    wire::{begin, kind, open, MessageError},
};
use crate::cell::CellKey;

/// What the asker wants: a cell, or all in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The cell of a key; with a time, only if the cell is not older.
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
/// The flags of the range are added.
const ALL: u8 = 4;

/// A query for cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesQuery {
    /// About how many bytes the answer may have.
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
                    let (has_low, has_high) = Range::has_bounds(flags & !ALL)?;
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

/// The message that asks for as many of `wants` as there is room for, and their number.
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

/// An answer to an [`EntriesQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesReply {
    /// The number of wants that are answered in full. If that is not all, the next has to
    /// be asked again: a range from above the last cell on, anything else as a whole.
    pub done: usize,
    /// The cells, in the order in which they were asked for.
    pub cells: Vec<Received>,
}

/// The answer that carries `cells`, with this number of wants done.
pub(super) fn entries_reply(cells: CellsWriter, done: usize, compress: bool) -> Vec<u8> {
    let mut head = begin(kind::ENTRIES_REPLY);
    head.count(done);
    cells.finish(head, compress)
}

impl EntriesReply {
    /// The message.
    #[must_use]
    pub fn encode(&self, compress: bool) -> Vec<u8> {
        let mut cells = CellsWriter::default();
        for Received { key, cell, check } in &self.cells {
            cells.push(key, cell, check);
        }
        entries_reply(cells, self.done, compress)
    }

    /// Reads the answer to what was `wanted`.
    ///
    /// # Errors
    /// If it is not an answer, carries what was not asked for, or more than `max_bytes`
    /// and more than one cell.
    pub fn decode(bytes: &[u8], wanted: &[Want], max_bytes: usize) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::ENTRIES_REPLY)?;
        let done = reader.size("number of answers")?;
        if done > wanted.len() {
            return Err(MessageError::Range("number of answers"));
        }
        let mut room = Vec::new();
        let mut reader = open_cells(reader, &mut room)?;
        let mut cells: Vec<Received> = Vec::new();
        let mut index = 0;
        while let Some(received) = reader.next()? {
            if let Some(last) = cells.last() {
                if reader.bytes > max_bytes {
                    return Err(MessageError::TooLarge("bytes"));
                }
                let is_of_one = wanted.get(index).is_some_and(|want| want.admits(&last.key));
                if is_of_one && received.key <= last.key && wanted[index].admits(&received.key) {
                    return Err(MessageError::KeyOrder);
                }
            }
            while !wanted
                .get(index)
                .ok_or(MessageError::KeyOrder)?
                .admits(&received.key)
            {
                index += 1;
            }
            cells.push(received);
        }
        // A range may go on after the last of its cells.
        if index > done
            || index == done
                && matches!(wanted.get(index), Some(Want::Key(..)))
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
