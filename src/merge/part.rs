//! Parts: the bytes that tell the cells of one key apart.
//!
//! The key's own cell has the empty part; what last writer wins writes is there,
//! and so are deletes. All others begin with the tag of the strategy that wrote
//! them, so that cells say by themselves how they are to be read. Within an
//! object the name of the field is followed by what would be a part of its own.
//!
//! **Nesting is bounded.** A part comes from anyone: a peer, a backup, a disk. It
//! may name objects within objects as often as its bytes allow, some 20,000 times.
//! All that reads parts therefore asks [`Nesting`], which knows no object below
//! [`MAX_NESTING`] others: there a part is one of no strategy that there is. So
//! walks over parts, and the folds that are made of them, are at most so deep.

use std::borrow::Cow;

use crate::cell::{read_text, write_text};

/// Objects that a part may name within each other, the outermost among them.
///
/// More are refused in configurations and in cells of other replicas. In the cells
/// that a store holds already, what is deeper is of an unknown strategy: the field
/// that it is in is not shown, all others are.
pub const MAX_NESTING: usize = 16;

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

/// The name of the custom strategy that wrote a part, and what is after its prefix.
fn split_custom(after_tag: &[u8]) -> Option<(&str, &[u8])> {
    let zero = after_tag.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&after_tag[..zero]).ok()?;
    Some((name, &after_tag[zero + 1..]))
}

/// Which strategy wrote a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer<'a> {
    Additive,
    SetUnion,
    Object,
    Automerge,
    Custom(&'a str),
    /// None that there is.
    Unknown,
    /// None that there is where the part is: it would nest too deeply.
    TooDeep,
}

/// A part that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tagged<'a> {
    pub(super) writer: Writer<'a>,
    /// What all parts of this writer begin with, where there is one.
    pub(super) prefix: &'a [u8],
    /// What the part is for its writer.
    pub(super) rest: &'a [u8],
}

/// What a place is within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nesting {
    /// Never more than [`MAX_NESTING`]: there is no object to go into then.
    objects: u8,
    /// Within a custom strategy no other is found: it would not be known how often
    /// they alternate, since what their parts say is for them alone to know.
    is_custom: bool,
}

impl Nesting {
    /// A key is within nothing.
    pub(super) const KEY: Self = Self {
        objects: 0,
        is_custom: false,
    };

    /// Within a custom strategy that is made of ours.
    pub(super) const CUSTOM: Self = Self {
        objects: 0,
        is_custom: true,
    };

    /// That of the fields of an object that is here.
    pub(super) fn object(self) -> Self {
        Self {
            objects: self.objects + 1,
            ..self
        }
    }

    /// Whether an object may be here.
    fn has_room(self) -> bool {
        usize::from(self.objects) < MAX_NESTING
    }

    /// Splits a part of a place that is here. Nothing, if it is the empty part, that
    /// of the place's own cell.
    pub(super) fn split(self, part: &[u8]) -> Option<Tagged<'_>> {
        let (tag, rest) = part.split_first()?;
        let (writer, rest) = match *tag {
            tag::ADDITIVE => (Writer::Additive, rest),
            tag::SET_UNION => (Writer::SetUnion, rest),
            tag::OBJECT if self.has_room() => (Writer::Object, rest),
            tag::OBJECT => (Writer::TooDeep, part),
            tag::AUTOMERGE => (Writer::Automerge, rest),
            tag::CUSTOM => match split_custom(rest) {
                Some(_) if self.is_custom => (Writer::TooDeep, part),
                Some((name, rest)) => (Writer::Custom(name), rest),
                None => (Writer::Unknown, part),
            },
            _ => (Writer::Unknown, part),
        };
        let prefix = &part[..part.len() - rest.len()];
        Some(Tagged {
            writer,
            prefix,
            rest,
        })
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
pub(super) fn split_field(part: &[u8]) -> Option<(Cow<'_, str>, &[u8])> {
    let (name, after) = read_text(part).ok()?;
    let name = match name {
        Cow::Borrowed(name) => Cow::Borrowed(std::str::from_utf8(name).ok()?),
        Cow::Owned(name) => Cow::Owned(String::from_utf8(name).ok()?),
    };
    Some((name, after))
}

/// The parts of the own cells of the fields that a part is within, the outermost first. The cell of
/// the part is covered by each of these that is not older, as it is by the key's own.
pub(crate) fn fields_around(part: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut nesting = Nesting::KEY;
    let mut at = 0;
    std::iter::from_fn(move || {
        let Tagged { writer, rest, .. } = nesting.split(&part[at..])?;
        if writer != Writer::Object {
            return None;
        }
        let (_, within) = split_field(rest)?;
        nesting = nesting.object();
        at = part.len() - within.len();
        (!within.is_empty()).then_some(&part[..at])
    })
}

/// Whether a part is that of the own cell of a field, which covers what is within it.
pub(crate) fn is_of_field(part: &[u8]) -> bool {
    let Path { fields, end } = Path::of(Nesting::KEY, part);
    !fields.is_empty() && end == End::Own
}

/// A part, parsed: the fields that lead to a place, and what the cell is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// Each within the one before. No more than [`MAX_NESTING`].
    pub(super) fields: Vec<Cow<'a, str>>,
    pub(super) end: End<'a>,
}

/// What a cell is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End<'a> {
    /// The place's own cell.
    Own,
    /// The cell that says that there is an object.
    Object,
    /// Within an object, but of no field.
    NoField,
    /// What is no object.
    Tagged(Tagged<'a>),
}

impl<'a> Path<'a> {
    /// That of a part of a place.
    pub(super) fn of(nesting: Nesting, part: &'a [u8]) -> Self {
        let end = match nesting.split(part) {
            None => End::Own,
            Some(Tagged {
                writer: Writer::Object,
                rest,
                ..
            }) => return Self::within_object(nesting.object(), rest),
            Some(tagged) => End::Tagged(tagged),
        };
        Self {
            fields: Vec::new(),
            end,
        }
    }

    /// That of a part of an object whose fields are within `nesting`.
    pub(super) fn within_object(mut nesting: Nesting, mut part: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        let end = loop {
            let Some((name, within)) = split_field(part) else {
                break match part {
                    [] => End::Object,
                    _ => End::NoField,
                };
            };
            fields.push(name);
            match nesting.split(within) {
                None => break End::Own,
                Some(Tagged {
                    writer: Writer::Object,
                    rest,
                    ..
                }) => (nesting, part) = (nesting.object(), rest),
                Some(tagged) => break End::Tagged(tagged),
            }
        };
        Self { fields, end }
    }
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
            prop_assert_eq!(split_field(&part), Some((Cow::Borrowed(&*a), &rest[..])));
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
        let tagged = |writer, prefix, rest| {
            Some(Tagged {
                writer,
                prefix,
                rest,
            })
        };
        let split = |part| Nesting::KEY.split(part);
        assert_eq!(split(&[1, 9]), tagged(Writer::Additive, &[1], &[9]));
        assert_eq!(split(&[2]), tagged(Writer::SetUnion, &[2], &[]));
        assert_eq!(split(&[3, 9]), tagged(Writer::Object, &[3], &[9]));
        assert_eq!(split(&[4, 9]), tagged(Writer::Automerge, &[4], &[9]));
        let part = [&custom_prefix("max")[..], b"x"].concat();
        assert_eq!(part, b"\x7fmax\0x");
        let custom = tagged(Writer::Custom("max"), b"\x7fmax\0", b"x");
        assert_eq!(split(&part), custom);
        for unknown in [&b"\x7fmax"[..], b"\x7f\xff\0", &[5], &[0, 1], &[0xff]] {
            assert_eq!(split(unknown), tagged(Writer::Unknown, &[], unknown));
        }
        assert_eq!(split(&[]), None);
        assert_eq!(
            Nesting::CUSTOM.split(&part),
            tagged(Writer::TooDeep, &[], &part),
            "no custom strategy within another"
        );
    }

    #[test]
    fn a_path_is_what_a_part_says_place_by_place() {
        let path = |part| {
            let Path { fields, end } = Path::of(Nesting::KEY, part);
            (fields.join("/"), end)
        };
        assert_eq!(path(b""), (String::new(), End::Own));
        assert_eq!(path(b"\x03"), (String::new(), End::Object));
        assert_eq!(path(b"\x03a"), (String::new(), End::NoField));
        assert_eq!(path(b"\x03a\0\x01"), ("a".to_owned(), End::Own));
        assert_eq!(path(b"\x03a\0\x01\x03"), ("a".to_owned(), End::Object));
        let (fields, end) = path(b"\x03a\0\x01\x03\0\xff\0\x01\x02x");
        assert_eq!(fields, "a/\0");
        let tagged = Nesting::KEY.split(b"\x02x").map(End::Tagged);
        assert_eq!(Some(end), tagged);
    }

    #[test]
    fn what_is_within_a_field_is_covered_by_its_own_cell() {
        let around = |part| fields_around(part).map(<[u8]>::to_vec).collect::<Vec<_>>();
        for alone in [
            &b""[..],
            b"\x03",
            b"\x03a",
            b"\x03a\0\x01",
            b"\x01x",
            b"\x02\x12",
        ] {
            assert!(around(alone).is_empty(), "{alone:02x?}");
        }
        let (a, b) = (b"\x03a\0\x01".to_vec(), b"\x03a\0\x01\x03b\0\x01".to_vec());
        assert_eq!(around(b"\x03a\0\x01\x03"), std::slice::from_ref(&a));
        assert_eq!(around(b"\x03a\0\x01\x01x"), std::slice::from_ref(&a));
        assert_eq!(around(&b), std::slice::from_ref(&a));
        assert_eq!(
            around(b"\x03a\0\x01\x03b\0\x01\x02\x12"),
            [a.clone(), b.clone()]
        );
        assert!(is_of_field(&a) && is_of_field(&b));
        for other in [
            &b""[..],
            b"\x03",
            b"\x03a",
            b"\x03a\0\x01\x03",
            b"\x03a\0\x01\x01x",
        ] {
            assert!(!is_of_field(other), "{other:02x?}");
        }
        let deep = b"\x03a\0\x01".repeat(40);
        assert_eq!(
            around(&deep).len(),
            MAX_NESTING,
            "the last is of no strategy"
        );
        assert!(!is_of_field(&deep));
        assert!(is_of_field(&deep[..4 * MAX_NESTING]));
    }

    #[test]
    fn a_path_ends_at_the_limit() {
        const FIELD: [u8; 3] = [tag::OBJECT, 0, 1];
        for levels in (0..=40).chain([1_000, 20_000]) {
            let part = FIELD.repeat(levels);
            let path = Path::of(Nesting::KEY, &part);
            assert_eq!(path.fields.len(), levels.min(MAX_NESTING));
            let is_deep = levels > MAX_NESTING;
            let rest = &part[levels.min(MAX_NESTING) * FIELD.len()..];
            let too_deep = Tagged {
                writer: Writer::TooDeep,
                prefix: &[],
                rest,
            };
            let end = if is_deep {
                End::Tagged(too_deep)
            } else {
                End::Own
            };
            assert_eq!(path.end, end, "{levels} levels");
        }
        // Not even an empty object, which names no field.
        let part = [&FIELD.repeat(MAX_NESTING)[..], &[tag::OBJECT]].concat();
        let path = Path::of(Nesting::KEY, &part);
        assert!(matches!(
            path.end,
            End::Tagged(Tagged {
                writer: Writer::TooDeep,
                ..
            })
        ));
    }
}
