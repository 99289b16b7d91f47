//! What was written, in groups, and what a store must hold after some of them.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use zenoh_backend_mst::{
    cell::{CellKey, Part, Version},
    merge::{Lifetimes, MergeRules},
    mst::{Mst, Resident, RootHash},
};

use super::workload::rules;

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
        root_of(self.0.iter().map(|(key, version)| (key.clone(), *version)))
    }

    /// What the root is when what is dead at this watermark has gone.
    pub fn root_at(&self, lifetimes: &Lifetimes, watermark: u64) -> RootHash {
        let cells = self.0.iter().map(|(key, version)| (key.clone(), *version));
        root_of(cells.filter(|cell| !is_dead(lifetimes, cell, watermark)))
    }

    /// How many of them are dead at this watermark.
    pub fn dead(&self, lifetimes: &Lifetimes, watermark: u64) -> usize {
        let cells = self.0.iter().map(|(key, version)| (key.clone(), *version));
        let dead = cells.filter(|cell| is_dead(lifetimes, cell, watermark));
        dead.count()
    }

    /// Whether this cell is there, or one that won over it.
    pub fn has_heard_of(&self, key: &CellKey, version: Version) -> bool {
        let own = self.0.get(&CellKey::own(key.key.clone()));
        self.0.get(key).is_some_and(|held| *held >= version)
            || own.is_some_and(|own| own.timestamp >= version.timestamp)
    }
}

/// The root of cells that ascend by key.
pub fn root_of(cells: impl Iterator<Item = (CellKey, Version)>) -> RootHash {
    let Ok(root) = Mst::from_sorted(Resident::default(), cells).root();
    root
}

/// Whether a cell is dead at a watermark.
pub fn is_dead(lifetimes: &Lifetimes, (key, version): &(CellKey, Version), watermark: u64) -> bool {
    lifetimes.is_dead(&key.key, version.timestamp, watermark)
}

/// All groups that were appended, in order.
#[derive(Clone)]
pub struct History {
    /// Of the replica that appends them.
    pub rules: Arc<MergeRules>,
    /// The time by which cells may have died before.
    pub died: u64,
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

    /// After how many groups in this range this is the root, of what lives at the watermark.
    pub fn groups_of(
        &self,
        root: &RootHash,
        range: RangeInclusive<usize>,
        watermark: u64,
    ) -> Option<usize> {
        let lifetimes = self.rules.lifetimes();
        if lifetimes.is_empty() {
            return range
                .into_iter()
                .find(|groups| self.roots[*groups] == *root);
        }
        let first = *range.start();
        let mut cells = self.cells_after(first);
        range.into_iter().find(|groups| {
            if *groups > first {
                cells.join(&self.groups[*groups - 1]);
            }
            cells.root_at(lifetimes, watermark) == *root
        })
    }

    /// The cells after so many groups.
    pub fn cells_after(&self, groups: usize) -> Cells {
        let mut cells = Cells::default();
        cells.join(&self.before);
        self.groups[..groups]
            .iter()
            .for_each(|group| cells.join(group));
        cells
    }

    /// The history of a store that begins with these cells.
    pub fn after(cells: Group) -> Self {
        Self::of(rules(), cells, 0)
    }

    /// The same, of one with rules of its own; its cells may have died up to a time.
    pub fn of(rules: Arc<MergeRules>, before: Group, died: u64) -> Self {
        let mut cells = Cells::default();
        cells.join(&before);
        Self {
            rules,
            died,
            groups: Vec::new(),
            written: Group::new(),
            synced: 0,
            roots: vec![cells.root()],
            cells,
            before,
        }
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

    /// Whether there is nothing but what was written or there before, and all of what was there before
    /// and lives at the watermark.
    pub fn is_some_of(&self, found: &Group, watermark: u64) -> Result<(), String> {
        let written = || self.before.iter().chain(&self.written);
        let mut joined = Cells::default();
        joined.join(found);
        let unknown = found
            .iter()
            .find(|cell| !written().any(|written| written == *cell));
        if let Some((key, version)) = unknown {
            return Err(format!("{key:?} of {version:?} was never written"));
        }
        let lifetimes = self.rules.lifetimes();
        let before = self.before.iter();
        let mut before = before.filter(|cell| !is_dead(lifetimes, cell, watermark));
        let lost = before.find(|(key, version)| !joined.has_heard_of(key, *version));
        match lost {
            Some((key, version)) => Err(format!("{key:?} of {version:?} was there before")),
            None => Ok(()),
        }
    }
}
