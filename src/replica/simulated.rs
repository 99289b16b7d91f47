//! A replica on virtual time: the real core, driven by whoever has the time, over a simulated disk
//! that may be slow, or fail, and of which a crash takes back what was not synced.

mod disk;
mod image;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use disk::Disk;
pub(crate) use disk::{Medium, ideal};
pub(crate) use image::{Image, Lost, check_promised};
use image::{Promised, load};

use super::{
    Counts, MemberState, Now, Options, Order, ReplicaError, RootHistory, RootInfo, Snapshot, Tree,
    Tuning,
    apply::{loader::Built, watermark::cut_at},
    core::{Core, Task},
    state::State,
    write::{
        acks::{CommitTracker, Committed},
        group::Group,
        queue::{Fence, Taken},
        request::Request,
    },
};
use crate::{
    cell::{Cell, CellKey, Timestamp, Version},
    collection::kept::Kept,
    config::Durability,
    merge::Lifetimes,
    store::{
        Commit, RowBatch, StoreError,
        faulty::Verdict,
        model::{ModelView, Rows},
    },
};

/// A write to the disk that is under way.
struct Io<T> {
    what: T,
    until: Duration,
    verdict: Verdict,
}

/// What the writer hears of it.
fn made(verdict: Verdict) -> Result<(), StoreError> {
    match verdict {
        Verdict::Done => Ok(()),
        Verdict::Lost | Verdict::Kept => Err(StoreError::Made),
    }
}

/// A group that is being appended.
struct Append {
    group: Arc<Group>,
    /// Whether the thread that drives the core does it.
    is_blocking: bool,
}

pub(crate) struct SimulatedReplica {
    state: Arc<State>,
    core: Core,
    disk: Disk,
    medium: Medium,
    promised: Promised,
    /// The latest watermark at which what is dead has left the disk, in this life or before.
    died: u64,
    appending: Option<Io<Append>>,
    appended: Option<Result<u64, StoreError>>,
    storing: Option<Io<RowBatch>>,
    now: Now,
    has_root: bool,
    /// When to be driven on, if nothing comes before.
    wake_at: Option<Duration>,
}

impl SimulatedReplica {
    pub(crate) fn new(settle: Duration, now: Now) -> Self {
        let none = Arc::default();
        Self::open(
            Image::default(),
            settle,
            Durability::Always,
            ideal(),
            &none,
            now,
        )
    }

    /// The most that a crash may take back now.
    pub(crate) fn most_lost(&self) -> Lost {
        Lost {
            batches: self.disk.unsynced_batches(),
            groups: self.disk.unsynced_groups(),
            is_append_torn: true,
        }
    }

    /// What is there after a crash that took back so much. A group that is being appended may be on the
    /// disk, though nobody was told.
    pub(crate) fn crash(mut self, lost: Lost) -> Image {
        let died = self.died();
        self.disk.lose(lost.batches, lost.groups);
        if let Some(Io { what, verdict, .. }) = self.appending.filter(|_| self.appended.is_none()) {
            let is_torn = lost.is_append_torn || verdict == Verdict::Lost;
            // What was appended before it is there, if it is.
            if !is_torn && lost.groups == 0 {
                self.disk.append(&what.group, Commit::Buffered);
            }
        }
        Image {
            disk: self.disk,
            promised: self.promised,
            died,
        }
    }

    /// Opens what a crash left.
    ///
    /// All that was promised is there.
    pub(crate) fn open(
        image: Image,
        settle: Duration,
        durability: Durability,
        medium: Medium,
        lifetimes: &Arc<Lifetimes>,
        now: Now,
    ) -> Self {
        Self::open_as(
            image,
            settle,
            durability,
            medium,
            lifetimes,
            (None, true),
            now,
        )
    }

    /// As [`open`](Self::open), of one of several replicas that collect what is so old.
    pub(crate) fn open_member(
        image: Image,
        settle: Duration,
        durability: Durability,
        medium: Medium,
        after: Duration,
        now: Now,
    ) -> Self {
        let (none, collects) = (Arc::default(), (Some(after), true));
        Self::open_as(image, settle, durability, medium, &none, collects, now)
    }

    /// As [`open`](Self::open); it collects what is so old.
    pub(crate) fn open_collecting(
        image: Image,
        settle: Duration,
        durability: Durability,
        medium: Medium,
        lifetimes: &Arc<Lifetimes>,
        collect_after: Option<Duration>,
        now: Now,
    ) -> Self {
        let collects = (collect_after, false);
        Self::open_as(image, settle, durability, medium, lifetimes, collects, now)
    }

    /// With when it collects, and whether it is one of several.
    fn open_as(
        image: Image,
        settle: Duration,
        durability: Durability,
        medium: Medium,
        lifetimes: &Arc<Lifetimes>,
        (collect_after, is_member): (Option<Duration>, bool),
        now: Now,
    ) -> Self {
        let Image {
            mut disk,
            promised,
            died,
        } = image;
        disk.catch_up();
        let Built {
            mut tree,
            covered,
            put_rules,
        } = load(&disk.rows);
        for (covered, _) in covered {
            Arc::make_mut(&mut disk.rows).remove(&covered);
        }
        let put_rules = put_rules.into_iter();
        let put_rules = put_rules.map(|(key, _)| (key.clone(), Arc::clone(&disk.rows[&key])));
        let put_rules = put_rules.collect();
        let latest = disk.rows.values().map(|cell| cell.timestamp.time).max();
        let latest = latest.unwrap_or(0);
        match is_member && collect_after.is_some() {
            // What members let go of is judged by all of them together.
            true => {}
            false => check_promised(&disk.rows, &promised, lifetimes, died, disk.kept.floor),
        }
        for (dead, _) in tree.begin(
            Arc::clone(lifetimes),
            cut_at(now.clock, settle),
            latest,
            None,
        ) {
            Arc::make_mut(&mut disk.rows).remove(&dead);
        }
        let died = died.max(tree.deaths().until());
        let options = Options {
            durability,
            sync_every: Duration::from_millis(100),
            settle,
            max_clock_drift: Duration::from_secs(10),
            keep_changes: is_member,
            collect_after,
            died_until: None,
        };
        let state = State::new(
            "simulated",
            options,
            Tuning::default(),
            tree,
            put_rules,
            Vec::new(),
            disk.kept.clone(),
        );
        let state = Arc::new(state);
        Self {
            core: Core::new(Arc::clone(&state), true),
            state,
            disk,
            medium,
            promised,
            died,
            appending: None,
            appended: None,
            storing: None,
            now,
            has_root: false,
            wake_at: Some(now.monotonic),
        }
    }

    /// Writes are made at once from now on, and do not fail, nor do those that are under way.
    pub(crate) fn mend_disk(&mut self) {
        self.medium = ideal();
        if let Some(io) = &mut self.appending {
            io.verdict = Verdict::Done;
        }
        if let Some(io) = &mut self.storing {
            io.verdict = Verdict::Done;
        }
    }

    /// Writes or joins a cell; true if it is the newest of its key.
    pub(crate) fn offer(&mut self, key: CellKey, cell: Cell) -> bool {
        self.offer_all(vec![(key, cell)]).0
    }

    /// Writes or joins cells, all or none; whether one is the newest of its key, and what is to be
    /// awaited before it is acknowledged.
    pub(crate) fn offer_all(&mut self, cells: Vec<(CellKey, Cell)>) -> (bool, Option<Committed>) {
        self.offer_fenced(cells, Fence::Floor)
    }

    fn offer_fenced(
        &mut self,
        cells: Vec<(CellKey, Cell)>,
        fence: Fence,
    ) -> (bool, Option<Committed>) {
        let offers = cells.into_iter();
        let offers = offers.map(|(key, cell)| (key, Arc::new(cell), None));
        let State {
            queue,
            tree,
            options,
            commits,
            ..
        } = &*self.state;
        let patience = options.patience();
        let taken = queue.offer(offers.collect(), fence, patience, self.now.monotonic, tree);
        let outcome = match taken {
            Taken::Closed | Taken::Outdated | Taken::Late { .. } => (false, None),
            Taken::Yes {
                sequence,
                is_newest,
                wait,
                ..
            } => (
                is_newest,
                wait.then(|| CommitTracker::committed(commits, sequence)),
            ),
        };
        self.run();
        outcome
    }

    /// Has all that was handed over committed, and returns the number of the last of it.
    pub(crate) fn request_commit(&mut self) -> u64 {
        let sequence = self.state.queue.request_commit();
        self.run();
        sequence
    }

    /// Does what is due; true if a root was made, or covers more, since the last time.
    pub(crate) fn settle(&mut self, now: Now) -> bool {
        self.now = now;
        self.run();
        std::mem::take(&mut self.has_root)
    }

    /// As the threads of a replica do it: one appends while the other applies, if there is something
    /// to be applied; else the one does both.
    fn run(&mut self) {
        loop {
            self.finish_append();
            if self.storing.is_some() && !self.finish_store() {
                break;
            }
            if let Some(appended) = self.appended.take() {
                self.appending = None;
                self.core.appended(appended);
            }
            let append = self.appending.as_ref();
            if append.is_some_and(|append| append.what.is_blocking) {
                break;
            }
            match self.core.next_task(self.now) {
                Task::Append(group) => {
                    let is_blocking = !self.core.is_apply_due_now(self.now);
                    let append = Append { group, is_blocking };
                    self.appending = Some(self.io(append));
                }
                Task::Store(batch) => self.storing = Some(self.io(batch)),
                Task::Tell { .. } => self.has_root = true,
                Task::Again => {}
                Task::Wait(until, _) => {
                    self.wake_at = until;
                    return self.wake_for_io();
                }
                Task::Keep(kept) => {
                    let verdict = self.medium.as_mut()().1;
                    if verdict != Verdict::Lost {
                        self.disk.sync();
                        self.disk.kept = kept.clone();
                    }
                    let result = made(verdict);
                    self.core.collection_kept(kept, result, self.now);
                    self.has_root = true;
                }
                Task::SetAside(cells) => {
                    let verdict = self.medium.as_mut()().1;
                    let mut keys = Vec::new();
                    for cell in cells {
                        let row = self.disk.rows.get(&cell.key).map(Arc::clone);
                        let row = row.expect("what is in the tree has a row");
                        if cell.is_aside && verdict != Verdict::Lost {
                            self.disk
                                .aside
                                .insert(cell.version, (cell.key.clone(), row));
                        }
                        keys.push(cell.key);
                    }
                    self.core.set_aside(made(verdict).map(|()| keys));
                }
                Task::Refold(_) => self.has_root = true,
                Task::Checkpoint(_) | Task::Mend(_) => panic!("nobody asks for that"),
                Task::End => {
                    assert!(self.state.end().is_some(), "it is never closed");
                    self.state.commits.close();
                    break;
                }
            }
        }
        self.wake_at = None;
        self.wake_for_io();
    }

    fn wake_for_io(&mut self) {
        let store = self.storing.as_ref().map(|io| io.until);
        let append = self.appending.as_ref().map(|io| io.until);
        // What is done with the log waits for the rows.
        let append = append.filter(|_| self.appended.is_none());
        self.wake_at = store.into_iter().chain(append).chain(self.wake_at).min();
    }

    fn io<T>(&mut self, what: T) -> Io<T> {
        let (takes, verdict) = (self.medium)();
        Io {
            what,
            until: self.now.monotonic + takes,
            verdict,
        }
    }

    /// Appends a group, and tells its writers, when it is time.
    fn finish_append(&mut self) {
        let Some(io) = self.appending.as_ref() else {
            return;
        };
        if self.appended.is_some() || io.until > self.now.monotonic {
            return;
        }
        let commit = match self.state.options.durability {
            Durability::Always | Durability::Interval => Commit::Synced,
            Durability::None => Commit::Buffered,
        };
        let group = &io.what.group;
        let appended = match io.verdict {
            Verdict::Lost => Err(StoreError::Made),
            Verdict::Kept => {
                self.disk.append(group, commit);
                Err(StoreError::Made)
            }
            Verdict::Done => {
                let number = self.disk.append(group, commit);
                self.state.acknowledge(group);
                if commit == Commit::Synced {
                    for update in &group.updates {
                        let version = Version::of(&update.key, &update.cell);
                        let promised = self.promised.entry(update.key.clone());
                        let promised = promised.or_insert(version);
                        *promised = (*promised).max(version);
                    }
                }
                Ok(number)
            }
        };
        self.appended = Some(appended);
        // The core looks whether nobody else has it.
        if let Some(io) = self.appending.as_mut() {
            io.what.group = Arc::default();
        }
    }

    /// False if it is not time.
    fn finish_store(&mut self) -> bool {
        let is_due = |io: &mut Io<RowBatch>| io.until <= self.now.monotonic;
        let Some(io) = self.storing.take_if(is_due) else {
            return false;
        };
        if io.verdict != Verdict::Lost {
            self.disk.apply(&io.what);
        }
        let stored = match io.verdict {
            Verdict::Done => Ok(()),
            Verdict::Lost | Verdict::Kept => Err(StoreError::Made),
        };
        self.core.stored(stored, self.now, &|_| {});
        true
    }

    /// When to be driven on, if nothing comes before.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    /// Until when whoever wants a snapshot has to wait.
    pub(crate) fn is_half_applied_until(&self) -> Option<Duration> {
        self.storing.as_ref().map(|io| io.until)
    }

    /// Whether it has failed, or will when the core hears of it.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.appended, Some(Err(_))) || self.state.commits.failure().is_some()
    }

    /// The tree at the last cut, and its rows.
    ///
    /// # Errors
    /// If the replica failed while a batch was half applied.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        assert!(self.storing.is_none(), "it would wait");
        let snapshot = self.state.queue.gate.between_batches(|| {
            let applied = self.state.applied();
            let rows = ModelView(Arc::clone(&self.disk.rows));
            Snapshot::new(applied.cut(), applied.tree(), Box::new(rows))
        });
        snapshot.ok_or_else(|| match self.state.commits.check() {
            Ok(()) => ReplicaError::Closed,
            Err(error) => error,
        })
    }

    pub(crate) fn tree(&self) -> Tree {
        self.state.current_tree()
    }

    pub(crate) fn roots(&self) -> std::sync::RwLockReadGuard<'_, RootHistory> {
        self.state.roots()
    }

    /// As the state machine has it.
    pub(crate) fn order(&mut self, order: Order) {
        self.state.queue.request(Request::Order(order));
        self.run();
    }

    /// What is kept of its collection.
    pub(crate) fn kept(&self) -> Kept {
        self.state.collection.kept().clone()
    }

    /// How the members' state machine sees it.
    pub(crate) fn standing(&self) -> Option<MemberState> {
        MemberState::of(&self.state)
    }

    pub(crate) fn roots_mut(&self) -> std::sync::RwLockWriteGuard<'_, RootHistory> {
        self.state.roots_mut()
    }

    /// The tree as it would be if it were collected.
    pub(crate) fn collected(&self, horizon: u64) -> Tree {
        self.state.applied().collected(horizon)
    }

    pub(crate) fn delete_rules(&self) -> Vec<(CellKey, Version)> {
        self.state.applied().delete_rule_cells()
    }

    /// What was set aside.
    pub(crate) fn aside(&self) -> &BTreeMap<Version, (CellKey, Arc<Cell>)> {
        &self.disk.aside
    }

    /// Joins a cell that another replica sent, which was asked when this was the horizon.
    pub(crate) fn join(
        &mut self,
        key: CellKey,
        cell: Cell,
        horizon: u64,
    ) -> (bool, Option<Committed>) {
        self.offer_fenced(vec![(key, cell)], Fence::Horizon(horizon))
    }

    /// As when something was found damaged.
    pub(crate) fn lose_roots(&self) {
        self.state.roots_mut().lost();
    }

    pub(crate) fn cut(&self, now: u64) -> u64 {
        self.state.cut_at(now)
    }

    pub(crate) fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.state.newest_or_covering(key)
    }

    /// As when another replica's clock shows `theirs`, and the own one `clock`.
    pub(crate) fn lifetimes(&self) -> &Lifetimes {
        &self.state.lifetimes
    }

    pub(crate) fn died_until(&self) -> u64 {
        self.state.died_until()
    }

    pub(crate) fn witness(&self, theirs: u64, clock: u64) {
        self.state.witness(theirs, clock);
    }

    /// The latest watermark at which what is dead has left the disk, in this life or before.
    pub(crate) fn died(&self) -> u64 {
        self.died.max(self.state.applied().deaths().until())
    }

    /// The floor, which is on the disk.
    pub(crate) fn floor(&self) -> u64 {
        let floor = self.state.queue.floor();
        assert!(
            floor <= self.disk.kept.floor,
            "a promise that a crash would break"
        );
        floor
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.counters.read()
    }

    /// The rows that there would be after a crash.
    pub(crate) fn disk(&self) -> Arc<Rows> {
        let mut disk = self.disk.clone();
        disk.catch_up();
        disk.rows
    }

    /// What a tree says of itself that is built anew from what is stored.
    pub(crate) fn rebuilt(&self) -> RootInfo {
        let Built {
            mut tree, covered, ..
        } = load(&self.disk());
        assert!(covered.is_empty(), "stored although covered: {covered:?}");
        let died = self.state.applied().deaths().until();
        let dead = tree.begin(Arc::clone(&self.state.lifetimes), died, died, None);
        assert!(dead.is_empty(), "stored although dead: {dead:?}");
        tree.publish()
    }

    pub(crate) fn promised(&self) -> &Promised {
        &self.promised
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.state.queue.queues().unsettled > 0
    }
}
