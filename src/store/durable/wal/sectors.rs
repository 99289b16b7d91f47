//! Sectors of a file of the write-ahead log: none that was written is zeros, whatever the cells are.
//!
//! A disk writes a sector whole or not at all. Where a sector of a file that grows was not written,
//! there are zeros, or the file ends. So that this is told from what was written, each sector begins
//! with a byte that is not zero, the *mark*; what the log writes stands between the marks.

use std::ops::Range;

/// The unit that a disk writes whole or not at all: the smallest that is in use.
pub(super) const SECTOR_BYTES: usize = 512;
/// The first byte of each sector. No single bit makes zero of it.
pub(super) const MARK: u8 = 0xa5;
/// Bytes of a sector that are not its mark.
const ROOM: usize = SECTOR_BYTES - 1;

/// Bytes of a file to which `written` bytes were written: with the marks.
pub(super) const fn with_marks(written: usize) -> usize {
    written + written.div_ceil(ROOM)
}

/// Appends `bytes` to `out` as they are to stand at the end of a file that has `file_bytes` bytes.
pub(super) fn lay_out(file_bytes: u64, mut bytes: &[u8], out: &mut Vec<u8>) {
    let mut taken = (file_bytes % SECTOR_BYTES as u64) as usize;
    while !bytes.is_empty() {
        if taken == 0 {
            out.push(MARK);
            taken = 1;
        }
        let (fits, rest) = bytes.split_at(bytes.len().min(SECTOR_BYTES - taken));
        out.extend_from_slice(fits);
        bytes = rest;
        taken = (taken + fits.len()) % SECTOR_BYTES;
    }
}

/// A file of the log as it was read.
pub(super) struct Sectors {
    /// What was written, without the marks.
    pub(super) bytes: Vec<u8>,
    /// The places in `bytes` of sectors that were never written.
    missing: Vec<usize>,
    /// The place in `bytes` of a sector that was written and does not begin with a mark: of this
    /// no loss of power is the cause.
    pub(super) damaged: Option<usize>,
}

impl Sectors {
    /// Takes the marks out of a file.
    pub(super) fn read(file: &[u8]) -> Self {
        let mut sectors = Self {
            bytes: Vec::with_capacity(file.len()),
            missing: Vec::new(),
            damaged: None,
        };
        for sector in file.chunks(SECTOR_BYTES) {
            let at = sectors.bytes.len();
            if sector[0] != MARK {
                match sector.iter().all(|byte| *byte == 0) {
                    true => sectors.missing.push(at),
                    false => sectors.damaged = sectors.damaged.or(Some(at)),
                }
            }
            sectors.bytes.extend_from_slice(&sector[1..]);
        }
        sectors
    }

    /// Whether a sector of what should be in `range` was never written. What is written at its start
    /// begins with a byte that is not zero; what is before that in its sector may have been written
    /// earlier.
    pub(super) fn is_any_missing(&self, range: Range<usize>) -> bool {
        let end = self.bytes.len().min(range.start / ROOM * ROOM + ROOM);
        let rest_of_sector = self.bytes.get(range.start..end).unwrap_or_default();
        rest_of_sector.iter().all(|byte| *byte == 0)
            || self.missing.iter().any(|index| range.contains(index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_reads_back(pieces in prop::collection::vec(prop::collection::vec(0u8..2, 0..1500), 0..5)) {
            let mut file = Vec::new();
            for piece in &pieces {
                let mut laid_out = Vec::new();
                lay_out(file.len() as u64, piece, &mut laid_out);
                file.extend(laid_out);
            }
            let written = pieces.concat();
            prop_assert_eq!(file.len(), with_marks(written.len()));
            prop_assert!(file.chunks(SECTOR_BYTES).all(|sector| sector[0] == MARK && sector.len() > 1));
            let sectors = Sectors::read(&file);
            prop_assert_eq!(&sectors.bytes, &written);
            prop_assert_eq!(sectors.damaged, None);
        }
    }

    #[test]
    fn zeros_that_were_written_are_not_missing() {
        let mut file = Vec::new();
        lay_out(0, &[&[1][..], &[0; 3000]].concat(), &mut file);
        assert!(!Sectors::read(&file).is_any_missing(0..3001));
        for start in [0, 512, 1024] {
            let mut torn = file.clone();
            torn[start..start + SECTOR_BYTES].fill(0);
            let sectors = Sectors::read(&torn);
            assert!(sectors.is_any_missing(0..3001), "{start}");
            assert_eq!(sectors.is_any_missing(0..ROOM), start == 0);
            let mut damaged = file.clone();
            damaged[start] ^= 4;
            assert_eq!(
                Sectors::read(&damaged).damaged,
                Some(start / SECTOR_BYTES * ROOM)
            );
        }
    }
}
