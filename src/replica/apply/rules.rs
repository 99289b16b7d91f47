//! Wildcard rules in the tree: what they cover leaves it.

use std::{ops::Bound, sync::Arc};

use zenoh_keyexpr::keyexpr;

use super::{
    entry::TreeEntry,
    joined::Joined,
    tree::{AppliedTree, wins},
};
use crate::{
    cell::{Cell, CellKey, Key, Timestamp},
    replica::Keys,
    wildcard::{PUT_PART, Reach, matches},
};

impl AppliedTree {
    /// Joins a rule, unless the delete rule of its pattern covers it. What it covers is still to
    /// be [taken out](Self::cover).
    pub(super) fn join_rule(&mut self, cell: &(CellKey, TreeEntry), joined: &mut Joined) {
        let (key, held) = cell;
        let is_put = !key.part.is_empty();
        if is_put && self.covering(key) >= Some(held.timestamp()) {
            return;
        }
        let (mut has_won, mut none) = (false, 0);
        let Ok(()) = self
            .tree
            .put_sorted(std::slice::from_ref(cell), |key, old, new| {
                has_won = wins(old, new);
                if has_won {
                    // Rules are not counted as tombstones of keys.
                    joined.see(key, old, new, &mut none);
                }
                has_won
            });
        if !has_won || is_put {
            return;
        }
        let tombstone = Arc::new(Cell::tombstone(held.timestamp()));
        self.rules.join(key, &tombstone);
        joined.has_delete_rule = true;
        joined.covering.push(key.clone());
    }

    /// Takes out of the tree what a delete rule covers, and looks at no more than `most` cells for
    /// that, those above `after`; true if there may be more to cover.
    pub(super) fn cover_by_rule(
        &mut self,
        rule: &CellKey,
        deleted: Timestamp,
        after: Option<CellKey>,
        joined: &mut Joined,
        most: usize,
    ) -> bool {
        let pattern = rule.key.as_key_expr();
        if after.is_none() {
            self.cover_put_rule(rule, deleted, joined);
        }
        let (covered, last) = pattern.map_or_else(Default::default, |pattern| {
            self.covered_by_rule(pattern, deleted, after, most)
        });
        for key in covered {
            let Some((removed, was_last)) = self.remove(&key) else {
                continue;
            };
            if was_last {
                joined.unmerged.push(key.key.clone());
            }
            joined.cover(key, removed.is_apart());
        }
        if last.is_none() {
            joined.covering.pop();
        }
        joined.looked_at = last;
        joined.is_covering()
    }

    /// Takes out of the tree the put rule that the delete rule of its pattern covers.
    fn cover_put_rule(&mut self, rule: &CellKey, deleted: Timestamp, joined: &mut Joined) {
        let put = CellKey {
            key: rule.key.clone(),
            part: PUT_PART.into(),
        };
        if self.get(&put).is_some_and(|put| put.timestamp() <= deleted) {
            let Ok(removed) = self.tree.remove(&put);
            joined.cover(put, removed.is_some_and(|held| held.is_apart()));
        }
    }

    /// Of so many cells whose keys the pattern may match, those that it does and that are not newer;
    /// and the last of all that were looked at, if there may be more.
    fn covered_by_rule(
        &self,
        pattern: &keyexpr,
        deleted: Timestamp,
        after: Option<CellKey>,
        most: usize,
    ) -> (Vec<CellKey>, Option<CellKey>) {
        let reach = Reach::of(pattern);
        let below = Keys::beginning_with(reach.beginning);
        let exact = reach.exact.map(|exact| Key::from(Some(exact.to_owned())));
        // The exact key comes first, and others may be between it and those below.
        let is_below = after.as_ref().is_some_and(|after| below.has(&after.key));
        let mut is_past_exact = exact.is_none() || is_below;
        let mut from = match (after, &exact) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(exact)) => Bound::Included(CellKey::own(exact.clone())),
            (None, None) => below.start(),
        };
        let (mut covered, mut looked_at) = (Vec::new(), 0);
        loop {
            let Ok(cells) = self.tree.range((from, Bound::Unbounded));
            for entry in cells {
                let Ok((key, held)) = entry;
                let is_exact = exact.as_ref() == Some(&key.key);
                if !is_exact && !below.has(&key.key) {
                    if key.key.as_str() > Some(reach.beginning) {
                        return (covered, None);
                    }
                    if !is_past_exact {
                        break;
                    }
                }
                looked_at += 1;
                let is_old = held.timestamp() <= deleted;
                if is_old && !key.key.is_pattern() && matches(pattern, &key.key) {
                    covered.push(key.clone());
                }
                if looked_at == most {
                    return (covered, Some(key.clone()));
                }
            }
            if is_past_exact {
                return (covered, None);
            }
            is_past_exact = true;
            from = below.start();
        }
    }

    /// Takes out of the tree, when it was built, what its rules cover: those cells, and whether their
    /// payload is apart. O(n), and O(1) if there are no rules.
    pub(super) fn cover_all(&mut self) -> Vec<(CellKey, bool)> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let Ok(cells) = self.tree.iter();
        let mut of_key: Option<(&Key, Option<Timestamp>)> = None;
        let mut covered = Vec::new();
        for entry in cells {
            let Ok((key, held)) = entry;
            let deleted = match of_key {
                Some((last, deleted)) if *last == key.key => deleted,
                _ => self.rules.deleted(&key.key),
            };
            of_key = Some((&key.key, deleted));
            if deleted >= Some(held.timestamp()) {
                covered.push(key.clone());
            }
        }
        let covered = covered.into_iter();
        let removed = covered.filter_map(|key| {
            let (removed, _) = self.remove(&key)?;
            Some((key, removed.is_apart()))
        });
        removed.collect()
    }
}
