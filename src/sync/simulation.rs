//! Many replicas on virtual time: the real state machine, tree, ledger and
//! messages, over a network that loses, delays, repeats and cuts.
//!
//! All of a run follows from one seed, which is printed when it fails:
//! `MST_SIM_SEED=<seed> cargo test --release simulat` runs that one alone, and
//! `MST_SIM_SEEDS=<number>` that many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use rand::{rngs::StdRng, Rng, RngCore, SeedableRng};

use super::*;
use crate::{
    cell::{ntp64_span, Cell, CellKey, CellMeta, Content, Stamp, Value, Version},
    merge::{tests::merging, Form, MergeRules, Merged, PartCell},
    mst::RootHash,
    replica::{Change, Comparison, Kept, Span, Tree, VirtualReplica},
    store::StoreError,
};

const START: u64 = 1_700_000_000 << 32;
const DRIFT: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_millis(500);

/// What a run is to be like.
#[derive(Clone, Debug)]
struct Scenario {
    replicas: usize,
    keys: u32,
    /// Faults happen for so long.
    faults: Duration,
    /// Writes a second, all together.
    writes: u32,
    /// Of a thousand messages, so many are lost, and so many come twice.
    loss: u32,
    duplication: u32,
    delay: Duration,
    /// How far clocks are off.
    skew: Duration,
    /// Between a change of the network and the next.
    cuts_every: Duration,
    crashes_every: Duration,
}

impl Scenario {
    fn draw(rng: &mut StdRng) -> Self {
        let skew = match rng.gen_range(0..4) {
            0 => Duration::from_secs(rng.gen_range(1..240)),
            1 => Duration::from_millis(rng.gen_range(0..2000)),
            _ => Duration::ZERO,
        };
        Self {
            replicas: rng.gen_range(2..=12),
            keys: *[3, 40, 400].get(rng.gen_range(0..3)).unwrap(),
            faults: Duration::from_secs(rng.gen_range(3..15)),
            writes: *[0, 5, 60].get(rng.gen_range(0..3)).unwrap(),
            loss: rng.gen_range(0..300),
            duplication: rng.gen_range(0..300),
            delay: Duration::from_millis(rng.gen_range(1..400)),
            skew,
            cuts_every: Duration::from_millis(rng.gen_range(300..5000)),
            crashes_every: Duration::from_millis(rng.gen_range(1000..20_000)),
        }
    }

    /// Nothing goes wrong.
    fn calm(replicas: usize) -> Self {
        Self {
            replicas,
            keys: 1000,
            faults: Duration::ZERO,
            writes: 0,
            loss: 0,
            duplication: 0,
            delay: Duration::from_millis(2),
            skew: Duration::ZERO,
            cuts_every: Duration::MAX,
            crashes_every: Duration::MAX,
        }
    }
}

enum Happening {
    /// A replica's timer.
    Wake(usize, u64),
    /// A message arrives.
    Arrive(usize, Message),
    Write,
    Cut,
    Crash,
}

#[derive(Clone)]
enum Message {
    Update(Vec<(CellKey, Cell)>),
    Appeared(ReplicaId),
    Gone(ReplicaId),
    Announced(ReplicaId, Vec<u8>),
    AskRoot(usize),
    Query(usize, u64, Query, Vec<u8>),
    Answer(u64, Vec<u8>),
}

struct Node {
    machine: Machine,
    replica: VirtualReplica,
    /// Milliseconds that the clock is off.
    skew: i64,
    /// Which life it is, so that timers and answers of others are not taken.
    life: u64,
    last_stamp: u64,
    joined: u64,
    useful: u64,
    /// A root was made of which the machine is to be told.
    has_root: bool,
    refused: u64,
}

/// A replica, what its clock shows, and cells that were joined, and useful.
struct NodeView<'a>(&'a VirtualReplica, u64, (u64, u64));

impl View for NodeView<'_> {
    fn tree(&self) -> Tree {
        self.0.tree()
    }
    fn compare(&self, theirs: &Span) -> Comparison {
        self.0.roots.compare(theirs, self.0.cut(self.1))
    }
    fn latest(&self) -> Option<(Span, u64)> {
        let span = self.0.roots.latest(self.0.cut(self.1))?;
        Some((span, self.0.roots.published().cells as u64))
    }
    fn newest(&self, key: &CellKey) -> Option<Stamp> {
        self.0.newest(key)
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.0.roots.changes_since(root, after)
    }
    fn joined(&self) -> u64 {
        self.2 .0
    }
    fn useful(&self) -> u64 {
        self.2 .1
    }
}

impl Source for NodeView<'_> {
    fn tree(&self) -> Tree {
        self.0.tree()
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.0.roots.changes_since(root, after)
    }
    fn read(&self, key: &CellKey, _: Version) -> Result<Kept, StoreError> {
        let cell = self.0.disk().get(key);
        Ok(cell.map_or(Kept::Covered, |cell| Kept::Cell(Arc::clone(cell))))
    }
    fn damaged(&self, key: &CellKey, _: &CellMeta) {
        panic!("{key:?} is not damaged");
    }
}

fn id(node: usize) -> ReplicaId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    ReplicaId(bytes)
}

fn node_of(id: ReplicaId) -> usize {
    u128::from_be_bytes(id.0) as usize - 1
}

fn group() -> Group {
    Group {
        key_expr: "sim/**".to_owned(),
        strip_prefix: Some("sim".to_owned()),
    }
}

fn token(node: usize) -> Token {
    Token {
        protocol: PROTOCOL,
        group: group(),
        replica: id(node),
    }
}

fn settings(node: usize, life: u64) -> Settings {
    Settings {
        replica: id(node),
        incarnation: Incarnation {
            started: START + life,
            nonce: 0,
        },
        group: group(),
        fingerprint: Fingerprint::of("lww"),
        sync_interval: Duration::from_secs(30),
        max_clock_drift: DRIFT,
    }
}

fn key(number: u32) -> CellKey {
    let text = format!("k/{number}");
    CellKey::own(Some(zenoh_keyexpr::OwnedKeyExpr::try_from(text).unwrap()).into())
}

/// What each key is, by its number: of some the last writer wins, others count,
/// are sets, or objects with a field that counts.
const KINDS: [&str; 5] = ["lww", "lww", "additive", "set_union", "object"];

/// What was put to a key, and what has to come of it.
#[derive(Clone, Copy)]
enum Put {
    Any(u32),
    Add(i64),
    /// An element, and whether it is added.
    Element(u8, bool),
    Fields {
        plain: u32,
        hours: i64,
    },
}

/// The merge rules, and all that was put.
struct Merging {
    rules: Vec<MergeRules>,
    puts: BTreeMap<u32, Vec<(Stamp, Option<Put>)>>,
}

impl Merging {
    fn new() -> Self {
        let rules = KINDS.iter().map(|kind| merging(kind)).collect();
        let puts = BTreeMap::new();
        Self { rules, puts }
    }

    fn kind(number: u32) -> usize {
        number as usize % KINDS.len()
    }

    fn draw(&self, number: u32, rng: &mut StdRng) -> Put {
        match KINDS[Self::kind(number)] {
            "additive" => Put::Add(rng.gen_range(-9..=9)),
            "set_union" => Put::Element(rng.gen_range(0..5), rng.gen_ratio(2, 3)),
            "object" => Put::Fields {
                plain: rng.gen(),
                hours: rng.gen_range(-9..=9),
            },
            _ => Put::Any(rng.gen()),
        }
    }

    fn write(&mut self, number: u32, stamp: Stamp, put: Option<Put>) -> Vec<(CellKey, Cell)> {
        self.puts.entry(number).or_default().push((stamp, put));
        let text = put.map(|put| match put {
            Put::Any(number) => number.to_string(),
            Put::Add(number) => number.to_string(),
            Put::Element(element, true) => format!("[{element}]"),
            Put::Element(element, false) => format!("{{\"remove\":[{element}]}}"),
            Put::Fields { plain, hours } => format!("{{\"plain\":{plain},\"hours\":{hours}}}"),
        });
        let content = text.map_or(Content::Tombstone, |text| {
            Content::Value(Value {
                encoding_id: 0,
                schema: None,
                payload: text.into(),
            })
        });
        let own = key(number);
        let rules = &self.rules[Self::kind(number)];
        let cells = rules.write(&own.key, Cell { stamp, content });
        let cells = cells.expect("taken").into_iter();
        cells
            .map(|(part, content)| {
                let key = own.key.clone();
                (CellKey { key, part }, Cell { stamp, content })
            })
            .collect()
    }

    /// What is read of a key that merges: of all puts that are newer than the last
    /// delete every one counts, once.
    fn expected(&self, number: u32) -> Option<String> {
        let puts = &self.puts[&number];
        let deleted = puts.iter().filter(|(_, put)| put.is_none());
        let deleted = deleted.map(|(stamp, _)| *stamp).max();
        let mut visible: Vec<_> = puts
            .iter()
            .filter_map(|(stamp, put)| Some((*stamp, (*put)?)))
            .filter(|(stamp, _)| Some(*stamp) > deleted)
            .collect();
        visible.sort_by_key(|(stamp, _)| *stamp);
        let (mut sum, mut elements, mut last) = (0, BTreeSet::new(), None);
        for (_, put) in &visible {
            match *put {
                Put::Any(number) => last = Some(number),
                Put::Add(number) => sum += number,
                Put::Element(element, true) => drop(elements.insert(element)),
                Put::Element(element, false) => drop(elements.remove(&element)),
                Put::Fields { plain, hours } => {
                    last = Some(plain);
                    sum += hours;
                }
            }
        }
        let last = last.unwrap_or_default();
        (!visible.is_empty()).then(|| match KINDS[Self::kind(number)] {
            "additive" => sum.to_string(),
            "set_union" => {
                let elements: Vec<_> = elements.iter().map(u8::to_string).collect();
                format!("[{}]", elements.join(","))
            }
            "object" => format!("{{\"hours\":{sum},\"plain\":{last}}}"),
            _ => last.to_string(),
        })
    }

    fn check(&self, disk: &BTreeMap<CellKey, Arc<Cell>>) {
        for number in self.puts.keys() {
            let key = key(*number).key;
            let cells = disk.range(CellKey::own(key.clone())..);
            let cells = cells.take_while(|(cell, _)| cell.key == key);
            let cells: Vec<_> = cells
                .map(|(key, cell)| PartCell {
                    part: key.part.as_bytes(),
                    cell,
                })
                .collect();
            let read = Merged::fold(&cells).read(Form::Usual).expect("readable");
            let text = read.map(|cell| {
                let payload = cell.value().expect("a value").payload.to_vec();
                String::from_utf8(payload).expect("text")
            });
            assert_eq!(text, self.expected(*number), "of key {number}");
        }
    }
}

struct World {
    rng: StdRng,
    scenario: Scenario,
    /// Milliseconds.
    now: u64,
    nodes: Vec<Node>,
    /// `links[a][b]`: what a sends reaches b.
    links: Vec<Vec<bool>>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    /// The join of all that was written, and all that was.
    model: BTreeMap<CellKey, Version>,
    written: BTreeSet<Version>,
    merging: Merging,
    faulty: bool,
    largest_message: usize,
    bytes: u64,
}

impl World {
    fn new(seed: u64, scenario: Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let n = scenario.replicas;
        let skew = i64::try_from(scenario.skew.as_millis()).unwrap();
        let nodes = (0..n)
            .map(|node| {
                let mut random = || rng.next_u64();
                let replica = VirtualReplica::new(SETTLE, START);
                let mut context = Context {
                    now: Duration::ZERO,
                    wall: START,
                    random: &mut random,
                    view: &NodeView(&replica, START, (0, 0)),
                };
                Node {
                    machine: Machine::new(settings(node, 0), &mut context),
                    replica,
                    skew: 0,
                    life: 0,
                    last_stamp: 0,
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
    fn begin(&mut self) {
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

    fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    fn later(&mut self, about: Duration, happening: Happening) {
        if about < Duration::MAX {
            let about = about.as_millis() as u64;
            let delay = self.rng.gen_range(about / 2..=about * 2);
            self.at(delay, happening);
        }
    }

    fn wall(&self, node: usize) -> u64 {
        let millis = (self.now as i64 + self.nodes[node].skew).unsigned_abs();
        let span = ntp64_span(Duration::from_millis(millis));
        match self.now as i64 + self.nodes[node].skew >= 0 {
            true => START + span,
            false => START - span,
        }
    }

    fn delay(&mut self) -> u64 {
        let most = self.scenario.delay.as_millis() as u64;
        self.rng.gen_range(1..=most.max(1))
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let is_token = matches!(message, Message::Appeared(_) | Message::Gone(_));
        if !is_token && !self.links[from][to] {
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

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links[a][b] && self.links[b][a]
    }

    /// A replica's token appears to those that it is linked to, and theirs to it.
    fn greet(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node && self.is_linked(node, other) {
                self.send(node, other, Message::Appeared(id(node)));
                self.send(other, node, Message::Appeared(id(other)));
            }
        }
    }

    fn set_link(&mut self, a: usize, b: usize, is_up: bool) {
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
    fn write(&mut self, node: usize, number: u32, delete: bool) {
        let wall = self.wall(node);
        let author = &mut self.nodes[node];
        author.last_stamp = wall.max(author.last_stamp + 1);
        let stamp = Stamp {
            time: author.last_stamp,
            id: id(node).0,
        };
        let put = (!delete).then(|| self.merging.draw(number, &mut self.rng));
        let cells = self.merging.write(number, stamp, put);
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

    fn wrote(&mut self, key: &CellKey, cell: &Cell) {
        let version = CellMeta::of(key, cell).version;
        self.written.insert(version);
        let winner = self.model.entry(key.clone()).or_insert(version);
        *winner = (*winner).max(version);
    }

    fn update(&mut self, node: usize, key: CellKey, cell: Cell) -> bool {
        let wall = self.wall(node);
        let target = &mut self.nodes[node];
        if cell.stamp.time > wall + ntp64_span(DRIFT) {
            target.refused += 1;
            return false;
        }
        target.replica.offer(key, cell)
    }

    fn handle(&mut self, node: usize, event: Event) {
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
                        let version = CellMeta::of(&key, &cell).version;
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

    fn settle(&mut self, node: usize) -> bool {
        let wall = self.wall(node);
        self.nodes[node].replica.settle(wall)
    }

    fn arrive(&mut self, to: usize, message: Message) {
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
                if let Some(bytes) = self.nodes[to].machine.announcement(&view) {
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

    fn crash(&mut self, node: usize) {
        let wall = self.wall(node);
        let this = &mut self.nodes[node];
        let empty = VirtualReplica::new(SETTLE, wall);
        this.replica = std::mem::replace(&mut this.replica, empty).reopen(wall);
        this.life += 1;
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
        this.machine = Machine::new(settings(node, life), &mut context);
        self.at(0, Happening::Wake(node, life));
        self.greet(node);
    }

    /// Runs until `end`, or until `done` is, which is asked at whole seconds.
    fn run(&mut self, end: u64, done: impl Fn(&Self) -> bool) -> bool {
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

    fn change_links(&mut self) {
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

    fn heal(&mut self) {
        for (a, b) in pairs(self.nodes.len()) {
            self.set_link(a, b, true);
        }
    }

    fn is_converged(&self) -> bool {
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

    fn rounds(&self) -> u64 {
        2 * u64::from(self.nodes.len().next_power_of_two().ilog2()) + 6
    }

    /// The model, without what is covered, and nothing else, is on every replica.
    fn check(&self) {
        let covers = |key: &CellKey| {
            let own = self.model.get(&CellKey::own(key.key.clone()));
            own.filter(|_| !key.part.is_empty()).map(|own| own.stamp)
        };
        let cells = self
            .model
            .iter()
            .map(|(key, version)| (key.clone(), *version));
        let model: BTreeMap<CellKey, Version> = cells
            .filter(|(key, version)| covers(key) < Some(version.stamp))
            .collect();
        for (number, node) in self.nodes.iter().enumerate() {
            let disk = node.replica.disk();
            let versions: BTreeMap<CellKey, Version> = disk
                .iter()
                .map(|(key, cell)| (key.clone(), CellMeta::of(key, cell).version))
                .collect();
            assert_eq!(versions, model, "replica {number}");
            assert_eq!(node.replica.tree().len(), model.len());
            self.merging.check(disk);
        }
        assert!(self.largest_message <= MAX_MESSAGE);
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}

fn simulate(seed: u64) {
    let scenario = Scenario::draw(&mut StdRng::seed_from_u64(seed));
    let mut world = World::new(seed, scenario);
    world.begin();
    let faults = world.scenario.faults.as_millis() as u64;
    // Values from before, of which some replicas miss some.
    for number in 0..world.scenario.keys {
        let node = world.rng.gen_range(0..world.nodes.len());
        world.write(node, number, false);
    }
    world.run(faults, |_| false);
    // The network is whole, clocks are right, and what they stamped ahead is past.
    world.faulty = false;
    let ahead = world.nodes.iter().map(|node| node.skew.max(0)).max();
    for node in &mut world.nodes {
        node.skew = 0;
    }
    let ahead = ahead.unwrap_or(0) as u64;
    let end = world.now + ahead + SETTLE.as_millis() as u64 + 2000;
    world.run(end, |_| false);
    world.heal();
    // An announcement that was lost while the link stayed up is repeated after
    // the sync interval.
    let limit = world.now + 36_000 + world.rounds() * 1000;
    let done = world.run(limit, World::is_converged);
    assert!(done, "not converged after {} rounds", world.rounds());
    world.check();
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn simulated_replicas_converge() {
    let seeds = match from_environment("MST_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_environment("MST_SIM_SEEDS").unwrap_or(1000),
    };
    // Two threads: a run is single-threaded.
    let halves = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let run = |part: u64| {
            for seed in seeds.clone().filter(|seed| seed % halves == part) {
                let result = std::panic::catch_unwind(|| simulate(seed));
                if let Err(panic) = result {
                    eprintln!("MST_SIM_SEED={seed} fails");
                    std::panic::resume_unwind(panic);
                }
            }
        };
        for part in 0..halves {
            scope.spawn(move || run(part));
        }
    });
}

#[test]
fn simulated_hundred_replicas_converge_in_logarithmic_rounds() {
    let mut world = World::new(100, Scenario::calm(100));
    for number in 0..1000 {
        let (key, cell) = (key(number), written(&mut world, number));
        world.wrote(&key, &cell);
        for node in 0..100 {
            world.update(node, key.clone(), cell.clone());
        }
    }
    // One in a hundred keys is newer on one replica, each on another.
    for number in 0..10 {
        let (key, cell) = (key(number * 97), written(&mut world, number));
        world.wrote(&key, &cell);
        world.update(number as usize * 9, key, cell);
    }
    world.now = 5000;
    for node in 0..100 {
        world.settle(node);
    }
    world.begin();
    let limit = world.now + world.rounds() * 1000;
    assert!(world.run(limit, World::is_converged), "not converged");
    let rounds = (world.now - 5000) as f64 / 1000.0;
    println!("100 replicas: {rounds} s, {} bytes", world.bytes);
    world.check();
}

/// Slow and steady writes, under which a tree is never at rest and settles at no
/// particular instants; cuts far apart; and one write that reaches one replica.
#[test]
fn simulated_losses_are_repaired_while_writes_go_on() {
    for every in [10, 100, 250, 333, 500, 900, 1100] {
        for settles in [[500, 500, 500], [500, 2000, 500], [5000, 500, 500]] {
            let mut world = World::new(every, Scenario::calm(3));
            world.scenario.skew = Duration::ZERO;
            for (node, settle) in world.nodes.iter_mut().zip(settles) {
                node.replica = VirtualReplica::new(Duration::from_millis(settle), START);
            }
            world.begin();
            let mut lost = None;
            for step in 0..25_000 / every {
                let end = world.now + every;
                world.run(end, |_| false);
                world.write((step % 3) as usize, step as u32 % 1000, false);
                if lost.is_none() && world.now > 8000 {
                    world.links = vec![vec![false; 3]; 3];
                    world.write(0, 2000, false);
                    world.links = vec![vec![true; 3]; 3];
                    lost = Some(world.now);
                }
                if lost.is_some_and(|lost| world.now > lost + 12_000) {
                    break;
                }
            }
            let has = |node: &Node| node.replica.disk().contains_key(&key(2000));
            let missing = world.nodes.iter().filter(|node| !has(node)).count();
            assert_eq!(missing, 0, "every {every} ms, settled after {settles:?}");
            let status = |node: &Node| node.machine.status();
            let pulled: u64 = world.nodes.iter().map(|n| status(n).cells_received).sum();
            // Some that are pending here are settled there; with other cuts, many.
            let is_alike = settles == [500; 3];
            assert!(
                !is_alike || pulled <= 30,
                "{pulled} cells, every {every} ms"
            );
        }
    }
}

/// A write that reaches nobody by itself.
fn written(world: &mut World, number: u32) -> Cell {
    world.sequence += 1;
    let cell = Cell {
        stamp: Stamp {
            time: START + world.sequence,
            id: id(0).0,
        },
        content: Content::Value(Value {
            encoding_id: 0,
            schema: None,
            payload: format!("{number}").into_bytes().into(),
        }),
    };
    cell
}
