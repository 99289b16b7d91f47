//! Keys of cells, and their bytes.

use std::{borrow::Cow, cmp::Ordering, fmt, sync::Arc};

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::reader::DecodeError;
use crate::mst::TreeKey;

/// Canonical bytes that a cell's key may have: what the storage engine takes,
/// with room to spare for prefixes of its own.
pub const MAX_KEY_BYTES: usize = 60_000;

/// Chunks that a key may have.
///
/// Zenoh's storage manager compares every key with the expression of a wildcard get, by a call
/// for each chunk: one key of 29,000 chunks overflows the stack of a thread, and takes the router down.
pub const MAX_KEY_CHUNKS: usize = 4096;

/// The first chunk of keys by which members of a group know each other.
pub(crate) const MEMBERS: &str = "@mst.member";

const NONE: u8 = 0;
const SOME: u8 = 1;
/// Ends a key: below every byte that can follow it in a longer one.
pub(crate) const END: [u8; 2] = [0, 1];
/// A zero byte within a key.
const ZERO: [u8; 2] = [0, 0xff];

/// A storage's key: a key expression, or nothing where the storage's `strip_prefix` is the
/// whole key. Nothing comes first. One with wildcards is a *pattern*: its cells are rules
/// ([`rule`](crate::wildcard)), and no client's value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Option<OwnedKeyExpr>);

impl Key {
    /// The key that equals the storage's `strip_prefix`.
    pub const NONE: Self = Self(None);

    /// The key as a key expression, if it is not [`NONE`](Self::NONE).
    #[must_use]
    pub fn as_key_expr(&self) -> Option<&OwnedKeyExpr> {
        self.0.as_ref()
    }

    /// The key as text, if it is not [`NONE`](Self::NONE).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_ref().map(|key| key.as_str())
    }
}

impl Key {
    /// Whether it has wildcards. O(length).
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.as_str().is_some_and(|key| key.contains('*'))
    }

    /// Whether it is no key of clients: a pattern, of a rule; or one by which
    /// [members](crate::collection::cells) of a group know each other. O(length).
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.is_pattern() || self.is_member_key()
    }

    /// Whether it is a key by which members of a group know each other. O(1).
    #[must_use]
    pub fn is_member_key(&self) -> bool {
        let text = self.as_str().and_then(|key| key.strip_prefix(MEMBERS));
        text.is_some_and(|rest| rest.starts_with('/'))
    }

    /// The key with a storage's prefix before it, as clients write it; nothing if there is none.
    #[must_use]
    pub fn with_prefix(&self, prefix: Option<&OwnedKeyExpr>) -> Option<OwnedKeyExpr> {
        match (prefix, self.as_key_expr()) {
            (None, key) => key.cloned(),
            (Some(prefix), None) => Some(prefix.clone()),
            (Some(prefix), Some(key)) => OwnedKeyExpr::try_from(format!("{prefix}/{key}")).ok(),
        }
    }
}

impl From<Option<OwnedKeyExpr>> for Key {
    fn from(key: Option<OwnedKeyExpr>) -> Self {
        Self(key)
    }
}

impl From<Key> for Option<OwnedKeyExpr> {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(&other.as_str())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            None => f.write_str("(the strip_prefix itself)"),
            Some(key) => f.write_str(key),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Key {
    /// Whether it has more chunks than [`MAX_KEY_CHUNKS`]. O(1) for keys that are too short for that.
    #[must_use]
    pub fn has_too_many_chunks(&self) -> bool {
        let text = self.as_str().unwrap_or_default();
        let slashes = || text.bytes().filter(|byte| *byte == b'/').count();
        text.len() >= 2 * MAX_KEY_CHUNKS && slashes() >= MAX_KEY_CHUNKS
    }
}

/// What tells the cells of one key apart. Most cells have the empty part, which
/// costs a null pointer.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Part(
    // Never an empty list: the empty part has one form.
    Option<Arc<Vec<u8>>>,
);

impl Part {
    /// The part of the key's own cell.
    pub const EMPTY: Self = Self(None);

    /// Whether this is the part of the key's own cell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The part's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes)
    }
}

impl From<&[u8]> for Part {
    fn from(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| Arc::new(bytes.to_vec())))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.as_bytes())
    }
}

/// The key of a cell. Ordered by key, then by part, as its canonical bytes are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// The storage's key.
    pub key: Key,
    /// The part of it.
    pub part: Part,
}

impl CellKey {
    /// The key of the cell that is the key's own.
    #[must_use]
    pub fn own(key: Key) -> Self {
        Self {
            key,
            part: Part::EMPTY,
        }
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.canonical_len());
        self.write_canonical(&mut bytes);
        bytes
    }

    /// Bytes of the key's text and of the part. O(1), and neither is looked at.
    #[must_use]
    pub fn text_and_part_len(&self) -> usize {
        self.key.as_str().map_or(0, str::len) + self.part.as_bytes().len()
    }

    /// Length of the canonical bytes. O(length).
    #[must_use]
    pub fn canonical_len(&self) -> usize {
        let key = self.key.as_str().map_or(0, |key| {
            let zeros = key.bytes().filter(|byte| *byte == 0).count();
            key.len() + zeros + END.len()
        });
        1 + key + self.part.as_bytes().len()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// If they are not a key's: a key that is not UTF-8, or no key expression; an
    /// unknown tag; an end that is missing.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(DecodeError::KeyTooLong(bytes.len()));
        }
        let (tag, mut rest) = bytes
            .split_first()
            .ok_or(DecodeError::Truncated { what: "key" })?;
        let key = match *tag {
            NONE => None,
            SOME => {
                let (text, after) = read_text(rest)?;
                rest = after;
                let text = std::str::from_utf8(&text).map_err(|_| DecodeError::KeyNotUtf8)?;
                match keyexpr::new(text) {
                    Ok(key) => Some(key.to_owned()),
                    Err(_) => return Err(DecodeError::NotAKey),
                }
            }
            tag => return Err(DecodeError::Tag { what: "key", tag }),
        };
        Ok(Self {
            key: key.into(),
            part: rest.into(),
        })
    }
}

/// Writes text with an end, so that it sorts as the text does, and none is the
/// beginning of another.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut pieces = text.as_bytes().split(|byte| *byte == 0);
    out.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        out.extend_from_slice(&ZERO);
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(&END);
}

/// Text as [`write_text`] writes it, and what comes after its end. Copied only if
/// there are zeros in it.
pub(crate) fn read_text(bytes: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), DecodeError> {
    let mut text = Cow::Borrowed(&[][..]);
    let mut rest = bytes;
    loop {
        let zero = rest.iter().position(|byte| *byte == 0);
        let zero = zero.ok_or(DecodeError::Truncated { what: "key" })?;
        let (piece, mark) = rest.split_at(zero);
        match text.is_empty() {
            true => text = Cow::Borrowed(piece),
            false => text.to_mut().extend_from_slice(piece),
        }
        match mark.split_first_chunk() {
            Some((&END, after)) => return Ok((text, after)),
            Some((&ZERO, after)) => {
                text.to_mut().push(0);
                rest = after;
            }
            Some(_) | None => return Err(DecodeError::KeyEscape),
        }
    }
}

impl TreeKey for CellKey {
    fn head(&self) -> &[u8] {
        self.key.as_str().unwrap_or_default().as_bytes()
    }

    fn cmp_beyond_head(&self, other: &Self) -> Ordering {
        let has_text = |key: &Self| key.key.as_str().is_some();
        let keys = has_text(self).cmp(&has_text(other));
        keys.then_with(|| self.part.cmp(&other.part))
    }

    fn write_canonical(&self, out: &mut Vec<u8>) {
        match self.key.as_str() {
            None => out.push(NONE),
            Some(key) => {
                out.push(SOME);
                write_text(key, out);
            }
        }
        out.extend_from_slice(self.part.as_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn key(text: &str) -> Key {
        Key(Some(text.try_into().expect("a key expression")))
    }

    /// Keys with chunks of letters that sort below and above the separators.
    pub(crate) fn any_cell_key() -> impl Strategy<Value = CellKey> {
        let text = "[\0\u{1}a-c\u{ff}é/*$]{0,6}".prop_filter_map("not a key expression", |text| {
            OwnedKeyExpr::try_from(text).ok()
        });
        let key = prop_oneof![1 => Just(None), 8 => text.prop_map(Some)];
        (key, prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(key, part)| CellKey {
            key: key.into(),
            part: part[..].into(),
        })
    }

    proptest! {
        #[test]
        fn canonical_bytes_are_ordered_as_keys_and_read_back(a in any_cell_key(), b in any_cell_key()) {
            prop_assert_eq!(a.canonical_len(), a.to_canonical().len());
            prop_assert_eq!(a.cmp(&b), a.to_canonical().cmp(&b.to_canonical()));
            if a.head() == b.head() {
                prop_assert_eq!(a.cmp_beyond_head(&b), a.cmp(&b));
            }
            prop_assert_eq!(CellKey::from_canonical(&a.to_canonical()), Ok(a));
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(key) = CellKey::from_canonical(&bytes) {
                prop_assert_eq!(key.to_canonical(), bytes);
            }
        }
    }

    #[test]
    fn canonical_bytes_are_pinned() {
        assert_eq!(CellKey::own(Key::NONE).to_canonical(), b"\0");
        assert_eq!(CellKey::own(key("a/b")).to_canonical(), b"\x01a/b\0\x01");
        let part = CellKey {
            key: key("a\0b"),
            part: b"\0p"[..].into(),
        };
        assert_eq!(part.to_canonical(), b"\x01a\0\xffb\0\x01\0p");
        let rule = CellKey::own(key("a/**"));
        assert_eq!(rule.to_canonical(), b"\x01a/**\0\x01");
        assert_eq!(CellKey::from_canonical(b"\x01a/**\0\x01"), Ok(rule));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let error = |bytes: &[u8]| CellKey::from_canonical(bytes).expect_err("not a key");
        assert_eq!(error(b""), DecodeError::Truncated { what: "key" });
        assert_eq!(error(b"\x01a"), DecodeError::Truncated { what: "key" });
        assert_eq!(error(b"\x01a\0"), DecodeError::KeyEscape);
        assert_eq!(error(b"\x01a\0\x02"), DecodeError::KeyEscape);
        assert_eq!(error(b"\x01\xff\xfe\0\x01"), DecodeError::KeyNotUtf8);
        assert_eq!(error(b"\x01a//b\0\x01"), DecodeError::NotAKey);
        assert_eq!(error(b"\x01a/**/**\0\x01"), DecodeError::NotAKey);
        assert_eq!(
            error(b"\x02"),
            DecodeError::Tag {
                what: "key",
                tag: 2
            }
        );
        let long = vec![b'a'; MAX_KEY_BYTES + 1];
        assert_eq!(error(&long), DecodeError::KeyTooLong(MAX_KEY_BYTES + 1));
    }

    #[test]
    fn an_empty_part_has_one_form() {
        assert_eq!(Part::from(&b""[..]), Part::EMPTY);
        assert_eq!(std::mem::size_of::<CellKey>(), 24);
    }

    #[test]
    fn chunks_are_limited() {
        let of = |chunks: usize| {
            let text = vec!["a"; chunks].join("/");
            Key::from(Some(OwnedKeyExpr::try_from(text).expect("a key")))
        };
        assert!(!Key::NONE.has_too_many_chunks());
        assert!(!of(1).has_too_many_chunks());
        assert!(!of(MAX_KEY_CHUNKS).has_too_many_chunks());
        assert!(of(MAX_KEY_CHUNKS + 1).has_too_many_chunks());
        let long = Key::from(Some(
            OwnedKeyExpr::try_from("a".repeat(50_000)).expect("a key"),
        ));
        assert!(!long.has_too_many_chunks());
    }
}
