//! A replica's announcement of its root.

use super::{
    identity::{Fingerprint, Incarnation},
    wire::{MessageError, begin, kind, open},
};
use crate::{hash::HASH_BYTES, mst::RootHash, replica::Span};

/// A replica's root, and the cuts over which it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The fingerprint of the sender's merge configuration.
    pub fingerprint: Fingerprint,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The sender's clock when it sent this, in NTP64.
    pub clock: u64,
    /// The root, and its cuts.
    pub span: Span,
    /// Cells that the sender holds, including tombstones.
    pub cells: u64,
}

impl Announcement {
    /// Bytes of the longest message: its two variable-length numbers take ten at the
    /// most.
    pub const MAX_BYTES: usize = 2 + 8 + (8 + 4) + 8 + 8 + 10 + HASH_BYTES + 10;

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = begin(kind::ANNOUNCEMENT);
        writer.raw(&self.fingerprint.0);
        writer.raw(&self.incarnation.started.to_be_bytes());
        writer.raw(&self.incarnation.nonce.to_be_bytes());
        writer.raw(&self.clock.to_be_bytes());
        writer.raw(&self.span.to.to_be_bytes());
        writer.number(self.span.to - self.span.from);
        writer.raw(&self.span.root.0);
        writer.number(self.cells);
        writer.into_bytes()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is not an announcement.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = open(bytes, kind::ANNOUNCEMENT)?;
        let fingerprint = Fingerprint(reader.array("fingerprint")?);
        let incarnation = Incarnation {
            started: u64::from_be_bytes(reader.array("incarnation")?),
            nonce: u32::from_be_bytes(reader.array("incarnation")?),
        };
        let clock = u64::from_be_bytes(reader.array("clock")?);
        let to = u64::from_be_bytes(reader.array("cut")?);
        let length = reader.number("cut")?;
        let from = to.checked_sub(length).ok_or(MessageError::Range("cut"))?;
        let root = RootHash(reader.array("root")?);
        let cells = reader.number("cells")?;
        reader.finish()?;
        Ok(Self {
            fingerprint,
            incarnation,
            clock,
            span: Span { from, to, root },
            cells,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_pinned() {
        let announcement = Announcement {
            fingerprint: Fingerprint(*b"finger-p"),
            incarnation: Incarnation {
                started: 0x0102_0304_0506_0708,
                nonce: 0x090a_0b0c,
            },
            clock: 9 << 29,
            span: Span {
                from: 7 << 29,
                to: 8 << 29,
                root: RootHash([0xaa; 32]),
            },
            cells: 1000,
        };
        let bytes = announcement.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = format!(
            "020166696e6765722d700102030405060708090a0b0c00000001200000000000000100000000{}{}e807",
            "8080808002",
            "aa".repeat(32)
        );
        assert_eq!(hex, expected);
        assert_eq!(Announcement::decode(&bytes), Ok(announcement));
        for end in 0..bytes.len() {
            assert!(Announcement::decode(&bytes[..end]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(
            Announcement::decode(&longer),
            Err(MessageError::Trailing(1))
        );
    }
}
