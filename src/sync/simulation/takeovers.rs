//! Large pulls whose answerer dies, again and again: what came stays, and little comes twice.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{from_environment, model::key, scenario::Scenario, world::World, *};

/// Values that one replica has to get.
const VALUES: u32 = 20_000;

/// One that has nothing gets all from two others, of which one or the other dies at random. Returns the
/// cells that it received.
fn taken_over(seed: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(
        seed,
        Scenario {
            delay: Duration::from_millis(200),
            downtime: Duration::from_millis(1500),
            ..Scenario::calm(3)
        },
    );
    for number in 0..VALUES {
        let (key, cell) = (key(number), written(&mut world, number));
        world.wrote(&key, &cell);
        (0..2).for_each(|node| _ = world.update(node, key.clone(), cell.clone()));
    }
    world.now = 5000;
    (0..3).for_each(|node| world.settle(node));
    world.begin();
    let mut deaths = 0;
    while !world.is_converged() && world.now < 120_000 {
        let end = world.now + rng.gen_range(20..400);
        world.run(end, World::is_converged);
        let missing = VALUES as usize - world.nodes[2].replica.tree().len();
        if missing > 0 && deaths < 20 {
            deaths += 1;
            // One of them is there.
            let dying = rng.gen_range(0..2);
            if !world.nodes[1 - dying].is_down {
                world.crash(dying);
            }
        }
    }
    assert!(world.is_converged(), "seed {seed}: not converged");
    assert!(deaths > 0, "seed {seed}: nobody died");
    world.check();
    world.nodes[2].machine.status().cells_received
}

#[test]
fn simulated_what_came_before_an_answerer_died_does_not_come_again() {
    for seed in 0..from_environment("MST_SIM_SEEDS").unwrap_or(100) {
        let received = taken_over(seed);
        let most = u64::from(VALUES) * 11 / 10;
        assert!(
            received <= most,
            "seed {seed}: {received} cells came of {VALUES}"
        );
    }
}
