//! A replica of the simulation.

use std::time::Duration;

use super::super::*;
use crate::{
    cell::{CellKey, Timestamp, Version},
    mst::RootHash,
    replica::{Change, Comparison, Now, ReplicaError, SimulatedReplica, Snapshot, Span, Tree},
};

pub(super) const START: u64 = 1_700_000_000 << 32;
pub(super) const DRIFT: Duration = Duration::from_secs(10);
pub(super) const SETTLE: Duration = Duration::from_millis(500);

pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) replica: SimulatedReplica,
    /// Milliseconds that the clock is off.
    pub(super) skew: i64,
    /// Which life it is, so that timers and answers of others are not taken.
    pub(super) life: u64,
    pub(super) is_down: bool,
    pub(super) last_timestamp: u64,
    pub(super) joined: u64,
    pub(super) useful: u64,
    /// A root was made of which the machine is to be told.
    pub(super) has_root: bool,
    pub(super) refused: u64,
}

/// A time that both clocks show.
pub(super) fn at(clock: u64, millis: u64) -> Now {
    let monotonic = Duration::from_millis(millis);
    Now { clock, monotonic }
}

/// A replica, what its clock shows, and cells that were joined, and useful.
pub(super) struct NodeView<'a>(
    pub(super) &'a SimulatedReplica,
    pub(super) u64,
    pub(super) (u64, u64),
);

impl View for NodeView<'_> {
    fn tree(&self) -> Tree {
        self.0.tree()
    }
    fn has_had(&self, root: &RootHash) -> bool {
        self.0.roots().has_had(root)
    }
    fn compare(&self, theirs: &Span) -> Comparison {
        self.0.roots().compare(theirs, self.0.cut(self.1))
    }
    fn latest(&self) -> Option<(Span, u64)> {
        let span = self.0.roots().latest(self.0.cut(self.1))?;
        Some((span, self.0.roots().published().cells as u64))
    }
    fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.0.newest(key)
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.0.roots().changes_since(root, after)
    }
    fn joined(&self) -> u64 {
        self.2 .0
    }
    fn useful(&self) -> u64 {
        self.2 .1
    }
}

impl Source for NodeView<'_> {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        Ok(self.0.snapshot())
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.0.roots().changes_since(root, after)
    }
    fn damaged(&self, key: &CellKey, _: &Version) {
        panic!("{key:?} is not damaged");
    }
}

pub(super) fn id(node: usize) -> ReplicaId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    ReplicaId(bytes)
}

pub(super) fn node_of(id: ReplicaId) -> usize {
    u128::from_be_bytes(id.0) as usize - 1
}

pub(super) fn group() -> Group {
    Group {
        key_expr: "sim/**".to_owned(),
        strip_prefix: Some("sim".to_owned()),
    }
}

pub(super) fn token(node: usize) -> Token {
    Token {
        protocol: PROTOCOL,
        group: group(),
        replica: id(node),
    }
}

pub(super) fn settings(node: usize, life: u64, sync_interval: Duration) -> Settings {
    Settings {
        replica: id(node),
        incarnation: Incarnation {
            started: START + life,
            nonce: 0,
        },
        group: group(),
        fingerprint: Fingerprint::of("lww"),
        sync_interval,
        max_clock_drift: DRIFT,
    }
}
