//! The roots that the tree has had, and over which cuts.
//!
//! No clock and no I/O: cuts and times are parameters.
//!
//! A root is a function of the updates up to a cut, so two replicas compare
//! roots of one cut. A tree that does not change has one root over many cuts: a
//! [`Span`] of them. As replicas make roots at whole seconds while updates
//! settle, and over an open-ended span when none do, their spans meet.
//!
//! A replica only ever adds: what it held when it had some root it holds now, in
//! the same or a newer version, unless it is dead, as it is then for all. So of a peer that shows a root which this replica
//! once had there is nothing to get; and one that had a root which this replica once
//! had can lack only what has changed here since. (If damage makes that untrue, all
//! roots so far are forgotten.)

use std::collections::{HashMap, VecDeque};

pub(in crate::replica) mod change_log;

use change_log::{Change, ChangeLog};

use crate::{
    cell::CellKey,
    collection::{evidence::Evidence, kept::MemberId},
    mst::RootHash,
    replica::{BUCKET, Tree},
};

/// The life of a member: its incarnation.
pub type Life = (u64, u32);

/// What is remembered of a root.
#[derive(Clone, Copy, Debug)]
struct Past {
    /// The last change before it was made.
    change: u64,
    /// All that a client will ever have had taken here below this is in the tree of the root.
    floor: u64,
}

/// Spans that are remembered: at one a second, a quarter of an hour.
const MAX_SPANS: usize = 1024;

/// Roots that are remembered for what was held with them.
const MAX_PAST: usize = 4096;

/// Cuts over which a tree has one root: from the first to the last, both
/// included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first cut.
    pub from: u64,
    /// The last one that is known.
    pub to: u64,
    /// The root.
    pub root: RootHash,
}

/// How a peer's root relates to one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both hold the same.
    Equal,
    /// The peer holds what this replica has held before.
    Behind,
    /// Each may hold what the other does not.
    Divergent,
    /// There is no cut of which both roots are known. There will be, when the
    /// roots that are being made are made.
    Unknown,
}

/// The last root that was made, and what it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootInfo {
    /// Updates with a time below this are covered by the root.
    pub cut: u64,
    /// The root.
    pub root: RootHash,
    /// Keys that have a value.
    pub keys: usize,
    /// Cells, tombstones among them.
    pub cells: usize,
    /// Tombstones.
    pub tombstones: usize,
}

/// The roots of a replica, now and before.
#[derive(Clone, Debug)]
pub struct RootHistory {
    published: RootInfo,
    /// Ascending and disjoint.
    spans: VecDeque<Span>,
    /// Whether the last span goes on: the tree is as it was then.
    is_current: bool,
    /// All roots that are remembered, in the order in which they came.
    past: VecDeque<RootHash>,
    /// What is known of each of them.
    is_past: HashMap<RootHash, Past>,
    /// What has changed, if anybody will ask.
    changes: Option<ChangeLog>,
    /// The cut at which something is to settle that has not, if anything is.
    next_cut: Option<u64>,
    /// The last update that the current root covers, or that is pending since its
    /// time has not come.
    covered: u64,
    /// The floor below which all that was taken is in the tree.
    drained: u64,
    /// What members have shown since the last adoption; and the grid of what is joined, by which that
    /// is judged: 0 if nobody will ask.
    evidence: Evidence<MemberId, Life>,
    grid: u64,
}

impl RootHistory {
    /// The roots of a replica that has just been opened. Changes are remembered only if
    /// somebody will ask for them.
    pub(crate) fn new(published: RootInfo, keep_changes: bool) -> Self {
        let mut roots = Self {
            published,
            spans: VecDeque::new(),
            is_current: false,
            past: VecDeque::new(),
            is_past: HashMap::new(),
            changes: keep_changes.then(ChangeLog::default),
            next_cut: None,
            covered: 0,
            drained: 0,
            evidence: Evidence::default(),
            grid: 0,
        };
        roots.made(published);
        roots
    }

    /// From now on it is remembered what members show, by times of this grid.
    pub(crate) fn keep_evidence(&mut self, grid: u64) {
        self.grid = grid;
    }

    /// A root was made.
    pub(crate) fn made(&mut self, published: RootInfo) {
        let RootInfo { cut, root, .. } = published;
        self.published = published;
        self.is_current = true;
        match self.spans.back_mut() {
            Some(last) if last.root == root => last.to = last.to.max(cut),
            _ => {
                self.spans.retain(|span| span.to < cut);
                let (from, to) = (cut, cut);
                self.spans.push_back(Span { from, to, root });
            }
        }
        // A tree that only grows does not come back to a root that it had. One of which cells die may: all
        // that it had since has died.
        let change = self.changes.as_ref().map_or(0, ChangeLog::last);
        let floor = self.drained;
        if self.is_past.insert(root, Past { change, floor }).is_none() {
            self.past.push_back(root);
        }
        while self.spans.len() > MAX_SPANS {
            self.spans.pop_front();
        }
        while self.past.len() > MAX_PAST {
            if let Some(oldest) = self.past.pop_front() {
                self.is_past.remove(&oldest);
            }
        }
    }

    /// Updates went into the tree, the earliest of them with this time: the roots
    /// of all cuts above it are evidence of nothing any more.
    pub(crate) fn changed(&mut self, earliest: u64) {
        let last = earliest / BUCKET * BUCKET;
        let open = self.spans.back_mut().filter(|_| self.is_current);
        if let Some(open) = open {
            // The tree was as it is until now.
            open.to = open.to.max(last);
        }
        self.is_current = false;
        while self.spans.back().is_some_and(|span| span.from > last) {
            self.spans.pop_back();
        }
        if let Some(span) = self.spans.back_mut() {
            span.to = span.to.min(last);
        }
    }

    /// These cells have been joined into the tree, before the next root is made; the earliest of them
    /// that changed it, if any did, with this time.
    pub(crate) fn joined(&mut self, keys: impl Iterator<Item = CellKey>, earliest: Option<u64>) {
        if let Some(changes) = &mut self.changes {
            changes.add(keys);
        }
        if let Some(earliest) = earliest.filter(|_| self.grid > 0) {
            // Of one step of the grid one is remembered, so that they reach far back.
            let earliest = earliest / self.grid * self.grid;
            self.evidence.joined(self.last_change(), earliest);
        }
    }

    fn last_change(&self) -> u64 {
        self.changes.as_ref().map_or(0, ChangeLog::last)
    }

    /// All that was taken of clients below this floor is in the tree, and nothing more is taken.
    pub(crate) fn drained(&mut self, floor: u64) {
        self.drained = self.drained.max(floor);
        // If the tree is as it was when the root was made, that root has it.
        if self.is_current
            && let Some(past) = self.is_past.get_mut(&self.published.root)
        {
            past.floor = self.drained;
        }
    }

    /// The floor below which all that was taken is in the tree as it is, and nothing more is taken.
    #[must_use]
    pub fn drained_floor(&self) -> u64 {
        self.drained
    }

    /// The floor below which all that was taken is in the tree of a root, and nothing more is taken: 0
    /// if that is not known of this root.
    #[must_use]
    pub fn floor_of(&self, root: &RootHash) -> u64 {
        self.is_past.get(root).map_or(0, |past| past.floor)
    }

    /// The last change before a root was made, if the tree has or had it.
    #[must_use]
    pub fn change_of(&self, root: &RootHash) -> Option<u64> {
        self.is_past.get(root).map(|past| past.change)
    }

    /// A member at the same horizon announced a root, and that it takes nothing below this floor that
    /// is not in it.
    pub fn hear(&mut self, member: MemberId, life: Life, root: &RootHash, floor: u64) {
        self.evidence.met(member, life);
        if let Some(change) = self.change_of(root).filter(|_| floor > 0) {
            self.evidence.hear(member, life, floor, change);
        }
    }

    /// A member was heard in this life, whatever it said.
    pub fn met(&mut self, member: MemberId, life: Life) {
        self.evidence.met(member, life);
    }

    /// What members have shown since the last adoption.
    #[must_use]
    pub fn evidence(&self) -> &Evidence<MemberId, Life> {
        &self.evidence
    }

    /// Cells have died. What changed of those that are not in the tree is of no use to anybody.
    pub(crate) fn died(&mut self, tree: &Tree) {
        if let Some(changes) = &mut self.changes {
            changes.left(tree.len(), |key| {
                let Ok(held) = tree.get(key);
                held.is_some()
            });
        }
    }

    /// The cells of the tree that have changed since it had `root`, each with the number of
    /// its last change, ascending; and of these those after the change `after`. Nothing
    /// if the tree did not have that root, or it is too long ago. O(changes since).
    #[must_use]
    pub fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        let since = self.change_of(root)?;
        let changes = self.changes.as_ref()?.after(after.max(since))?;
        let mut last: HashMap<&CellKey, u64> = HashMap::new();
        last.extend(changes.map(|(change, key)| (key, *change)));
        let mut changes: Vec<Change> = last
            .into_iter()
            .map(|(key, change)| (change, key.clone()))
            .collect();
        changes.sort_unstable_by_key(|(change, _)| *change);
        Some(changes)
    }

    /// Something was lost, or a horizon was adopted: what was held with the roots so far is not held
    /// any more, so a peer that shows one of them may have what is missing.
    pub(crate) fn lost(&mut self) {
        self.is_current = false;
        self.spans.clear();
        self.past.clear();
        self.is_past.clear();
        self.evidence.clear();
    }

    pub(crate) fn set_next_cut(&mut self, next_cut: Option<u64>) {
        self.next_cut = next_cut;
    }

    /// The current root covers all updates up to this one.
    pub(crate) fn set_covered(&mut self, sequence: u64) {
        self.covered = sequence;
    }

    /// The last root that was made.
    #[must_use]
    pub fn published(&self) -> RootInfo {
        self.published
    }

    /// The last update that the current root covers, or that is pending since its
    /// time has not come.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// The latest span, as it is known when the cut is `now`; nothing if it was
    /// voided and no root has been made since.
    #[must_use]
    pub fn latest(&self, now: u64) -> Option<Span> {
        let mut span = *self.spans.back()?;
        if self.is_current {
            let until = self.next_cut.map_or(u64::MAX, |next| next - BUCKET);
            span.to = span.to.max(now.min(until));
        }
        Some(span)
    }

    /// Whether this is a root that the tree has or had, and what was held with it is held.
    #[must_use]
    pub fn has_had(&self, root: &RootHash) -> bool {
        self.is_past.contains_key(root)
    }

    /// Compares a peer's root, which it has over the cuts of `theirs`, when the
    /// own cut is `now`. O(remembered roots).
    #[must_use]
    pub fn compare(&self, theirs: &Span, now: u64) -> Comparison {
        if self.is_current && self.published.root == theirs.root {
            // It holds what this replica holds now, whatever the cuts.
            return Comparison::Equal;
        }
        let earlier = self.spans.iter().rev().skip(1).copied();
        let mut own = self.latest(now).into_iter().chain(earlier).enumerate();
        let common = own.find(|(_, own)| own.from <= theirs.to && theirs.from <= own.to);
        let is_equal = match common {
            // Where theirs went on after ours had ended, it lacks what ended ours.
            Some((index, own)) => {
                let goes_on = index == 0 && self.is_current;
                own.root == theirs.root && (goes_on || theirs.to <= own.to)
            }
            // The tree has changed since, or lost something.
            None => false,
        };
        if is_equal {
            Comparison::Equal
        } else if self.is_past.contains_key(&theirs.root) {
            Comparison::Behind
        } else if common.is_some() {
            Comparison::Divergent
        } else {
            Comparison::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(n: u8) -> RootHash {
        RootHash([n; 32])
    }

    fn published(cut: u64, n: u8) -> RootInfo {
        RootInfo {
            cut: cut * BUCKET,
            root: root(n),
            keys: 0,
            cells: 0,
            tombstones: 0,
        }
    }

    fn span(from: u64, to: u64, n: u8) -> Span {
        Span {
            from: from * BUCKET,
            to: to * BUCKET,
            root: root(n),
        }
    }

    /// Roots 1 over the cuts 10 to 13, 2 over 20 to 25, and 3 from 30 on.
    fn roots() -> RootHistory {
        let mut roots = RootHistory::new(published(10, 1), true);
        roots.changed(13 * BUCKET + 5);
        roots.made(published(20, 2));
        roots.changed(26 * BUCKET - 1);
        roots.made(published(30, 3));
        roots
    }

    #[test]
    fn roots_are_compared_where_the_cuts_meet() {
        let roots = roots();
        let compare = |from, to, n| roots.compare(&span(from, to, n), 40 * BUCKET);
        assert_eq!(compare(22, 22, 2), Comparison::Equal);
        assert_eq!(compare(18, 25, 2), Comparison::Equal);
        assert_eq!(compare(25, 28, 2), Comparison::Behind, "of what came at 26");
        assert_eq!(compare(22, 22, 9), Comparison::Divergent);
        assert_eq!(compare(26, 29, 9), Comparison::Unknown);
        assert_eq!(compare(41, 41, 9), Comparison::Unknown);
        assert_eq!(compare(35, 90, 3), Comparison::Equal);
        assert_eq!(compare(35, 90, 2), Comparison::Behind);
        // Over other cuts, but what is held is the same.
        assert_eq!(compare(90, 95, 3), Comparison::Equal);
        assert_eq!(compare(90, 95, 1), Comparison::Behind);
        // The clock of the peer is behind: it has the newest root at an old cut.
        assert_eq!(compare(21, 22, 3), Comparison::Equal);
    }

    #[test]
    fn a_span_goes_on_until_something_settles() {
        let mut roots = roots();
        assert_eq!(roots.latest(44 * BUCKET), Some(span(30, 44, 3)));
        roots.set_next_cut(Some(36 * BUCKET));
        assert_eq!(roots.latest(44 * BUCKET), Some(span(30, 35, 3)));
        roots.changed(35 * BUCKET);
        assert_eq!(roots.latest(44 * BUCKET), Some(span(30, 35, 3)));
        roots.made(published(36, 4));
        roots.set_next_cut(None);
        assert_eq!(roots.latest(44 * BUCKET), Some(span(36, 44, 4)));
    }

    #[test]
    fn what_is_late_voids_the_roots_that_it_changes() {
        let mut roots = roots();
        roots.changed(21 * BUCKET + 3);
        assert_eq!(roots.latest(44 * BUCKET), Some(span(20, 21, 2)));
        roots.made(published(30, 4));
        let compare = |from, to, n| roots.compare(&span(from, to, n), 30 * BUCKET);
        assert_eq!(compare(20, 21, 2), Comparison::Equal);
        assert_eq!(compare(24, 24, 9), Comparison::Unknown, "void");
        // But it was held with that root.
        assert_eq!(compare(30, 30, 3), Comparison::Behind);
    }

    #[test]
    fn after_a_loss_no_root_of_before_is_equal() {
        let mut roots = roots();
        roots.lost();
        let compare = |n| roots.compare(&span(30, 44, n), 40 * BUCKET);
        assert_eq!([1, 2, 3].map(compare), [Comparison::Unknown; 3]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut roots = RootHistory::new(published(1, 0), false);
        for n in 2..10_000u64 {
            roots.changed(n * BUCKET - 1);
            let mut made = published(n, 0);
            made.root.0[..8].copy_from_slice(&n.to_be_bytes());
            roots.made(made);
        }
        assert_eq!(roots.spans.len(), MAX_SPANS);
        assert_eq!(roots.past.len(), MAX_PAST);
    }
}
