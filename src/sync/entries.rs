//! The messages that carry cells.
//!
//! The asker names keys and ranges; the answer has the cells there, in order and as far
//! as there is room. The asker asks again for the rest.

use super::{MAX_CELLS, MAX_WANTS};
use super::{
    cells::{CellsWriter, Received, open_cells},
    fragment::Range,
    pieces::{Notice, read_notices, write_notices},
    wire::{MessageError, begin, kind, open, read_terms, write_terms},
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
    /// The asker's watermark: what is dead there need not be sent. 0 if nothing is.
    pub watermark: u64,
    /// What is wanted.
    pub wants: Vec<Want>,
}

impl EntriesQuery {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_wants((self.max_bytes, self.watermark), &self.wants, usize::MAX).0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::ENTRIES_QUERY)?;
        let (max_bytes, watermark) = read_terms(&mut reader)?;
        let mut wants = Vec::new();
        while reader.left() > 0 {
            if wants.len() >= MAX_WANTS {
                return Err(MessageError::TooLarge("wants"));
            }
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
        match are_apart(&wants) {
            true => Ok(Self {
                max_bytes,
                watermark,
                wants,
            }),
            false => Err(MessageError::Range("range of a want")),
        }
    }
}

/// Whether no two ranges have something in common: so an answer reads each cell once.
fn are_apart(wants: &[Want]) -> bool {
    let ranges = wants.iter().filter_map(|want| match want {
        Want::All(range) => Some(range),
        Want::Key(..) => None,
    });
    let mut ranges: Vec<&Range> = ranges.collect();
    ranges.sort_unstable_by(|a, b| a.low.cmp(&b.low));
    ranges.windows(2).all(|pair| {
        let ends = pair[0].high.as_ref();
        ends.is_some() && ends <= pair[1].low.as_ref()
    })
}

/// The message that asks for as many of `wants` as there is room for, and their number; on terms of
/// the size of the answer and the asker's watermark.
pub(super) fn encode_wants(terms: (u32, u64), wants: &[Want], room: usize) -> (Vec<u8>, usize) {
    let mut writer = begin(kind::ENTRIES_QUERY);
    write_terms(terms.0, terms.1, &mut writer);
    let mut written = 0;
    for want in wants {
        let is_full = written >= MAX_WANTS;
        if written > 0
            && (is_full || writer.len() >= room || writer.key_text() >= super::MAX_KEY_TEXT_SENT)
        {
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
    /// Those that are too large for this message, in the same order.
    pub notices: Vec<Notice>,
}

/// The answer that carries these, with this number of wants done.
pub(super) fn entries_reply(
    cells: CellsWriter,
    notices: &[Notice],
    done: usize,
    compress: bool,
) -> Vec<u8> {
    let mut head = begin(kind::ENTRIES_REPLY);
    head.count(done);
    write_notices(notices, &mut head);
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
        entries_reply(cells, &self.notices, self.done, compress)
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
        let notices = read_notices(&mut reader)?;
        let mut answers = Answers::to(wanted);
        for notice in &notices {
            answers.admit(&notice.key, done)?;
        }
        let mut answers = Answers::to(wanted);
        let mut room = Vec::new();
        let mut reader = open_cells(reader, &mut room, max_bytes)?;
        let mut cells: Vec<Received> = Vec::new();
        while let Some(received) = reader.next()? {
            if reader.bytes > max_bytes || cells.len() >= MAX_CELLS {
                return Err(MessageError::TooLarge("bytes"));
            }
            answers.admit(&received.key, done)?;
            cells.push(received);
        }
        if done == 0 && cells.is_empty() && notices.is_empty() && !wanted.is_empty() {
            return Err(MessageError::NoProgress);
        }
        Ok(Self {
            done,
            cells,
            notices,
        })
    }
}

/// Checks that keys come in the order in which they were wanted, and each once.
struct Answers<'a> {
    wanted: &'a [Want],
    index: usize,
    last: Option<CellKey>,
}

impl<'a> Answers<'a> {
    fn to(wanted: &'a [Want]) -> Self {
        Self {
            wanted,
            index: 0,
            last: None,
        }
    }

    /// The next key, of an answer in which so many wants are done.
    fn admit(&mut self, key: &CellKey, done: usize) -> Result<(), MessageError> {
        loop {
            let want = self.wanted.get(self.index);
            let want = want.ok_or(MessageError::KeyOrder)?;
            if want.admits(key) {
                let last = self.last.as_ref().filter(|last| want.admits(last));
                if last.is_some_and(|last| key <= last) {
                    return Err(MessageError::KeyOrder);
                }
                // A range may go on after the last of its cells.
                let goes_on = self.index == done && matches!(want, Want::All(_));
                if self.index >= done && !goes_on {
                    return Err(MessageError::Range("number of answers"));
                }
                self.last = Some(key.clone());
                return Ok(());
            }
            self.index += 1;
        }
    }
}
