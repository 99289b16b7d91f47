//! Cells that others cover leave the tree, in steps.

use std::ops::Bound;

use super::{entry::TreeEntry, joined::Joined, tree::AppliedTree};
use crate::cell::{CellKey, Timestamp};

/// Whether a cell that follows the own cell of a key or of a field is at its place.
pub(super) fn is_within(own: &CellKey, cell: &CellKey) -> bool {
    cell.key == own.key && cell.part.as_bytes().starts_with(own.part.as_bytes())
}

impl AppliedTree {
    /// Takes out of the tree what cells that were joined cover, and looks at no more than `most`
    /// cells for that; true if there may be more.
    pub(in crate::replica) fn cover(&mut self, joined: &mut Joined, most: usize) -> bool {
        let Some(own) = joined.covering.last().cloned() else {
            return false;
        };
        let after = joined.looked_at.take();
        let Some(version) = self.get(&own).map(TreeEntry::version) else {
            return joined.covering.pop().is_some();
        };
        if own.key.is_pattern() {
            return self.cover_by_rule(&own, version.timestamp, after, joined, most);
        }
        let after = after.as_ref().unwrap_or(&own);
        let (covered, last) = self.parts_covered_by(&own, after, version.timestamp, most);
        for key in &covered {
            let Ok(removed) = self.tree.remove(key);
            let is_tombstone = removed.as_ref().is_some_and(TreeEntry::is_tombstone);
            self.tombstones -= usize::from(is_tombstone);
            let is_apart = removed.is_some_and(|held| held.is_apart());
            joined.cover(key.clone(), is_apart);
        }
        if let Some(parts) = self.parts.get_mut(&own.key) {
            parts.cells -= covered.len();
            if parts.cells == 0 {
                self.parts.remove(&own.key);
                self.own_values_with_parts -= usize::from(!version.tombstone);
                joined.unmerged.push(own.key.clone());
            }
        }
        if last.is_none() {
            joined.covering.pop();
        }
        joined.looked_at = last;
        !joined.covering.is_empty()
    }

    /// Whether there are cells within the field of which this is the own cell.
    pub(super) fn has_cells_within(&self, own: &CellKey) -> bool {
        let Ok(mut next) = self
            .tree
            .range((Bound::Excluded(own.clone()), Bound::Unbounded));
        next.next().is_some_and(|entry| {
            let Ok((key, _)) = entry;
            is_within(own, key)
        })
    }

    /// Of so many cells that follow `after` at the place of the cell `own`, those that are not newer
    /// than `timestamp`; and the last of all that were looked at, if there may be more.
    fn parts_covered_by(
        &self,
        own: &CellKey,
        after: &CellKey,
        timestamp: Timestamp,
        most: usize,
    ) -> (Vec<CellKey>, Option<CellKey>) {
        let Ok(parts) = self
            .tree
            .range((Bound::Excluded(after.clone()), Bound::Unbounded));
        let parts = parts.map(|entry| {
            let Ok(entry) = entry;
            entry
        });
        let (mut covered, mut looked_at, mut last) = (Vec::new(), 0, None);
        for (key, held) in parts.take_while(|(key, _)| is_within(own, key)).take(most) {
            looked_at += 1;
            last = Some(key);
            if held.timestamp() <= timestamp {
                covered.push(key.clone());
            }
        }
        (covered, last.filter(|_| looked_at == most).cloned())
    }
}
