//! Truncated digests that nobody can prepare.
//!
//! Hashes are salted afresh for each pull and truncated to [`Salted::width`] bytes. So
//! nobody can prepare two contents that look equal; and if two look equal by chance, the
//! roots still differ, and the next pull, with wider digests, finds it.

use super::wire::{MessageError, Reader, Writer};
use crate::hash::{HASH_BYTES, sha256, tag};

/// The smallest and largest width of a truncated digest.
pub const WIDTHS: std::ops::RangeInclusive<u8> = 4..=8;

/// The salt and width of digests: keys of universal hashes, and the number of bytes to
/// send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salted {
    /// The asker draws it for each pull.
    salt: [u8; 8],
    /// Bytes of a truncated digest, one of [`WIDTHS`].
    width: u8,
    /// Derived from the salt: for the words of a hash; for the items of a list; for the
    /// results of these.
    of_hash: Multilinear<4>,
    point: u64,
    of_list: Multilinear<1>,
}

/// A salted and truncated digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Short(u64);

/// The multilinear hash: the upper half of a sum of factors times words, modulo 2^128.
///
/// For two different inputs that exist before the factors are drawn, all pairs of hashes
/// are equally likely (Lemire and Kaser, *Strongly universal string hashing is fast*,
/// 2014): so the first n bytes are equal with probability 2^(-8 n).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Multilinear<const WORDS: usize> {
    first: u128,
    factors: [u128; WORDS],
}

impl<const WORDS: usize> Multilinear<WORDS> {
    fn draw(draw: &mut impl FnMut() -> u128) -> Self {
        Self {
            first: draw(),
            factors: std::array::from_fn(|_| draw()),
        }
    }

    fn hash(&self, words: [u64; WORDS]) -> u64 {
        let sum = words
            .iter()
            .zip(self.factors)
            .fold(self.first, |sum, (word, factor)| {
                sum.wrapping_add(factor.wrapping_mul((*word).into()))
            });
        (sum >> 64) as u64
    }
}

/// 2^61 - 1, a prime: the modulus of the polynomials that hash lists.
const PRIME: u64 = (1 << 61) - 1;

/// `a` times `b`, plus `c`, modulo [`PRIME`], but perhaps a few times that too much;
/// `a` is below 2^62, and so is what comes out, and `b` is below the prime.
fn multiply_add(a: u64, b: u64, c: u64) -> u64 {
    let sum = u128::from(a) * u128::from(b) + u128::from(c);
    // 2^61 is 1. The sum is below 2^124, so what is folded first is below 2^64.
    let folded = (sum as u64 & PRIME) + (sum >> 61) as u64;
    (folded & PRIME) + (folded >> 61)
}

fn words(hash: &[u8; HASH_BYTES]) -> [u64; 4] {
    std::array::from_fn(|index| {
        let mut word = [0; 8];
        word.copy_from_slice(&hash[8 * index..8 * index + 8]);
        u64::from_be_bytes(word)
    })
}

impl Salted {
    /// Digests with this salt, of `width` bytes.
    #[must_use]
    pub fn new(salt: [u8; 8], width: u8) -> Self {
        let mut index = 0u8;
        let mut draw = || {
            let hash = sha256(&[tag::SHORT, &salt, &[index]]);
            index += 1;
            let mut factor = [0; 16];
            factor.copy_from_slice(&hash[..16]);
            u128::from_be_bytes(factor)
        };
        let of_hash = Multilinear::draw(&mut draw);
        let point = (draw() % u128::from(PRIME)) as u64;
        Self {
            salt,
            width,
            of_hash,
            point,
            of_list: Multilinear::draw(&mut draw),
        }
    }

    /// The digest of a hash.
    #[must_use]
    pub fn short(&self, hash: &[u8; HASH_BYTES]) -> Short {
        self.truncate(self.of_hash.hash(words(hash)))
    }

    /// Starts the digest of a list of hashes, some of which may be missing.
    ///
    /// Each item is hashed to a coefficient, a missing one to 0; the polynomial that
    /// begins with 1 and has these coefficients is evaluated at a secret point, and the
    /// result is hashed again. Two different lists of at most n items give the same value
    /// of the polynomial with probability (n + 16) / 2^61, and otherwise look equal with
    /// probability 2^(-8 width).
    pub(super) fn list(&self) -> List<'_> {
        List {
            salted: self,
            value: 1,
        }
    }

    fn truncate(&self, hash: u64) -> Short {
        let unsent = 64 - 8 * u32::from(self.width.min(8));
        Short(hash.checked_shr(unsent).unwrap_or(0))
    }

    /// Writes the salt and width for the receiver.
    pub(super) fn write_head(&self, writer: &mut Writer) {
        writer.raw(&self.salt);
        writer.u8(self.width);
    }

    pub(super) fn read_head(reader: &mut Reader<'_>) -> Result<Self, MessageError> {
        let salt = reader.array("salt")?;
        let width = reader.u8("width")?;
        match WIDTHS.contains(&width) {
            true => Ok(Self::new(salt, width)),
            false => Err(MessageError::Range("width of digests")),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width.min(8).into()
    }

    /// About the size of an entry and a gap, without the key.
    pub(super) fn entry_bytes(&self) -> usize {
        2 * self.width()
    }

    pub(super) fn write(&self, short: Short, writer: &mut Writer) {
        writer.raw(&short.0.to_be_bytes()[8 - self.width()..]);
    }

    pub(super) fn read(&self, reader: &mut Reader<'_>) -> Result<Short, MessageError> {
        let bytes = reader.take(self.width(), "digest")?;
        Ok(Short(
            bytes
                .iter()
                .fold(0, |short, byte| short << 8 | u64::from(*byte)),
        ))
    }
}

/// The digest of a list of hashes, so far.
pub(super) struct List<'a> {
    salted: &'a Salted,
    value: u64,
}

impl List<'_> {
    pub(super) fn push(&mut self, hash: Option<&[u8; HASH_BYTES]>) {
        let coefficient = hash.map_or(0, |hash| self.salted.of_hash.hash(words(hash)));
        self.value = multiply_add(self.value, self.salted.point, coefficient);
    }

    pub(super) fn finish(self) -> Short {
        let salted = self.salted;
        salted.truncate(salted.of_list.hash([self.value % PRIME]))
    }
}
