//! Deaths cost nothing on the wire: replicas agree on them without a word.

use std::collections::BTreeMap;

use super::{scenario::Scenario, world::World};
use crate::mst::RootHash;

/// Keys whose last cells die within seconds, by the last digit of their numbers.
const SHORT: [u32; 5] = [1, 2, 3, 4, 7];

/// Replicas whose clocks differ by less than updates take to settle.
fn world() -> World {
    let scenario = Scenario {
        has_lifetimes: true,
        ..Scenario::calm(4)
    };
    let mut world = World::new(7, scenario);
    for (node, skew) in [-150, 0, 100, 150].into_iter().enumerate() {
        world.nodes[node].skew = skew;
    }
    world.begin();
    world.run(3000, |_| false);
    world
}

/// Writes ten times a second for so long at nodes by turns, now and then a delete.
fn write(world: &mut World, seconds: u64, roots: &mut Option<BTreeMap<u64, RootHash>>) {
    for turn in 0..seconds * 10 {
        let digit = SHORT[turn as usize % SHORT.len()];
        let number = 10 * (turn as u32 % 3) + digit;
        world.write(turn as usize % 4, number, turn % 7 == 6);
        pass(world, 100, roots);
    }
}

/// Lets time pass, and compares the roots that were made at one cut.
fn pass(world: &mut World, millis: u64, roots: &mut Option<BTreeMap<u64, RootHash>>) {
    world.run(world.now + millis, |_| false);
    let Some(roots) = roots else {
        return;
    };
    for node in &world.nodes {
        let published = node.replica.roots().published();
        let root = *roots.entry(published.cut).or_insert(published.root);
        assert_eq!(root, published.root, "at {}", published.cut >> 32);
    }
}

fn is_empty(world: &World) -> bool {
    let mut nodes = world.nodes.iter();
    nodes.all(|node| node.replica.tree().is_empty() && node.replica.disk().is_empty())
}

#[test]
fn simulated_deaths_make_nobody_pull() {
    let mut world = world();
    let mut roots = Some(BTreeMap::new());
    write(&mut world, 40, &mut roots);
    let most = world.nodes.iter().map(|node| node.replica.tree().len());
    assert!(most.max() > Some(10), "there is something to die");
    for _ in 0..300 {
        pass(&mut world, 100, &mut roots);
    }
    // Tombstones among them.
    assert!(is_empty(&world));
    for node in &world.nodes {
        assert_eq!(node.machine.status().started, 0);
        assert!(node.replica.counts().expired > 50);
    }
    assert!(roots.is_some_and(|roots| roots.len() > 40));
}

#[test]
fn simulated_a_cut_that_lasts_longer_than_what_was_written_is_no_cut() {
    let mut world = world();
    world.cut_all();
    write(&mut world, 20, &mut None);
    pass(&mut world, 25_000, &mut None);
    assert!(is_empty(&world), "each lets go of it for itself");
    world.heal();
    pass(&mut world, 60_000, &mut None);
    for node in &world.nodes {
        let status = node.machine.status();
        assert_eq!((status.started, status.cells_received), (0, 0));
        assert!(status.peers.iter().all(|peer| peer.present));
    }
    // What is written from now on goes as ever.
    let mut roots = Some(BTreeMap::new());
    write(&mut world, 5, &mut roots);
    pass(&mut world, 25_000, &mut roots);
    assert!(is_empty(&world));
}
