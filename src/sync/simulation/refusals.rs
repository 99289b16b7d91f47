//! What a replica does not take is not sent to it again and again.

use rand::RngCore;

use super::{model::key, scenario::Scenario, world::World, *};
use crate::sync::Relation;

/// Milliseconds that the last clock is behind.
const BEHIND: i64 = 86_400_000;

/// Bytes that a payload has, of which a compression makes nothing.
const PAYLOAD: usize = 2000;

/// Replicas of which all but the last hold `keys` values, one of them of `large` bytes; the clock
/// of the last is a day behind. Also the bytes of all values.
fn world(replicas: usize, keys: u32, large: usize) -> (World, u64) {
    let mut world = World::new(7, Scenario::calm(replicas));
    world.nodes[replicas - 1].skew = -BEHIND;
    let mut bytes = 0;
    for number in 0..keys {
        let size = match number {
            0 => large,
            _ => PAYLOAD,
        };
        let (key, cell) = (key(number), written_with(&mut world, size));
        bytes += cell.value_bytes() as u64;
        world.wrote(&key, &cell);
        (0..replicas - 1).for_each(|node| _ = world.update(node, key.clone(), cell.clone()));
    }
    world.now = 5000;
    (0..replicas).for_each(|node| world.settle(node));
    world.begin();
    (world, bytes)
}

fn written_with(world: &mut World, size: usize) -> Cell {
    let mut payload = vec![0; size];
    world.rng.fill_bytes(&mut payload);
    let mut cell = written(world, 0);
    cell.content = Content::Value(Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.into(),
    });
    cell
}

fn run_for(world: &mut World, millis: u64) {
    let end = world.now + millis;
    world.run(end, |_| false);
}

/// Bytes that each has sent.
fn sent(world: &World) -> Vec<u64> {
    world.nodes.iter().map(|node| node.sent).collect()
}

#[test]
fn simulated_what_a_clock_that_is_a_day_behind_refuses_is_sent_once() {
    for replicas in [2, 3] {
        let (mut world, bytes) = world(replicas, 300, MESSAGE_BYTES + 1000);
        let last = replicas - 1;
        run_for(&mut world, 60_000);
        let rejected = world.nodes[last].machine.status().rejected;
        assert!(rejected.clock >= 300, "{rejected:?}");
        for peer in world.nodes[last].machine.status().peers {
            assert_eq!(peer.relation, Relation::Divergent, "it says so");
            assert_eq!(peer.refused_cells, 300);
        }
        for minute in 0..3 {
            let before = sent(&world);
            run_for(&mut world, 60_000);
            for (node, (after, before)) in sent(&world).into_iter().zip(before).enumerate() {
                let in_a_minute = after - before;
                assert!(
                    in_a_minute < bytes / 100,
                    "{node} of {replicas} sends {in_a_minute} of {bytes} bytes in minute {minute}"
                );
            }
        }
        // When it is set right nothing is missing.
        world.nodes[last].skew = 0;
        run_for(&mut world, 60_000);
        assert!(world.is_converged());
        let status = world.nodes[last].machine.status();
        assert!(status.peers.iter().all(|peer| peer.refused_cells == 0));
        world.check();
    }
}

/// What is refused does not keep out what is not.
#[test]
fn simulated_beside_what_is_refused_all_else_is_repaired() {
    let (mut world, _) = world(3, 300, PAYLOAD);
    run_for(&mut world, 60_000);
    for step in 0..20 {
        // At any of the others, in the place of what was refused, or of nothing.
        let (node, number) = (step % 2, 299 + step as u32);
        let links = world.links.clone();
        world.links.iter_mut().for_each(|links| links.fill(false));
        let mut cell = written(&mut world, number);
        cell.timestamp.time = START - (86_400 << 32) + step as u64;
        let key = key(1000 + number);
        world.wrote(&key, &cell);
        world.update(node, key.clone(), cell);
        world.links = links;
        run_for(&mut world, 40_000);
        let has = |node: &Node| node.replica.disk().contains_key(&key);
        assert!(world.nodes.iter().all(has), "{step} is not everywhere");
    }
}
