//! Many replicas on virtual time: the real state machine, core, tree, ledger and
//! messages, over a network that loses, delays, repeats and cuts, disks that lose what is not
//! synced, and clocks that are wrong.
//!
//! | part | what it is |
//! |---|---|
//! | `kinds` | runs from seeds, by kinds of faults |
//! | `scenario` | what a run is to be like |
//! | `world` | the replicas, and the time |
//! | `network`, `acts`, `faults` | what becomes of messages, what a replica does, what goes wrong |
//! | `model`, `checks` | what was written, and what has to come of it |
//! | `deaths`, `day` | what deaths cost on the wire; a day of steady writes |
//! | `clocks` | clocks that differ, on a group at rest |
//! | `refusals` | what a replica does not take |
//! | `rounds` | how many round trips a repair takes |
//! | `members` | groups that collect |
//! | `liars`, `takeovers` | answerers that lie, and that die |
//! | `mixes` | registers and sets under mixes of faults, and what clients were told |
//! | `one_way` | links of one direction, for good |
//! | `versions` | two versions of the protocol |

mod acts;
mod checks;
mod clocks;
mod day;
mod deaths;
mod faults;
mod happening;
mod kinds;
mod liars;
mod members;
mod mixes;
mod model;
mod network;
mod node;
mod one_way;
mod refusals;
mod rounds;
mod scenario;
mod takeovers;
mod versions;
mod world;

use std::time::Duration;

use self::{
    kinds::{from_environment, limit_of},
    model::key,
    node::{Node, START, at, id},
    scenario::Scenario,
    world::World,
};
use super::{Announcement, MESSAGE_BYTES, REQUEST_TIMEOUT};
use crate::{
    cell::{Cell, Content, Timestamp, Value},
    replica::SimulatedReplica,
};

/// A hundred replicas with a thousand keys, of which one in a hundred is newer on one replica, each on
/// another.
fn hundred(seed: u64, scenario: Scenario) -> World {
    let mut world = World::new(seed, scenario);
    for number in 0..1000 {
        let (key, cell) = (key(number), written(&mut world, number));
        world.wrote(&key, &cell);
        for node in 0..100 {
            world.update(node, key.clone(), cell.clone());
        }
    }
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
    world
}

/// Rounds of a second until all are equal.
fn rounds_of(world: &World) -> f64 {
    (world.now - 5000) as f64 / 1000.0
}

#[test]
fn simulated_hundred_replicas_converge_in_logarithmic_rounds() {
    let mut world = hundred(100, Scenario::calm(100));
    let limit = world.now + world.rounds() * 1000;
    assert!(world.run(limit, World::is_converged), "not converged");
    let (rounds, bytes) = (rounds_of(&world), world.bytes);
    println!("100 replicas: {rounds} s, {bytes} bytes");
    world.check();
}

/// Crashes of a run with losses.
const CRASHES: u64 = 20;

/// One message in ten is lost for twenty seconds, and twenty crash. Of two replicas one has heard all by then, or
/// more: a query or its answer is lost in one of five cases, which a replica that compares trees asks three to
/// five times in a row, and then it waits for ten seconds, and begins anew with another. So what is bounded is
/// the time from when nothing is lost any more: such a wait, and rounds.
#[test]
fn simulated_hundred_replicas_converge_after_losses() {
    for seed in 0..from_environment("MST_SIM_SEEDS").unwrap_or(5) {
        let scenario = Scenario {
            loss: 100,
            downtime: Duration::from_millis(1000),
            ..Scenario::calm(100)
        };
        let mut world = hundred(seed, scenario);
        for _ in 0..CRASHES {
            world.run(world.now + 150, |_| false);
            let node = world.draw_node();
            world.crash(node);
        }
        world.run(5000 + 20 * 1000, World::is_converged);
        world.faulty = false;
        let limit = world.now + limit_of(&world);
        let done = world.run(limit, World::is_converged);
        let (rounds, bytes) = (rounds_of(&world), world.bytes);
        println!("100 replicas, with losses, seed {seed}: {rounds} s, {bytes} bytes");
        assert!(done, "seed {seed}: {:?}", world.behind());
        // One that comes back is greeted by all, and all hear that; else there are some announcements of each to
        // all, and what is pulled.
        let to_all = 100 * 99 * Announcement::MAX_BYTES as u64;
        let most = (CRASHES + 24) * to_all;
        assert!(bytes <= most, "seed {seed}: {bytes} bytes, {most}");
        world.check();
    }
}

/// Slow and steady writes, under which a tree is never at rest and settles at no
/// particular instants; cuts far apart; and one write that reaches one replica.
#[test]
fn simulated_losses_are_repaired_while_writes_go_on() {
    for every in [10, 100, 250, 333, 500, 900, 1100] {
        for settles in [[500, 500, 500], [500, 2000, 500], [5000, 500, 500]] {
            let mut world = World::new(every, Scenario::calm(3));
            for (node, settle) in world.nodes.iter_mut().zip(settles) {
                let settle = Duration::from_millis(settle);
                node.replica = SimulatedReplica::new(settle, at(START, 0));
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

/// More differs than a few messages hold, messages are lost, and the peer that is asked
/// is cut off again and again.
#[test]
fn simulated_large_repairs_come_in_messages_of_bounded_size() {
    let mut world = World::new(7, Scenario::calm(3));
    for number in 0..60_000 {
        let (key, cell) = (key(number), written(&mut world, number));
        world.wrote(&key, &cell);
        // One joins empty, and the others have half of it each, and a tenth in common.
        let of_both = number % 10 == 0;
        for node in 0..2 {
            if of_both || number % 2 == node {
                world.update(node as usize, key.clone(), cell.clone());
            }
        }
    }
    world.now = 5000;
    for node in 0..3 {
        world.settle(node);
    }
    world.begin();
    world.scenario.loss = 100;
    for step in 0..10 {
        let end = world.now + 400;
        world.run(end, |_| false);
        world.set_link(step % 3, (step + 1) % 3, step % 4 == 0);
    }
    world.faulty = false;
    world.heal();
    let limit = world.now + 40_000;
    assert!(world.run(limit, World::is_converged), "not converged");
    world.check();
    let largest = world.largest_message;
    // They grew, as far as losses let them, and not beyond what they may have, but for the last cell.
    let expected = 100 << 10..=MESSAGE_BYTES + 1024;
    assert!(expected.contains(&largest), "{largest} bytes");
    let received = |node: &Node| node.machine.status().cells_received;
    let all: u64 = world.nodes.iter().map(received).sum();
    let lacked = 60_000 + 2 * 27_000;
    assert!(
        all < lacked * 13 / 10,
        "{all} cells were sent, {lacked} were lacking"
    );
}

/// A write that reaches nobody by itself.
fn written(world: &mut World, number: u32) -> Cell {
    world.sequence += 1;

    Cell {
        timestamp: Timestamp {
            time: START + world.sequence,
            id: id(0).0,
        },
        content: Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: format!("{number}").into_bytes().into(),
        }),
    }
}
