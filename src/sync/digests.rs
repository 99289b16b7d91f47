//! The messages that find where two trees differ.
//!
//! A [`Fragment`] is what one side says of a range of its tree: some entries, in order,
//! each with a digest, and between them *gaps*, each with a digest of all that lies
//! there. The asker sends fragments of its own; the answer names the entries and gaps in
//! which the answerer has something else, with fragments of what it has there. In those
//! the asker finds the gaps to ask about next. So a round trip takes two steps down the
//! tree.

use super::{
    salted::{Salted, Short},
    wire::{begin, flag, kind, open, MessageError, Reader, Writer},
};
use crate::cell::CellKey;

/// The keys strictly between two bounds; none is unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The exclusive lower bound.
    pub low: Option<CellKey>,
    /// The exclusive upper bound.
    pub high: Option<CellKey>,
}

impl Range {
    pub(super) fn of((low, high): Bounds<'_>) -> Self {
        Self {
            low: low.cloned(),
            high: high.cloned(),
        }
    }

    pub(super) fn bounds(&self) -> Bounds<'_> {
        (self.low.as_ref(), self.high.as_ref())
    }

    /// Whether the range contains `key`.
    #[must_use]
    pub fn contains(&self, key: &CellKey) -> bool {
        self.low.as_ref().is_none_or(|low| low < key)
            && self.high.as_ref().is_none_or(|high| key < high)
    }
}

/// The bounds of a range.
pub(super) type Bounds<'a> = (Option<&'a CellKey>, Option<&'a CellKey>);

/// What one side has in a range.
///
/// Invariants, checked when it is read: there is one more gap than entries; the
/// keys ascend strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// What lies before each entry, and after the last; `None` where nothing does.
    pub gaps: Vec<Option<Short>>,
    /// Keys, and digests of their cells.
    pub entries: Vec<(CellKey, Short)>,
    /// Whether the fragment is cut: it ends with its last entry, and says nothing of the
    /// gap after it.
    pub is_cut: bool,
    /// Whether the gaps may contain entries of the topmost node: their digests are then
    /// those of lists.
    pub is_sparse: bool,
}

const CUT: u8 = 1;
const GAPS: u8 = 2;
const SPARSE: u8 = 4;

impl Fragment {
    /// The gap between the entries at `index - 1` and `index` of a fragment of `range`.
    #[must_use]
    pub fn gap(&self, range: &Range, index: usize) -> Range {
        Range::of(self.gap_bounds(range.bounds(), index))
    }

    /// The bounds of [`gap`](Self::gap), for a fragment of what is between those bounds.
    pub(super) fn gap_bounds<'a>(&'a self, (low, high): Bounds<'a>, index: usize) -> Bounds<'a> {
        let before = index
            .checked_sub(1)
            .and_then(|index| self.entries.get(index));
        let low = before.map_or(low, |(key, _)| Some(key));
        let after = self.entries.get(index);
        let high = after.map_or(high, |(key, _)| Some(key));
        (low, high)
    }

    /// The number of gaps that the fragment describes.
    #[must_use]
    pub fn known_gaps(&self) -> usize {
        self.entries.len() + usize::from(!self.is_cut)
    }

    fn write(&self, salted: &Salted, writer: &mut Writer) {
        let has_gaps = self.gaps.iter().any(Option::is_some);
        writer.count(self.entries.len());
        let is_sparse = flag(self.is_sparse, SPARSE);
        writer.u8(flag(self.is_cut, CUT) | flag(has_gaps, GAPS) | is_sparse);
        if has_gaps {
            for of_byte in self.gaps.chunks(8) {
                let bits = of_byte.iter().enumerate();
                writer.u8(bits.fold(0, |byte, (bit, gap)| byte | u8::from(gap.is_some()) << bit));
            }
        }
        for (index, gap) in self.gaps.iter().enumerate() {
            if let Some(short) = gap {
                salted.write(*short, writer);
            }
            if let Some((key, short)) = self.entries.get(index) {
                writer.key(key);
                salted.write(*short, writer);
            }
        }
    }

    fn read(salted: &Salted, reader: &mut Reader<'_>) -> Result<Self, MessageError> {
        let count = reader.count(2 + salted.width(), "entries")?;
        let flags = reader.u8("fragment")?;
        if flags & !(CUT | GAPS | SPARSE) != 0 || count == 0 && flags & CUT != 0 {
            return Err(MessageError::Range("flags of a fragment"));
        }
        let is_cut = flags & CUT != 0;
        let bits = match flags & GAPS {
            0 => &[][..],
            _ => reader.take((count + 1).div_ceil(8), "gaps")?,
        };
        let is_there = |index: usize| {
            bits.get(index / 8)
                .is_some_and(|b| b >> (index % 8) & 1 == 1)
        };
        let places = bits.len() * 8;
        let is_beyond = |index: usize| index > count || is_cut && index == count;
        let any = (0..places).any(is_there);
        if (0..places).any(|index| is_there(index) && is_beyond(index)) || any == bits.is_empty() {
            return Err(MessageError::Range("gaps"));
        }
        let mut fragment = Self {
            gaps: Vec::with_capacity(count + 1),
            entries: Vec::with_capacity(count),
            is_cut,
            is_sparse: flags & SPARSE != 0,
        };
        for index in 0..=count {
            let gap = is_there(index).then(|| salted.read(reader)).transpose()?;
            fragment.gaps.push(gap);
            if index < count {
                let key = reader.key()?;
                if fragment
                    .entries
                    .last()
                    .is_some_and(|(last, _)| *last >= key)
                {
                    return Err(MessageError::KeyOrder);
                }
                fragment.entries.push((key, salted.read(reader)?));
            }
        }
        Ok(fragment)
    }

    /// Checks that all keys are within these bounds.
    fn check_within(&self, (low, high): Bounds<'_>) -> Result<(), MessageError> {
        let (first, last) = (self.entries.first(), self.entries.last());
        let is_above = |(key, _): &(CellKey, _)| low.is_none_or(|low| low < key);
        let is_below = |(key, _): &(CellKey, _)| high.is_none_or(|high| key < high);
        match first.is_none_or(is_above) && last.is_none_or(is_below) {
            true => Ok(()),
            false => Err(MessageError::KeyOrder),
        }
    }
}

/// Asks where the answerer has something else than these fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestQuery {
    /// The salt and width of digests.
    pub salted: Salted,
    /// About how many bytes the answer may have.
    pub max_bytes: u32,
    /// Ranges, and what the asker has in them.
    pub fragments: Vec<(Range, Fragment)>,
}

const LOW: u8 = 1;
const HIGH: u8 = 2;

impl Range {
    pub(super) fn flags(&self) -> u8 {
        flag(self.low.is_some(), LOW) | flag(self.high.is_some(), HIGH)
    }

    /// Whether there are a low and a high bound.
    pub(super) fn has_bounds(flags: u8) -> Result<(bool, bool), MessageError> {
        match flags & !(LOW | HIGH) {
            0 => Ok((flags & LOW != 0, flags & HIGH != 0)),
            _ => Err(MessageError::Range("bounds of a range")),
        }
    }
}

/// Writes fragments until there is no more room.
pub(super) struct DigestQueryWriter {
    writer: Writer,
    salted: Salted,
}

impl DigestQueryWriter {
    pub(super) fn new(salted: Salted, max_bytes: u32) -> Self {
        let mut writer = begin(kind::DIGEST_QUERY);
        salted.write_head(&mut writer);
        writer.number(max_bytes.into());
        Self { writer, salted }
    }

    pub(super) fn push(&mut self, range: &Range, fragment: &Fragment) {
        self.writer.u8(range.flags());
        self.writer.optional_key(range.low.as_ref());
        fragment.write(&self.salted, &mut self.writer);
        self.writer.optional_key(range.high.as_ref());
    }

    /// Whether there is room for more.
    pub(super) fn has_room(&self, max_bytes: usize) -> bool {
        self.writer.len() < max_bytes && self.writer.key_text() < super::MAX_KEY_TEXT_SENT
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.writer.into_bytes()
    }
}

impl DigestQuery {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = DigestQueryWriter::new(self.salted, self.max_bytes);
        for (range, fragment) in &self.fragments {
            writer.push(range, fragment);
        }
        writer.finish()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is not a digest query.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = DigestQueryReader::open(bytes)?;
        let mut fragments = Vec::new();
        while let Some(fragment) = reader.next()? {
            fragments.push(fragment);
        }
        Ok(Self {
            salted: reader.salted,
            max_bytes: reader.max_bytes,
            fragments,
        })
    }
}

/// Reads a [`DigestQuery`] fragment by fragment, each into the memory of the one before.
pub(super) struct DigestQueryReader<'a> {
    pub(super) salted: Salted,
    pub(super) max_bytes: u32,
    reader: Reader<'a>,
}

impl<'a> DigestQueryReader<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::DIGEST_QUERY)?;
        let salted = Salted::read_head(&mut reader)?;
        let max_bytes = reader.number("size of the answer")?;
        let max_bytes = u32::try_from(max_bytes).map_err(|_| MessageError::Range("size"))?;
        Ok(Self {
            salted,
            max_bytes,
            reader,
        })
    }

    /// The next range, and the asker's fragment of it.
    pub(super) fn next(&mut self) -> Result<Option<(Range, Fragment)>, MessageError> {
        let reader = &mut self.reader;
        if reader.left() == 0 {
            return Ok(None);
        }
        let (has_low, has_high) = Range::has_bounds(reader.u8("range")?)?;
        let low = reader.optional_key(has_low)?;
        let fragment = Fragment::read(&self.salted, reader)?;
        let high = reader.optional_key(has_high)?;
        let range = Range { low, high };
        fragment.check_within(range.bounds())?;
        Ok(Some((range, fragment)))
    }
}

/// A difference: what the answerer has where it has something else than the asker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Differing {
    /// Another cell at this entry.
    Entry(usize),
    /// Something in this gap, in which the asker has nothing.
    All(usize),
    /// Something else in this gap: this fragment.
    Fragment(usize, Fragment),
    /// Something else in this gap, and no room to say what.
    Later(usize),
}

const ENTRY: usize = 0;
const ALL: usize = 1;
const FRAGMENT: usize = 2;
const LATER: usize = 3;

impl Differing {
    /// Numbers gaps and entries together, in their order.
    fn index(&self) -> (usize, usize) {
        match self {
            Self::Entry(index) => (index * 2 + 1, ENTRY),
            Self::All(index) => (index * 2, ALL),
            Self::Fragment(index, _) => (index * 2, FRAGMENT),
            Self::Later(index) => (index * 2, LATER),
        }
    }
}

/// Reads the answer to what was `asked`, and passes each difference from the fragment at
/// a place to `visit`, as it is read.
///
/// # Errors
/// If it is not an answer, or does not fit the question. The caller then has to forget
/// what `visit` got.
pub(super) fn read_reply(
    bytes: &[u8],
    salted: &Salted,
    asked: &[(Range, Fragment)],
    mut visit: impl FnMut(usize, Differing),
) -> Result<(), MessageError> {
    let mut reader = open(bytes, kind::DIGEST_REPLY)?;
    for (at, (range, fragment)) in asked.iter().enumerate() {
        let mut next = 0usize;
        while let Some(number) = reader.size("place")?.checked_sub(1) {
            let index = next.checked_add(number >> 2);
            let index = index.filter(|index| *index < fragment.known_gaps() * 2);
            let index = index.ok_or(MessageError::Range("place"))?;
            next = index + 1;
            let (is_entry, half) = (index % 2 == 1, index / 2);
            let differing = match (number & 3, is_entry) {
                (ENTRY, true) if half < fragment.entries.len() => Differing::Entry(half),
                (ALL, false) if fragment.gaps[half].is_none() => Differing::All(half),
                (FRAGMENT, false) => {
                    let theirs = Fragment::read(salted, &mut reader)?;
                    theirs.check_within(fragment.gap_bounds(range.bounds(), half))?;
                    if theirs.entries.is_empty() {
                        return Err(MessageError::NoProgress);
                    }
                    Differing::Fragment(half, theirs)
                }
                (LATER, false) => Differing::Later(half),
                _ => return Err(MessageError::Range("kind of difference")),
            };
            visit(at, differing);
        }
    }
    reader.finish()
}

/// An answer to a [`DigestQuery`]: for each of its fragments, the differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestReply(pub Vec<Vec<Differing>>);

/// Writes an answer.
pub(super) struct DigestReplyWriter {
    writer: Writer,
    salted: Salted,
    next: usize,
}

impl DigestReplyWriter {
    pub(super) fn new(salted: Salted) -> Self {
        Self {
            writer: begin(kind::DIGEST_REPLY),
            salted,
            next: 0,
        }
    }

    /// Writes the next difference from the current fragment.
    pub(super) fn push(&mut self, differing: &Differing) {
        let (index, kind) = differing.index();
        self.writer.count(((index - self.next) << 2 | kind) + 1);
        self.next = index + 1;
        if let Differing::Fragment(_, fragment) = differing {
            fragment.write(&self.salted, &mut self.writer);
        }
    }

    /// Ends the differences from one fragment.
    pub(super) fn end(&mut self) {
        self.writer.count(0);
        self.next = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.writer.len()
    }

    pub(super) fn key_text(&self) -> usize {
        self.writer.key_text()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.writer.into_bytes()
    }
}

impl DigestReply {
    /// The message, in answer to a query with these digests.
    #[must_use]
    pub fn encode(&self, salted: Salted) -> Vec<u8> {
        let mut writer = DigestReplyWriter::new(salted);
        for of_fragment in &self.0 {
            of_fragment
                .iter()
                .for_each(|differing| writer.push(differing));
            writer.end();
        }
        writer.finish()
    }

    /// Reads the answer to what was `asked`.
    ///
    /// # Errors
    /// If it is none, or says what cannot be said of what was asked.
    pub fn decode(
        bytes: &[u8],
        salted: &Salted,
        asked: &[(Range, Fragment)],
    ) -> Result<Self, MessageError> {
        let mut reply: Vec<_> = asked.iter().map(|_| Vec::new()).collect();
        read_reply(bytes, salted, asked, |index, differing| {
            reply[index].push(differing);
        })?;
        Ok(Self(reply))
    }
}
