//! What was written, in groups, and what a store must hold after some of them.

use std::{collections::BTreeMap, ops::RangeInclusive};

use zenoh_backend_mst::{
    cell::{CellKey, Part, Version},
    mst::{Mst, Resident, RootHash},
};

/// The cells of a group of the log.
pub type Group = Vec<(CellKey, Version)>;

/// Of each cell the newest version, without those that are covered.
#[derive(Clone, Debug, Default)]
pub struct Cells(BTreeMap<CellKey, Version>);

impl Cells {
    pub fn join(&mut self, group: &Group) {
        for (key, version) in group {
            let version = *version;
            let own = CellKey::own(key.key.clone());
            if key.part != Part::EMPTY {
                let covering = self.0.get(&own);
                if covering.is_some_and(|own| own.timestamp >= version.timestamp) {
                    continue;
                }
            }
            let held = self.0.entry(key.clone()).or_insert(version);
            *held = version.max(*held);
            if key.part == Part::EMPTY {
                let held = *held;
                self.0.retain(|other, version| {
                    other.key != key.key
                        || other.part == Part::EMPTY
                        || version.timestamp > held.timestamp
                });
            }
        }
    }

    pub fn root(&self) -> RootHash {
        let cells = self.0.iter().map(|(key, version)| (key.clone(), *version));
        let Ok(root) = Mst::from_sorted(Resident::default(), cells).root();
        root
    }

    /// Whether this cell is there, or one that won over it.
    pub fn has_heard_of(&self, key: &CellKey, version: Version) -> bool {
        let own = self.0.get(&CellKey::own(key.key.clone()));
        self.0.get(key).is_some_and(|held| *held >= version)
            || own.is_some_and(|own| own.timestamp >= version.timestamp)
    }
}

/// All groups that were appended, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What there was before.
    pub before: Group,
    pub groups: Vec<Group>,
    /// What clients wrote. Not all of it is in groups: of a cell that is written twice before the group
    /// is taken only the later is; but both may have a row.
    pub written: Group,
    /// So many of them were appended and synced.
    pub synced: usize,
    pub cells: Cells,
    /// What the root is after so many groups.
    roots: Vec<RootHash>,
}

impl History {
    pub fn append(&mut self, group: Group) {
        self.cells.join(&group);
        self.groups.push(group);
        self.roots.push(self.cells.root());
    }

    /// After how many groups in this range this is the root.
    pub fn groups_of(&self, root: &RootHash, range: RangeInclusive<usize>) -> Option<usize> {
        range
            .into_iter()
            .find(|groups| self.roots[*groups] == *root)
    }

    /// The history of a store that begins with these cells.
    pub fn after(cells: Group) -> Self {
        let mut history = Self::default();
        history.cells.join(&cells);
        history.roots.push(history.cells.root());
        history.before = cells;
        history
    }

    /// Whether this is the root, at this cut, of what was written up to a group that was synced.
    pub fn is_of_synced(&self, root: &RootHash, cut: u64) -> bool {
        let time = |cell: &(CellKey, Version)| cell.1.timestamp.time;
        let latest = |groups: usize| self.groups[..groups].iter().flatten().map(time).max();
        (0..=self.synced).any(|groups| {
            // A cell that was written anew before its group was taken is in no group; but at a cut
            // between the two it is in the tree.
            let written = self.written.iter();
            let written = written.filter(|cell| Some(time(cell)) <= latest(groups));
            let before = self.before.iter().chain(written);
            let mut cells = Cells::default();
            cells.join(&before.filter(|cell| time(cell) < cut).cloned().collect());
            cells.root() == *root
        })
    }

    /// Whether there is nothing but what was written or there before, and all of what was there before.
    pub fn is_some_of(&self, found: &Group) -> Result<(), String> {
        let written = || self.before.iter().chain(&self.written);
        let mut joined = Cells::default();
        joined.join(found);
        let unknown = found
            .iter()
            .find(|cell| !written().any(|written| written == *cell));
        if let Some((key, version)) = unknown {
            return Err(format!("{key:?} of {version:?} was never written"));
        }
        let lost = self
            .before
            .iter()
            .find(|(key, version)| !joined.has_heard_of(key, *version));
        match lost {
            Some((key, version)) => Err(format!("{key:?} of {version:?} was there before")),
            None => Ok(()),
        }
    }
}
