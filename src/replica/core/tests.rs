//! The core against a model, with commits, rows and the watermark in any order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use smallvec::smallvec;

use super::*;
use crate::{
    cell::Cell,
    config::Durability,
    replica::{
        BUCKET, Options, TreeEntry, Tuning,
        apply::{loader::Loader, tree::AppliedTree},
        tests::{cell, cell_key, root_of},
        write::queue::{Fence, Taken},
    },
};

type Updates = Vec<(u8, Cell)>;

/// A core, and whatever it asks for, done when the test says so.
struct Driver {
    state: Arc<State>,
    core: Core,
    now: Now,
    rows: BTreeMap<CellKey, (Arc<Cell>, Version)>,
    log: BTreeMap<u64, Vec<(CellKey, Arc<Cell>)>>,
    groups: u64,
    appending: Option<Arc<Group>>,
    /// What was offered, with its number, if it was taken.
    offered: Vec<(u64, (u8, Cell))>,
    acknowledged: u64,
    has_rows: bool,
    told: usize,
}

fn empty_tree() -> AppliedTree {
    Loader::new().finish().tree
}

impl Driver {
    fn new(has_rows: bool) -> Self {
        let options = Options {
            durability: Durability::Interval,
            sync_every: Duration::from_millis(100),
            settle: Duration::from_millis(500),
            max_clock_drift: Duration::from_secs(10),
            keep_changes: true,
            collect_after: None,
            died_until: None,
        };
        let tuning = Tuning {
            joined_at_once: 3,
            applied_at_once: 2,
            hashed_at_once: 2,
            ..Tuning::small()
        };
        let state = Arc::new(State::new(
            "test",
            options,
            tuning,
            empty_tree(),
            Vec::new(),
            Vec::new(),
            Kept::default(),
        ));
        Self {
            core: Core::new(Arc::clone(&state), has_rows),
            state,
            now: Now {
                clock: 0,
                monotonic: Duration::ZERO,
            },
            rows: BTreeMap::new(),
            log: BTreeMap::new(),
            groups: 0,
            appending: None,
            offered: Vec::new(),
            acknowledged: 0,
            has_rows,
            told: 0,
        }
    }

    fn offer(&mut self, (number, cell): (u8, Cell)) {
        match self.take(cell_key(number), cell.clone()) {
            Taken::Closed => panic!("it is not closed"),
            // What the tree has already.
            Taken::Late { .. } => panic!("there is no floor"),
            Taken::Outdated => self.offered.push((0, (number, cell))),
            Taken::Yes { sequence, .. } => self.offered.push((sequence, (number, cell))),
        }
    }

    /// Offers a cell that is taken, and asks for its commit.
    fn write(&self, key: CellKey, cell: Cell) {
        let taken = self.take(key, cell);
        assert!(matches!(taken, Taken::Yes { .. }));
        self.state.queue.request_commit();
    }

    fn take(&self, key: CellKey, cell: Cell) -> Taken {
        let (queue, tree): (_, &RwLock<AppliedTree>) = (&self.state.queue, &self.state.tree);
        let offers = smallvec![(key, Arc::new(cell), None)];
        queue.offer(
            offers,
            Fence::Floor,
            Duration::MAX,
            self.now.monotonic,
            tree,
        )
    }

    /// Has so many parts of a set applied, when the clock says 110 buckets.
    fn apply_set(&mut self, set: &CellKey, parts: u64) {
        self.now.clock = 100 * BUCKET;
        for number in 0..parts {
            let key = CellKey {
                key: set.key.clone(),
                part: number.to_be_bytes().as_slice().into(),
            };
            self.write(key, cell(100 * BUCKET + number, 1, Some(1)));
        }
        self.run(10_000, false);
        self.now.clock = 110 * BUCKET;
        assert!(self.run(10_000, false), "all is applied");
    }

    fn finish_append(&mut self) {
        let Some(group) = self.appending.take() else {
            return;
        };
        self.groups += 1;
        let newest = group.updates.iter().filter(|update| update.is_newest);
        let cells = newest.map(|update| (update.key.clone(), Arc::clone(&update.cell)));
        self.log.insert(self.groups, cells.collect());
        self.state.acknowledge(&group);
        self.acknowledged = group.sequence;
        drop(group);
        self.core.appended(Ok(self.groups));
    }

    /// Does tasks, and leaves appending undone if it is to be `slow`; true if nothing is to be done.
    fn run(&mut self, most: usize, is_slow: bool) -> bool {
        for _ in 0..most {
            match self.core.next_task(self.now) {
                Task::Append(group) => {
                    assert!(self.has_rows && self.appending.is_none());
                    self.appending = Some(group);
                    if !is_slow {
                        self.finish_append();
                    }
                }
                Task::Store(batch) => {
                    assert!(self.has_rows && !batch.is_empty());
                    for write in batch.puts {
                        let row = (write.cell, write.version);
                        let old = self.rows.insert(write.key, row);
                        assert!(old.is_none_or(|(_, old)| old < write.version));
                    }
                    assert!(batch.removes.is_empty(), "nothing is covered");
                    if let Some(applied) = batch.applied {
                        self.log.retain(|number, _| *number > applied);
                    }
                    self.core.stored(Ok(()), self.now, &|_| {});
                }
                Task::Tell { .. } => self.told += 1,
                Task::Again => {}
                Task::Wait(..) => return true,
                Task::Checkpoint(_)
                | Task::Mend(_)
                | Task::Keep(_)
                | Task::SetAside(_)
                | Task::Refold(_)
                | Task::End => {
                    panic!("nobody asks for that")
                }
            }
            self.acknowledged = self.core.committed;
            self.check_rows();
        }
        false
    }

    /// Rows are the tree, unless a batch is half applied.
    fn check_rows(&self) {
        if !self.has_rows || self.core.batch().is_some() {
            return;
        }
        let tree = self.state.current_tree();
        assert_eq!(tree.len(), self.rows.len());
        for (key, (_, version)) in &self.rows {
            let Ok(held) = tree.get(key);
            assert_eq!(held.map(TreeEntry::version), Some(*version));
        }
    }

    fn updates(&self, is_asked: impl Fn(u64, &Cell) -> bool) -> Updates {
        let offered = self.offered.iter();
        let asked = offered.filter(|(number, (_, cell))| is_asked(*number, cell));
        asked.map(|(_, update)| update.clone()).collect()
    }

    /// The tree is that of what is committed and has a time below the watermark.
    fn check_tree(&self) {
        let cut = self.state.applied().cut();
        let below =
            self.updates(|number, cell| number <= self.acknowledged && cell.timestamp.time < cut);
        let tree = self.state.current_tree();
        let Ok(root) = tree.root();
        assert_eq!(root, root_of(&below), "at cut {}", cut / BUCKET);
        // Nothing that is not committed has a time below it, unless it came late.
        let published = self.state.roots().published();
        assert!(published.cut <= cut);
    }

    /// What is acknowledged is there after a crash, in rows or in the log.
    fn check_crash(&self) {
        if !self.has_rows {
            return;
        }
        let mut after = self.rows.clone();
        for (key, cell) in self.log.values().flatten() {
            let version = Version::of(key, cell);
            let found = after.entry(key.clone());
            let found = found.or_insert_with(|| (Arc::clone(cell), version));
            if found.1 < version {
                *found = (Arc::clone(cell), version);
            }
        }
        for (number, cell) in self.updates(|number, _| number <= self.acknowledged) {
            let key = cell_key(number);
            assert!(after[&key].1 >= Version::of(&key, &cell), "it is lost");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_of_what_is_committed_below_the_watermark(seed: u64, has_rows: bool) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut driver = Driver::new(has_rows);
        // However often it is set back, it does not fall below zero.
        driver.now.clock = 10_000 * BUCKET;
        for step in 0..random.gen_range(5..120) {
            match random.gen_range(0..6) {
                0 | 1 => {
                    for _ in 0..random.gen_range(1..6) {
                        // Mostly of about now, some late, some of a time to come.
                        let back = random.gen_range(0..14) * BUCKET / 2;
                        let ahead = random.gen_range(0..5) * BUCKET / 3;
                        let time = driver.now.clock - back + ahead;
                        let content = random.gen_bool(0.8).then_some(step as u8);
                        let update = cell(time, random.gen_range(1..3), content);
                        driver.offer((random.gen_range(0..6), update));
                    }
                }
                2 => driver.now.clock += random.gen_range(0..6) * BUCKET / 2,
                // The clock is set back.
                3 if random.gen_bool(0.1) => driver.now.clock -= random.gen_range(0..20) * BUCKET,
                3 => driver.finish_append(),
                _ => {
                    let slow = random.gen_bool(0.5);
                    let is_done = driver.run(random.gen_range(1..20), slow);
                    let is_deferred = driver.core.deferred_until(driver.now).is_some();
                    if is_done && !is_deferred {
                        driver.check_tree();
                    }
                }
            }
            driver.now.monotonic += Duration::from_millis(random.gen_range(0..60));
            driver.check_crash();
        }
        driver.finish_append();
        driver.now.clock = 20_000 * BUCKET;
        for _ in 0..5 {
            driver.now.monotonic += Duration::from_secs(3);
            prop_assert!(driver.run(100_000, false), "it does not come to rest");
        }
        driver.check_tree();
        let all = driver.updates(|_, _| true);
        let published = driver.state.roots().published();
        prop_assert_eq!(published.root, root_of(&all));
        let last = driver.offered.iter().map(|(number, _)| *number).max().unwrap_or(0);
        prop_assert_eq!(driver.state.roots().covered(), last);
        prop_assert!(driver.log.is_empty(), "all of it is in rows");
    }
}

fn update(time: u64) -> (u8, Cell) {
    (1, cell(time, 1, Some(1)))
}

/// An append that takes longer than the settle time does not make what it appends late.
#[test]
fn the_watermark_does_not_pass_what_is_not_committed() {
    let mut driver = Driver::new(true);
    driver.now.clock = 100 * BUCKET;
    driver.run(100, false);
    driver.offer(update(100 * BUCKET + 1));
    driver.now.monotonic += Duration::from_secs(1);
    driver.run(100, true);
    assert!(driver.appending.is_some());
    driver.now.clock = 200 * BUCKET;
    driver.offer(update(190 * BUCKET));
    assert!(driver.run(100, true));
    assert!(driver.state.applied().cut() <= 100 * BUCKET);
    // Nor is it woken for that again and again.
    match driver.core.next_task(driver.now) {
        Task::Wait(until, false) => assert!(until.is_none_or(|until| until > driver.now.monotonic)),
        _ => panic!("it waits for the append"),
    }
    driver.finish_append();
    driver.now.monotonic += Duration::from_secs(1);
    assert!(driver.run(100, true));
    driver.finish_append();
    assert!(driver.run(100, false));
    assert_eq!(driver.state.applied().cut(), 196 * BUCKET);
    driver.check_tree();
}

/// As replicas do that wait for room.
#[test]
fn when_there_is_no_room_the_watermark_goes_on() {
    let mut driver = Driver::new(true);
    let mut tuning = driver.state.tuning;
    tuning.max_pending_bytes = 1000;
    let state = State::new(
        "test",
        driver.state.options,
        tuning,
        empty_tree(),
        Vec::new(),
        Vec::new(),
        Kept::default(),
    );
    driver.state = Arc::new(state);
    driver.core = Core::new(Arc::clone(&driver.state), true);
    driver.now.clock = 100 * BUCKET;
    for number in 0..6 {
        driver.offer((number, cell(100 * BUCKET + u64::from(number), 1, Some(1))));
    }
    driver.now.monotonic += Duration::from_secs(1);
    assert!(driver.run(100, false));
    driver.offer(update(101 * BUCKET));
    assert!(driver.run(100, false));
    assert_eq!(
        driver.state.queue.queues().uncommitted,
        1,
        "there is no room"
    );
    driver.now.clock = 110 * BUCKET;
    assert!(driver.run(1000, false));
    driver.now.monotonic += Duration::from_secs(1);
    assert!(driver.run(1000, false));
    assert_eq!(driver.state.queue.queues().uncommitted, 0);
    driver.check_tree();
}

/// A hot key costs a cell a group, in the log and in the buckets.
#[test]
fn what_is_overwritten_in_a_group_is_not_logged() {
    let mut driver = Driver::new(true);
    driver.now.clock = 100 * BUCKET;
    for time in 0..1000 {
        driver.offer(update(100 * BUCKET + time));
    }
    driver.now.monotonic += Duration::from_secs(1);
    driver.run(1000, false);
    let logged: Vec<usize> = driver.log.values().map(Vec::len).collect();
    assert_eq!(logged, [1]);
    assert!(driver.core.buckets.value_bytes() <= 3);
    assert_eq!(driver.log[&1][0].1.timestamp.time, 100 * BUCKET + 999);
    driver.check_crash();
}

/// A root that is overdue while a burst defers it is waited for, not asked for again and again.
#[test]
fn what_is_deferred_wakes_nobody_before() {
    let mut driver = Driver::new(false);
    driver.now.clock = 100 * BUCKET;
    driver.run(100, false);
    // The watermark stands still, and what comes is late.
    driver.offer((0, cell(100 * BUCKET, 1, Some(1))));
    driver.now.monotonic += Duration::from_secs(1);
    driver.now.clock = 110 * BUCKET;
    assert!(driver.run(1000, false));
    driver.now.clock = 50 * BUCKET;
    let mut overdue = 0;
    for step in 0..50 {
        driver.now.monotonic += Duration::from_millis(30);
        for number in 0..8 {
            let time = 60 * BUCKET + step * 8 + u64::from(number);
            driver.offer((number, cell(time, 1, Some(1))));
        }
        driver.state.queue.request_commit();
        assert!(driver.run(1000, false), "it comes to rest");
        let is_deferred = driver.core.deferred_until(driver.now).is_some();
        overdue += u32::from(is_deferred && driver.core.is_extra_root_due(driver.now));
        if let Task::Wait(Some(until), _) = driver.core.next_task(driver.now) {
            assert!(until > driver.now.monotonic, "at step {step}");
        }
    }
    assert!(overdue > 3, "{overdue}");
}

/// What a delete covers is much; who writes meanwhile waits for a step of it, not for all.
#[test]
fn groups_are_committed_while_much_is_covered() {
    const PARTS: u64 = 600;
    for has_rows in [false, true] {
        let mut driver = Driver::new(has_rows);
        let set = cell_key(9);
        driver.apply_set(&set, PARTS);
        driver.write(set.clone(), cell(110 * BUCKET, 1, None));
        driver.run(10, false);
        driver.now.clock = 120 * BUCKET;
        // From when the delete is applied until what it covers is gone.
        let (mut groups, mut longest) = (0, 0);
        for number in 0.. {
            let time = 120 * BUCKET + number;
            driver.write(cell_key(1), cell(time, 1, Some(1)));
            let mut steps = 0;
            while driver.state.queue.queues().uncommitted > 0 {
                steps += 1;
                assert!(steps < 1000, "it is committed in the end");
                match driver.core.next_task(driver.now) {
                    Task::Append(group) => {
                        driver.appending = Some(group);
                        driver.finish_append();
                    }
                    Task::Store(_) => driver.core.stored(Ok(()), driver.now, &|_| {}),
                    Task::Again | Task::Tell { .. } => {}
                    _ => panic!("nothing else is to be done"),
                }
            }
            longest = longest.max(steps);
            groups += 1;
            if driver.state.applied().len() < PARTS as usize / 2 {
                break;
            }
        }
        assert!(
            groups > 50 && longest < 10,
            "{groups} groups, {longest} steps"
        );
    }
}

/// Rows of a batch are changed in steps, of which a loss of power may leave the first ones, when the log
/// was not synced: what a delete covers is there for as long as the delete is not.
#[test]
fn the_row_that_covers_others_is_written_before_they_are_removed() {
    let mut driver = Driver::new(true);
    let set = cell_key(1);
    driver.apply_set(&set, 40);
    // The delete, and keys before and behind it, of the same batch.
    driver.write(set.clone(), cell(110 * BUCKET, 1, None));
    for number in [0, 2, 3, 4, 5, 6, 7] {
        driver.write(cell_key(number), cell(110 * BUCKET, 1, Some(1)));
    }
    driver.now.clock = 120 * BUCKET;
    let (mut is_covering, mut removed, mut batches) = (false, 0, 0);
    loop {
        match driver.core.next_task(driver.now) {
            Task::Append(group) => {
                driver.appending = Some(group);
                driver.finish_append();
            }
            Task::Store(batch) => {
                is_covering |= batch.puts.iter().any(|write| write.key == set);
                assert!(is_covering || batch.removes.is_empty());
                removed += batch.removes.len();
                batches += 1;
                driver.core.stored(Ok(()), driver.now, &|_| {});
            }
            Task::Again | Task::Tell { .. } => {}
            Task::Wait(..) if removed == 40 => break,
            // What is deferred.
            Task::Wait(..) => driver.now.monotonic += Duration::from_millis(100),
            _ => panic!("nothing else is to be done"),
        }
    }
    assert!(batches > 5, "{batches}");
}
