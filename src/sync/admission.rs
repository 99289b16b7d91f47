//! Checks the cells that another replica sends.

use std::time::Duration;

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::{
    cells::Received, identity::Group, pieces::Notice, refused::Refusal, rejections::Rejections,
};
use crate::{
    cell::{Cell, CellKey, MAX_KEY_BYTES, Timestamp, Version, intersect, ntp64_span},
    collection::cells::{self, is_of_members},
    merge,
    replica::MAX_VALUE_BYTES,
    wildcard,
};

/// The conditions for a storage to accept a cell.
pub struct Admission {
    /// None if it is not a key expression; then nothing is accepted.
    key_expr: Option<OwnedKeyExpr>,
    group: Group,
    max_clock_drift: Duration,
    /// Whether cells are taken by which members of a group know each other.
    is_of_members: bool,
}

impl Admission {
    /// Takes cells by which members of a group know each other, too.
    #[must_use]
    pub fn of_members(self, is_of_members: bool) -> Self {
        Self {
            is_of_members,
            ..self
        }
    }

    /// The conditions of the storage with this group's keys.
    #[must_use]
    pub fn new(group: &Group, max_clock_drift: Duration) -> Self {
        Self {
            key_expr: OwnedKeyExpr::try_from(group.key_expr.as_str()).ok(),
            group: group.clone(),
            max_clock_drift,
            is_of_members: false,
        }
    }

    /// Whether the storage's key expression and `other` overlap.
    pub(super) fn intersects(&self, other: &str) -> bool {
        let other = keyexpr::new(other).ok();
        let both = self.key_expr.as_deref().zip(other);
        both.is_some_and(|(own, other)| intersect(own, other))
    }

    /// The cells that may be joined when the clock shows `wall`, one by one, each with the result of
    /// hashing it; counts the others.
    pub fn admit_hashed<'a>(
        &'a self,
        received: Vec<Received>,
        rejected: &'a mut Rejections,
        wall: u64,
    ) -> impl Iterator<Item = (CellKey, Cell, Version)> + 'a {
        let each = received.into_iter();
        each.filter_map(move |received| self.admit_one(received, rejected, wall, |_| {}))
    }

    /// The cells that may be joined when the clock shows `wall`; and the others, as far as they are
    /// what the sender meant, which it counts. Hashes them.
    pub(super) fn sort(
        &self,
        received: Vec<Received>,
        rejected: &mut Rejections,
        wall: u64,
    ) -> (Vec<(CellKey, Cell)>, Vec<Refusal>) {
        let (mut admitted, mut refused) = (Vec::new(), Vec::new());
        for received in received {
            let refuse = |refusal| refused.push(refusal);
            if let Some((key, cell, _)) = self.admit_one(received, rejected, wall, refuse) {
                admitted.push((key, cell));
            }
        }
        (admitted, refused)
    }

    fn admit_one(
        &self,
        received: Received,
        rejected: &mut Rejections,
        wall: u64,
        refuse: impl FnOnce(Refusal),
    ) -> Option<(CellKey, Cell, Version)> {
        let Received { key, cell, .. } = &received;
        let refused = self.refuses(key, cell.value_bytes(), cell.timestamp, wall, rejected);
        let intact = received.intact();
        let (counter, until) = match (refused, intact) {
            (Some(refused), _) => refused,
            (None, None) => (&mut rejected.digest, None),
            (None, Some(_)) if !is_of_a_strategy(key, cell) => (&mut rejected.strategy, None),
            (None, Some(version)) => return Some((received.key, received.cell, version)),
        };
        *counter += 1;
        if let Some(version) = intact {
            let key = received.key;
            refuse(Refusal {
                key,
                version,
                until,
            });
        }
        None
    }

    /// The notices of cells that may be joined when the clock shows `wall`, as far as they tell, and
    /// the others, which it counts.
    pub(super) fn sort_notices(
        &self,
        notices: Vec<Notice>,
        rejected: &mut Rejections,
        wall: u64,
    ) -> (Vec<Notice>, Vec<Refusal>) {
        let mut refused = Vec::new();
        let admitted = notices.into_iter().filter(|notice| {
            // How long its value may be was checked when it was read.
            let refuses = self.refuses(&notice.key, 0, notice.timestamp, wall, rejected);
            if let Some((counter, until)) = refuses {
                *counter += 1;
                refused.push(Refusal::of(notice, until));
                return false;
            }
            true
        });
        (admitted.collect(), refused)
    }

    /// Where a cell is counted that is refused for its key, the length of its value, or its
    /// timestamp; and what the clock has to show until it is not, if it is that.
    fn refuses<'a>(
        &self,
        key: &CellKey,
        value_bytes: usize,
        timestamp: Timestamp,
        wall: u64,
        rejected: &'a mut Rejections,
    ) -> Option<(&'a mut u64, Option<u64>)> {
        let drift = ntp64_span(self.max_clock_drift);
        let latest = wall.saturating_add(drift);
        if !self.includes(key) {
            Some((&mut rejected.key_expr, None))
        } else if value_bytes > MAX_VALUE_BYTES
            || key.canonical_len() > MAX_KEY_BYTES
            || key.key.has_too_many_chunks()
            || key.key.is_pattern() && wildcard::check_size(&key.key, value_bytes).is_err()
        {
            Some((&mut rejected.too_large, None))
        } else if timestamp.time > latest {
            let until = timestamp.time.saturating_sub(drift);
            Some((&mut rejected.clock, Some(until)))
        } else {
            None
        }
    }

    /// Whether a key, with its prefix, is within the storage's key expression; or a pattern has
    /// keys in common with it.
    #[must_use]
    pub fn includes(&self, key: &CellKey) -> bool {
        if is_of_members(&key.key) {
            // Each storage that collects has them, whatever its keys are.
            return self.is_of_members;
        }
        let Some(storage) = &self.key_expr else {
            return false;
        };
        let Some(full) = self.group.full_key(&key.key) else {
            return false;
        };
        keyexpr::new(full.as_str()).is_ok_and(|full| intersect(storage, full))
    }
}

/// Whether a strategy writes such a cell, or, if its key is a pattern, a rule is.
fn is_of_a_strategy(key: &CellKey, cell: &Cell) -> bool {
    if is_of_members(&key.key) {
        return cells::is_sound(key, cell);
    }
    match key.key.is_pattern() {
        true => wildcard::check(key, cell).is_ok(),
        false => merge::check(&key.part, cell).is_ok(),
    }
}
