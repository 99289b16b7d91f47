//! Wildcard rules: a put or delete of a pattern, as one cell.
//!
//! A stamped put or delete of a key expression with wildcards is a cell of its own, a *rule*:
//! (pattern, kind) → (timestamp, value). Its key is the pattern; the key's own cell is a
//! tombstone, the *delete rule*, and the cell of the part [`PUT_PART`] is a value, the *put
//! rule*. Of one pattern and kind the last writer wins, as of any cell. A pattern is text that
//! begins with its literal beginning, so the rule lies inside the range of the keys that begin
//! so.
//!
//! **A delete rule** acts as a tombstone in the own cell of every key that the pattern matches,
//! known or not: it *covers* every cell of such a key that is not newer, and the put rule of
//! its own pattern. What is covered is as if it had never been, and leaves tree and store. So
//! the cells that stay are a function of the cells that came, whatever their order: a cell
//! stays if it is the newest of its key and part, and nothing that came covers it; and of what
//! covers, nothing is lost, since a tombstone gives way only to a newer version of itself, or to
//! a delete rule that is not older and covers all that it covered.
//!
//! **A put rule** covers nothing. A key whose own cell is a value, with no newer part beside it,
//! and older than a put rule that matches, shows the rule's value, encoding and timestamp. So a
//! put rule changes keys that have a value, whichever comes first, and brings back none.
//!
//! | what a key has | what a get shows |
//! |---|---|
//! | no cell that is newer than the newest delete rule that matches | nothing |
//! | as its newest cell a tombstone | nothing |
//! | as its newest cell a part | the parts, merged |
//! | as its newest cell a value, older than the newest put rule that matches | the rule's value |
//! | as its newest cell a value, newer than that | its value |

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use thiserror::Error;
use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use crate::cell::{Cell, CellKey, Key, Part, Timestamp, Version, intersect};

/// The part of a put rule.
pub const PUT_PART: &[u8] = &[0];

/// Bytes that a pattern may have.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// Bytes that the value of a put rule may have.
pub const MAX_RULE_VALUE_BYTES: usize = 64 << 10;

/// Rules that a storage makes of what clients do: beyond that, an update of a pattern is
/// expanded to the keys that are known.
pub const MAX_RULES: usize = 1024;

/// Bytes of patterns and values up to which a storage makes rules.
pub const MAX_RULES_BYTES: usize = 4 << 20;

/// Rules that a storage takes from other replicas and from backups: what as many replicas
/// make that cannot hear of each other.
pub const MAX_FOREIGN_RULES: usize = 16 * MAX_RULES;

/// Bytes of rules that a storage takes from other replicas and from backups.
pub const MAX_FOREIGN_RULES_BYTES: usize = 16 * MAX_RULES_BYTES;

/// Why a cell whose key is a pattern is no rule.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRule {
    /// The part is not that of a rule, or has the content of the other kind.
    #[error("a pattern has a tombstone, or a value in the part 00")]
    Kind,
    /// The pattern is too long.
    #[error("the pattern has {0} bytes, allowed are {MAX_PATTERN_BYTES}")]
    PatternTooLong(usize),
    /// The value is too long.
    #[error("the value has {0} bytes, allowed are {MAX_RULE_VALUE_BYTES} for a pattern")]
    ValueTooLong(usize),
}

/// Whether a cell, whose key is a pattern, is a rule.
///
/// # Errors
/// If it is none.
pub fn check(key: &CellKey, cell: &Cell) -> Result<(), InvalidRule> {
    check_size(&key.key, cell.value_bytes())?;
    match (key.part.as_bytes(), cell.value()) {
        ([], None) | (PUT_PART, Some(_)) => Ok(()),
        _ => Err(InvalidRule::Kind),
    }
}

/// Whether a rule may have this pattern, and a value of so many bytes.
///
/// # Errors
/// If one of them is too long.
pub(crate) fn check_size(pattern: &Key, value_bytes: usize) -> Result<(), InvalidRule> {
    let pattern = pattern.as_str().map_or(0, str::len);
    if pattern > MAX_PATTERN_BYTES {
        return Err(InvalidRule::PatternTooLong(pattern));
    }
    if value_bytes > MAX_RULE_VALUE_BYTES {
        return Err(InvalidRule::ValueTooLong(value_bytes));
    }
    Ok(())
}

/// The key of the rule that puts to a pattern, or deletes.
#[must_use]
pub fn rule_key(pattern: OwnedKeyExpr, is_put: bool) -> CellKey {
    CellKey {
        key: Some(pattern).into(),
        part: match is_put {
            true => Part::from(PUT_PART),
            false => Part::EMPTY,
        },
    }
}

/// Where the keys are that a pattern matches: no other is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reach<'a> {
    /// One that does not begin with the literal beginning: `a/**` matches `a`.
    pub(crate) exact: Option<&'a keyexpr>,
    /// What all others begin with.
    pub(crate) beginning: &'a str,
}

impl<'a> Reach<'a> {
    pub(crate) fn of(pattern: &'a keyexpr) -> Self {
        let text = pattern.as_str();
        let beginning = &text[..text.find(['*', '$']).unwrap_or(text.len())];
        let exact = beginning.strip_suffix('/');
        let exact = exact.and_then(|exact| keyexpr::new(exact).ok());
        let exact = exact.filter(|exact| intersect(pattern, exact));
        Self { exact, beginning }
    }
}

/// Whether `pattern` matches a key.
#[must_use]
pub fn matches(pattern: &keyexpr, key: &Key) -> bool {
    match key.as_key_expr() {
        Some(key) => intersect(pattern, key),
        // The key that has no chunk.
        None => pattern.as_str() == "**",
    }
}

/// The rules of one pattern.
#[derive(Clone, Debug)]
struct PatternRules {
    pattern: OwnedKeyExpr,
    deleted: Option<Timestamp>,
    put: Option<Arc<Cell>>,
}

impl PatternRules {
    fn count(&self) -> usize {
        usize::from(self.deleted.is_some()) + usize::from(self.put.is_some())
    }

    fn bytes(&self) -> usize {
        let value = self.put.as_ref().map_or(0, |put| put.value_bytes());
        self.count() * self.pattern.len() + value
    }

    fn key(&self, is_put: bool) -> CellKey {
        rule_key(self.pattern.clone(), is_put)
    }
}

/// What the rules that match say of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruled {
    /// The newest delete.
    pub deleted: Option<Timestamp>,
    /// The newest put.
    pub put: Option<Arc<Cell>>,
}

/// The rules that there are: of each pattern and kind the newest.
///
/// They are found by the chunks of a pattern that come before its first wildcard. A key is
/// compared with those patterns that begin as it does; where there are no rules, with none.
/// (Zenoh's key expression trees compare chunks by recursion, and of a `**` look at each chunk
/// of a key once for each that went before; keys and patterns come from anyone.)
#[derive(Clone, Debug, Default)]
pub struct WildcardRules {
    by_beginning: HashMap<Box<str>, Vec<PatternRules>, ahash::RandomState>,
    count: usize,
    bytes: usize,
}

/// The chunks of a pattern before its first wildcard.
fn literal_chunks(pattern: &str) -> &str {
    let end = pattern.find(['*', '$']).unwrap_or(pattern.len());
    pattern[..end].rfind('/').map_or("", |end| &pattern[..end])
}

impl WildcardRules {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes of their patterns and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Joins a rule: the newest of its pattern and kind stays, and a put that is newer than the
    /// delete of its pattern.
    pub fn join(&mut self, key: &CellKey, cell: &Arc<Cell>) {
        let Some(pattern) = key.key.as_key_expr() else {
            return;
        };
        let is_put = !key.part.is_empty();
        self.change(pattern, |rules| match is_put {
            true => {
                let is_newer = match &rules.put {
                    Some(put) if put.timestamp == cell.timestamp => {
                        Version::of(key, put) < Version::of(key, cell)
                    }
                    put => put.as_ref().map(|put| put.timestamp) < Some(cell.timestamp),
                };
                if is_newer && rules.deleted < Some(cell.timestamp) {
                    rules.put = Some(Arc::clone(cell));
                }
            }
            false => {
                rules.deleted = rules.deleted.max(Some(cell.timestamp));
                let covers = rules.deleted;
                rules.put.take_if(|put| covers >= Some(put.timestamp));
            }
        });
    }

    /// Forgets a rule, as if it had never come.
    pub fn remove(&mut self, key: &CellKey) {
        let Some(pattern) = key.key.as_key_expr() else {
            return;
        };
        let is_put = !key.part.is_empty();
        self.change(pattern, |rules| match is_put {
            true => rules.put = None,
            false => rules.deleted = None,
        });
    }

    fn change(&mut self, pattern: &OwnedKeyExpr, change: impl FnOnce(&mut PatternRules)) {
        let beginning = literal_chunks(pattern);
        let alike = self.by_beginning.entry(beginning.into()).or_default();
        let index = alike.iter().position(|rules| rules.pattern == *pattern);
        let index = index.unwrap_or_else(|| {
            alike.push(PatternRules {
                pattern: pattern.clone(),
                deleted: None,
                put: None,
            });
            alike.len() - 1
        });
        let rules = &mut alike[index];
        self.count -= rules.count();
        self.bytes -= rules.bytes();
        change(rules);
        self.count += rules.count();
        self.bytes += rules.bytes();
        if rules.count() == 0 {
            alike.swap_remove(index);
        }
        if alike.is_empty() {
            self.by_beginning.remove(beginning);
        }
    }

    /// Whether there is a rule of this pattern and kind.
    #[must_use]
    pub fn has(&self, key: &CellKey) -> bool {
        self.of(&key.key)
            .is_some_and(|rules| match key.part.is_empty() {
                true => rules.deleted.is_some(),
                false => rules.put.is_some(),
            })
    }

    fn of(&self, pattern: &Key) -> Option<&PatternRules> {
        let pattern = pattern.as_key_expr()?;
        let alike = self.by_beginning.get(literal_chunks(pattern))?;
        alike.iter().find(|rules| rules.pattern == *pattern)
    }

    /// The cell of the put rule with this key.
    #[must_use]
    pub fn put_rule(&self, key: &CellKey) -> Option<&Arc<Cell>> {
        self.of(&key.key)?.put.as_ref()
    }

    /// The rules, in no order: their keys, and of a put its cell.
    pub fn iter(&self) -> impl Iterator<Item = (CellKey, Timestamp, Option<&Arc<Cell>>)> {
        self.by_beginning.values().flatten().flat_map(|rules| {
            let deleted = rules.deleted.map(|at| (rules.key(false), at, None));
            let put = rules.put.as_ref();
            let put = put.map(|put| (rules.key(true), put.timestamp, Some(put)));
            deleted.into_iter().chain(put)
        })
    }

    /// The rules that match a key. O(1) if there are none; else O(chunks of the key), and each
    /// pattern that begins as the key does is compared with it.
    fn matching<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a PatternRules> {
        let text = key.as_str().unwrap_or_default();
        let ends = text.match_indices('/').map(|(end, _)| end);
        let ends = ends.chain((!text.is_empty()).then_some(text.len()));
        let beginnings = std::iter::once("").chain(ends.map(|end| &text[..end]));
        let alike = beginnings.filter_map(|beginning| self.by_beginning.get(beginning));
        let rules = alike.flatten();
        rules.filter(|rules| matches(&rules.pattern, key))
    }

    /// Up to when cells of a key are covered by delete rules. Nothing of a pattern is.
    #[must_use]
    pub fn deleted(&self, key: &Key) -> Option<Timestamp> {
        if self.is_empty() || key.is_pattern() {
            return None;
        }
        self.matching(key).filter_map(|rules| rules.deleted).max()
    }

    /// What the rules say of a key, if any matches it.
    #[must_use]
    pub fn of_key(&self, key: &Key) -> Option<Ruled> {
        if self.is_empty() || key.is_pattern() {
            return None;
        }
        let mut ruled = Ruled::default();
        let mut put: Option<(Timestamp, &PatternRules)> = None;
        for rules in self.matching(key) {
            ruled.deleted = ruled.deleted.max(rules.deleted);
            let at = rules.put.as_ref().map(|put| put.timestamp);
            let new = at.map(|at| (at, rules));
            // Of two at one time the pattern decides.
            let is_newer = match (new, put) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some((at, rules)), Some((other, others))) => {
                    (at, rules.pattern.as_str()) > (other, others.pattern.as_str())
                }
            };
            if is_newer {
                put = new;
            }
        }
        ruled.put = put.and_then(|(_, rules)| rules.put.clone());
        (ruled != Ruled::default()).then_some(ruled)
    }
}
