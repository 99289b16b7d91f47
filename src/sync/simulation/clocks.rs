//! Replicas whose clocks differ: the newest root of a peer decides within seconds, whatever
//! its clock shows, and no relation says more than is known.

use super::{
    model::key,
    node::{DRIFT, node_of},
    scenario::Scenario,
    world::World,
    *,
};
use crate::sync::{Relation, ReplicaId};

/// Milliseconds that the last replica's clock is ahead of the others', or behind them.
const SKEWS: [i64; 7] = [100, 300, 1000, 5000, 60_000, 3_600_000, 86_400_000];

/// Milliseconds after a write, or after a link has healed, in which the others have to know: it
/// settles, a root is made and announced, is not comparable for 3 s, and is pulled.
const DECIDED: u64 = 6000;

fn skews() -> impl Iterator<Item = i64> {
    SKEWS.into_iter().flat_map(|skew| [skew, -skew])
}

/// Replicas that announce their roots when they change, and else once a day. The clock of the last
/// is off.
fn world(replicas: usize, skew: i64) -> World {
    let scenario = Scenario {
        sync_interval: Duration::from_secs(86_400),
        ..Scenario::calm(replicas)
    };
    let mut world = World::new(skew.unsigned_abs(), scenario);
    world.nodes[replicas - 1].skew = skew;
    world.begin();
    world
}

fn run_for(world: &mut World, millis: u64) {
    let end = world.now + millis;
    world.run(end, |_| false);
}

/// Writes at a node, but nobody hears of it.
fn write_unheard(world: &mut World, node: usize, number: u32) {
    let links = world.links.clone();
    world.links.iter_mut().for_each(|links| links.fill(false));
    world.write(node, number, false);
    world.links = links;
}

fn holds(world: &World, node: usize, number: u32) -> bool {
    world.nodes[node].replica.disk().contains_key(&key(number))
}

fn root(world: &World, node: usize) -> crate::mst::RootHash {
    world.nodes[node].replica.roots().published().root
}

fn relation(world: &World, node: usize, of: usize) -> Relation {
    let status = world.nodes[node].machine.status();
    let peer = status.peers.iter().find(|peer| node_of(peer.replica) == of);
    peer.expect("known").relation
}

/// At rest: who says `equal` shows the root that it has itself, no two say of each other that it is
/// behind, and nobody differs without saying so.
fn check_relations(world: &World, what: &str) {
    let nodes = 0..world.nodes.len();
    for (a, b) in nodes
        .clone()
        .flat_map(|a| nodes.clone().map(move |b| (a, b)))
    {
        if a == b {
            continue;
        }
        let (ours, theirs) = (relation(world, a, b), relation(world, b, a));
        let is_equal = root(world, a) == root(world, b);
        assert_eq!(
            ours == Relation::Equal,
            is_equal,
            "{what}: {a} says {ours:?} of {b}"
        );
        let is_mutual = (ours, theirs) == (Relation::Behind, Relation::Behind);
        assert!(!is_mutual, "{what}: {a} and {b} are behind each other");
        assert_ne!(ours, Relation::Unknown, "{what}: {a} of {b}");
    }
}

/// Whether what is stamped by a clock that is ahead so far is taken.
fn is_taken(ahead: i64) -> bool {
    ahead <= DRIFT.as_millis() as i64
}

/// Of the first replica and the last, with this skew, one whose writes all others take.
fn writer(replicas: usize, skew: i64) -> usize {
    match is_taken(-skew) {
        true => 0,
        false => replicas - 1,
    }
}

#[test]
fn simulated_clocks_that_differ_hide_no_loss_on_a_quiet_storage() {
    for (skew, writer) in skews().flat_map(|skew| [(skew, 0), (skew, 1)]) {
        let ahead = [-skew, skew][writer];
        if !is_taken(ahead) {
            continue;
        }
        let what = format!("skew {skew} ms, lost from {writer}");
        let mut world = world(2, skew);
        (0..3).for_each(|number| world.write(writer, number, false));
        run_for(&mut world, 20_000);
        check_relations(&world, &what);
        write_unheard(&mut world, writer, 100);
        run_for(&mut world, DECIDED);
        assert!(holds(&world, 1 - writer, 100), "{what}: not repaired");
        // What is stamped ahead is part of the root when its time has come.
        run_for(&mut world, DECIDED + DRIFT.as_millis() as u64);
        check_relations(&world, &what);
        world.check();
    }
}

#[test]
fn simulated_clocks_that_differ_hide_nothing_after_a_partition() {
    for (skew, replicas) in skews().flat_map(|skew| [(skew, 2), (skew, 3)]) {
        let what = format!("skew {skew} ms, {replicas} replicas");
        let writer = writer(replicas, skew);
        let mut world = world(replicas, skew);
        (0..3).for_each(|number| world.write(writer, number, false));
        run_for(&mut world, 20_000);
        check_relations(&world, &what);
        world.cut_all();
        (10..13).for_each(|number| world.write(writer, number, false));
        run_for(&mut world, 20_000);
        world.heal();
        run_for(&mut world, DECIDED);
        for node in 0..replicas {
            assert!(
                holds(&world, node, 10),
                "{what}: {node} lacks what is properly stamped"
            );
        }
        check_relations(&world, &what);
        world.check();
    }
}

/// What is stamped too far ahead is rejected and counted; it makes nobody look equal, or
/// everybody behind, and what is properly stamped still goes both ways.
#[test]
fn simulated_writes_of_a_fast_clock_are_rejected_and_hide_nothing() {
    for skew in [60_000, 3_600_000, 86_400_000] {
        let what = format!("skew {skew} ms");
        let mut world = world(3, skew);
        world.write(2, 1, false);
        run_for(&mut world, 20_000);
        for node in 0..2 {
            assert!(!holds(&world, node, 1), "{what}");
            let rejected = world.nodes[node].machine.status().rejected;
            assert!(rejected.clock > 0, "{what}: {node} counts {rejected:?}");
            assert_eq!(relation(&world, node, 2), Relation::Divergent, "{what}");
            assert_eq!(relation(&world, 2, node), Relation::Behind, "{what}");
        }
        check_relations(&world, &what);
        write_unheard(&mut world, 0, 100);
        run_for(&mut world, DECIDED);
        for node in 1..3 {
            assert!(
                holds(&world, node, 100),
                "{what}: {node} lacks what is properly stamped"
            );
        }
        // It holds all that the others do, though never with a root of theirs.
        run_for(&mut world, DECIDED);
        for node in 0..2 {
            assert_eq!(relation(&world, 2, node), Relation::Behind, "{what}");
            let expected = [Relation::Divergent, Relation::Equal];
            let others = [2, 1 - node].map(|other| relation(&world, node, other));
            assert_eq!(others, expected, "{what}");
        }
        let pulls = |world: &World| world.nodes[2].machine.status().started;
        let before = pulls(&world);
        run_for(&mut world, 60_000);
        assert_eq!(pulls(&world), before, "{what}: there is nothing to pull");
    }
}

#[test]
fn simulated_clocks_that_differ_hide_no_loss_while_writes_go_on() {
    for skew in skews() {
        let what = format!("skew {skew} ms");
        let mut world = world(3, skew);
        let mut lost = None;
        for step in 0..400 {
            run_for(&mut world, 50);
            let of_all = match is_taken(skew.abs()) {
                true => step % 3,
                false => writer(3, skew),
            };
            world.write(of_all, step as u32 % 50, false);
            if step == 100 {
                write_unheard(&mut world, writer(3, skew), 1000);
                lost = Some(world.now);
            }
            if lost.is_some_and(|lost| world.now >= lost + 2 * DECIDED) {
                break;
            }
        }
        for node in 0..3 {
            assert!(holds(&world, node, 1000), "{what}: {node} was not repaired");
        }
        run_for(&mut world, 3 * DECIDED);
        check_relations(&world, &what);
        world.check();
    }
}

/// Each replica knows how far the clocks of the others are off its own.
#[test]
fn simulated_offsets_of_clocks_are_known() {
    for skew in skews() {
        let mut world = world(2, skew);
        world.write(0, 1, false);
        run_for(&mut world, 5000);
        let offset = |node: usize, of: ReplicaId| {
            let status = world.nodes[node].machine.status();
            let peer = status.peers.into_iter().find(|peer| peer.replica == of);
            peer.and_then(|peer| peer.clock_offset_ms).expect("known")
        };
        let off = world.scenario.delay.as_millis() as i64 + 1;
        assert!((offset(0, id(1)) - skew).abs() <= off, "{skew}");
        assert!((offset(1, id(0)) + skew).abs() <= off, "{skew}");
    }
}
