//! The replicas, the network between them, and the faults.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use rand::{rngs::StdRng, Rng, RngCore, SeedableRng};

use super::{
    super::*,
    model::Merging,
    node::{at, id, node_of, settings, token, Node, NodeView, DRIFT, SETTLE, START},
    scenario::Scenario,
};
use crate::{
    cell::{ntp64_span, Cell, CellKey, Timestamp, Version},
    replica::SimulatedReplica,
};

pub(super) enum Happening {
    /// A replica's timer.
    Wake(usize, u64),
    /// A message arrives.
    Arrive(usize, Message),
    Write,
    Cut,
    Crash,
    /// One that is down comes up again.
    Restart(usize),
}

#[derive(Clone)]
pub(super) enum Message {
    Update(Vec<(CellKey, Cell)>),
    Appeared(ReplicaId),
    Gone(ReplicaId),
    Announced(ReplicaId, Vec<u8>),
    AskRoot(usize),
    Query(usize, u64, Query, Vec<u8>),
    Answer(u64, Vec<u8>),
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) scenario: Scenario,
    /// Milliseconds.
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    /// `links[a][b]`: what a sends reaches b.
    pub(super) links: Vec<Vec<bool>>,
    pub(super) queue: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) happenings: BTreeMap<u64, Happening>,
    pub(super) sequence: u64,
    /// The join of all that was written, and all that was.
    pub(super) model: BTreeMap<CellKey, Version>,
    pub(super) written: BTreeSet<Version>,
    pub(super) merging: Merging,
    pub(super) faulty: bool,
    pub(super) largest_message: usize,
    pub(super) bytes: u64,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let n = scenario.replicas;
        let skew = i64::try_from(scenario.skew.as_millis()).unwrap();
        let nodes = (0..n)
            .map(|node| {
                let mut random = || rng.next_u64();
                let replica = SimulatedReplica::new(SETTLE, at(START, 0));
                let mut context = Context {
                    now: Duration::ZERO,
                    wall: START,
                    random: &mut random,
                    view: &NodeView(&replica, START, (0, 0)),
                };
                Node {
                    machine: Machine::new(settings(node, 0, scenario.sync_interval), &mut context),
                    replica,
                    skew: 0,
                    life: 0,
                    is_down: false,
                    last_timestamp: 0,
                    joined: 0,
                    useful: 0,
                    has_root: false,
                    refused: 0,
                }
            })
            .collect();
        let mut world = Self {
            rng,
            scenario,
            now: 0,
            nodes,
            links: vec![vec![true; n]; n],
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            model: BTreeMap::new(),
            written: BTreeSet::new(),
            merging: Merging::new(),
            faulty: true,
            largest_message: 0,
            bytes: 0,
        };
        for node in 0..n {
            world.nodes[node].skew = world.rng.gen_range(-skew..=skew);
        }
        world
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
            self.at(0, Happening::Wake(node, 0));
            self.greet(node);
        }
        if self.scenario.writes > 0 {
            self.at(1, Happening::Write);
        }
        self.later(self.scenario.cuts_every, Happening::Cut);
        self.later(self.scenario.crashes_every, Happening::Crash);
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

    pub(super) fn wall(&self, node: usize) -> u64 {
        let millis = (self.now as i64 + self.nodes[node].skew).unsigned_abs();
        let span = ntp64_span(Duration::from_millis(millis));
        match self.now as i64 + self.nodes[node].skew >= 0 {
            true => START + span,
            false => START - span,
        }
    }

    pub(super) fn delay(&mut self) -> u64 {
        let most = self.scenario.delay.as_millis() as u64;
        self.rng.gen_range(1..=most.max(1))
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        let is_token = matches!(message, Message::Appeared(_) | Message::Gone(_));
        let is_down = self.nodes[from].is_down || self.nodes[to].is_down;
        if !is_token && (is_down || !self.links[from][to]) {
            return;
        }
        if let Message::Announced(_, b) | Message::Query(_, _, _, b) | Message::Answer(_, b) =
            &message
        {
            self.largest_message = self.largest_message.max(b.len());
            self.bytes += b.len() as u64;
        }
        // Tokens are the router's state, not messages that get lost.
        if self.faulty && !is_token && from != to {
            if self.rng.gen_ratio(self.scenario.loss.min(999), 1000) {
                return;
            }
            if self.rng.gen_ratio(self.scenario.duplication, 1000) {
                let delay = self.delay();
                self.at(delay, Happening::Arrive(to, message.clone()));
            }
        }
        let delay = self.delay();
        self.at(delay, Happening::Arrive(to, message));
    }

    pub(super) fn is_linked(&self, a: usize, b: usize) -> bool {
        let are_up = !self.nodes[a].is_down && !self.nodes[b].is_down;
        are_up && self.links[a][b] && self.links[b][a]
    }

    /// A replica's token appears to those that it is linked to, and theirs to it.
    pub(super) fn greet(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node && self.is_linked(node, other) {
                self.send(node, other, Message::Appeared(id(node)));
                self.send(other, node, Message::Appeared(id(other)));
            }
        }
    }

    pub(super) fn set_link(&mut self, a: usize, b: usize, is_up: bool) {
        let was = self.is_linked(a, b);
        self.links[a][b] = is_up;
        match (was, self.is_linked(a, b)) {
            (true, false) => {
                self.send(a, b, Message::Gone(id(a)));
                self.send(b, a, Message::Gone(id(b)));
            }
            (false, true) => {
                self.send(a, b, Message::Appeared(id(a)));
                self.send(b, a, Message::Appeared(id(b)));
            }
            _ => {}
        }
    }

    /// A client at `node` writes; whoever can be reached gets it.
    pub(super) fn write(&mut self, node: usize, number: u32, delete: bool) {
        if self.nodes[node].is_down {
            return;
        }
        let wall = self.wall(node);
        let author = &mut self.nodes[node];
        author.last_timestamp = wall.max(author.last_timestamp + 1);
        let timestamp = Timestamp {
            time: author.last_timestamp,
            id: id(node).0,
        };
        let put = (!delete).then(|| self.merging.draw(number, &mut self.rng));
        let cells = self.merging.write(number, timestamp, put);
        for (key, cell) in &cells {
            self.wrote(key, cell);
        }
        for other in 0..self.nodes.len() {
            if other != node {
                self.send(node, other, Message::Update(cells.clone()));
            }
        }
        for (key, cell) in cells {
            self.update(node, key, cell);
        }
    }

    pub(super) fn wrote(&mut self, key: &CellKey, cell: &Cell) {
        let version = Version::of(key, cell);
        self.written.insert(version);
        let winner = self.model.entry(key.clone()).or_insert(version);
        *winner = (*winner).max(version);
    }

    pub(super) fn update(&mut self, node: usize, key: CellKey, cell: Cell) -> bool {
        let wall = self.wall(node);
        let target = &mut self.nodes[node];
        if cell.timestamp.time > wall + ntp64_span(DRIFT) {
            target.refused += 1;
            return false;
        }
        target.replica.offer(key, cell)
    }

    pub(super) fn handle(&mut self, node: usize, event: Event) {
        let wall = self.wall(node);
        let now = Duration::from_millis(self.now);
        let rng = &mut self.rng;
        let mut random = || rng.next_u64();
        let this = &mut self.nodes[node];
        let view = NodeView(&this.replica, wall, (this.joined, this.useful));
        let mut context = Context {
            now,
            wall,
            random: &mut random,
            view: &view,
        };
        let actions = this.machine.handle(event, &mut context);
        let life = this.life;
        for action in actions {
            match action {
                Action::Announce(bytes) => {
                    for other in 0..self.nodes.len() {
                        if other != node {
                            self.send(node, other, Message::Announced(id(node), bytes.clone()));
                        }
                    }
                }
                Action::AskRoot(peer) => self.send(node, node_of(peer), Message::AskRoot(node)),
                Action::Ask(request, peer, query, bytes) => {
                    let message = Message::Query(node, request | life << 32, query, bytes);
                    self.send(node, node_of(peer), message);
                }
                Action::Join(cells) => {
                    let count = cells.len() as u64;
                    for (key, cell) in cells {
                        let version = Version::of(&key, &cell);
                        assert!(self.written.contains(&version), "nobody wrote it");
                        let is_newest = self.update(node, key, cell);
                        self.nodes[node].useful += u64::from(is_newest);
                    }
                    self.nodes[node].has_root |= self.settle(node);
                    self.nodes[node].joined += count;
                }
                Action::TakeNewIdentity | Action::DeclareAgain => panic!("there is one of each"),
                Action::Report(_) => {}
            }
        }
    }

    pub(super) fn settle(&mut self, node: usize) -> bool {
        let now = at(self.wall(node), self.now);
        self.nodes[node].replica.settle(now)
    }

    pub(super) fn arrive(&mut self, to: usize, message: Message) {
        if self.nodes[to].is_down {
            return;
        }
        match message {
            Message::Update(cells) => {
                for (key, cell) in cells {
                    self.update(to, key, cell);
                }
            }
            Message::Appeared(other) => {
                if self.is_linked(to, node_of(other)) {
                    self.handle(to, Event::Appeared(token(node_of(other))));
                }
            }
            Message::Gone(other) => {
                if !self.is_linked(to, node_of(other)) {
                    self.handle(to, Event::Gone(token(node_of(other))));
                }
            }
            Message::Announced(from, bytes) => self.handle(to, Event::Announced(from, bytes)),
            Message::AskRoot(from) => {
                // What the queryable answers: one's announcement of now.
                let wall = self.wall(to);
                let view = NodeView(&self.nodes[to].replica, wall, (0, 0));
                if let Some(bytes) = self.nodes[to].machine.announcement(&view, wall) {
                    self.send(to, from, Message::Announced(id(to), bytes));
                }
            }
            Message::Query(from, request, query, bytes) => {
                let view = NodeView(&self.nodes[to].replica, 0, (0, 0));
                let answer = match query {
                    Query::Digest => answer_digests(&view.0.tree(), &bytes).unwrap(),
                    Query::Entries => answer_entries(&view, &bytes, true).unwrap(),
                };
                self.send(to, from, Message::Answer(request, answer));
            }
            Message::Answer(request, bytes) => {
                if request >> 32 == self.nodes[to].life {
                    self.handle(to, Event::Answer(request & 0xffff_ffff, Ok(bytes)));
                }
            }
        }
    }

    /// What is not on disk is lost, with all that the machine knew.
    pub(super) fn crash(&mut self, node: usize) {
        if self.nodes[node].is_down {
            return;
        }
        let others = (0..self.nodes.len()).filter(|other| self.is_linked(node, *other));
        let linked: Vec<usize> = others.collect();
        self.nodes[node].life += 1;
        self.nodes[node].is_down = true;
        for other in linked {
            self.send(node, other, Message::Gone(id(node)));
        }
        let most = self.scenario.downtime.as_millis() as u64;
        let downtime = self.rng.gen_range(0..=most);
        self.at(downtime, Happening::Restart(node));
    }

    pub(super) fn restart(&mut self, node: usize) {
        let wall = self.wall(node);
        let this = &mut self.nodes[node];
        if !std::mem::take(&mut this.is_down) {
            return;
        }
        let now = at(wall, self.now);
        let empty = SimulatedReplica::new(SETTLE, now);
        let crashed = std::mem::replace(&mut this.replica, empty);
        let lost = self.rng.gen_range(0..=crashed.unsynced_batches());
        this.replica = crashed.reopen(lost, now);
        this.joined = 0;
        this.useful = 0;
        let life = this.life;
        let rng = &mut self.rng;
        let mut random = || rng.next_u64();
        let mut context = Context {
            now: Duration::from_millis(self.now),
            wall,
            random: &mut random,
            view: &NodeView(&this.replica, wall, (0, 0)),
        };
        let settings = settings(node, life, self.scenario.sync_interval);
        this.machine = Machine::new(settings, &mut context);
        self.at(0, Happening::Wake(node, life));
        self.greet(node);
    }

    /// Runs until `end`, or until `done` is, which is asked at whole seconds.
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
            self.now = time;
            match self.happenings.remove(&sequence).unwrap() {
                Happening::Wake(node, life) if life == self.nodes[node].life => {
                    let is_made = self.settle(node);
                    let event = match std::mem::take(&mut self.nodes[node].has_root) || is_made {
                        true => Event::Root,
                        false => Event::Tick,
                    };
                    self.handle(node, event);
                    let at = self.nodes[node].machine.wake_at().as_millis() as u64;
                    // What settles is looked for eight times a second.
                    let next = at.saturating_sub(self.now).clamp(1, 125);
                    self.at(next, Happening::Wake(node, life));
                }
                Happening::Wake(..) => {}
                Happening::Restart(node) => self.restart(node),
                Happening::Arrive(to, message) => self.arrive(to, message),
                Happening::Write if self.faulty => {
                    let node = self.rng.gen_range(0..self.nodes.len());
                    let number = self.rng.gen_range(0..self.scenario.keys);
                    let delete = self.rng.gen_ratio(1, 4);
                    self.write(node, number, delete);
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
                    self.crash(node);
                    self.later(self.scenario.crashes_every, Happening::Crash);
                }
                Happening::Write | Happening::Cut | Happening::Crash => {}
            }
        }
        self.now = end;
        done(self)
    }

    pub(super) fn change_links(&mut self) {
        let n = self.nodes.len();
        match self.rng.gen_range(0..4) {
            // Two halves.
            0 => {
                let side: Vec<bool> = (0..n).map(|_| self.rng.gen()).collect();
                for (a, b) in pairs(n) {
                    self.set_link(a, b, side[a] == side[b]);
                }
            }
            // One way of one link.
            1 => {
                let (a, b) = (self.rng.gen_range(0..n), self.rng.gen_range(0..n));
                if a != b {
                    let is_up = self.rng.gen();
                    self.set_link(a, b, is_up);
                }
            }
            // One alone.
            2 => {
                let alone = self.rng.gen_range(0..n);
                for (a, b) in pairs(n) {
                    self.set_link(a, b, a != alone && b != alone);
                }
            }
            _ => self.heal(),
        }
    }

    pub(super) fn cut_all(&mut self) {
        for (a, b) in pairs(self.nodes.len()) {
            self.set_link(a, b, false);
        }
    }

    pub(super) fn heal(&mut self) {
        for (a, b) in pairs(self.nodes.len()) {
            self.set_link(a, b, true);
        }
    }

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

    pub(super) fn rounds(&self) -> u64 {
        2 * u64::from(self.nodes.len().next_power_of_two().ilog2()) + 6
    }

    /// The model, without what is covered, and nothing else, is on every replica.
    pub(super) fn check(&self) {
        let covers = |key: &CellKey| {
            let own = self.model.get(&CellKey::own(key.key.clone()));
            own.filter(|_| !key.part.is_empty())
                .map(|own| own.timestamp)
        };
        let cells = self
            .model
            .iter()
            .map(|(key, version)| (key.clone(), *version));
        let model: BTreeMap<CellKey, Version> = cells
            .filter(|(key, version)| covers(key) < Some(version.timestamp))
            .collect();
        for (number, node) in self.nodes.iter().enumerate() {
            let disk = node.replica.disk();
            let versions: BTreeMap<CellKey, Version> = disk
                .iter()
                .map(|(key, cell)| (key.clone(), Version::of(key, cell)))
                .collect();
            assert_eq!(versions, model, "replica {number}");
            assert_eq!(node.replica.tree().len(), model.len());
            self.merging.check(&disk);
        }
        assert!(self.largest_message <= MAX_MESSAGE);
    }
}

pub(super) fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}
