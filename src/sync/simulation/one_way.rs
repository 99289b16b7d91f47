//! Links that work in one direction for good, or not at all.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{from_environment, node::Node, scenario::Scenario, world::World};

/// A core of which all reach each other; all other links work in one direction, or not at all, for ever.
fn with_a_core(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (core, rest) = (rng.gen_range(2..=8), rng.gen_range(1..=4));
    let replicas = core + rest;
    let scenario = Scenario {
        keys: 60,
        writes: 20,
        ..Scenario::calm(replicas)
    };
    let mut world = World::new(seed, scenario);
    for a in 0..replicas {
        for b in a + 1..replicas {
            let is_core = a < core && b < core;
            let (there, back) = match (is_core, rng.gen_range(0..3)) {
                (true, _) => (true, true),
                (false, 0) => (true, false),
                (false, 1) => (false, true),
                (false, _) => (false, false),
            };
            (world.links[a][b], world.links[b][a]) = (there, back);
        }
    }
    world.begin();
    // What is written in the core does not reach all of it.
    for number in 0..60 {
        let node = rng.gen_range(0..core);
        world.scenario.loss = 500;
        world.write(node, number, false);
    }
    world.run(8000, |_| false);
    // From now on nothing is lost, and links stay as they are.
    world.faulty = false;
    let end = world.all_is_past();
    world.run(end, |_| false);
    let of_core = |node: &Node| {
        let Ok(root) = node.replica.tree().root();
        (root, node.replica.has_pending())
    };
    let is_equal = |world: &World| {
        let first = of_core(&world.nodes[0]);
        let mut core = world.nodes[..core].iter().map(of_core);
        core.all(|root| root == first && !root.1)
    };
    let rounds = 2 * u64::from(core.next_power_of_two().ilog2()) + 6;
    let limit = world.now + 36_000 + rounds * 1100;
    assert!(world.run(limit, is_equal), "seed {seed}: the core differs");
    // And then there is peace: what cannot be reached is looked for less and less.
    world.run(world.now + 60_000, |_| false);
    let bytes = world.bytes;
    world.run(world.now + 60_000, |_| false);
    let spent = (world.bytes - bytes) / replicas as u64;
    assert!(
        spent < 4000,
        "seed {seed}: {spent} bytes a replica in a minute"
    );
    assert!(is_equal(&world), "seed {seed}");
}

#[test]
fn simulated_links_of_one_direction_do_not_keep_a_core_apart() {
    for seed in 0..from_environment("MST_SIM_SEEDS").unwrap_or(40) {
        with_a_core(seed);
    }
}
