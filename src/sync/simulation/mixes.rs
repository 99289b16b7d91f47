//! Registers and sets under seven mixes of faults, those of Garage's Jepsen tests, and checkers that
//! know what each client was told.
//!
//! | letter | what goes wrong |
//! |---|---|
//! | `c` | clocks leap, up to a minute |
//! | `p` | links are cut, in halves, one by one and one way |
//! | `r` | replicas leave, come back under another name, or are replaced by empty ones |
//! | `d` | disks are slow, processes are killed |

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Poll, Waker},
    time::Duration,
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use super::{
    super::*,
    from_environment,
    happening::Message,
    kinds::limit_of,
    model::Put,
    scenario::{Clocks, Disks, Scenario},
    world::World,
};
use crate::{
    cell::{CellKey, Timestamp, Version},
    replica::{Committed, Image},
};

/// How long faults last, and how often clients do something, in milliseconds.
const LASTS: u64 = 4000;
const STEP: u64 = 25;

/// Numbers of keys: registers are of the last writer, and one is a set.
const REGISTERS: [u32; 3] = [0, 1, 5];
const SET: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Workload {
    Register,
    Set,
}

fn scenario(mix: &str, rng: &mut StdRng) -> Scenario {
    let has = |letter| mix.contains(letter);
    let mut scenario = Scenario {
        loss: 50,
        delay: Duration::from_millis(50),
        sync_interval: Duration::from_secs(5),
        ..Scenario::calm(rng.gen_range(3..=5))
    };
    if has('c') {
        scenario.clocks = Clocks {
            skew: Duration::from_secs(60),
            jumps_every: Duration::from_millis(700),
            ..scenario.clocks
        };
    }
    if has('p') {
        scenario.cuts_every = Duration::from_millis(500);
    }
    if has('d') {
        scenario.crashes_every = Duration::from_millis(800);
        scenario.disks = Disks {
            slowest: Duration::from_millis(300),
            ..scenario.disks
        };
    }
    if has('d') || has('r') {
        scenario.downtime = Duration::from_millis(1500);
    }
    scenario
}

/// A write of which its client has not heard yet.
struct Open {
    node: usize,
    key: CellKey,
    version: Version,
    committed: Committed,
}

/// What clients did, and what they were told.
#[derive(Default)]
struct Clients {
    open: Vec<Open>,
    /// The newest that was acknowledged, and when, of each register; or each element.
    acknowledged: BTreeMap<CellKey, (Version, u64)>,
    /// The newest that a node acknowledged.
    promises: BTreeMap<(usize, CellKey), Timestamp>,
    /// That, or what it has shown since it was opened: nothing older may be read of it.
    floors: BTreeMap<(usize, CellKey), Timestamp>,
    /// All that was written.
    written: BTreeMap<CellKey, Vec<Version>>,
    /// Elements that not all replicas have shown yet, and how long others took, in milliseconds.
    unseen: BTreeMap<CellKey, u64>,
    visible_after: Vec<u64>,
    refused: u64,
}

impl Clients {
    /// Writes to a register, or adds an element that no other client has added.
    fn write(&mut self, world: &mut World, node: usize, number: u32, put: Put) {
        if world.nodes[node].is_down {
            return;
        }
        let timestamp = world.timestamp(node);
        let cells = world.merging.write(number, timestamp, Some(put));
        for (key, cell) in &cells {
            world.wrote(key, cell);
        }
        world.publish(node, &Message::Update(cells.clone()));
        // That of an element comes after the one that says that there is a set.
        let (key, cell) = cells.last().expect("there is one");
        let (key, version) = (key.clone(), Version::of(key, cell));
        self.written.entry(key.clone()).or_default().push(version);
        match world.offer(node, cells) {
            (_, Some(committed)) => self.open.push(Open {
                node,
                key,
                version,
                committed,
            }),
            // A clock that was set back, or a newer one was there.
            (_, None) => self.refused += 1,
        }
    }

    /// Takes note of what is acknowledged by now.
    fn hear(&mut self, now: u64) {
        let mut context = std::task::Context::from_waker(Waker::noop());
        for mut open in std::mem::take(&mut self.open) {
            match Pin::new(&mut open.committed).poll(&mut context) {
                Poll::Pending => self.open.push(open),
                Poll::Ready(Err(_)) => {}
                Poll::Ready(Ok(())) => {
                    let Open {
                        node, key, version, ..
                    } = open;
                    for known in [&mut self.promises, &mut self.floors] {
                        let newest = known
                            .entry((node, key.clone()))
                            .or_insert(version.timestamp);
                        *newest = (*newest).max(version.timestamp);
                    }
                    self.unseen.entry(key.clone()).or_insert(now);
                    let newest = self.acknowledged.entry(key).or_insert((version, now));
                    *newest = (*newest).max((version, now));
                }
            }
        }
    }

    /// Reads at a node. Nothing is read that nobody wrote, nor what was overwritten.
    fn read(&mut self, world: &World, node: usize, what: &str) {
        if world.nodes[node].is_down {
            return;
        }
        for (key, versions) in &self.written {
            let read = world.nodes[node].replica.newest(key);
            let floor = self.floors.get(&(node, key.clone())).copied();
            assert!(
                read >= floor,
                "{what}: replica {node} reads {read:?} of {key:?}, after {floor:?}"
            );
            let Some(read) = read else { continue };
            assert!(
                versions.iter().any(|version| version.timestamp == read),
                "{what}: nobody wrote what replica {node} reads of {key:?}"
            );
            self.floors.insert((node, key.clone()), read);
        }
    }

    /// A crash may take back what was read, unless a client was told that it is there; and whoever has
    /// taken the place of another has told nobody anything.
    fn forget(&mut self, node: usize, is_replaced: bool) {
        self.open.retain(|open| open.node != node);
        self.floors.retain(|(at, _), _| *at != node);
        if is_replaced {
            self.promises.retain(|(at, _), _| *at != node);
        }
        let promises = self.promises.iter().filter(|((at, _), _)| *at == node);
        self.floors
            .extend(promises.map(|(of, promised)| (of.clone(), *promised)));
    }

    /// Which elements all have by now.
    fn look(&mut self, world: &World) {
        let is_everywhere = |key: &CellKey| {
            let mut nodes = world.nodes.iter();
            nodes.all(|node| !node.is_down && node.replica.newest(key).is_some())
        };
        let visible = self.unseen.extract_if(.., |key, _| is_everywhere(key));
        self.visible_after
            .extend(visible.map(|(_, since)| world.now - since));
    }

    /// Each replica has all that was acknowledged, or what is newer.
    fn check(&self, world: &World, what: &str) {
        for (number, node) in world.nodes.iter().enumerate() {
            for (key, (version, _)) in &self.acknowledged {
                let read = node.replica.newest(key);
                assert!(
                    read >= Some(version.timestamp),
                    "{what}: replica {number} lost {key:?}: it reads {read:?}"
                );
            }
        }
    }
}

impl World {
    /// A replica leaves. It comes back under another name; or, if others have all that it promised, an
    /// empty one comes in its place. True if it is that.
    fn reconfigure(&mut self, node: usize) -> bool {
        let own = self.nodes[node].replica.promised();
        let others = self.nodes.iter().enumerate();
        let mut others = others.filter(|(other, one)| *other != node && !one.is_down);
        let is_elsewhere = others.any(|(_, other)| {
            let theirs = other.replica.promised();
            own.iter()
                .all(|(key, version)| theirs.get(key) >= Some(version))
        });
        self.replace(node, is_elsewhere);
        is_elsewhere
    }

    fn replace(&mut self, node: usize, by_an_empty_one: bool) {
        self.crash(node);
        let mut name = [0; 16];
        self.rng.fill_bytes(&mut name);
        self.nodes[node].identity = ReplicaId(name);
        if by_an_empty_one {
            self.nodes[node].image = Image::default();
        }
    }
}

/// Runs one, and returns what the clients know.
fn run(mix: &str, workload: Workload, seed: u64) -> Clients {
    let what = format!("mix {mix}, {workload:?}, seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, scenario(mix, &mut rng));
    let mut clients = Clients::default();
    world.begin();
    let mut element = 0;
    while world.now < LASTS {
        let lives: Vec<_> = world.nodes.iter().map(|node| node.life).collect();
        world.run(world.now + STEP, |_| false);
        clients.hear(world.now);
        for (node, life) in lives.into_iter().enumerate() {
            if world.nodes[node].life != life {
                clients.forget(node, false);
            }
        }
        let node = world.draw_node();
        if mix.contains('r') && rng.gen_ratio(1, 30) && !world.nodes[node].is_down {
            clients.hear(world.now);
            let is_replaced = world.reconfigure(node);
            clients.forget(node, is_replaced);
        }
        let node = world.draw_node();
        match workload {
            Workload::Register => {
                let number = REGISTERS[rng.gen_range(0..REGISTERS.len())];
                let value = rng.next_u32();
                clients.write(&mut world, node, number, Put::Any(value));
            }
            Workload::Set => {
                element += 1;
                clients.write(&mut world, node, SET, Put::Element(element, true));
            }
        }
        for node in 0..world.nodes.len() {
            clients.read(&world, node, &what);
        }
        clients.look(&world);
    }
    world.end_faults();
    let end = world.all_is_past();
    world.run(end, |_| false);
    world.heal();
    let limit = world.now + limit_of(&world);
    while !world.run((world.now + STEP).min(limit), World::is_converged) {
        assert!(world.now < limit, "{what}: {:?}", world.behind());
        clients.look(&world);
    }
    clients.hear(world.now);
    clients.look(&world);
    clients.check(&world, &what);
    world.check();
    assert!(clients.unseen.is_empty(), "{what}: {:?}", clients.unseen);
    clients
}

const MIXES: [&str; 7] = ["c", "cp", "r", "pr", "cpr", "cdp", "dpr"];

fn run_all(workload: Workload) {
    for mix in MIXES {
        let (mut after, mut acknowledged, mut refused) = (Vec::new(), 0, 0);
        for seed in 0..from_environment("MST_SIM_SEEDS").unwrap_or(100) {
            let clients = run(mix, workload, seed);
            acknowledged += clients.acknowledged.len();
            refused += clients.refused;
            after.extend(clients.visible_after);
        }
        after.sort_unstable();
        let part = |of: usize| after.get(after.len() * of / 100);
        println!(
            "mix {mix}, {workload:?}: {acknowledged} acknowledged, {refused} not; everywhere after \
             {:?} ms at the median, {:?} ms at p99, of faults and their end",
            part(50),
            part(99),
        );
        assert!(acknowledged > 0, "mix {mix}: something was acknowledged");
    }
}

#[test]
fn simulated_mixes_of_faults_lose_no_register() {
    run_all(Workload::Register);
}

#[test]
fn simulated_mixes_of_faults_lose_no_element_of_a_set() {
    run_all(Workload::Set);
}

/// A world at rest in which a client was told that its write is there.
fn acknowledged(number: u32, put: Put) -> (World, Clients) {
    let mut world = World::new(1, Scenario::calm(2));
    let mut clients = Clients::default();
    world.cut_all();
    world.begin();
    world.run(100, |_| false);
    clients.write(&mut world, 0, number, put);
    world.run(200, |_| false);
    clients.hear(world.now);
    assert_eq!(clients.acknowledged.len(), 1);
    clients.read(&world, 0, "it is there");
    (world, clients)
}

#[test]
#[should_panic(expected = "lost")]
fn the_checker_of_sets_finds_a_loss() {
    let (mut world, clients) = acknowledged(SET, Put::Element(7, true));
    // The only one that has it is replaced.
    world.replace(0, true);
    world.heal();
    world.run(10_000, |_| false);
    clients.check(&world, "an empty one came in its place");
}

#[test]
#[should_panic(expected = "reads None")]
fn the_checker_of_registers_finds_what_goes_back() {
    let (mut world, mut clients) = acknowledged(REGISTERS[0], Put::Any(7));
    world.replace(0, true);
    world.run(10_000, |_| false);
    clients.forget(0, false);
    clients.read(&world, 0, "an empty one came in its place");
}

#[test]
#[should_panic(expected = "nobody wrote")]
fn the_checker_of_registers_finds_what_nobody_wrote() {
    let (world, mut clients) = acknowledged(REGISTERS[0], Put::Any(7));
    for versions in clients.written.values_mut() {
        versions.clear();
    }
    clients.read(&world, 0, "it was not noted");
}
