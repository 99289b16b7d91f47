//! A backup in pieces of whole keys; each tells the former state of a range of keys.

use std::{collections::VecDeque, io::Read};

use super::{BackupError, BackupReader, END_PLACE, cell_check, check, read_restore_frame};
use crate::{
    cell::{Cell, CellKey, Key, Version},
    collection::cells::is_of_members,
    sync::{CELL_OVERHEAD, CellsWriter, MessageError, Received, cells_block},
    wildcard::WildcardRules,
};

/// Bytes of cells after which a piece ends, at the end of a key.
const PIECE_BYTES: usize = 512 << 10;

/// The former state of a range of keys: all above `low`, up to `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackFrame {
    /// The exclusive lower bound; none for the first key.
    pub low: Option<Key>,
    /// The inclusive upper bound; none for the last key.
    pub high: Option<Key>,
    /// All cells of the range, as the wildcard rules showed them.
    pub cells: Vec<(CellKey, Cell)>,
}

/// The most bytes of cells in a piece: it has to hold all of one key, and few bytes can
/// unpack to many.
const MAX_UNPACKED: usize = 1 << 30;

const LOW: u8 = 1;
const HIGH: u8 = 2;

impl RollbackFrame {
    /// Encodes it as a message: flags, the bounds as canonical bytes, and frames as those
    /// of a backup; each but the flags after its length (u32 BE). And a check of all
    /// that, since missing frames would look like keys that did not exist.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = |key: &Option<Key>, bit| if key.is_some() { bit } else { 0 };
        let mut message = vec![flag(&self.low, LOW) | flag(&self.high, HIGH)];
        let mut push = |bytes: &[u8]| {
            message.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            message.extend_from_slice(bytes);
        };
        for key in [&self.low, &self.high].into_iter().flatten() {
            push(&CellKey::own(key.clone()).to_canonical());
        }
        let mut frame = CellsWriter::default();
        for (key, cell) in &self.cells {
            if !frame.has_room(key, cell.value_bytes() + CELL_OVERHEAD, PIECE_BYTES) {
                let full = std::mem::take(&mut frame);
                push(&cells_block(full));
            }
            frame.push(key, cell, &cell_check(&Version::of(key, cell)));
        }
        if frame.cells() > 0 {
            push(&cells_block(frame));
        }
        let check = check(END_PLACE, &message);
        message.extend_from_slice(&check);
        message
    }

    /// Reads a message of no more than `max_bytes`.
    ///
    /// # Errors
    /// If it cannot be read, or has cells that are damaged or outside of its range.
    pub fn decode(bytes: &[u8], max_bytes: usize) -> Result<Self, MessageError> {
        if bytes.len() > max_bytes {
            return Err(MessageError::TooLarge("bytes"));
        }
        let truncated = || MessageError::Truncated("range");
        let (bytes, told) = bytes.split_last_chunk().ok_or_else(truncated)?;
        if *told != check(END_PLACE, bytes) {
            return Err(MessageError::Check);
        }
        let (&flags, mut rest) = bytes.split_first().ok_or_else(truncated)?;
        if flags & !(LOW | HIGH) != 0 {
            return Err(MessageError::Range("flags of a range"));
        }
        let mut bound = |flag: u8| -> Result<Option<Key>, MessageError> {
            if flags & flag == 0 {
                return Ok(None);
            }
            let key = CellKey::from_canonical(take_piece(&mut rest)?)?;
            match key.part.is_empty() {
                true => Ok(Some(key.key)),
                false => Err(MessageError::Range("bound of a range")),
            }
        };
        let mut frame = Self {
            low: bound(LOW)?,
            high: bound(HIGH)?,
            cells: Vec::new(),
        };
        if frame.low.is_some() && frame.high.is_some() && frame.low >= frame.high {
            return Err(MessageError::Range("range"));
        }
        let mut unpacked = 0;
        while !rest.is_empty() {
            for received in read_restore_frame(take_piece(&mut rest)?)? {
                unpacked += bytes_of(&received.key, &received.cell);
                if unpacked > MAX_UNPACKED {
                    return Err(MessageError::TooLarge("bytes of cells"));
                }
                frame.take(received)?;
            }
        }
        Ok(frame)
    }

    fn take(&mut self, received: Received) -> Result<(), MessageError> {
        let key = &received.key;
        let is_within = self.low.as_ref().is_none_or(|low| *low < key.key)
            && self.high.as_ref().is_none_or(|high| key.key <= *high);
        let is_next = self.cells.last().is_none_or(|(last, _)| last < key);
        if !is_within || !is_next {
            return Err(MessageError::KeyOrder);
        }
        if received.intact().is_none() {
            return Err(MessageError::Range("digest of a cell"));
        }
        self.cells.push((received.key, received.cell));
        Ok(())
    }
}

/// Takes bytes that follow their length.
fn take_piece<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], MessageError> {
    let truncated = || MessageError::Truncated("rollback frame");
    let (length, after) = rest.split_first_chunk().ok_or_else(truncated)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (bytes, after) = after.split_at_checked(length).ok_or_else(truncated)?;
    *rest = after;
    Ok(bytes)
}

/// The pieces of a backup. The first has no lower bound and the last no upper one,
/// and each begins where the one before ended.
pub struct RollbackFrames<R> {
    reader: BackupReader<R>,
    rules: WildcardRules,
    low: Option<Key>,
    /// Cells that were read and not handed out, and their bytes.
    cells: VecDeque<(CellKey, Cell)>,
    bytes: usize,
    is_over: bool,
}

impl<R: Read> RollbackFrames<R> {
    pub(super) fn new(reader: BackupReader<R>, rules: WildcardRules) -> Self {
        Self {
            reader,
            rules,
            low: None,
            cells: VecDeque::new(),
            bytes: 0,
            is_over: false,
        }
    }

    fn fill(&mut self) -> Result<(), BackupError> {
        while !self.is_over && self.bytes < PIECE_BYTES {
            match self.reader.next_frame()? {
                None => self.is_over = true,
                Some(mut cells) => {
                    // A rollback leaves the members of the group as they are.
                    cells.retain(|(key, _)| !is_of_members(&key.key));
                    let bytes = cells.iter().map(|(key, cell)| bytes_of(key, cell));
                    self.bytes += bytes.sum::<usize>();
                    self.cells.extend(cells);
                }
            }
        }
        Ok(())
    }

    /// The cells of keys, in the place of the value of an own one that of the put rule by which the key
    /// showed another. What a delete rule covers is not in a backup.
    fn as_shown(&self, cells: Vec<(CellKey, Cell)>) -> Vec<(CellKey, Cell)> {
        if self.rules.is_empty() {
            return cells;
        }
        let of_keys = cells.chunk_by(|(a, _), (b, _)| a.key == b.key);
        let of_keys = of_keys.filter(|cells| !cells[0].0.key.is_pattern());
        let mut shown = Vec::with_capacity(cells.len());
        for cells in of_keys {
            let from = shown.len();
            shown.extend_from_slice(cells);
            let [(key, own)] = cells else {
                // It is merged.
                continue;
            };
            let put = self.rules.of_key(&key.key).and_then(|ruled| ruled.put);
            let put = put.filter(|put| {
                let is_value = key.part.is_empty() && own.value().is_some();
                is_value && put.timestamp > own.timestamp
            });
            if let Some(put) = put {
                // It goes when the value goes that it hides: of that is the time.
                shown[from].1 = Cell {
                    timestamp: own.timestamp,
                    ..Cell::clone(&put)
                };
            }
        }
        shown
    }

    /// Returns what is there, except the last key, of which more may come.
    fn piece(&mut self) -> Result<RollbackFrame, BackupError> {
        loop {
            self.fill()?;
            if self.is_over {
                let cells = std::mem::take(&mut self.cells).into();
                return Ok(RollbackFrame {
                    low: self.low.take(),
                    high: None,
                    cells: self.as_shown(cells),
                });
            }
            let last = self.cells.back().map(|(key, _)| key.key.clone());
            let whole = self
                .cells
                .partition_point(|(key, _)| Some(&key.key) < last.as_ref());
            if whole > 0 {
                let cells: Vec<_> = self.cells.drain(..whole).collect();
                let left = self.cells.iter().map(|(key, cell)| bytes_of(key, cell));
                self.bytes = left.sum();
                let high = cells.last().map(|(key, _)| key.key.clone());
                let low = std::mem::replace(&mut self.low, high.clone());
                let cells = self.as_shown(cells);
                return Ok(RollbackFrame { low, high, cells });
            }
            // One key has all of these cells.
            self.bytes = 0;
        }
    }
}

fn bytes_of(key: &CellKey, cell: &Cell) -> usize {
    key.canonical_len() + cell.value_bytes()
}

impl<R: Read> Iterator for RollbackFrames<R> {
    type Item = Result<RollbackFrame, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let piece = self.piece();
        self.is_over |= piece.is_err();
        Some(piece)
    }
}
