//! How many round trips a repair takes when a link comes back.

use rand::RngCore;

use super::{model::key, node::Node, scenario::Scenario, world::World, *};

/// Values that both have from before.
const BEFORE: u32 = 100_000;

/// A value of a hundred bytes, of which a compression makes nothing, stamped now.
fn new(world: &mut World, node: usize, number: u32) -> (crate::cell::CellKey, Cell) {
    let mut payload = vec![0; 100];
    world.rng.fill_bytes(&mut payload);
    let mut cell = written(world, number);
    cell.timestamp.time = world.wall(node) + u64::from(number);
    cell.content = Content::Value(Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.into(),
    });
    let key = key(number);
    world.wrote(&key, &cell);
    (key, cell)
}

#[test]
fn simulated_both_sides_of_a_cut_are_repaired_within_three_round_trips() {
    let delay = Duration::from_millis(100);
    let mut world = World::new(
        5,
        Scenario {
            delay,
            ..Scenario::calm(2)
        },
    );
    for number in 0..BEFORE {
        let (key, cell) = new(&mut world, 0, number);
        (0..2).for_each(|node| _ = world.update(node, key.clone(), cell.clone()));
    }
    world.begin();
    let run_for = |world: &mut World, millis: u64| {
        let end = world.now + millis;
        world.run(end, |_| false);
    };
    run_for(&mut world, 5000);
    let mut next = BEFORE;
    for count in [10, 1000] {
        world.cut_all();
        for node in 0..2 {
            for _ in 0..count {
                let (key, cell) = new(&mut world, node, next);
                world.update(node, key, cell);
                next += 1;
            }
        }
        run_for(&mut world, 5000);
        let status = |node: &Node| node.machine.status();
        let before: Vec<_> = world.nodes.iter().map(status).collect();
        world.heal();
        let healed = world.now;
        let has_all = |node: &Node| node.replica.disk().len() == next as usize;
        let is_done = |world: &World| world.nodes.iter().all(has_all);
        assert!(world.run(healed + 10_000, is_done), "{count} keys");
        // Besides: the token, the greeting and the announcement.
        let most = 3 * 2 * 100 + 2 * 100 + 50 + 250;
        let took = world.now - healed;
        assert!(took <= most, "{count} keys take {took} ms");
        run_for(&mut world, 20_000);
        for (before, after) in before.iter().zip(world.nodes.iter().map(status)) {
            let trips = after.round_trips - before.round_trips;
            assert!(trips <= 3, "{count} keys take {trips} round trips");
            assert_eq!(after.cells_received - before.cells_received, count);
            assert_eq!(after.failed, 0);
        }
    }
    world.check();
}
