//! Which cells of the tree have changed lately, in order.

use std::collections::{HashSet, VecDeque};

use crate::cell::CellKey;

/// Changes that are remembered.
const MAX_CHANGES: usize = 65_536;

/// Changes that are kept beside two for each cell of the tree, before those of other cells are left out.
const SLACK: usize = 1024;

/// A change of a cell: which it is, counted from 1, and of which cell.
pub type Change = (u64, CellKey);

/// The last changes of a tree.
///
/// Invariant: `log` ascends, and has the last change of each cell that changed
/// after `forgotten` and is in the tree. Of a cell that changes again and again the earlier changes
/// are left out when room is needed: so it is not how much is written that makes it
/// forget, but how many different cells are.
#[derive(Clone, Debug, Default)]
pub(in crate::replica) struct ChangeLog {
    log: VecDeque<Change>,
    /// All changes after this one are known.
    forgotten: u64,
    /// The last change.
    last: u64,
}

impl ChangeLog {
    /// These cells have changed. Amortized O(1) for each.
    pub(in crate::replica) fn add(&mut self, keys: impl Iterator<Item = CellKey>) {
        for key in keys {
            self.last += 1;
            self.log.push_back((self.last, key));
            if self.log.len() > MAX_CHANGES {
                self.make_room();
            }
        }
    }

    /// Leaves half of it free, or more.
    fn make_room(&mut self) {
        self.keep(MAX_CHANGES / 2, |_| true);
    }

    /// Cells left the tree, which has `cells` now: if most of what is remembered may be of such, only
    /// the last change of each cell that `is_there` is kept, so that what dies after a while does not
    /// fill the memory. Nobody asks for what is not there. Amortized O(1) for each change.
    pub(in crate::replica) fn left(&mut self, cells: usize, is_there: impl Fn(&CellKey) -> bool) {
        if self.log.len() > 2 * cells + SLACK {
            self.keep(usize::MAX, is_there);
        }
    }

    /// Keeps the last change of each cell that `is_wanted`, and of these the `most` latest; what was
    /// before is forgotten.
    fn keep(&mut self, most: usize, is_wanted: impl Fn(&CellKey) -> bool) {
        let log = std::mem::take(&mut self.log);
        // Nobody can prepare keys that collide.
        let mut seen = HashSet::with_hasher(ahash::RandomState::new());
        let mut kept = VecDeque::new();
        for change in log.iter().rev() {
            let (number, key) = change;
            if kept.len() >= most {
                self.forgotten = *number;
                break;
            }
            if is_wanted(key) && seen.insert(key) {
                kept.push_front(change.clone());
            }
        }
        self.log = kept;
    }

    /// The last change.
    pub(in crate::replica) fn last(&self) -> u64 {
        self.last
    }

    /// The changes after `number`, ascending; nothing if they are not known. A cell
    /// may be there more than once.
    pub(in crate::replica) fn after(&self, number: u64) -> Option<impl Iterator<Item = &Change>> {
        let first = self.log.partition_point(|(other, _)| *other <= number);
        (number >= self.forgotten).then(|| self.log.range(first..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Key;

    fn key(number: u32) -> CellKey {
        CellKey::own(Key::from(Some(format!("k/{number}").try_into().unwrap())))
    }

    fn after(changes: &ChangeLog, number: u64) -> Option<HashSet<CellKey>> {
        let changes = changes.after(number)?;
        Some(changes.map(|(_, key)| key.clone()).collect())
    }

    #[test]
    fn what_changed_after_a_change_is_known() {
        let mut changes = ChangeLog::default();
        changes.add([1, 2, 1].map(key).into_iter());
        assert_eq!(changes.last(), 3);
        assert_eq!(after(&changes, 0), Some([1, 2].map(key).into()));
        assert_eq!(after(&changes, 2), Some([1].map(key).into()));
        assert_eq!(after(&changes, 3), Some(HashSet::new()));
    }

    #[test]
    fn cells_that_change_all_the_time_do_not_make_it_forget() {
        let mut changes = ChangeLog::default();
        changes.add([1000].map(key).into_iter());
        changes.add((0..1_000_000).map(|number| key(number % 1000)));
        assert!(changes.log.len() <= MAX_CHANGES);
        assert_eq!(after(&changes, 0), Some((0..=1000).map(key).collect()));
    }

    #[test]
    fn what_has_left_the_tree_is_not_remembered() {
        let mut changes = ChangeLog::default();
        for end in (100..50_000_u32).step_by(100) {
            changes.add((end - 100..end).map(key));
            changes.add([7_777_777].map(key).into_iter());
            let live = (end.saturating_sub(1000)..end).chain([7_777_777]);
            let live: HashSet<CellKey> = live.map(key).collect();
            changes.left(live.len(), |key| live.contains(key));
            assert!(changes.log.len() <= 2 * live.len() + SLACK);
            let known = after(&changes, 0).expect("nothing is forgotten");
            assert!(live.is_subset(&known));
            let newest = after(&changes, changes.last() - 101).expect("nothing is forgotten");
            assert_eq!(newest.len(), 101);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_not_is_known_to_be_forgotten() {
        let mut changes = ChangeLog::default();
        changes.add((0..200_000).map(key));
        assert!(changes.log.len() <= MAX_CHANGES);
        assert_eq!(after(&changes, 0), None);
        for number in [changes.forgotten, 180_000] {
            let expected = (number as u32..200_000).map(key).collect();
            assert_eq!(after(&changes, number), Some(expected));
        }
        assert_eq!(after(&changes, changes.forgotten - 1), None);
    }
}
