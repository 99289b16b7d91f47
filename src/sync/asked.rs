//! What a query says of the horizon, where replicas collect: it stands before the query.
//!
//! ```text
//! protocol  u8
//! 0x0a      u8
//! flags     u8      1: the asker catches up, and wants to hear what the answerer does not have
//! horizon   u64 BE  at which it is to be answered
//! lineage   8 bytes of that horizon
//! query     the rest
//! ```

use super::wire::{MessageError, begin, kind, open};
use crate::collection::{gate::Standing, lineage::LineageId};

const MIRROR: u8 = 1;

/// At what horizon a query is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The horizon and lineage of the answerer.
    pub standing: Standing<LineageId>,
    /// Whether the asker catches up: then what it has and the answerer lacks is told, too.
    pub is_mirror: bool,
}

impl Asked {
    /// Bytes before the query.
    pub const BYTES: usize = 2 + 1 + 8 + 8;

    /// The query with this before it.
    #[must_use]
    pub fn wrap(&self, query: &[u8]) -> Vec<u8> {
        let mut writer = begin(kind::ASKED);
        writer.u8(u8::from(self.is_mirror) * MIRROR);
        writer.raw(&self.standing.horizon.to_be_bytes());
        writer.raw(&self.standing.lineage.0);
        writer.raw(query);
        writer.into_bytes()
    }

    /// What a message says, and the query; nothing of one that is a query by itself.
    ///
    /// # Errors
    /// If it is neither.
    pub fn open(bytes: &[u8]) -> Result<(Option<Self>, &[u8]), MessageError> {
        if bytes.get(1) != Some(&kind::ASKED) {
            return Ok((None, bytes));
        }
        let mut reader = open(bytes, kind::ASKED)?;
        let is_mirror = match reader.u8("flags")? {
            0 => false,
            MIRROR => true,
            _ => return Err(MessageError::Range("flags")),
        };
        let standing = Standing {
            horizon: u64::from_be_bytes(reader.array("horizon")?),
            lineage: LineageId(reader.array("lineage")?),
        };
        let asked = Self {
            standing,
            is_mirror,
        };
        Ok((Some(asked), bytes.get(Self::BYTES..).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_a_query_is_pinned() {
        let asked = Asked {
            standing: Standing {
                horizon: 0x0102_0304_0506_0708,
                lineage: LineageId(*b"lineage8"),
            },
            is_mirror: true,
        };
        let bytes = asked.wrap(b"\x02\x02query");
        assert_eq!(
            bytes,
            b"\x02\x0a\x01\x01\x02\x03\x04\x05\x06\x07\x08lineage8\x02\x02query"
        );
        assert_eq!(
            Asked::open(&bytes),
            Ok((Some(asked), &b"\x02\x02query"[..]))
        );
        assert_eq!(
            Asked::open(b"\x02\x02query"),
            Ok((None, &b"\x02\x02query"[..]))
        );
        for end in 2..Asked::BYTES {
            assert!(Asked::open(&bytes[..end]).is_err());
        }
        let mut wrong = bytes;
        wrong[2] = 2;
        assert_eq!(Asked::open(&wrong), Err(MessageError::Range("flags")));
    }
}
