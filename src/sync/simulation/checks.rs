//! What has to hold when the faults have ended.

use std::collections::BTreeMap;

use super::{
    super::*,
    faults::pairs,
    node::{Node, SETTLE, START},
    world::World,
};
use crate::{
    cell::{CellKey, Version, ntp64_millis},
    merge::fields_around,
    replica::check_promised,
    store::model::Rows,
};

/// For how long nothing is to happen.
const QUIET: u64 = 60_000;

/// Seconds in which all that has a short lifetime has left the tree.
const LONGEST_SHORT_LIFE: u64 = 22;

/// Announcements in that time: of two there is a sync interval between, less a fifth.
const MOST_ANNOUNCED: u64 = 4;

impl World {
    pub(super) fn is_converged(&self) -> bool {
        let root = |node: &Node| {
            let Ok(root) = node.replica.tree().root();
            root
        };
        let first = root(&self.nodes[0]);
        let settled = |node: &Node| !node.replica.has_pending();
        self.nodes
            .iter()
            .all(|node| settled(node) && root(node) == first)
    }

    /// The watermark at which all that has a short lifetime is dead.
    fn died(&self) -> u64 {
        self.latest.saturating_add(LONGEST_SHORT_LIFE << 32)
    }

    /// Whether all that has a short lifetime has left all replicas.
    pub(super) fn has_died(&self) -> bool {
        let lifetimes = &self.merging.lifetimes;
        if lifetimes.is_empty() {
            return true;
        }
        let lives =
            |key: &CellKey, timestamp| lifetimes.dead(&key.key, self.died()) < Some(timestamp);
        self.nodes.iter().all(|node| {
            let tree = node.replica.tree();
            let Ok(cells) = tree.iter();
            let mut cells = cells.map(|entry| {
                let Ok(entry) = entry;
                entry
            });
            cells.all(|(key, held)| lives(key, held.timestamp()))
        })
    }

    /// Of each replica how many cells it has, and whether something is pending, or it has failed.
    pub(super) fn behind(&self) -> Vec<(usize, bool, bool)> {
        let nodes = self.nodes.iter().map(|node| {
            let replica = &node.replica;
            let cells = replica.tree().len();
            (cells, replica.has_pending(), replica.has_failed())
        });
        nodes.collect()
    }

    pub(super) fn rounds(&self) -> u64 {
        2 * u64::from(self.nodes.len().next_power_of_two().ilog2()) + 6
    }

    /// When all that was written is past by every clock, and settled.
    pub(super) fn all_is_past(&self) -> u64 {
        let ahead = self.latest.saturating_sub(START);
        let ahead = ntp64_millis(ahead);
        let slowest = self.nodes.iter().map(|node| node.skew.unsigned_abs());
        let slowest = slowest.max().unwrap_or(0);
        // A drift, too.
        let slowest = slowest + self.now / 50;
        let past = self.now.max(ahead + slowest) + SETTLE.as_millis() as u64 + 2000;
        match self.scenario.has_lifetimes {
            true => past + 1000 * LONGEST_SHORT_LIFE,
            false => past,
        }
    }

    /// The model, without what is covered, and nothing else, is on every replica.
    pub(super) fn check(&self) {
        let loses_writes = self.scenario.loses_writes();
        let first = self.nodes[0].replica.disk();
        for (number, node) in self.nodes.iter().enumerate() {
            let disk = node.replica.disk();
            assert!(disk == first, "replica {number} holds what 0 does not");
            // Whatever was promised by whichever.
            let promised = node.replica.promised();
            check_promised(&first, promised, &self.merging.lifetimes, self.died(), 0);
        }
        match loses_writes {
            true => self.check_origin(&first),
            false => self.check_all(&first),
        }
        self.merging.check(&first, loses_writes, self.died());
        assert!(self.largest_message <= MAX_MESSAGE);
    }

    /// The root that each shows is that of a tree that is built anew from what it has stored.
    fn check_roots(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let tree = node.replica.tree();
            let Ok(checked) = tree.check();
            checked.expect("the tree is as its content says");
            let (published, rebuilt) = (node.replica.roots().published(), node.replica.rebuilt());
            assert_eq!(published.root, rebuilt.root, "replica {number}");
            let counts = [published, rebuilt].map(|info| (info.keys, info.cells, info.tombstones));
            assert_eq!(counts[0], counts[1], "replica {number}");
        }
    }

    /// Somebody wrote it.
    fn check_origin(&self, disk: &Rows) {
        for (key, cell) in disk {
            let version = Version::of(key, cell);
            assert!(self.written.contains(&version), "nobody wrote {key:?}");
            assert!(version <= self.model[key], "{key:?}");
        }
    }

    fn check_all(&self, disk: &Rows) {
        let rules = self.merging.rules_there(None);
        let covers = |key: &CellKey| {
            let own = self.model.get(&CellKey::own(key.key.clone()));
            let own = own.filter(|_| !key.part.is_empty());
            let dead = self.merging.lifetimes.dead(&key.key, self.died());
            let own = own.map(|own| own.timestamp).max(dead);
            let fields = fields_around(key.part.as_bytes()).filter_map(|field| {
                let (key, part) = (key.key.clone(), field.into());
                self.model.get(&CellKey { key, part })
            });
            let fields = fields.map(|own| own.timestamp).max();
            own.max(fields).max(rules.deleted(&key.key))
        };
        let cells = self
            .model
            .iter()
            .map(|(key, version)| (key.clone(), *version));
        let model: BTreeMap<CellKey, Version> = cells
            .filter(|(key, version)| covers(key) < Some(version.timestamp))
            .collect();
        let versions: BTreeMap<CellKey, Version> = disk
            .iter()
            .map(|(key, cell)| (key.clone(), Version::of(key, cell)))
            .collect();
        for (key, version) in &model {
            let held = versions.get(key);
            assert_eq!(held, Some(version), "of {key:?}");
        }
        assert_eq!(versions.len(), model.len(), "cells that are covered");
    }

    /// Once equal, all say so, nobody pulls, little is sent, and roots are of what is stored.
    pub(super) fn check_quiet(&mut self) {
        let interval = self.scenario.sync_interval.as_millis() as u64;
        // What was lost before is said again, and pulls under way end.
        self.run(self.now + interval * 6 / 5 + 12_000, |_| false);
        let before = self.work();
        for _ in 0..4 {
            self.check_equal();
            self.run(self.now + QUIET / 4, |_| false);
        }
        self.check_equal();
        self.check_roots();
        let most = MOST_ANNOUNCED * (self.nodes.len() as u64 - 1) * Announcement::MAX_BYTES as u64;
        for (node, (after, before)) in self.work().into_iter().zip(before).enumerate() {
            assert_eq!(after.0, before.0, "replica {node} pulls");
            let sent = after.1 - before.1;
            assert!(sent <= most, "replica {node} sends {sent} bytes");
        }
    }

    /// Pulls begun, and bytes sent.
    fn work(&self) -> Vec<(u64, u64)> {
        let nodes = self.nodes.iter();
        nodes
            .map(|node| (node.machine.status().started, node.sent))
            .collect()
    }

    fn check_equal(&self) {
        for (a, b) in pairs(self.nodes.len()) {
            let name = self.nodes[b].identity;
            let status = self.nodes[a].machine.status();
            let peer = status.peers.iter().find(|peer| peer.replica == name);
            let peer = peer.expect("they have names of their own, and know each other");
            assert!(peer.present, "{b} is gone for {a}");
            assert_eq!(peer.relation, Relation::Equal, "{a} says of {b}");
        }
    }
}
