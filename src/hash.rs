//! SHA-256, and the domain tags under which all of it is used.
//!
//! Of what is short, by *sha2*: a call of it takes the least, and nearly all that is
//! hashed here is short. Of what is long, by *ring*, which is the faster of the two on
//! processors without the SHA extensions. Both come with what we need anyway: *sha2*
//! with automerge, *ring* with zenoh's TLS.

use ring::digest::{Context, SHA256};
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// The tags that inputs of SHA-256 begin with, eight bytes each: an input of one
/// kind is never an input of another.
pub(crate) mod tag {
    pub(crate) const CELL: &[u8; 8] = b"mst1cell";
    pub(crate) const PAYLOAD: &[u8; 8] = b"mst1load";
    pub(crate) const POSITION: &[u8; 8] = b"mst1posn";
    pub(crate) const EMPTY: &[u8; 8] = b"mst1none";
    pub(crate) const NODE: &[u8; 8] = b"mst1node";
    pub(crate) const GROUP: &[u8; 8] = b"mst1grup";
    pub(crate) const FORK: &[u8; 8] = b"mst1fork";
    pub(crate) const SHORT: &[u8; 8] = b"mst1shrt";
    pub(crate) const FINGERPRINT: &[u8; 8] = b"mst1conf";
    pub(crate) const BACKUP: &[u8; 8] = b"mst1bkup";
    pub(crate) const LINEAGE: &[u8; 8] = b"mst1line";
    pub(crate) const LOG_FILE: &[u8; 8] = b"mst1walh";
    pub(crate) const LOG_HEAD: &[u8; 8] = b"mst1walx";
    pub(crate) const LOG_FRAME: &[u8; 8] = b"mst1walf";
}

/// Bytes up to which pieces are put together to be hashed at once, which takes less than
/// to hash them one by one.
const SMALL: usize = 256;

/// SHA-256 of the pieces, one after the other.
pub(crate) fn sha256(pieces: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut room = [0; SMALL];
    if let Some(gathered) = gather(pieces, &mut room) {
        return Sha256::digest(gathered).into();
    }
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The pieces in a row, if there is room for them.
fn gather<'a>(pieces: &[&[u8]], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    for piece in pieces {
        let end = len + piece.len();
        room.get_mut(len..end)?.copy_from_slice(piece);
        len = end;
    }
    room.get(..len)
}

/// Shows a newtype of a hash in hexadecimal.
macro_rules! hex_display {
    ($($name:ident),+) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )+};
}
pub(crate) use hex_display;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_are_hashed_alike_whatever_the_pieces() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * SMALL).collect();
        for len in [0, 1, 55, 56, 64, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL] {
            let (whole, half) = (&bytes[..len], len / 2);
            let expected: [u8; HASH_BYTES] = Sha256::digest(whole).into();
            assert_eq!(sha256(&[whole]), expected, "{len} bytes");
            assert_eq!(sha256(&[&whole[..half], &[], &whole[half..]]), expected);
            assert_eq!(ring::digest::digest(&SHA256, whole).as_ref(), expected);
        }
    }
}
