//! Checks the cells that another replica sends.

use std::time::Duration;

use zenoh_keyexpr::{keyexpr, OwnedKeyExpr};

use super::{cells::Received, identity::Group, pieces::Notice, pull::Rejections};
use crate::{
    cell::{intersect, ntp64_span, Cell, CellKey, Timestamp, Version, MAX_KEY_BYTES},
    merge,
    replica::MAX_VALUE_BYTES,
};

/// The conditions for a storage to accept a cell.
pub struct Admission {
    /// None if it is not a key expression; then nothing is accepted.
    key_expr: Option<OwnedKeyExpr>,
    group: Group,
    max_clock_drift: Duration,
}

impl Admission {
    /// The conditions of the storage with this group's keys.
    #[must_use]
    pub fn new(group: &Group, max_clock_drift: Duration) -> Self {
        Self {
            key_expr: OwnedKeyExpr::try_from(group.key_expr.as_str()).ok(),
            group: group.clone(),
            max_clock_drift,
        }
    }

    /// Whether the storage's key expression and `other` overlap.
    pub(super) fn intersects(&self, other: &str) -> bool {
        let other = keyexpr::new(other).ok();
        let both = self.key_expr.as_deref().zip(other);
        both.is_some_and(|(own, other)| intersect(own, other))
    }

    /// The cells that may be joined when the clock shows `wall`; counts the others.
    /// Hashes them.
    #[must_use]
    pub fn admit(
        &self,
        received: Vec<Received>,
        rejected: &mut Rejections,
        wall: u64,
    ) -> Vec<(CellKey, Cell)> {
        let admitted = self.admit_hashed(received, rejected, wall);
        admitted.map(|(key, cell, _)| (key, cell)).collect()
    }

    /// As [`admit`](Self::admit), one by one, each with the result of hashing it.
    pub fn admit_hashed<'a>(
        &'a self,
        received: Vec<Received>,
        rejected: &'a mut Rejections,
        wall: u64,
    ) -> impl Iterator<Item = (CellKey, Cell, Version)> + 'a {
        received.into_iter().filter_map(move |received| {
            let Received { key, cell, .. } = &received;
            let bytes = cell.value_bytes();
            let counter = match self.refuses(key, bytes, cell.timestamp, wall, rejected) {
                Some(counter) => counter,
                None => match received.intact() {
                    None => &mut rejected.digest,
                    Some(_) if merge::check(&key.part, cell).is_err() => &mut rejected.strategy,
                    Some(version) => return Some((received.key, received.cell, version)),
                },
            };
            *counter += 1;
            None
        })
    }

    /// The notices of cells that may be joined when the clock shows `wall`, as far as they tell;
    /// counts the others.
    pub(super) fn admit_notices(
        &self,
        notices: Vec<Notice>,
        rejected: &mut Rejections,
        wall: u64,
    ) -> Vec<Notice> {
        let admitted = notices.into_iter().filter(|notice| {
            // How long its value may be was checked when it was read.
            match self.refuses(&notice.key, 0, notice.timestamp, wall, rejected) {
                Some(counter) => *counter += 1,
                None => return true,
            }
            false
        });
        admitted.collect()
    }

    /// Where a cell is counted that is refused for its key, the length of its value, or its
    /// timestamp.
    fn refuses<'a>(
        &self,
        key: &CellKey,
        value_bytes: usize,
        timestamp: Timestamp,
        wall: u64,
        rejected: &'a mut Rejections,
    ) -> Option<&'a mut u64> {
        let latest = wall.saturating_add(ntp64_span(self.max_clock_drift));
        if !self.includes(key) {
            Some(&mut rejected.key_expr)
        } else if value_bytes > MAX_VALUE_BYTES
            || key.canonical_len() > MAX_KEY_BYTES
            || key.key.has_too_many_chunks()
        {
            Some(&mut rejected.too_large)
        } else if timestamp.time > latest {
            Some(&mut rejected.clock)
        } else {
            None
        }
    }

    /// Whether a key, with its prefix, is within the storage's key expression.
    #[must_use]
    pub fn includes(&self, key: &CellKey) -> bool {
        let Some(storage) = &self.key_expr else {
            return false;
        };
        let Some(full) = self.group.full_key(&key.key) else {
            return false;
        };
        keyexpr::new(full.as_str()).is_ok_and(|full| storage.includes(full))
    }
}
