//! Encodes and decodes messages.
//!
//! Numbers of variable length are LEB128. Keys ascend in most messages, so each is
//! written as the lengths of the prefix and suffix that it shares with the one before,
//! and the rest. The end of the canonical bytes of a key without a part is left out: a
//! bit says so.
//!
//! A reader trusts nothing: it checks every length against what is there, and the
//! expansion of prefixes against a [budget](MAX_KEY_TEXT).

use thiserror::Error;

use crate::{
    cell::{CellKey, DecodeError, KEY_END, MAX_KEY_BYTES},
    mst::TreeKey,
};

/// The most bytes of all keys of one message, written out. A few bytes can repeat a long
/// key, so the size of a message does not bound them.
pub const MAX_KEY_TEXT: usize = 8 << 20;

/// Why a message is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes end too early.
    #[error("the message ends in the middle of the {0}")]
    Truncated(&'static str),
    /// There are bytes after the end.
    #[error("the message has {0} bytes too many")]
    Trailing(usize),
    /// A protocol that is not ours.
    #[error("the message is of protocol {0}, this is protocol {ours}", ours = super::PROTOCOL)]
    Protocol(u8),
    /// A message of another kind than was expected.
    #[error("the message is of kind {found:#04x}, and {expected:#04x} was expected")]
    Kind {
        /// What was expected.
        expected: u8,
        /// What was found.
        found: u8,
    },
    /// A number is out of its field's range.
    #[error("the {0} is out of its range")]
    Range(&'static str),
    /// A key is invalid.
    #[error("a key in the message: {0}")]
    Key(#[from] DecodeError),
    /// A key is out of order, or outside of what was asked for.
    #[error("a key in the message is out of order, or out of its range")]
    KeyOrder,
    /// There is more of something than is allowed.
    #[error("the message has more {0} than are allowed")]
    TooLarge(&'static str),
    /// The compressed part cannot be decompressed.
    #[error("the compressed part of the message is damaged")]
    Compression,
    /// Its check does not match.
    #[error("the message is damaged: its checksum is wrong")]
    Check,
    /// The answer has nothing new.
    #[error("the answer makes no progress")]
    NoProgress,
}

/// Kinds of messages; the second byte of each.
pub(super) mod kind {
    pub(in crate::sync) const ANNOUNCEMENT: u8 = 1;
    pub(in crate::sync) const DIGEST_QUERY: u8 = 2;
    pub(in crate::sync) const DIGEST_REPLY: u8 = 3;
    pub(in crate::sync) const ENTRIES_QUERY: u8 = 4;
    pub(in crate::sync) const ENTRIES_REPLY: u8 = 5;
    pub(in crate::sync) const DELTA_QUERY: u8 = 6;
    pub(in crate::sync) const DELTA_REPLY: u8 = 7;
    pub(in crate::sync) const PIECE_QUERY: u8 = 8;
    pub(in crate::sync) const PIECE_REPLY: u8 = 9;
    pub(in crate::sync) const ASKED: u8 = 10;
    pub(in crate::sync) const LINEAGE_QUERY: u8 = 11;
    pub(in crate::sync) const LINEAGE_REPLY: u8 = 12;
}

/// Checks the first two bytes of a message.
pub(super) fn open<'a>(bytes: &'a [u8], expected: u8) -> Result<Reader<'a>, MessageError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("head")? {
        super::PROTOCOL => {}
        other => return Err(MessageError::Protocol(other)),
    }
    match reader.u8("head")? {
        found if found == expected => Ok(reader),
        found => Err(MessageError::Kind { expected, found }),
    }
}

pub(super) fn begin(kind: u8) -> Writer {
    let mut writer = Writer::default();
    writer.u8(super::PROTOCOL);
    writer.u8(kind);
    writer
}

/// Whether the canonical bytes of `key` end with the end of its text.
fn is_plain(key: &CellKey) -> bool {
    key.part.as_bytes().is_empty() && key.key.as_str().is_some()
}

/// Flags of a key.
const PLAIN: u8 = 1;
const SUFFIX: u8 = 2;

/// A shorter common suffix is not worth its length.
const MIN_SUFFIX: usize = 3;

/// The lengths of the common prefix of two texts and, beyond that, of the common suffix.
fn common(a: &[u8], b: &[u8]) -> (usize, usize) {
    // Every key of a message is compared, at both ends: so it takes eight bytes at a
    // time.
    let shared = |(a, b): &(&u8, &u8)| a == b;
    let (mut left, mut right) = (a, b);
    while let (Some((x, xs)), Some((y, ys))) = (
        left.split_first_chunk::<8>(),
        right.split_first_chunk::<8>(),
    ) {
        if x != y {
            break;
        }
        (left, right) = (xs, ys);
    }
    let tail = left.iter().zip(right).take_while(shared).count();
    let prefix = a.len() - left.len() + tail;
    let (a, b) = (&a[prefix..], &b[prefix..]);
    let (mut left, mut right) = (a, b);
    while let (Some((xs, x)), Some((ys, y))) =
        (left.split_last_chunk::<8>(), right.split_last_chunk::<8>())
    {
        if x != y {
            break;
        }
        (left, right) = (xs, ys);
    }
    let head = left.iter().rev().zip(right.iter().rev());
    let suffix = a.len() - left.len() + head.take_while(shared).count();
    (prefix, if suffix < MIN_SUFFIX { 0 } else { suffix })
}

/// Reads the size that an answer may have, and the asker's watermark: what is dead there need not be
/// sent.
pub(super) fn read_terms(reader: &mut Reader<'_>) -> Result<(u32, u64), MessageError> {
    let max_bytes = reader.number("size of the answer")?;
    let max_bytes = u32::try_from(max_bytes).map_err(|_| MessageError::Range("size"))?;
    Ok((max_bytes, u64::from_be_bytes(reader.array("watermark")?)))
}

/// Writes what [`read_terms`] reads.
pub(super) fn write_terms(max_bytes: u32, watermark: u64, writer: &mut Writer) {
    writer.number(max_bytes.into());
    writer.raw(&watermark.to_be_bytes());
}

/// The bit, if it is to be set.
pub(super) fn flag(is_set: bool, bit: u8) -> u8 {
    match is_set {
        true => bit,
        false => 0,
    }
}

/// Writes the fields of a message.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// The text of the last key.
    last: Vec<u8>,
    /// Memory for the next.
    key: Vec<u8>,
    /// Bytes of all keys, written out.
    key_text: usize,
}

impl Writer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of all keys so far, as the reader will count them.
    pub(super) fn key_text(&self) -> usize {
        self.key_text
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(super) fn count(&mut self, value: usize) {
        self.number(value as u64);
    }

    /// The bytes, after their length.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn key(&mut self, key: &CellKey) {
        let mut text = std::mem::take(&mut self.key);
        text.clear();
        key.write_canonical(&mut text);
        self.key_text += text.len();
        let is_plain = is_plain(key);
        if is_plain {
            text.truncate(text.len() - KEY_END.len());
        }
        let (prefix, suffix) = common(&self.last, &text);
        let rest = &text[prefix..text.len() - suffix];
        self.count(prefix);
        let flags = flag(is_plain, PLAIN) | flag(suffix > 0, SUFFIX);
        self.count(rest.len() << 2 | usize::from(flags));
        if suffix > 0 {
            self.count(suffix);
        }
        self.raw(rest);
        self.key = std::mem::replace(&mut self.last, text);
    }

    pub(super) fn optional_key(&mut self, key: Option<&CellKey>) {
        if let Some(key) = key {
            self.key(key);
        }
    }
}

/// Reads the fields of a message, in order.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// The text of the last key, and memory for the next.
    last: Vec<u8>,
    text: Vec<u8>,
    key_text: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            last: Vec::new(),
            text: Vec::new(),
            key_text: 0,
        }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(MessageError::Truncated(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(MessageError::Truncated(what))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, MessageError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Only in its shortest form: a message has one encoding.
    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, MessageError> {
        let mut value = 0u64;
        for index in 0..10 {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && byte > 1 || index > 0 && byte == 0 {
                return Err(MessageError::Range(what));
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(MessageError::Range(what))
    }

    pub(super) fn size(&mut self, what: &'static str) -> Result<usize, MessageError> {
        usize::try_from(self.number(what)?).map_err(|_| MessageError::Range(what))
    }

    /// The number of following items, of which each takes at least `least` bytes: so a
    /// message cannot make the reader reserve memory for what is not there.
    pub(super) fn count(
        &mut self,
        least: usize,
        what: &'static str,
    ) -> Result<usize, MessageError> {
        let count = self.size(what)?;
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.left() => Ok(count),
            _ => Err(MessageError::Truncated(what)),
        }
    }

    /// Bytes after their length.
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], MessageError> {
        let len = self.size(what)?;
        self.take(len, what)
    }

    pub(super) fn key(&mut self) -> Result<CellKey, MessageError> {
        let prefix = self.size("key")?;
        let length = self.size("key")?;
        let flags = length as u8 & (PLAIN | SUFFIX);
        let is_plain = flags & PLAIN != 0;
        let suffix = match flags & SUFFIX {
            0 => 0,
            _ => self.size("key")?,
        };
        let last = self.last.len();
        if prefix > last || suffix > last - prefix || (suffix == 0) != (flags & SUFFIX == 0) {
            return Err(MessageError::Range("what two keys have in common"));
        }
        let rest = self.take(length >> 2, "key")?;
        let len = prefix + rest.len() + suffix + usize::from(is_plain) * KEY_END.len();
        if len > MAX_KEY_BYTES {
            return Err(DecodeError::KeyTooLong(len).into());
        }
        self.key_text += len;
        if self.key_text > MAX_KEY_TEXT {
            return Err(MessageError::TooLarge("bytes of keys"));
        }
        self.text.clear();
        self.text.extend_from_slice(&self.last[..prefix]);
        self.text.extend_from_slice(rest);
        self.text.extend_from_slice(&self.last[last - suffix..]);
        if common(&self.last, &self.text) != (prefix, suffix) {
            return Err(MessageError::Range("what two keys have in common"));
        }
        std::mem::swap(&mut self.last, &mut self.text);
        let text = self.last.len();
        if is_plain {
            self.last.extend_from_slice(&KEY_END);
        }
        let key = CellKey::from_canonical(&self.last);
        self.last.truncate(text);
        let key = key?;
        match self::is_plain(&key) == is_plain {
            true => Ok(key),
            false => Err(MessageError::Range("end of a key")),
        }
    }

    pub(super) fn optional_key(&mut self, is_there: bool) -> Result<Option<CellKey>, MessageError> {
        is_there.then(|| self.key()).transpose()
    }

    pub(super) fn finish(self) -> Result<(), MessageError> {
        match self.bytes.len() {
            0 => Ok(()),
            trailing => Err(MessageError::Trailing(trailing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cell::tests::any_cell_key;

    proptest! {
        #[test]
        fn fields_read_back(
            numbers in prop::collection::vec(any::<u64>(), 0..20),
            keys in prop::collection::vec(any_cell_key(), 0..20),
        ) {
            let mut writer = Writer::default();
            numbers.iter().for_each(|number| writer.number(*number));
            keys.iter().for_each(|key| writer.key(key));
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            for number in &numbers {
                prop_assert_eq!(reader.number("number"), Ok(*number));
            }
            for key in &keys {
                prop_assert_eq!(&reader.key().expect("a key"), key);
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn numbers_have_one_form() {
        for bytes in [&[0x80, 0][..], &[0xff; 10], &[0x80; 11]] {
            let read = Reader::new(bytes).number("number");
            assert_eq!(read, Err(MessageError::Range("number")), "{bytes:x?}");
        }
        assert!(Reader::new(&[0xff, 0x7f]).number("number").is_ok());
        assert!(Reader::new(&[0xff]).number("number").is_err());
    }

    #[test]
    fn keys_cannot_blow_up() {
        let long = "k".repeat(50_000);
        let key = CellKey::own(crate::cell::tests::key(&long));
        let mut writer = Writer::default();
        for _ in 0..1000 {
            writer.key(&key);
        }
        let bytes = writer.into_bytes();
        assert!(bytes.len() < 60_000);
        let mut reader = Reader::new(&bytes);
        let error = std::iter::repeat_with(|| reader.key()).find_map(Result::err);
        assert_eq!(error, Some(MessageError::TooLarge("bytes of keys")));
    }
}
