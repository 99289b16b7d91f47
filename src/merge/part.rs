//! Parts: the bytes that tell the cells of one key apart.
//!
//! The key's own cell has the empty part; what last writer wins writes is there,
//! and so are deletes. All others begin with the tag of the strategy that wrote
//! them, so that cells say by themselves how they are to be read. Within an
//! object the name of the field is followed by what would be a part of its own.

use crate::cell::{read_text, write_text};

/// Tags of strategies. They are on disk and on the wire.
pub(super) mod tag {
    pub(in crate::merge) const ADDITIVE: u8 = 1;
    pub(in crate::merge) const SET_UNION: u8 = 2;
    pub(in crate::merge) const OBJECT: u8 = 3;
    pub(in crate::merge) const AUTOMERGE: u8 = 4;
    /// Followed by the name of the strategy, and a zero.
    pub(in crate::merge) const CUSTOM: u8 = 0x7f;
}

/// What the parts of a custom strategy begin with.
pub(super) fn custom_prefix(name: &str) -> Vec<u8> {
    let mut prefix = vec![tag::CUSTOM];
    prefix.extend_from_slice(name.as_bytes());
    prefix.push(0);
    prefix
}

/// Splits what begins with text and a zero.
fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..zero], &bytes[zero + 1..]))
}

/// Which strategy wrote a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer<'a> {
    BuiltIn(u8),
    Custom(&'a str),
    /// None that there is.
    Unknown,
}

/// Splits a part, that is not empty, into who wrote it and what it is for that
/// strategy.
pub(super) fn split(part: &[u8]) -> (Writer<'_>, &[u8]) {
    match part.split_first() {
        Some((&tag::CUSTOM, rest)) => match split_at_zero(rest) {
            Some((name, rest)) => match std::str::from_utf8(name) {
                Ok(name) => (Writer::Custom(name), rest),
                Err(_) => (Writer::Unknown, rest),
            },
            None => (Writer::Unknown, rest),
        },
        Some((tag @ tag::ADDITIVE..=tag::AUTOMERGE, rest)) => (Writer::BuiltIn(*tag), rest),
        Some(_) | None => (Writer::Unknown, part),
    }
}

/// What the parts of a field begin with: so that fields are in the order of their
/// names, and none is the beginning of another.
pub(super) fn field_prefix(name: &str) -> Vec<u8> {
    let mut prefix = Vec::new();
    write_text(name, &mut prefix);
    prefix
}

/// Splits a part of an object into the name of the field and what follows it.
/// Nothing, if it is no such part.
pub(super) fn split_field(part: &[u8]) -> Option<(String, &[u8])> {
    let (name, after) = read_text(part).ok()?;
    Some((String::from_utf8(name.into_owned()).ok()?, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_read_back_and_are_in_order(a in "[\0-\u{2}a-cé]{0,5}", b in "[\0-\u{2}a-cé]{0,5}", rest: Vec<u8>) {
            let with = |name: &str| [field_prefix(name), rest.clone()].concat();
            let part = with(&a);
            prop_assert_eq!(split_field(&part), Some((a.clone(), &rest[..])));
            if a != b {
                prop_assert_eq!(a.cmp(&b), with(&a).cmp(&with(&b)));
                prop_assert!(!field_prefix(&a).starts_with(&field_prefix(&b)));
            }
        }

        #[test]
        fn any_bytes_are_no_field_or_canonical(bytes in prop::collection::vec(0u8..4, 0..8)) {
            if let Some((name, rest)) = split_field(&bytes) {
                prop_assert_eq!([&field_prefix(&name), rest].concat(), bytes);
            }
        }
    }

    #[test]
    fn writers_are_told_apart() {
        assert_eq!(split(&[1, 9]), (Writer::BuiltIn(tag::ADDITIVE), &[9][..]));
        let part = [&custom_prefix("max")[..], b"x"].concat();
        assert_eq!(part, b"\x7fmax\0x");
        assert_eq!(split(&part), (Writer::Custom("max"), &b"x"[..]));
        assert_eq!(split(b"\x7fmax").0, Writer::Unknown);
        assert_eq!(split(b"\x7f\xff\0").0, Writer::Unknown);
        assert_eq!(split(&[5]).0, Writer::Unknown);
        assert_eq!(split(&[]).0, Writer::Unknown);
    }
}
