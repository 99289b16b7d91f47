//! Identities: groups, replicas, and their names in Zenoh.
//!
//! ```text
//! @mst/2/<group>/<replica>           a liveliness token
//! @mst/2/<group>/<replica>/root      announcements
//! @mst/2/<group>/<replica>/digest    answers queries of digests
//! @mst/2/<group>/<replica>/entries   answers queries of cells
//! ```
//!
//! The queryables for operators stand beside these: see [`admin`](crate::admin).
//!
//! The first chunk is verbatim: no wildcard matches it.

use std::{fmt, str::FromStr};

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use crate::{
    cell::{Key, intersect},
    hash::{sha256, tag},
};

/// The version of the protocol, and of the tree that it compares.
pub const PROTOCOL: u8 = 2;

/// The first chunk of all key expressions of the protocol.
pub const PREFIX: &str = "@mst";

/// The name of a replica, drawn at random once and kept with the data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub [u8; 16]);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl AsRef<[u8]> for ReplicaId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text does not name a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a replica's identity is 32 hexadecimal digits")]
pub struct InvalidReplicaId;

impl FromStr for ReplicaId {
    type Err = InvalidReplicaId;

    fn from_str(text: &str) -> Result<Self, InvalidReplicaId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(InvalidReplicaId);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| InvalidReplicaId)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// One life of a replica: when its process opened it, and a random number. Of two with
/// one identity, the one with the greater incarnation is the younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation {
    /// NTP64.
    pub started: u64,
    /// Tells two apart that start at one time.
    pub nonce: u32,
}

/// What replicas of a group share: the keys that they hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The storage's key expression.
    pub key_expr: String,
    /// The prefix that the storage strips from keys.
    pub strip_prefix: Option<String>,
}

/// Separates the key expression from the prefix. Escaping keeps it out of both.
const SEPARATOR: char = '~';

/// Leaves characters that mean nothing in a key expression and are easy to read.
fn escape(text: &str, out: &mut String) {
    use fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => out.push(byte.into()),
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02x}")),
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Group {
    /// As a chunk of a key expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chunk = String::new();
        escape(&self.key_expr, &mut chunk);
        if let Some(prefix) = &self.strip_prefix {
            chunk.push(SEPARATOR);
            escape(prefix, &mut chunk);
        }
        f.write_str(&chunk)
    }
}

impl Group {
    /// The key that clients use for a key of the storage; none if nothing is stored under
    /// it.
    #[must_use]
    pub fn full_key(&self, key: &Key) -> Option<String> {
        match (self.strip_prefix.as_deref(), key.as_str()) {
            (None, None) => None,
            (None, Some(key)) => Some(key.to_owned()),
            (Some(prefix), None) => Some(prefix.to_owned()),
            (Some(prefix), Some(key)) => Some(format!("{prefix}/{key}")),
        }
    }

    /// The storage's key for a client's key; none if it is not a key, or does not begin
    /// with the prefix.
    #[must_use]
    pub fn stored_key(&self, full: &str) -> Option<Key> {
        self.stored_expression(full).filter(|key| !key.is_pattern())
    }

    /// As [`stored_key`](Self::stored_key), or the pattern of rules.
    #[must_use]
    pub fn stored_expression(&self, full: &str) -> Option<Key> {
        let rest = match self.strip_prefix.as_deref() {
            None => full,
            Some(prefix) => match full.strip_prefix(prefix)? {
                "" => return Some(Key::NONE),
                rest => rest.strip_prefix('/')?,
            },
        };
        let key = OwnedKeyExpr::try_from(rest).ok()?;
        Some(Some(key).into())
    }

    /// Whether the two may hold the same keys.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let both = [self, other].map(|group| keyexpr::new(group.key_expr.as_str()));
        match both {
            [Ok(own), Ok(theirs)] => intersect(own, theirs),
            _ => self == other,
        }
    }

    /// Reads a chunk of a key expression; none if it names no group.
    #[must_use]
    pub fn parse(chunk: &str) -> Option<Self> {
        let (key_expr, prefix) = match chunk.split_once(SEPARATOR) {
            Some((key_expr, prefix)) => (key_expr, Some(prefix)),
            None => (chunk, None),
        };
        let group = Self {
            key_expr: unescape(key_expr)?,
            strip_prefix: prefix.map_or(Some(None), |prefix| unescape(prefix).map(Some))?,
        };
        (group.to_string() == chunk && !group.key_expr.is_empty()).then_some(group)
    }
}

/// The content of a liveliness token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The version of the protocol that the replica speaks.
    pub protocol: u8,
    /// Its group.
    pub group: Group,
    /// The replica.
    pub replica: ReplicaId,
}

impl fmt::Display for Token {
    /// As a key expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            group,
            replica,
        } = self;
        write!(f, "{PREFIX}/{protocol}/{group}/{replica}")
    }
}

impl Token {
    /// Reads a key expression; none if it is not a token's.
    #[must_use]
    pub fn parse(key_expr: &str) -> Option<Self> {
        let mut chunks = key_expr.split('/');
        let (prefix, protocol) = (chunks.next()?, chunks.next()?);
        let (group, replica) = (chunks.next()?, chunks.next()?);
        if prefix != PREFIX || chunks.next().is_some() {
            return None;
        }
        Some(Self {
            protocol: protocol.parse().ok()?,
            group: Group::parse(group)?,
            replica: replica.parse().ok()?,
        })
    }
}

/// A hash of everything that has to be configured alike: replicas with different ones
/// exchange no data.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 8]);

crate::hash::hex_display!(Fingerprint);

impl Fingerprint {
    /// The fingerprint of a canonical text of the merge configuration.
    #[must_use]
    pub fn of(merge: &str) -> Self {
        let hash = sha256(&[tag::FINGERPRINT, &[PROTOCOL], merge.as_bytes()]);
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&hash[..8]);
        Self(fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_are_chunks_and_read_back(
            key_expr in "[a-z/*$~%@é]{1,20}",
            strip_prefix in prop::option::of("[a-z/~%]{0,10}"),
        ) {
            let group = Group { key_expr, strip_prefix };
            let chunk = group.to_string();
            prop_assert!(zenoh_keyexpr::keyexpr::new(&chunk).is_ok_and(|k| !k.contains('/') && !k.is_wild()));
            prop_assert_eq!(Group::parse(&chunk), Some(group));
        }

        #[test]
        fn any_chunk_is_refused_or_canonical(chunk in "[a-z0-9%~.]{0,12}") {
            if let Some(group) = Group::parse(&chunk) {
                prop_assert_eq!(group.to_string(), chunk);
            }
        }
    }

    #[test]
    fn names_are_pinned() {
        let token = Token {
            protocol: 2,
            group: Group {
                key_expr: "fleet/**".to_owned(),
                strip_prefix: Some("fleet".to_owned()),
            },
            replica: ReplicaId([0xab; 16]),
        };
        let text = "@mst/2/fleet%2f%2a%2a~fleet/abababababababababababababababab";
        assert_eq!(token.to_string(), text);
        assert_eq!(Token::parse(text), Some(token));
        for other in ["@mst/2/fleet", "@mst/x/a/b", "mst/2/a/ab", "@mst/2/a/AB"] {
            assert_eq!(Token::parse(other), None);
        }
        assert_eq!(Token::parse(&format!("{text}/root")), None);
        assert_eq!(Fingerprint::of("lww").to_string().len(), 16);
    }
}
