//! Building the tree from the rows of a store, ascending.

use std::sync::Arc;

use super::{
    covering::is_within,
    entry::TreeEntry,
    tree::{AppliedTree, Parts},
};
use crate::{
    cell::{Cell, CellKey, Key, Timestamp, Version},
    merge::is_of_field,
    mst::{Builder, Resident},
};

/// Builds the tree from cells in order, and leaves out what is covered.
pub(in crate::replica) struct Loader {
    builder: Builder<Resident<CellKey, TreeEntry>>,
    counts: AppliedTree,
    /// The own cell of the key that comes last.
    own: Option<(Key, Version)>,
    /// The own cells of the fields of that key that the cell is within that came last.
    fields: Vec<(CellKey, Timestamp)>,
    covered: Vec<(CellKey, bool)>,
    put_rules: Vec<(CellKey, Version)>,
}

/// A tree that was built.
pub(in crate::replica) struct Built {
    pub(in crate::replica) tree: AppliedTree,
    /// What was covered, and whether its payload is apart.
    pub(in crate::replica) covered: Vec<(CellKey, bool)>,
    /// The put rules in the tree, whose values are elsewhere.
    pub(in crate::replica) put_rules: Vec<(CellKey, Version)>,
}

impl Loader {
    pub(in crate::replica) fn new() -> Self {
        Self {
            builder: Builder::hashing(Resident::default()),
            counts: AppliedTree::new(0),
            own: None,
            fields: Vec::new(),
            covered: Vec::new(),
            put_rules: Vec::new(),
        }
    }

    pub(in crate::replica) fn push(&mut self, key: CellKey, held: TreeEntry) {
        let version = held.version();
        self.counts.latest = self.counts.latest.max(version.timestamp.time);
        if version.tombstone && key.part.is_empty() {
            self.counts.see_garbage(Some(version.timestamp.time));
        }
        let own = self.own.as_ref().filter(|(own, _)| *own == key.key);
        let own = own.map(|(_, version)| *version);
        if key.key.is_pattern() {
            return self.push_rule(key, held, own);
        }
        if key.part.is_empty() {
            self.own = Some((key.key.clone(), version));
            self.counts.own_values += usize::from(!version.tombstone);
        } else {
            let of_fields = self.enter(&key);
            if own.map(|own| own.timestamp).max(of_fields) >= Some(version.timestamp) {
                self.covered.push((key, held.is_apart()));
                return;
            }
            if is_of_field(key.part.as_bytes()) {
                self.fields.push((key.clone(), version.timestamp));
            }
            let parts = self.counts.parts.entry(key.key.clone());
            let parts = parts.or_insert_with(|| Parts {
                cells: 0,
                newest: version.timestamp,
                own: own.map(|own| own.timestamp),
            });
            parts.cells += 1;
            parts.newest = parts.newest.max(version.timestamp);
            let is_first = parts.cells == 1 && own.is_some_and(|own| !own.tombstone);
            self.counts.own_values_with_parts += usize::from(is_first);
        }
        self.counts.tombstones += usize::from(version.tombstone);
        self.builder.push(key, held);
    }

    /// Leaves the fields that a cell is not within; and when the newest own cell of the others was
    /// written.
    fn enter(&mut self, key: &CellKey) -> Option<Timestamp> {
        while self
            .fields
            .pop_if(|(own, _)| !is_within(own, key))
            .is_some()
        {}
        self.fields.iter().map(|(_, own)| *own).max()
    }

    /// `own` is the delete rule of the pattern, if that came before.
    fn push_rule(&mut self, key: CellKey, held: TreeEntry, own: Option<Version>) {
        let version = held.version();
        if key.part.is_empty() {
            self.own = Some((key.key.clone(), version));
            let tombstone = Arc::new(Cell::tombstone(version.timestamp));
            self.counts.rules.join(&key, &tombstone);
        } else if own.is_some_and(|own| own.timestamp >= version.timestamp) {
            return self.covered.push((key, held.is_apart()));
        } else {
            self.put_rules.push((key.clone(), version));
        }
        self.builder.push(key, held);
    }

    pub(in crate::replica) fn finish(self) -> Built {
        let mut tree = AppliedTree {
            tree: self.builder.finish(),
            ..self.counts
        };
        let mut covered = self.covered;
        covered.extend(tree.cover_all());
        Built {
            tree,
            covered,
            put_rules: self.put_rules,
        }
    }
}
