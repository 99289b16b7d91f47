//! Which cells die next: by the watermark at which they leave the tree.
//!
//! No clock and no I/O. Empty, and never asked, where no key has a lifetime.

use std::collections::{BTreeMap, HashMap};

use crate::cell::CellKey;

/// Cells with a lifetime, by the watermark at which to look whether they are dead.
///
/// Invariant: every cell in the tree whose key has a lifetime is here once, at the watermark at which
/// it leaves the tree, or before. One that is overwritten stays where it is, as later versions die no
/// earlier: it moves when its time comes. So an update of a key that is here costs nothing here.
#[derive(Debug, Default)]
pub(in crate::replica) struct Fading {
    due: BTreeMap<u64, Vec<CellKey>>,
    /// Where each is: what `due` has beside this has moved.
    at: HashMap<CellKey, u64, ahash::RandomState>,
}

impl Fading {
    /// Has the cell looked at when the watermark is there, or before.
    pub(super) fn add(&mut self, key: &CellKey, cut: u64) {
        if self.at.get(key).is_some_and(|at| *at <= cut) {
            return;
        }
        self.at.insert(key.clone(), cut);
        self.due.entry(cut).or_default().push(key.clone());
    }

    /// The first watermark at which to look at some.
    pub(in crate::replica) fn next_cut(&self) -> Option<u64> {
        self.due.keys().next().copied()
    }

    /// Cells that are here.
    pub(in crate::replica) fn len(&self) -> usize {
        self.at.len()
    }

    /// Takes out one that is to be looked at by this watermark, if there is one; `None` within if it
    /// has moved since.
    pub(super) fn take(&mut self, cut: u64) -> Option<Option<CellKey>> {
        let mut first = self.due.first_entry().filter(|first| *first.key() <= cut)?;
        let at = *first.key();
        let key = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        let key = key.filter(|key| self.at.get(key) == Some(&at));
        if let Some(key) = &key {
            self.at.remove(key);
        }
        if self.at.is_empty() {
            // Many may have died at once.
            self.at = HashMap::default();
        }
        Some(key)
    }
}
