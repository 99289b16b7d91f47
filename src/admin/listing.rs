//! Lists of keys, and of the cells of a key.

use std::ops::Bound;

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::{AdminError, Administration};
use crate::cell::{Cell, CellKey, Key, Timestamp, intersect};

/// The most keys in an answer.
const MAX_LISTED: usize = 10_000;
const DEFAULT_LISTED: usize = 1000;

/// The most cells that an answer looks at.
const MAX_LOOKED_AT: usize = 200_000;

/// The keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Keys after this one, as clients write it.
    pub after: Option<String>,
    /// Keys, as clients write them, that begin with this text.
    pub prefix: Option<String>,
    /// Keys with cells above this one, and below `high`.
    pub low: Option<CellKey>,
    /// See `low`.
    pub high: Option<CellKey>,
    /// Keys that this key expression matches.
    pub matching: Option<OwnedKeyExpr>,
    /// Whether to list deleted keys, too.
    pub deleted: bool,
    /// Whether to say how large each is, for which its rows are read.
    pub bytes: bool,
    /// The most keys to list.
    pub limit: Option<usize>,
}

/// A settled key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key, as clients write it.
    pub key: String,
    /// The timestamp of its newest cell.
    pub timestamp: Timestamp,
    /// The number of its cells.
    pub cells: usize,
    /// Bytes of its cells: of their keys and values; only if they were asked for.
    pub bytes: Option<u64>,
    /// Whether it has no value.
    pub deleted: bool,
    /// When the last of its cells dies or is hidden, in NTP64, if it has a lifetime, or its value says
    /// for how long it is shown.
    pub expires: Option<u64>,
    /// Whether it is a pattern, and its cells are rules.
    pub rule: bool,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ascending.
    pub keys: Vec<Listed>,
    /// The key to continue after; none at the end.
    pub next: Option<String>,
}

impl Administration {
    /// Lists settled keys, in order. O(keys looked at).
    ///
    /// # Errors
    /// If `after` is not a key of this storage; or, if it reads rows, the store cannot be read.
    pub fn list(&self, listing: &Listing) -> Result<Page, AdminError> {
        let limit = listing.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
        let after = listing.after.as_deref();
        let after = after.map(|after| match self.group.stored_expression(after) {
            Some(rule) if rule.is_pattern() => Ok(rule),
            _ => self.stored_key(after),
        });
        let after = after.transpose()?;
        let prefix = listing.prefix.as_deref().unwrap_or_default();
        let low = match (&after, &listing.low, self.before_prefix(prefix)) {
            (Some(after), _, _) => Bound::Included(CellKey::own(after.clone())),
            (None, Some(low), _) => Bound::Excluded(low.clone()),
            (None, None, Some(first)) => Bound::Included(CellKey::own(first)),
            (None, None, None) => Bound::Unbounded,
        };
        let high = listing.high.clone();
        let high = high.map_or(Bound::Unbounded, Bound::Excluded);
        let (snapshot, now) = (self.replica.snapshot()?, self.now());
        let Ok(cells) = snapshot.tree.range((low, high));
        let cells = cells.map(|entry| {
            let Ok(entry) = entry;
            entry
        });
        let mut cells = cells
            .skip_while(|(key, _)| after.as_ref() == Some(&key.key))
            .peekable();
        let mut page = Page::default();
        let mut looked_at = 0;
        while let Some((first, version)) = cells.next() {
            let key = &first.key;
            let (mut timestamp, mut count) = (version.timestamp(), 1);
            let mut of_key = Vec::new();
            if listing.bytes {
                of_key.push((first, version));
            }
            let hidden = Some(version.shown_until()).filter(|_| first.part.is_empty());
            // No part is covered, so a key with parts has a value.
            let mut deleted = first.part.is_empty() && version.is_tombstone();
            while let Some((next, version)) = cells.next_if(|(next, _)| next.key == *key) {
                if listing.bytes {
                    of_key.push((next, version));
                }
                timestamp = timestamp.max(version.timestamp());
                count += 1;
                deleted = false;
            }
            looked_at += count;
            let Some(full) = self.group.full_key(key) else {
                continue;
            };
            let begins = full.starts_with(prefix);
            if !begins && full.as_str() > prefix {
                break;
            }
            let rule = key.is_pattern();
            deleted &= !rule;
            let expires = self.replica.lifetimes().of(key);
            let expires = expires.map(|lifetime| lifetime.death(timestamp.time));
            deleted |= expires.is_some_and(|expires| expires <= now);
            // A value that says so itself is hidden before, unless it is merged with others.
            let hidden = hidden.filter(|until| count == 1 && (1..u64::MAX).contains(until));
            let expires = hidden.into_iter().chain(expires).min();
            // A put rule may show another one since.
            let is_hidden = hidden.is_some_and(|until| until <= now);
            deleted |= is_hidden && self.replica.last_write(key).is_none();
            if begins && (listing.deleted || !deleted) && matches(listing, &full) {
                let bytes = of_key.iter().map(|(key, held)| snapshot.bytes(key, held));
                page.keys.push(Listed {
                    key: full.clone(),
                    timestamp,
                    cells: count,
                    bytes: listing
                        .bytes
                        .then(|| bytes.sum::<Result<_, _>>())
                        .transpose()?,
                    deleted,
                    expires,
                    rule,
                });
            }
            let is_full = page.keys.len() == limit || looked_at >= MAX_LOOKED_AT;
            if is_full && cells.peek().is_some() {
                page.next = Some(full);
                break;
            }
        }
        Ok(page)
    }

    /// A key with which a listing of the keys that begin with `prefix` may begin: none of
    /// them is before it. None if there is none that can be written.
    fn before_prefix(&self, prefix: &str) -> Option<Key> {
        let key = |text: &str| self.group.stored_expression(text);
        let whole_chunks = |prefix: &str| key(&prefix[..prefix.rfind('/')?]);
        key(prefix.trim_end_matches('/')).or_else(|| whole_chunks(prefix))
    }

    /// The cells of a key, pending ones too, as JSON for people; nothing if there are
    /// none. Blocks on disk.
    ///
    /// # Errors
    /// If the store cannot be read, or a cell of the key is in quarantine.
    pub fn cells(&self, key: &Key) -> Result<Option<Cell>, AdminError> {
        Ok(self.replica.raw(key)?)
    }
}

fn matches(listing: &Listing, full: &str) -> bool {
    let Some(pattern) = &listing.matching else {
        return true;
    };
    keyexpr::new(full).is_ok_and(|full| intersect(pattern, full))
}
