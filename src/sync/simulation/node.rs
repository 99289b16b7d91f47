//! A replica of the simulation.

use std::{collections::VecDeque, time::Duration};

use super::{super::*, liars::Lie};
use crate::{
    cell::{CellKey, Key, Timestamp, Version},
    collection::{evidence::Evidence, kept::MemberId},
    config::Durability,
    mst::RootHash,
    replica::{
        Change, Committed, Comparison, Image, Life, MemberState, Now, ReplicaError,
        SimulatedReplica, Snapshot, Span, Tree,
    },
};

pub(super) const START: u64 = 1_700_000_000 << 32;
pub(super) const DRIFT: Duration = Duration::from_secs(10);
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// Cells that are handed over, and not committed yet.
pub(super) struct Joining {
    pub(super) committed: Option<Committed>,
    pub(super) cells: u64,
    pub(super) useful: u64,
    pub(super) sequence: u64,
}

pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) replica: SimulatedReplica,
    /// Kept in its folder.
    pub(super) identity: ReplicaId,
    pub(super) durability: Durability,
    /// Milliseconds that the clock is off, and how much it goes wrong in a million.
    pub(super) skew: i64,
    pub(super) drift: i64,
    /// Which life it is, so that timers and answers of others are not taken.
    pub(super) life: u64,
    pub(super) is_down: bool,
    /// Its folder, while it is down, and as it was once.
    pub(super) image: Image,
    pub(super) saved: Option<Image>,
    pub(super) last_timestamp: u64,
    pub(super) joins: Joins,
    /// While it waits for a commit it does nothing else.
    pub(super) joining: Option<Joining>,
    pub(super) actions: VecDeque<Action>,
    pub(super) events: VecDeque<Event>,
    /// A root was made of which the machine is to be told.
    pub(super) has_root: bool,
    pub(super) has_missed_tokens: bool,
    pub(super) refused: u64,
    /// Bytes of messages that it sent.
    pub(super) sent: u64,
    /// What is wrong with its answers, and how often it was.
    pub(super) lie: Option<Lie>,
    pub(super) lies: u64,
    /// Times that it let go of cells to catch up.
    pub(super) catch_ups: u64,
    /// Of the protocol, above the first that there is.
    pub(super) version: u8,
    /// When it is driven on.
    pub(super) wakes: u64,
}

/// A time that both clocks show.
pub(super) fn at(clock: u64, millis: u64) -> Now {
    let monotonic = Duration::from_millis(millis);
    Now { clock, monotonic }
}

/// A replica, what its clock shows, and cells that were joined.
pub(super) struct NodeView<'a>(
    pub(super) &'a SimulatedReplica,
    pub(super) u64,
    pub(super) &'a Joins,
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
    fn witness(&self, clock: u64) {
        self.0.witness(clock, self.1);
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.0.roots().changes_since(root, after)
    }
    fn watermark(&self) -> u64 {
        self.0.died_until()
    }
    fn joined(&self) -> u64 {
        self.2.covered_by(self.0.roots().covered())
    }
    fn useful(&self) -> u64 {
        self.2.useful()
    }
    fn member_state(&self) -> Option<MemberState> {
        self.0.standing()
    }
    fn floor_of(&self, root: &RootHash) -> u64 {
        self.0.roots().floor_of(root)
    }
    fn change_of(&self, root: &RootHash) -> Option<u64> {
        self.0.roots().change_of(root)
    }
    fn hear(&self, member: MemberId, life: Life, root: &RootHash, floor: u64) {
        self.0.roots_mut().hear(member, life, root, floor);
    }
    fn met(&self, member: MemberId, life: Life) {
        self.0.roots_mut().met(member, life);
    }
    fn evidence(&self, read: &mut dyn FnMut(&Evidence<MemberId, Life>)) {
        read(self.0.roots().evidence());
    }
    fn collected(&self, horizon: u64) -> Tree {
        self.0.collected(horizon)
    }
    fn delete_rules(&self) -> Vec<(CellKey, Version)> {
        self.0.delete_rules()
    }
}

impl Source for NodeView<'_> {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        self.0.snapshot()
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.0.roots().changes_since(root, after)
    }
    fn dead(&self, key: &Key, watermark: u64) -> Option<Timestamp> {
        self.0.lifetimes().dead(key, watermark)
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

/// The token of a replica, for one of a version of the protocol that differs by so much.
pub(super) fn token(replica: ReplicaId, differs: i8) -> Token {
    Token {
        protocol: PROTOCOL.wrapping_add_signed(differs),
        group: group(),
        replica,
    }
}

/// Of a replica that is opened when its clock shows `started`.
pub(super) fn settings(
    replica: ReplicaId,
    started: u64,
    nonce: u32,
    sync_interval: Duration,
) -> Settings {
    Settings {
        replica,
        incarnation: Incarnation { started, nonce },
        group: group(),
        fingerprint: Fingerprint::of("lww"),
        sync_interval,
        max_clock_drift: DRIFT,
        members: None,
    }
}
