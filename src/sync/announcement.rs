//! A replica's announcement of its root.

use super::{
    identity::{Fingerprint, Incarnation},
    lineages::id_of,
    wire::{MessageError, Reader, Writer, begin, flag, kind, open},
};
use crate::{
    collection::{
        gate::Standing,
        lineage::{Lineage, LineageId},
    },
    hash::HASH_BYTES,
    mst::RootHash,
    replica::Span,
};

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
    /// How far its collection is, if it collects.
    pub stand: Option<Stand>,
}

/// How far the collection of a replica is, as it announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Its horizon, and the lineage of that.
    pub standing: Standing<LineageId>,
    /// All that it ever takes of clients below this is in the tree of the root. Not below the horizon.
    pub floor: u64,
    /// Whether others may pull from it, and take its root for evidence.
    pub is_source: bool,
}

/// Flags of a [`Stand`].
const NO_SOURCE: u8 = 1;

/// Horizons and floors are multiples of this.
const UNIT: u32 = 29;

impl Stand {
    fn write(&self, writer: &mut Writer) {
        let Standing { horizon, lineage } = self.standing;
        writer.u8(flag(!self.is_source, NO_SOURCE));
        writer.number(horizon >> UNIT);
        writer.number((self.floor - horizon) >> UNIT);
        if horizon > 0 {
            writer.raw(&lineage.0);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, MessageError> {
        let is_source = match reader.u8("flags")? {
            0 => true,
            NO_SOURCE => false,
            _ => return Err(MessageError::Range("flags")),
        };
        let mut time = |what| {
            let units = reader.number(what)?;
            let is_time = units <= u64::MAX >> UNIT;
            is_time
                .then_some(units << UNIT)
                .ok_or(MessageError::Range(what))
        };
        let horizon = time("horizon")?;
        let above = time("floor")?;
        let floor = horizon
            .checked_add(above)
            .ok_or(MessageError::Range("floor"))?;
        let lineage = match horizon {
            0 => id_of(&Lineage::default()),
            _ => LineageId(reader.array("lineage")?),
        };
        Ok(Self {
            standing: Standing { horizon, lineage },
            floor,
            is_source,
        })
    }
}

impl Announcement {
    /// Bytes of the longest message: two of its variable-length numbers take ten at the most, and those
    /// of how far a collection is five.
    pub const MAX_BYTES: usize = 2 + 8 + (8 + 4) + 8 + 8 + 10 + HASH_BYTES + 10 + (1 + 5 + 5 + 8);

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
        if let Some(stand) = &self.stand {
            stand.write(&mut writer);
        }
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
        let stand = match reader.left() {
            0 => None,
            _ => Some(Stand::read(&mut reader)?),
        };
        reader.finish()?;
        Ok(Self {
            fingerprint,
            incarnation,
            clock,
            span: Span { from, to, root },
            cells,
            stand,
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
            stand: None,
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
            Err(MessageError::Truncated("horizon"))
        );
    }

    /// An announcement of a real root and clock is within what an idle link is to bear.
    #[test]
    fn stands_are_pinned_and_short() {
        let stand = Stand {
            standing: Standing {
                horizon: 0x65_0000 << 32,
                lineage: LineageId(*b"lineage8"),
            },
            floor: (0x65_0000 << 32) + (9 << 29),
            is_source: false,
        };
        let announcement = Announcement {
            fingerprint: Fingerprint(*b"finger-p"),
            incarnation: Incarnation {
                started: 1 << 60,
                nonce: u32::MAX,
            },
            clock: 0xffff_ffff << 32,
            span: Span {
                from: 0xffc0_0000 << 32,
                to: 0xffff_fff0 << 32,
                root: RootHash([0xaa; 32]),
            },
            cells: 100_000_000,
            stand: Some(stand),
        };
        let bytes = announcement.encode();
        let end = b"\x01\x80\x80\xa0\x19\x09lineage8";
        assert_eq!(bytes[bytes.len() - end.len()..], end[..]);
        assert_eq!(Announcement::decode(&bytes), Ok(announcement));
        let latest = Stand {
            standing: Standing {
                horizon: (u64::MAX >> 30) << 29,
                ..stand.standing
            },
            floor: ((u64::MAX >> 30) << 29) + ((30 * 86_400) << 32),
            is_source: true,
        };
        let longest = Announcement {
            stand: Some(latest),
            ..announcement
        };
        let bytes = longest.encode();
        assert_eq!(Announcement::decode(&bytes), Ok(longest));
        assert!(bytes.len() <= 101, "{} bytes", bytes.len());
    }
}
