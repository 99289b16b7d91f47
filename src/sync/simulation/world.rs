//! The replicas, and the time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use super::{
    super::*,
    happening::Happening,
    model::Merging,
    node::{Node, NodeView, SETTLE, START, at, id, settings},
    scenario::Scenario,
};
use crate::{
    cell::{CellKey, Version, ntp64_span},
    config::Durability,
    replica::{Image, Medium, SimulatedReplica, ideal},
    store::faulty::Verdict,
};

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) scenario: Scenario,
    /// Milliseconds.
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    /// `links[a][b]`: what a sends reaches b.
    pub(super) links: Vec<Vec<bool>>,
    /// Until when a link is busy with what was sent before.
    pub(super) busy: Vec<Vec<u64>>,
    pub(super) queue: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) happenings: BTreeMap<u64, Happening>,
    pub(super) sequence: u64,
    /// The join of all that was written, and all that was.
    pub(super) model: BTreeMap<CellKey, Version>,
    pub(super) written: BTreeSet<Version>,
    /// The latest time that a write was stamped with.
    pub(super) latest: u64,
    pub(super) merging: Merging,
    /// Cells that a pull brought and that were dead where they came.
    pub(super) dead_pulled: u64,
    pub(super) faulty: bool,
    pub(super) largest_message: usize,
    pub(super) bytes: u64,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (n, has_lifetimes) = (scenario.replicas, scenario.has_lifetimes);
        let nodes = (0..n).map(|node| node_of_nothing(node, &scenario, &mut rng));
        let nodes = nodes.collect();
        let mut world = Self {
            rng,
            scenario,
            now: 0,
            nodes,
            links: vec![vec![true; n]; n],
            busy: vec![vec![0; n]; n],
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            model: BTreeMap::new(),
            written: BTreeSet::new(),
            latest: 0,
            merging: Merging::new(has_lifetimes),
            dead_pulled: 0,
            faulty: true,
            largest_message: 0,
            bytes: 0,
        };
        for node in 0..n {
            let clocks = &world.scenario.clocks;
            let skew = i64::try_from(clocks.skew.as_millis()).unwrap();
            let drift = clocks.drift;
            world.nodes[node].skew = world.rng.gen_range(-skew..=skew);
            world.nodes[node].drift = world.rng.gen_range(-drift..=drift);
            let durability = match world.scenario.disks.is_any_durability {
                true => world.rng.gen_range(0..3),
                false => 0,
            };
            let durabilities = [Durability::Always, Durability::Interval, Durability::None];
            world.nodes[node].durability = durabilities[durability];
            world.nodes[node].replica = world.opened(node, Image::default());
        }
        world
    }

    /// A disk as the scenario has it.
    fn medium(&mut self) -> Medium {
        let disks = &self.scenario.disks;
        let (slowest, failing) = (disks.slowest.as_millis() as u64, disks.failing);
        if !self.faulty || (slowest == 0 && failing == 0) {
            return ideal();
        }
        let mut rng = StdRng::seed_from_u64(self.rng.next_u64());
        Box::new(move || {
            // Now and then it takes long.
            let most = match rng.gen_ratio(1, 8) {
                true => slowest,
                false => slowest / 20,
            };
            let verdict = match rng.gen_ratio(failing, 1000) {
                false => Verdict::Done,
                true if rng.r#gen() => Verdict::Lost,
                true => Verdict::Kept,
            };
            (Duration::from_millis(rng.gen_range(0..=most)), verdict)
        })
    }

    /// The replica of a node, opened with this folder.
    pub(super) fn opened(&mut self, node: usize, image: Image) -> SimulatedReplica {
        let now = at(self.wall(node), self.now);
        let durability = self.nodes[node].durability;
        let (medium, lifetimes) = (self.medium(), Arc::clone(&self.merging.lifetimes));
        let settle = self.scenario.settle;
        if let Some((after, _)) = self.scenario.collects {
            return SimulatedReplica::open_member(image, settle, durability, medium, after, now);
        }
        SimulatedReplica::open(image, settle, durability, medium, &lifetimes, now)
    }

    /// Puts all replicas in touch.
    pub(super) fn begin(&mut self) {
        if self.scenario.is_one_late {
            let last = self.nodes.len() - 1;
            self.nodes[last].is_down = true;
            let half = self.scenario.faults.as_millis() as u64 / 2;
            self.at(half, Happening::Restart(last));
        }
        for node in 0..self.nodes.len() {
            self.schedule(node);
            self.greet(node);
        }
        if self.scenario.writes > 0 {
            self.at(1, Happening::Write);
        }
        self.later(self.scenario.cuts_every, Happening::Cut);
        self.later(self.scenario.crashes_every, Happening::Crash);
        self.later(self.scenario.clocks.jumps_every, Happening::Jump);
    }

    pub(super) fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    pub(super) fn later(&mut self, about: Duration, happening: Happening) {
        if about < Duration::MAX {
            let about = about.as_millis() as u64;
            let delay = self.rng.gen_range(about / 2..=about * 2);
            self.at(delay, happening);
        }
    }

    /// What the clock of a node shows.
    pub(super) fn wall(&self, node: usize) -> u64 {
        let Node { skew, drift, .. } = self.nodes[node];
        let now = self.now as i64;
        let millis = now + skew + now * drift / 1_000_000;
        let span = ntp64_span(Duration::from_millis(millis.unsigned_abs()));
        match millis >= 0 {
            true => START + span,
            false => START.saturating_sub(span),
        }
    }

    pub(super) fn draw_node(&mut self) -> usize {
        self.rng.gen_range(0..self.nodes.len())
    }

    /// Has a node driven on when there is something to do.
    pub(super) fn schedule(&mut self, node: usize) {
        let this = &self.nodes[node];
        if this.is_down {
            return;
        }
        if this.replica.has_failed() && self.faulty {
            self.at(1500, Happening::Reopen(node, this.life));
        }
        let this = &mut self.nodes[node];
        let replica = this.replica.wake_at().unwrap_or(Duration::MAX);
        let machine = match this.joining {
            None => this.machine.wake_at(),
            Some(_) => Duration::MAX,
        };
        let next = replica.min(machine).as_micros().div_ceil(1000);
        let next = u64::try_from(next).unwrap_or(u64::MAX).max(self.now + 1);
        if next < this.wakes {
            this.wakes = next;
            let happening = Happening::Wake(node, this.life);
            self.at(next - self.now, happening);
        }
    }

    /// Runs until `end`, or until `done` is, which is asked four times a second.
    pub(super) fn run(&mut self, end: u64, done: impl Fn(&Self) -> bool) -> bool {
        let mut check = self.now;
        while let Some(Reverse((time, sequence))) = self.queue.peek().copied() {
            if time > end {
                break;
            }
            while check <= time {
                if done(self) {
                    return true;
                }
                check += 250;
            }
            self.queue.pop();
            // What is overdue, as a test has set the time, happens now.
            self.now = self.now.max(time);
            let happening = self.happenings.remove(&sequence).unwrap();
            self.happen(happening);
        }
        self.now = end;
        done(self)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(node, life) => {
                let this = &mut self.nodes[node];
                if life == this.life && this.wakes <= self.now {
                    this.wakes = u64::MAX;
                    self.step(node);
                }
            }
            Happening::Restart(node) => self.restart(node),
            Happening::Arrive(to, message) => self.arrive(to, message),
            Happening::Write if self.faulty => {
                let node = self.rng.gen_range(0..self.nodes.len());
                let number = self.rng.gen_range(0..self.scenario.keys);
                let delete = self.rng.gen_ratio(1, 4);
                match self.rng.gen_ratio(1, 40) {
                    true => self.write_rule(node, delete),
                    false => self.write(node, number, delete),
                }
                let every = u64::from(1000 / self.scenario.writes.max(1));
                let delay = self.rng.gen_range(1..=every * 2);
                self.at(delay, Happening::Write);
            }
            Happening::Cut if self.faulty => {
                self.change_links();
                self.later(self.scenario.cuts_every, Happening::Cut);
            }
            Happening::Crash if self.faulty => {
                let node = self.rng.gen_range(0..self.nodes.len());
                self.crash_somehow(node);
                self.later(self.scenario.crashes_every, Happening::Crash);
            }
            Happening::Jump if self.faulty => {
                self.jump();
                self.later(self.scenario.clocks.jumps_every, Happening::Jump);
            }
            Happening::Reopen(node, life) if life == self.nodes[node].life => self.crash(node),
            Happening::Write | Happening::Cut | Happening::Crash => {}
            Happening::Jump | Happening::Reopen(..) => {}
        }
    }
}

fn node_of_nothing(node: usize, scenario: &Scenario, rng: &mut StdRng) -> Node {
    let replica = SimulatedReplica::new(SETTLE, at(START, 0));
    let joins = Joins::default();
    let settings = Settings {
        members: scenario.members(),
        ..settings(id(node), START, 0, scenario.sync_interval)
    };
    let mut random = || rng.next_u64();
    let mut context = Context {
        now: Duration::ZERO,
        wall: START,
        random: &mut random,
        view: &NodeView(&replica, START, &joins),
    };
    Node {
        machine: Machine::new(settings, &mut context),
        replica,
        identity: id(node),
        durability: Durability::Always,
        skew: 0,
        drift: 0,
        life: 0,
        is_down: false,
        image: Image::default(),
        saved: None,
        last_timestamp: 0,
        joins,
        joining: None,
        actions: VecDeque::new(),
        events: VecDeque::new(),
        has_root: false,
        has_missed_tokens: false,
        refused: 0,
        sent: 0,
        lie: None,
        lies: 0,
        catch_ups: 0,
        version: 0,
        wakes: u64::MAX,
    }
}
