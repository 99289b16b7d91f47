//! A long answer comes in parts, each a reply to the same query.
//!
//! Zenoh holds back all messages of one priority behind one that waits for room in the queue of a link,
//! and closes the transport if one that is not to be dropped waits for too long, however long it is. So
//! each part is a batch of Zenoh's: others come between two of them, and each has its own time to wait. An
//! answer of many parts is worth the time of a link on which each query waits for seconds.

use bytes::Bytes;

/// The most bytes of a part: with what Zenoh adds, one batch.
const PART_BYTES: usize = 48 << 10;

/// Which part a reply is, as its attachment says: its number and how many there are, of two bytes each,
/// big-endian. A reply without one is a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    number: u16,
    of: u16,
}

impl Part {
    /// The bytes of the attachment.
    pub(super) const BYTES: usize = 4;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let ([a, b], [c, d]) = (self.number.to_be_bytes(), self.of.to_be_bytes());
        [a, b, c, d]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d] = *bytes else { return None };
        let (number, of) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        (number < of).then_some(Self { number, of })
    }
}

/// The parts of an answer, in order. Copies nothing.
pub(super) fn parts_of(answer: Bytes) -> impl Iterator<Item = (Option<Part>, Bytes)> {
    let count = answer.len().div_ceil(PART_BYTES).max(1);
    // No answer is as long as that: see `MAX_MESSAGE`.
    let of = u16::try_from(count).unwrap_or(u16::MAX);
    (0..of).map(move |number| {
        let start = usize::from(number) * PART_BYTES;
        let end = (start + PART_BYTES).min(answer.len());
        let part = (of > 1).then_some(Part { number, of });
        (part, answer.slice(start..end))
    })
}

/// The parts of an answer that have come. They come in order, as all have one way and one priority.
pub(super) struct Parts {
    max: usize,
    have: Vec<u8>,
    next: u16,
}

impl Parts {
    /// Of an answer that has at most so many bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            have: Vec::new(),
            next: 0,
        }
    }

    /// The most bytes that the next part may have.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.have.len())
    }

    /// What is said when no further part comes.
    pub(super) fn missing(&self) -> &'static str {
        match self.next {
            0 => "there was no answer",
            _ => "a part of the answer was lost",
        }
    }

    /// Adds what came with an attachment; returns the answer if it is whole. One that is longer than
    /// it may be is returned as soon as that is seen.
    ///
    /// # Errors
    /// If it is not the next part.
    pub(super) fn add(
        &mut self,
        attachment: Option<&[u8]>,
        bytes: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let Some(attachment) = attachment else {
            return match self.next {
                0 => Ok(Some(bytes)),
                _ => Err("a whole answer came after a part of one"),
            };
        };
        let part = Part::decode(attachment).ok_or("an attachment says no part of an answer")?;
        if part.number != self.next {
            return Err(self.missing());
        }
        self.next += 1;
        let is_too_long = bytes.len() > self.room();
        self.have.extend(bytes);
        let is_whole = self.next == part.of;
        Ok((is_whole || is_too_long).then(|| std::mem::take(&mut self.have)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join(
        parts: impl Iterator<Item = (Option<Part>, Bytes)>,
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let mut joined = Parts::new(usize::MAX);
        for (part, bytes) in parts {
            let attachment = part.map(Part::encode);
            let attachment = attachment.as_ref().map(|bytes| &bytes[..]);
            if let Some(whole) = joined.add(attachment, bytes.to_vec())? {
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn the_parts_of_an_answer_are_the_answer(length in 0..5 * PART_BYTES, lost in any::<prop::sample::Index>()) {
            let answer: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let parts: Vec<_> = parts_of(answer.clone().into()).collect();
            prop_assert_eq!(parts.len(), length.div_ceil(PART_BYTES).max(1));
            prop_assert_eq!(join(parts.iter().cloned()), Ok(Some(answer)));
            // One that is lost is missed.
            let mut others = parts.clone();
            others.remove(lost.index(others.len()));
            let joined = join(others.into_iter());
            prop_assert!(joined.is_err() || joined == Ok(None), "{joined:?}");
        }
    }

    #[test]
    fn what_is_no_next_part_is_refused() {
        let part = |number, of| Part { number, of }.encode();
        let mut parts = Parts::new(10);
        assert_eq!(parts.missing(), "there was no answer");
        assert!(parts.add(Some(&[0, 0, 0]), vec![1]).is_err(), "too short");
        assert!(parts.add(Some(&part(1, 1)), vec![1]).is_err(), "of none");
        assert_eq!(parts.add(Some(&part(0, 3)), vec![1]), Ok(None));
        assert_eq!(
            (parts.room(), parts.missing()),
            (9, "a part of the answer was lost")
        );
        assert!(parts.add(None, vec![1]).is_err(), "a whole one");
        assert!(
            parts.add(Some(&part(2, 3)), vec![1]).is_err(),
            "one is missing"
        );
        // As many more bytes as show that it is too long.
        let long = parts.add(Some(&part(1, 3)), vec![2; 10]);
        assert_eq!(long, Ok(Some([&[1][..], &[2; 10]].concat())));
    }

    #[test]
    fn the_bytes_of_an_attachment_are_these() {
        assert_eq!(
            Part {
                number: 1,
                of: 0x0203
            }
            .encode(),
            [0, 1, 2, 3]
        );
    }
}
