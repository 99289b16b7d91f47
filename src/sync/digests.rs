//! The messages that find where two trees differ.
//!
//! A [`Fragment`] is what one side says of a range of its tree: some entries, in order,
//! each with a digest, and between them *gaps*, each with a digest of all that lies
//! there. The asker sends fragments of its own; the answer names the entries and gaps in
//! which the answerer has something else, with fragments of what it has there. In those
//! the asker finds the gaps to ask about next. So a round trip takes two steps down the
//! tree.

use super::{
    fragment::{Fragment, Range},
    salted::Salted,
    wire::{MessageError, Reader, Writer, begin, kind, open, read_terms, write_terms},
};

/// Asks where the answerer has something else than these fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestQuery {
    /// The salt and width of digests.
    pub salted: Salted,
    /// About how many bytes the answer may have.
    pub max_bytes: u32,
    /// The asker's watermark: what is dead there need not be sent. 0 if nothing is.
    pub watermark: u64,
    /// Ranges, and what the asker has in them.
    pub fragments: Vec<(Range, Fragment)>,
}

/// Writes fragments until there is no more room.
pub(super) struct DigestQueryWriter {
    writer: Writer,
    salted: Salted,
}

impl DigestQueryWriter {
    pub(super) fn new(salted: Salted, max_bytes: u32, watermark: u64) -> Self {
        let mut writer = begin(kind::DIGEST_QUERY);
        salted.write_head(&mut writer);
        write_terms(max_bytes, watermark, &mut writer);
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
        let mut writer = DigestQueryWriter::new(self.salted, self.max_bytes, self.watermark);
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
            watermark: reader.watermark,
            fragments,
        })
    }
}

/// Reads a [`DigestQuery`] fragment by fragment, each into the memory of the one before.
pub(super) struct DigestQueryReader<'a> {
    pub(super) salted: Salted,
    pub(super) max_bytes: u32,
    pub(super) watermark: u64,
    reader: Reader<'a>,
}

impl<'a> DigestQueryReader<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::DIGEST_QUERY)?;
        let salted = Salted::read_head(&mut reader)?;
        let (max_bytes, watermark) = read_terms(&mut reader)?;
        Ok(Self {
            salted,
            max_bytes,
            watermark,
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
    /// To one that catches up: no cell at this entry.
    Gone(usize),
    /// To one that catches up: nothing in this gap, in which the asker has something.
    Empty(usize),
}

const ENTRY: usize = 0;
const ALL: usize = 1;
const FRAGMENT: usize = 2;
const LATER: usize = 3;
/// Of an entry.
const GONE: usize = 1;
/// Of a gap.
const EMPTY: usize = 0;

impl Differing {
    /// Numbers gaps and entries together, in their order.
    fn index(&self) -> (usize, usize) {
        match self {
            Self::Entry(index) => (index * 2 + 1, ENTRY),
            Self::All(index) => (index * 2, ALL),
            Self::Fragment(index, _) => (index * 2, FRAGMENT),
            Self::Later(index) => (index * 2, LATER),
            Self::Gone(index) => (index * 2 + 1, GONE),
            Self::Empty(index) => (index * 2, EMPTY),
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
                (GONE, true) if half < fragment.entries.len() => Differing::Gone(half),
                (EMPTY, false) if fragment.gaps[half].is_some() => Differing::Empty(half),
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
