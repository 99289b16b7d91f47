//! Cells that were found damaged and have not been replaced yet.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    cell::{CellKey, Key, Part, Timestamp, Version},
    merge::is_of_field,
    wildcard::matches,
};

/// What is in quarantine, by key, and what the tree said of it.
#[derive(Debug, Default)]
pub(in crate::replica) struct Quarantine {
    cells: Mutex<BTreeMap<CellKey, Version>>,
    /// So that what is sound costs nothing.
    len: AtomicUsize,
    /// How many of them are wildcard rules.
    rules: AtomicUsize,
}

impl Quarantine {
    pub(in crate::replica) fn new(cells: Vec<(CellKey, Version)>) -> Self {
        let quarantine = Self {
            cells: Mutex::new(cells.into_iter().collect()),
            ..Self::default()
        };
        quarantine.count(&quarantine.cells());
        quarantine
    }

    fn count(&self, cells: &BTreeMap<CellKey, Version>) {
        let rules = cells.keys().filter(|cell| cell.key.is_pattern());
        self.rules.store(rules.count(), Ordering::Relaxed);
        self.len.store(cells.len(), Ordering::Relaxed);
    }

    /// Whether a wildcard rule is here.
    pub(in crate::replica) fn has_rules(&self) -> bool {
        self.rules.load(Ordering::Relaxed) > 0
    }

    fn cells(&self) -> MutexGuard<'_, BTreeMap<CellKey, Version>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::replica) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(in crate::replica) fn list(&self) -> Vec<(CellKey, Version)> {
        let cells = self.cells();
        cells
            .iter()
            .map(|(key, version)| (key.clone(), *version))
            .collect()
    }

    /// The first of them, by key, and no more than so many.
    pub(in crate::replica) fn first(&self, most: usize) -> Vec<(CellKey, Version)> {
        let cells = self.cells();
        let first = cells.iter().take(most);
        first
            .map(|(key, version)| (key.clone(), *version))
            .collect()
    }

    pub(in crate::replica) fn insert(&self, key: &CellKey, version: Version) {
        let mut cells = self.cells();
        cells.insert(key.clone(), version);
        self.count(&cells);
    }

    /// What the tree said of a cell that is here.
    pub(in crate::replica) fn lost(&self, key: &CellKey) -> Option<Version> {
        match self.len() {
            0 => None,
            _ => self.cells().get(key).copied(),
        }
    }

    /// Whether a cell of `key` is here.
    pub(in crate::replica) fn has(&self, key: &Key) -> bool {
        self.len() > 0 && !self.of_key(key).is_empty()
    }

    /// The cells of `key` that are here.
    pub(in crate::replica) fn of_key(&self, key: &Key) -> Vec<(CellKey, Version)> {
        let cells = self.cells();
        let from = cells.range(CellKey::own(key.clone())..);
        let of_key = from.take_while(|(cell, _)| cell.key == *key);
        of_key
            .map(|(cell, version)| (cell.clone(), *version))
            .collect()
    }

    /// Lets go of what is dead: what is not newer than `dead` says of its key.
    pub(in crate::replica) fn dead(
        &self,
        dead: impl Fn(&Key) -> Option<Timestamp>,
    ) -> Vec<CellKey> {
        let mut lost = self.cells();
        let gone = lost.iter();
        let gone = gone.filter(|(key, lost)| dead(&key.key) >= Some(lost.timestamp));
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| _ = lost.remove(key));
        self.count(&lost);
        gone
    }

    /// Lets go of what these cells replace: the cell itself in this or a later
    /// version, or what the own cell of the key or of a field covers, or a delete rule.
    pub(in crate::replica) fn replaced_by<'a>(
        &self,
        cells: impl Iterator<Item = (&'a CellKey, Version)>,
    ) -> Vec<CellKey> {
        if self.len() == 0 {
            return Vec::new();
        }
        let mut lost = self.cells();
        let mut replaced = Vec::new();
        for (key, version) in cells {
            if lost.get(key).is_some_and(|lost| *lost <= version) {
                replaced.push(key.clone());
            }
            if key.part == Part::EMPTY && key.key.is_pattern() {
                let pattern = key.key.as_key_expr();
                let covered = lost.iter().filter(|(cell, lost)| {
                    lost.timestamp <= version.timestamp
                        && !cell.key.is_pattern()
                        && pattern.is_some_and(|pattern| matches(pattern, &cell.key))
                });
                replaced.extend(covered.map(|(cell, _)| cell.clone()));
            }
            if key.part == Part::EMPTY || is_of_field(key.part.as_bytes()) {
                let parts = lost
                    .range(key.clone()..)
                    .skip_while(|(part, _)| *part == key);
                let parts = parts.take_while(|(part, _)| {
                    part.key == key.key && part.part.as_bytes().starts_with(key.part.as_bytes())
                });
                let covered = parts.filter(|(_, lost)| lost.timestamp <= version.timestamp);
                replaced.extend(covered.map(|(part, _)| part.clone()));
            }
        }
        for key in &replaced {
            lost.remove(key);
        }
        self.count(&lost);
        replaced
    }
}
