//! Replicas of two versions of the protocol, while they are upgraded one by one, and one is put back.

use super::{from_environment, node::Node, scenario::Scenario, world::World};
use crate::sync::{Isolation, PeerStatus, Relation};

impl World {
    /// A node comes up with another version.
    fn upgrade(&mut self, node: usize, version: u8) {
        self.crash(node);
        self.nodes[node].version = version;
        self.restart(node);
    }

    /// Each says of each other version that it is isolated, and why; and of nobody twice.
    fn check_versions(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let peers = node.machine.status().peers;
            for (other, peer) in self.nodes.iter().enumerate() {
                if other == number {
                    continue;
                }
                let told: Vec<&PeerStatus> = peers
                    .iter()
                    .filter(|told| told.replica == peer.identity)
                    .collect();
                assert_eq!(told.len(), 1, "{number} lists {other}: {told:?}");
                let is_isolated = told[0].relation == Relation::Isolated;
                assert_eq!(
                    is_isolated,
                    node.version != peer.version,
                    "{number} of {other}"
                );
                let says_why = matches!(told[0].isolation, Some(Isolation::Protocol(_)));
                assert_eq!(says_why, is_isolated, "{number} of {other}");
                assert!(told[0].present, "{number} of {other}");
            }
        }
    }
}

fn upgraded(seed: u64) {
    let scenario = Scenario {
        loss: 300,
        writes: 20,
        keys: 60,
        ..Scenario::calm(4)
    };
    let mut world = World::new(seed, scenario);
    world.begin();
    // Upgraded one after the other; the second is put back for a time.
    for (node, version) in [(0, 1), (1, 1), (1, 0), (2, 1), (1, 1), (3, 1)] {
        let end = world.now + 4000;
        world.run(end, |_| false);
        world.upgrade(node, version);
        let end = world.now + 2000;
        world.run(end, |_| false);
        world.check_versions();
    }
    world.end_faults();
    let end = world.all_is_past();
    world.run(end, |_| false);
    let limit = world.now + 60_000;
    assert!(
        world.run(limit, World::is_converged),
        "seed {seed}: not converged"
    );
    world.check();
    assert!(world.nodes.iter().all(|node: &Node| node.version == 1));
}

#[test]
fn simulated_versions_of_the_protocol_keep_apart_and_are_upgraded() {
    for seed in 0..from_environment("MST_SIM_SEEDS").unwrap_or(200) {
        upgraded(seed);
    }
}
