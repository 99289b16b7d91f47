//! Runs from seeds, of several kinds of faults.
//!
//! All of a run follows from its kind and its seed, which are printed when it fails, with the command
//! that runs it alone. `MST_SIM_SEEDS=<number>` runs that many of each kind, `MST_SIM_SECONDS=<number>`
//! each kind for so long, and `MST_SIM_FROM=<number>` begins with that seed.

use std::{
    panic::{catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    REQUEST_TIMEOUT,
    scenario::{Kind, Scenario},
    world::World,
};

/// A world in which the faults of a scenario have happened.
pub(super) fn after_faults(seed: u64, scenario: Scenario) -> World {
    let mut world = World::new(seed, scenario);
    world.begin();
    let faults = world.scenario.faults.as_millis() as u64;
    // Values from before, of which some replicas miss some.
    for number in 0..world.scenario.keys {
        let node = world.draw_node();
        world.write(node, number, false);
    }
    world.run(faults, |_| false);
    world.end_faults();
    world
}

fn simulate(kind: Kind, seed: u64, has_lifetimes: bool) {
    let scenario = Scenario {
        has_lifetimes,
        ..Scenario::draw(kind, &mut StdRng::seed_from_u64(seed))
    };
    let mut world = after_faults(seed, scenario);
    if world.scenario.is_cut_at_last {
        world.cut_all();
    }
    let end = world.all_is_past();
    world.run(end, |_| false);
    world.heal();
    let limit = world.now + limit_of(&world);
    let done = world.run(limit, |world| world.is_converged() && world.has_died());
    let (rounds, behind) = (world.rounds(), world.behind());
    assert!(done, "not converged after {rounds} rounds: {behind:?}");
    world.check();
    world.check_quiet();
    world.check();
}

/// Milliseconds in which all replicas have to be equal when nothing is lost any more.
pub(super) fn limit_of(world: &World) -> u64 {
    let scenario = &world.scenario;
    // A round: an announcement, and a pull with its round trips.
    let round = 1000 + ROUND_TRIPS * 2 * scenario.delay.as_millis() as u64;
    let lost = match scenario.is_cut_at_last {
        // All greet each other.
        true => 0,
        // An announcement that was lost while the link stayed up is repeated after
        // the sync interval.
        false => 36_000,
    };
    // Roots that cannot be compared because clocks differ are taken for different
    // after a time.
    let uncompared = match scenario.clocks.is_skew_lasting {
        true => 4000,
        false => 0,
    };
    // A pull under way may wait for an answer that was lost.
    let waiting = REQUEST_TIMEOUT.as_millis() as u64 + 500;
    // Of several of one name each takes another, one after the other.
    let renamed = match scenario.has_copies {
        true => 12_000,
        false => 0,
    };
    lost + uncompared + waiting + renamed + world.rounds() * round
}

/// Of a usual pull.
const ROUND_TRIPS: u64 = 6;

/// A number that the environment says.
pub(super) fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// So many seeds, unless the environment says otherwise.
fn run(kind: Kind, seeds: u64) {
    run_with(kind, seeds, false);
}

fn run_with(kind: Kind, seeds: u64, has_lifetimes: bool) {
    let with = if has_lifetimes { "lifetimes_" } else { "" };
    let name = format!("{with}{kind:?}").to_lowercase();
    let one = from_environment("MST_SIM_SEED");
    let lasts = from_environment("MST_SIM_SECONDS").map(Duration::from_secs);
    let from = one
        .or_else(|| from_environment("MST_SIM_FROM"))
        .unwrap_or(0);
    let seeds = match (one, lasts) {
        (Some(_), _) => 1,
        (None, Some(_)) => u64::MAX - from,
        (None, None) => from_environment("MST_SIM_SEEDS").unwrap_or(seeds),
    };
    let began = Instant::now();
    let is_over = || lasts.is_some_and(|lasts| began.elapsed() >= lasts);
    let mut done = 0;
    for seed in from..from.saturating_add(seeds) {
        if is_over() {
            break;
        }
        if let Err(panic) = catch_unwind(|| simulate(kind, seed, has_lifetimes)) {
            eprintln!(
                "kind {name}, seed {seed} fails; again: \
                 MST_SIM_SEED={seed} cargo test --release --locked --lib simulated_{name}"
            );
            resume_unwind(panic);
        }
        done += 1;
    }
    println!(
        "kind {name}: {done} seeds from {from}, {:?}",
        began.elapsed()
    );
    assert!(done > 0 || lasts.is_some());
}

#[test]
fn simulated_network() {
    run(Kind::Network, 1300);
}

#[test]
fn simulated_disks() {
    run(Kind::Disks, 900);
}

#[test]
fn simulated_clocks() {
    run(Kind::Clocks, 600);
}

#[test]
fn simulated_links() {
    run(Kind::Links, 900);
}

#[test]
fn simulated_folders() {
    run(Kind::Folders, 600);
}

#[test]
fn simulated_all() {
    run(Kind::All, 700);
}

// The same, with keys of which what was put goes after seconds, or not before the end.

#[test]
fn simulated_lifetimes_network() {
    run_with(Kind::Network, 40, true);
}

#[test]
fn simulated_lifetimes_disks() {
    run_with(Kind::Disks, 40, true);
}

#[test]
fn simulated_lifetimes_clocks() {
    run_with(Kind::Clocks, 40, true);
}

#[test]
fn simulated_lifetimes_links() {
    run_with(Kind::Links, 40, true);
}

#[test]
fn simulated_lifetimes_folders() {
    run_with(Kind::Folders, 40, true);
}

#[test]
fn simulated_lifetimes_all() {
    run_with(Kind::All, 40, true);
}
