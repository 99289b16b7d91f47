//! A day of steady writes to keys that live for a minute.
//!
//! Clocks are off by up to five seconds, one replica is away half of the time, and one is dead from the
//! beginning. `MST_SIM_HOURS=24` runs the whole day, as `scripts/soak-lifetimes` does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::Rng;
use serde_json::json;

use super::{kinds::from_environment, model::key, scenario::Scenario, world::World};
use crate::{
    cell::{Cell, Content, Timestamp, Value},
    merge::lifetimes::tests::lifetimes,
    mst::RootHash,
    replica::Image,
};

/// What clocks are off by, in milliseconds: of those that are linked, of that which is away half of the
/// time, and of the dead one.
const SKEWS: [i64; 5] = [-5000, 0, 4900, 2500, 0];
const AWAY: usize = 3;
const DEAD: usize = 4;

/// More than clocks differ by: so nothing is late but what was written while somebody was away.
const SETTLE: Duration = Duration::from_secs(11);

const LIFE: u64 = 60;

/// Seconds, at the most, from a death to the end of its grid step, and between two looks at the tree.
const STEP: u64 = 1;

/// Milliseconds between two writes, and for which one is away, and is back.
const WRITE_EVERY: u64 = 250;
const AWAY_FOR: u64 = 300_000;

/// Milliseconds after a change of the network in which replicas get what they missed.
const REPAIR: u64 = 60_000;

const KEYS: u32 = 5000;

fn world() -> World {
    let scenario = Scenario {
        has_lifetimes: true,
        settle: SETTLE,
        ..Scenario::calm(SKEWS.len())
    };
    let mut world = World::new(24, scenario);
    world.merging.lifetimes = Arc::new(lifetimes(json!({ "k/**": format!("{LIFE}s") })));
    for (node, skew) in SKEWS.into_iter().enumerate() {
        world.nodes[node].skew = skew;
        world.nodes[node].replica = world.opened(node, Image::default());
    }
    world.nodes[DEAD].is_down = true;
    world.begin();
    world.run(3000, |_| false);
    world
}

impl World {
    /// A put or a delete of some key, which whoever can be reached gets.
    fn write_something(&mut self, node: usize) {
        let wall = self.wall(node);
        let author = &mut self.nodes[node];
        author.last_timestamp = wall.max(author.last_timestamp + 1);
        let timestamp = Timestamp {
            time: author.last_timestamp,
            id: super::node::id(node).0,
        };
        let content = match self.rng.gen_ratio(1, 7) {
            true => Content::Tombstone,
            false => Content::Value(Value {
                encoding_id: 0,
                schema: None,
                attachment: None,
                payload: vec![7; 64].into(),
            }),
        };
        let cells = vec![(
            key(self.rng.gen_range(0..KEYS)),
            Cell { timestamp, content },
        )];
        self.wrote(&cells[0].0, &cells[0].1);
        self.publish(node, &super::happening::Message::Update(cells.clone()));
        self.offer(node, cells);
    }

    fn link(&mut self, node: usize, is_linked: bool) {
        for other in 0..self.nodes.len() {
            if other != node {
                self.set_link(node, other, is_linked);
                self.set_link(other, node, is_linked);
            }
        }
    }
}

/// The most that there was, by what it is of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Most {
    cells: usize,
    rows: usize,
    tombstones: usize,
}

impl Most {
    fn see(&mut self, world: &World, node: usize) {
        let this = &world.nodes[node].replica;
        let published = this.roots().published();
        self.cells = self.cells.max(this.tree().len());
        self.rows = self.rows.max(this.disk().len());
        self.tombstones = self.tombstones.max(published.tombstones);
    }
}

#[test]
fn simulated_day_of_steady_writes_stays_flat_and_pulls_nothing_dead() {
    let hours = from_environment("MST_SIM_HOURS");
    let millis = hours.map_or(20 * 60_000, |hours| hours * 3_600_000);
    let mut world = world();
    let began = world.now;
    let mut changed = world.now;
    let mut roots = BTreeMap::<u64, RootHash>::new();
    let (mut compared, mut pulled_at_rest) = (0u64, 0u64);
    let mut received = None;
    // The most of each quarter of an hour, from the second minute on.
    let mut spans = Vec::<Most>::new();
    while world.now < began + millis {
        let turn = (world.now - began) / WRITE_EVERY;
        world.write_something(turn as usize % (AWAY + 1));
        world.run(world.now + WRITE_EVERY, |_| false);
        let is_away = (world.now - began) / AWAY_FOR % 2 == 1;
        if world.links[AWAY][0] == is_away {
            world.link(AWAY, !is_away);
            changed = world.now;
        }
        let nodes: &[usize] = match is_away {
            true => &[0, 1, 2],
            false => &[0, 1, 2, AWAY],
        };
        let all = |world: &World| -> u64 {
            let all = nodes.iter();
            all.map(|node| world.nodes[*node].machine.status().cells_received)
                .sum()
        };
        if world.now < changed + REPAIR {
            roots.clear();
            received = None;
        } else {
            for node in nodes {
                let published = world.nodes[*node].replica.roots().published();
                let root = *roots.entry(published.cut).or_insert(published.root);
                assert_eq!(root, published.root, "of {node} at {} ms", world.now);
                compared += 1;
            }
            let now = all(&world);
            pulled_at_rest += now - received.unwrap_or(now);
            received = Some(now);
            while roots.len() > 1000 {
                roots.pop_first();
            }
        }
        if world.now > began + 62_000 + SETTLE.as_millis() as u64 {
            let span = (world.now - began) as usize / 900_000;
            spans.resize_with(spans.len().max(span + 1), Most::default);
            for node in 0..=AWAY {
                spans[span].see(&world, node);
            }
        }
    }
    let status: Vec<_> = (0..=AWAY)
        .map(|node| world.nodes[node].machine.status())
        .collect();
    let pulled: u64 = status.iter().map(|status| status.cells_received).sum();
    let dead = world.dead_pulled;
    println!(
        "{} min: {} writes, {compared} roots compared, {pulled} cells pulled, of these {dead} dead \
         and {pulled_at_rest} while nobody came or went; the most of each quarter of an hour: {spans:?}",
        millis / 60_000,
        millis / WRITE_EVERY
    );
    assert!(compared > 1000, "roots were compared");
    assert!(pulled > 0, "who was away got what it missed");
    // While nobody comes or goes some is pulled, as clocks differ; but nothing that is dead.
    assert_eq!(dead, 0, "nothing is pulled that is dead");
    // What is written in a life, a step, and what takes its time to settle by clocks that differ.
    let longest = 1000 * (LIFE + STEP) + SETTLE.as_millis() as u64 + 10_000;
    let bound = (longest / WRITE_EVERY) as usize;
    for most in &spans {
        assert!(
            most.cells <= bound && most.rows <= bound,
            "{most:?}, allowed are {bound}"
        );
        assert!(most.tombstones <= bound / 4, "{most:?}");
    }
}
