//! A replica, as the state machine reads it.

use std::sync::Arc;

use crate::{
    cell::{CellKey, Key, Timestamp, Version},
    collection::{evidence::Evidence, kept::MemberId},
    mst::RootHash,
    replica::{Change, Comparison, Life, MemberState, Replica, Span, Tree},
    sync::{Joins, View},
};

/// A replica, and what was joined to it.
pub(super) struct ReplicaView {
    pub(super) replica: Arc<Replica>,
    pub(super) joins: Joins,
}

impl ReplicaView {
    pub(super) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            joins: Joins::default(),
        }
    }

    /// Forgets what is covered, but for the last.
    pub(super) fn tidy(&mut self) {
        let covered = self.replica.roots().covered();
        self.joins.tidy(covered);
    }
}

impl View for ReplicaView {
    fn tree(&self) -> Tree {
        self.replica.current_tree()
    }

    fn has_had(&self, root: &RootHash) -> bool {
        self.replica.roots().has_had(root)
    }

    fn compare(&self, theirs: &Span) -> Comparison {
        let now = self.replica.cut();
        self.replica.roots().compare(theirs, now)
    }

    fn latest(&self) -> Option<(Span, u64)> {
        let now = self.replica.cut();
        let roots = self.replica.roots();
        Some((roots.latest(now)?, roots.published().cells as u64))
    }

    fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.replica.newest_or_covering(key)
    }

    fn witness(&self, clock: u64) {
        self.replica.witness(clock);
    }

    fn watermark(&self) -> u64 {
        self.replica.died_until()
    }

    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.replica.roots().changes_since(root, after)
    }

    fn joined(&self) -> u64 {
        self.joins.covered_by(self.replica.roots().covered())
    }

    fn member_state(&self) -> Option<MemberState> {
        self.replica.member_state()
    }

    fn floor_of(&self, root: &RootHash) -> u64 {
        self.replica.roots().floor_of(root)
    }

    fn change_of(&self, root: &RootHash) -> Option<u64> {
        self.replica.roots().change_of(root)
    }

    fn hear(&self, member: MemberId, life: Life, root: &RootHash, floor: u64) {
        self.replica.hear(member, life, root, floor);
    }

    fn met(&self, member: MemberId, life: Life) {
        self.replica.met(member, life);
    }

    fn evidence(&self, read: &mut dyn FnMut(&Evidence<MemberId, Life>)) {
        read(self.replica.roots().evidence());
    }

    fn collected(&self, horizon: u64) -> Tree {
        self.replica.collected(horizon)
    }

    fn delete_rules(&self) -> Vec<(CellKey, Version)> {
        self.replica.delete_rules()
    }

    fn has_lifetime(&self, key: &Key) -> bool {
        self.replica.lifetimes().of(key).is_some()
    }

    fn useful(&self) -> u64 {
        self.joins.useful()
    }
}
