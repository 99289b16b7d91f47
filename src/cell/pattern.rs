//! Which key expressions have keys in common, told in bounded stack and time.
//!
//! What Zenoh's own `intersects` and `includes` do they do by recursion, one call
//! for each chunk that a `**` may stand for: a key of 60,000 bytes has 30,000
//! chunks, and overflows the stack of a worker. They may also try each `**` at
//! each chunk, which takes as many steps as the length to the power of their
//! number. Keys come from anyone who may put, and patterns from anyone who may ask.
//!
//! Here it is a table of which beginnings of one go with which beginnings of the
//! other, of which one row is kept: as many steps as the product of the lengths.

use smallvec::SmallVec;
use zenoh_keyexpr::keyexpr;

/// What a key expression is made of: chunks; or what a chunk is made of: bytes.
#[derive(Clone, Copy)]
enum Piece<T> {
    /// Any number of pieces: `**` of chunks, `$*` of bytes.
    Any,
    One(T),
}

/// A row of the table that needs no memory for what keys are like.
type Row = SmallVec<[bool; 64]>;

/// Whether there is a sequence that both stand for. `meets` says whether there is a
/// piece that both stand for; `is_free` whether `Any` stands for a piece.
fn have_common<T: Copy>(
    mut a: impl Iterator<Item = Piece<T>> + Clone,
    mut b: impl Iterator<Item = Piece<T>> + Clone,
    meets: impl Fn(T, T) -> bool,
    is_free: impl Fn(T) -> bool,
) -> bool {
    // Up to the first `Any` there is nothing to choose.
    loop {
        let (mut after_a, mut after_b) = (a.clone(), b.clone());
        match (after_a.next(), after_b.next()) {
            (None, None) => return true,
            (Some(Piece::One(x)), Some(Piece::One(y))) => {
                if !meets(x, y) {
                    return false;
                }
                (a, b) = (after_a, after_b);
            }
            (Some(Piece::Any), _) | (_, Some(Piece::Any)) => break,
            (None, Some(Piece::One(_))) | (Some(Piece::One(_)), None) => return false,
        }
    }
    // Whether what there was of `a` has a sequence in common with so many pieces of
    // `b`.
    let mut row = Row::new();
    let mut is_there = true;
    row.push(is_there);
    for y in b.clone() {
        is_there &= matches!(y, Piece::Any);
        row.push(is_there);
    }
    for x in a {
        // That of `a` before x and `b` before y, and that with x.
        let mut before = row[0];
        let mut with_x = before && matches!(x, Piece::Any);
        row[0] = with_x;
        let mut is_dead = !with_x;
        for (y, index) in b.clone().zip(&mut row[1..]) {
            let above = *index;
            with_x = match (x, y) {
                (Piece::One(x), Piece::One(y)) => before && meets(x, y),
                (Piece::Any, Piece::Any) => above || with_x,
                (Piece::Any, Piece::One(y)) => above || (with_x && is_free(y)),
                (Piece::One(x), Piece::Any) => with_x || (above && is_free(x)),
            };
            (before, *index) = (above, with_x);
            is_dead &= !with_x;
        }
        if is_dead {
            return false;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn chunks(expression: &keyexpr) -> impl Iterator<Item = Piece<&[u8]>> + Clone {
    let chunks = expression.as_bytes().split(|byte| *byte == b'/');
    chunks.map(|chunk| match chunk {
        b"**" => Piece::Any,
        chunk => Piece::One(chunk),
    })
}

/// The bytes of a chunk that is not `*`: a `$` is always followed by one.
fn bytes(chunk: &[u8]) -> impl Iterator<Item = Piece<u8>> + Clone + '_ {
    let bytes = chunk.iter().filter(|byte| **byte != b'*');
    bytes.map(|byte| match byte {
        b'$' => Piece::Any,
        byte => Piece::One(*byte),
    })
}

/// A chunk that no wildcard stands for.
fn is_verbatim(chunk: &[u8]) -> bool {
    chunk.first() == Some(&b'@')
}

fn chunks_meet(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let has_wildcard = |chunk: &[u8]| chunk.contains(&b'*');
    if is_verbatim(a) || is_verbatim(b) || !(has_wildcard(a) || has_wildcard(b)) {
        return false;
    }
    a == b"*" || b == b"*" || have_common(bytes(a), bytes(b), |a, b| a == b, |_| true)
}

/// Whether there are keys that both of these stand for. If one of them is a key,
/// without wildcards, whether the other stands for it.
///
/// O(length of `a` × length of `b`) at the most, without recursion; as Zenoh says it.
#[must_use]
pub fn intersect(a: &keyexpr, b: &keyexpr) -> bool {
    have_common(chunks(a), chunks(b), chunks_meet, |chunk| {
        !is_verbatim(chunk)
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use zenoh_keyexpr::OwnedKeyExpr;

    use super::*;
    use crate::cell::MAX_KEY_BYTES;

    fn any_expression() -> impl Strategy<Value = OwnedKeyExpr> {
        let chunk = "(a|b|ab|ba|@a|@b|\\*|\\*\\*|\\$\\*a|a\\$\\*|a\\$\\*b|\\$\\*b\\$\\*)";
        prop::collection::vec(chunk, 1..6).prop_filter_map("not canonical", |chunks| {
            OwnedKeyExpr::autocanonize(chunks.join("/")).ok()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 50_000, ..ProptestConfig::default() })]

        #[test]
        fn it_says_what_zenoh_says(a in any_expression(), b in any_expression(), key in "(a|b|ab|ba|@a|@b)(/(a|b|ab|ba|@a|@b)){0,6}") {
            prop_assert_eq!(intersect(&a, &b), a.intersects(&b), "{} and {}", a, b);
            prop_assert_eq!(intersect(&b, &a), a.intersects(&b), "{} and {}", b, a);
            let key = OwnedKeyExpr::try_from(key).expect("a key");
            prop_assert_eq!(intersect(&a, &key), a.intersects(&key), "{} and {}", a, key);
            prop_assert_eq!(intersect(&key, &a), a.includes(&key), "{} and {}", a, key);
        }
    }

    /// Zenoh's own overflows the stack at the first of these.
    #[test]
    fn the_longest_keys_take_neither_stack_nor_time() {
        let key = "a/".repeat(MAX_KEY_BYTES / 2 - 4) + "a";
        // Twelve of these would be tried at 30,000 chunks each, one within the other.
        let many = "**/a/".repeat(12) + "b";
        let worker = thread::Builder::new().stack_size(2 << 20);
        let worker = worker.spawn(move || {
            let key = keyexpr::new(&key).expect("a key");
            let is_there = |pattern: &str| {
                let pattern = keyexpr::new(pattern).expect("a pattern");
                let found = intersect(pattern, key);
                assert_eq!(intersect(key, pattern), found);
                found
            };
            assert!(!is_there("a/**/b"));
            assert!(is_there("a/**/a"));
            assert!(!is_there(&many));
        });
        worker.expect("a thread").join().expect("no panic");
    }
}
