//! A fragment: what one side says of a range of its tree.

use super::{
    salted::{Salted, Short},
    wire::{MessageError, Reader, Writer, flag},
};
use crate::cell::CellKey;

const LOW: u8 = 1;
const HIGH: u8 = 2;

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

    pub(super) fn write(&self, salted: &Salted, writer: &mut Writer) {
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

    pub(super) fn read(salted: &Salted, reader: &mut Reader<'_>) -> Result<Self, MessageError> {
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
    pub(super) fn check_within(&self, (low, high): Bounds<'_>) -> Result<(), MessageError> {
        let (first, last) = (self.entries.first(), self.entries.last());
        let is_above = |(key, _): &(CellKey, _)| low.is_none_or(|low| low < key);
        let is_below = |(key, _): &(CellKey, _)| high.is_none_or(|high| key < high);
        match first.is_none_or(is_above) && last.is_none_or(is_below) {
            true => Ok(()),
            false => Err(MessageError::KeyOrder),
        }
    }
}
