//! Reading bytes that may be anything.

use thiserror::Error;

use super::{TIMESTAMP_ID_BYTES, Timestamp};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end in the middle of the {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A tag that no version of the format has.
    #[error("{tag:#04x} is no tag of a {what}")]
    Tag {
        /// What was being read.
        what: &'static str,
        /// The tag that was found.
        tag: u8,
    },
    /// A zero byte within a key that is neither an escape nor the end.
    #[error("a zero byte in the key is neither escaped nor its end")]
    KeyEscape,
    /// A key that is not text.
    #[error("the key is not valid UTF-8")]
    KeyNotUtf8,
    /// A key that is not a key expression.
    #[error("the key is not a key expression")]
    NotAKey,
    /// A key longer than [`MAX_KEY_BYTES`](super::MAX_KEY_BYTES).
    #[error("the key has {0} bytes, more than the {max} that are allowed", max = super::MAX_KEY_BYTES)]
    KeyTooLong(usize),
    /// A timestamp whose ID is zero.
    #[error("the timestamp's ID is zero")]
    TimestampId,
    /// There are bytes after the end.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// A cursor over untrusted bytes: takes what is there, or says what is missing.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated { what })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(DecodeError::Truncated { what })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { what, tag }),
        }
    }

    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        let time = u64::from_be_bytes(self.array("timestamp")?);
        let id = self.array("timestamp")?;
        match id == [0; TIMESTAMP_ID_BYTES] {
            true => Err(DecodeError::TimestampId),
            false => Ok(Timestamp { time, id }),
        }
    }

    /// For what has to end here.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            trailing => Err(DecodeError::Trailing(trailing)),
        }
    }
}
