//! Automerge's binary format, as far as it takes to know what reading it costs.
//!
//! A few bytes can stand for very much: chunks and columns are deflated, and a column says
//! "this value, so many times". The library believes both. So the bytes and rows that it would
//! make are counted here before it gets them. It still judges everything else.

use std::io::Read as _;

use flate2::read::DeflateDecoder;

use crate::merge::MAX_CELLS;

/// Bytes that what is deflated in a put may have when it is inflated.
pub(super) const MAX_INFLATED_BYTES: usize = 64 << 20;

/// Operations that the changes of a put may have together, and each change.
pub(super) const MAX_OPERATIONS: usize = 1 << 20;

/// What each chunk of a saved document begins with.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// The magic bytes, a checksum of as many, and the kind.
const CHECKSUM_AT: usize = MAGIC.len();
pub(super) const KIND_AT: usize = 8;

/// Bytes of the hash of a change.
pub(super) const HASH_BYTES: usize = 32;

/// The kind of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Document,
    Change,
    CompressedChange,
}

/// A chunk of a saved document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) kind: Kind,
    /// All of it.
    pub(super) bytes: &'a [u8],
    body: &'a [u8],
}

/// Why a chunk is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not what Automerge saves.
    Malformed,
    /// It inflates to more than [`MAX_INFLATED_BYTES`].
    Inflated,
    /// It has more than [`MAX_OPERATIONS`], or more than [`MAX_CELLS`] changes.
    Operations,
}

use Unreadable::Malformed;

/// What a put may still cost.
#[derive(Debug)]
pub(super) struct Budget {
    inflated: usize,
    operations: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            inflated: MAX_INFLATED_BYTES,
            operations: MAX_OPERATIONS,
        }
    }
}

impl<'a> Chunk<'a> {
    /// Splits off the first chunk.
    pub(super) fn next(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Unreadable> {
        let mut reader = Reader(bytes);
        if reader.take(CHECKSUM_AT)? != MAGIC {
            return Err(Malformed);
        }
        reader.take(KIND_AT - CHECKSUM_AT)?;
        let kind = match reader.take(1)? {
            [0] => Kind::Document,
            [1] => Kind::Change,
            [2] => Kind::CompressedChange,
            _ => return Err(Malformed),
        };
        let length = reader.size()?;
        let body = reader.take(length)?;
        let (bytes, rest) = bytes.split_at(bytes.len() - reader.0.len());
        Ok((Self { kind, bytes, body }, rest))
    }

    /// The checksum, with which the hash of a change begins.
    pub(super) fn checksum(&self) -> &'a [u8] {
        &self.bytes[CHECKSUM_AT..KIND_AT]
    }

    /// Takes from the budget what it costs to read this.
    pub(super) fn pay(&self, budget: &mut Budget) -> Result<(), Unreadable> {
        match self.kind {
            Kind::Change => pay_change(self.body, budget),
            Kind::CompressedChange => pay_change(&inflate(self.body, budget)?, budget),
            Kind::Document => pay_document(self.body, budget),
        }
    }
}

/// Columns of operations: of a change, or of all changes of a document.
fn pay_change(body: &[u8], budget: &mut Budget) -> Result<(), Unreadable> {
    let mut reader = Reader(body);
    reader.skip_hashes()?;
    reader.skip_text()?;
    // The number of the change, of its first operation, and the time.
    for _ in 0..3 {
        reader.skip_number()?;
    }
    // The message.
    reader.skip_text()?;
    reader.skip_texts()?;
    let columns = reader.columns()?;
    pay_operations(&columns, &mut reader, budget)
}

fn pay_document(body: &[u8], budget: &mut Budget) -> Result<(), Unreadable> {
    let mut reader = Reader(body);
    reader.skip_texts()?;
    reader.skip_hashes()?;
    let of_changes = reader.columns()?;
    let of_operations = reader.columns()?;
    let changes = rows(&of_changes, &mut reader, budget)?;
    if changes.longest > MAX_CELLS || changes.grouped > budget.operations {
        return Err(Unreadable::Operations);
    }
    pay_operations(&of_operations, &mut reader, budget)
}

fn pay_operations(
    columns: &[Column],
    reader: &mut Reader<'_>,
    budget: &mut Budget,
) -> Result<(), Unreadable> {
    let rows = rows(columns, reader, budget)?;
    let left = budget
        .operations
        .checked_sub(rows.longest.max(rows.grouped));
    budget.operations = left.ok_or(Unreadable::Operations)?;
    Ok(())
}

fn inflate(bytes: &[u8], budget: &mut Budget) -> Result<Vec<u8>, Unreadable> {
    let mut inflated = Vec::new();
    let most = budget.inflated as u64 + 1;
    let mut inflating = DeflateDecoder::new(bytes).take(most);
    inflating
        .read_to_end(&mut inflated)
        .map_err(|_| Malformed)?;
    let left = budget.inflated.checked_sub(inflated.len());
    budget.inflated = left.ok_or(Unreadable::Inflated)?;
    Ok(inflated)
}

/// A column: what is in it, and its bytes.
struct Column {
    spec: u32,
    length: usize,
}

const DEFLATED: u32 = 8;
const TYPE: u32 = 7;

/// How many rows columns have.
#[derive(Default)]
struct Rows {
    /// Of the column that has the most.
    longest: usize,
    /// Of those whose rows belong to groups: what the groups have together.
    grouped: usize,
}

/// Counts the rows of columns, whose bytes follow each other.
fn rows(
    columns: &[Column],
    reader: &mut Reader<'_>,
    budget: &mut Budget,
) -> Result<Rows, Unreadable> {
    let mut rows = Rows::default();
    for column in columns {
        let bytes = reader.take(column.length)?;
        let inflated;
        let bytes = match column.spec & DEFLATED {
            0 => bytes,
            _ => {
                inflated = inflate(bytes, budget)?;
                &inflated
            }
        };
        let mut values = Reader(bytes);
        let count = match column.spec & TYPE {
            0 => {
                let (count, grouped) = values.runs(Reader::size)?;
                rows.grouped = rows.grouped.max(grouped);
                count
            }
            // Actors, numbers, differences, lengths of values.
            1..=3 | 6 => values.runs(|values| values.skip_number().map(|()| 0))?.0,
            4 => values.alternating_runs()?,
            5 => values.runs(|values| values.skip_text().map(|()| 0))?.0,
            // Bytes of values, of which another column says how long they are.
            _ => 0,
        };
        rows.longest = rows.longest.max(count);
    }
    Ok(rows)
}

/// Reads from the beginning of bytes. No count that is read leads to more steps than there are
/// bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A LEB128, and the bits that it has.
    fn leb128(&mut self) -> Result<(u64, u32), Unreadable> {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift >= u64::BITS || (bits << shift) >> shift != bits && byte != 0x7f {
                return Err(Malformed);
            }
            value |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok((value, shift));
            }
        }
    }

    fn skip_number(&mut self) -> Result<(), Unreadable> {
        self.leb128().map(drop)
    }

    /// A count or a length. One that no memory could hold counts as the greatest.
    fn size(&mut self) -> Result<usize, Unreadable> {
        let (value, _) = self.leb128()?;
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    }

    fn signed(&mut self) -> Result<i64, Unreadable> {
        let (value, bits) = self.leb128()?;
        let is_negative = bits < u64::BITS && value >> (bits - 1) & 1 == 1;
        let sign = if is_negative { u64::MAX << bits } else { 0 };
        Ok((value | sign).cast_signed())
    }

    fn skip_text(&mut self) -> Result<(), Unreadable> {
        let length = self.size()?;
        self.take(length).map(drop)
    }

    fn skip_texts(&mut self) -> Result<(), Unreadable> {
        let count = self.size()?;
        (0..count).try_for_each(|_| self.skip_text())
    }

    fn skip_hashes(&mut self) -> Result<(), Unreadable> {
        let count = self.size()?;
        let bytes = count.checked_mul(HASH_BYTES).ok_or(Malformed)?;
        self.take(bytes).map(drop)
    }

    fn columns(&mut self) -> Result<Vec<Column>, Unreadable> {
        let count = self.size()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let (spec, _) = self.leb128()?;
            columns.push(Column {
                spec: u32::try_from(spec).map_err(|_| Malformed)?,
                length: self.size()?,
            });
        }
        Ok(columns)
    }

    /// Counts the rows of runs: so many times one value, so many values, or so many times
    /// none. Adds up what `value` returns for each row, too.
    fn runs(
        &mut self,
        mut value: impl FnMut(&mut Self) -> Result<usize, Unreadable>,
    ) -> Result<(usize, usize), Unreadable> {
        let (mut rows, mut sum) = (0usize, 0usize);
        while !self.0.is_empty() {
            let count = self.signed()?;
            let magnitude = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
            let run = match count {
                0 => self.size()?,
                1.. => {
                    sum = sum.saturating_add(value(self)?.saturating_mul(magnitude));
                    magnitude
                }
                _ => {
                    for _ in 0..magnitude {
                        sum = sum.saturating_add(value(self)?);
                    }
                    magnitude
                }
            };
            rows = rows.saturating_add(run);
        }
        Ok((rows, sum))
    }

    /// Counts the rows of a column of booleans.
    fn alternating_runs(&mut self) -> Result<usize, Unreadable> {
        let mut rows = 0usize;
        while !self.0.is_empty() {
            rows = rows.saturating_add(self.size()?);
        }
        Ok(rows)
    }
}
