//! Lists of the keys that have a value and begin alike, as they were at one time.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use zenoh_keyexpr::OwnedKeyExpr;

use super::{liveness::KeyLiveness, ruling::Ruling};
use crate::{
    cell::{CellKey, Key, Timestamp},
    replica::{Replica, Tree, TreeEntry},
};

/// The keys whose text begins so. Those that begin with nothing are all, the key that
/// has no text among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(String);

impl Keys {
    /// The keys that begin with this.
    #[must_use]
    pub fn beginning_with(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether the key is one of them.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.0.is_empty() || key.as_str().is_some_and(|key| key.starts_with(&self.0))
    }

    /// Below this, or at it, the first of them is found.
    pub(in crate::replica) fn start(&self) -> Bound<CellKey> {
        // No chunk sorts before a zero byte; and text that ends within a chunk is a key.
        let first = match self.0.ends_with('/') {
            true => format!("{}\0", self.0),
            false => self.0.clone(),
        };
        match OwnedKeyExpr::try_from(first) {
            Ok(first) => Bound::Included(CellKey::own(Some(first).into())),
            // There is none that begins so, or all do; `has` tells.
            Err(_) => Bound::Unbounded,
        }
    }
}

/// The keys that had a value when it was made, each with the time of its last write.
/// What is written since is not in it, and it keeps nobody waiting.
pub struct Listing {
    keys: Keys,
    pending: HashMap<Key, KeyLiveness, ahash::RandomState>,
    tree: Tree,
    lost: BTreeMap<Key, Timestamp>,
    rules: Ruling,
}

impl Replica {
    /// Lists the keys that have a value. O(what is pending).
    #[must_use]
    pub fn list(&self, keys: &Keys) -> Listing {
        let lost = self.shared.all_missing().into_iter();
        let lost = lost.filter(|(key, _)| keys.has(key)).collect();
        // First what is pending, then what is settled: what settles between is in both,
        // and what is in both counts as pending.
        let pending = self.shared.state.queue.pending_of(|key| keys.has(key));
        Listing {
            keys: keys.clone(),
            pending,
            tree: self.shared.state.current_tree(),
            lost,
            // What settles after this was pending by the rules that are.
            rules: self.shared.ruling(),
        }
    }
}

impl Listing {
    /// Shows the keys, in no order, until `visit` says no; those whose value is in
    /// quarantine among them. O(log n), and O(1) for each cell there.
    pub fn for_each(mut self, mut visit: impl FnMut(&Key, Timestamp) -> bool) {
        let mut lost = std::mem::take(&mut self.lost);
        let rules = self.rules;
        let shown = |key: &Key, timestamps: KeyLiveness| {
            timestamps.last_write_by(rules.of_key(key).as_ref(), rules.now())
        };
        let mut show = |key: &Key, timestamps: KeyLiveness| match shown(key, timestamps) {
            Some(timestamp) => {
                lost.remove(key);
                visit(key, timestamp)
            }
            None => true,
        };
        let Ok(cells) = self.tree.range((self.keys.start(), Bound::Unbounded));
        let cells = cells.map(|entry| {
            let Ok(entry) = entry;
            entry
        });
        let within = cells.take_while(|(cell, _)| self.keys.has(&cell.key));
        // A key's own cell comes first, so where one is the key is another.
        let mut of_key: Option<(&Key, KeyLiveness)> = None;
        let within = within.filter(|(cell, _)| !cell.key.is_internal());
        for (CellKey { key, part }, held) in within {
            let (timestamp, until) = (held.timestamp(), TreeEntry::shown_until(held));
            if let Some(timestamps) = self.pending.get_mut(key) {
                timestamps.see(part, timestamp, until);
                continue;
            }
            match &mut of_key {
                Some((last, timestamps)) if *last == key => {
                    timestamps.see(part, timestamp, until);
                }
                _ => {
                    let mut timestamps = KeyLiveness::default();
                    timestamps.see(part, timestamp, until);
                    let before = of_key.replace((key, timestamps));
                    if before.is_some_and(|(key, timestamps)| !show(key, timestamps)) {
                        return;
                    }
                }
            }
        }
        let last = of_key.into_iter();
        for (key, timestamps) in last.chain(self.pending.iter().map(|(key, t)| (key, *t))) {
            if !show(key, timestamps) {
                return;
            }
        }
        for (key, timestamp) in lost {
            if !visit(&key, timestamp) {
                return;
            }
        }
    }
}
