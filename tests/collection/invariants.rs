//! What must hold in every world, and when all has come to rest.

use crate::{
    content::{Content, below, each, has},
    world::{Action, Bounds, Line, REPLICAS, World},
};

/// The first invariant that does not hold, if any.
pub fn broken(world: &World) -> Option<&'static str> {
    (0..REPLICAS).find_map(|i| of_one(world, i)).or_else(|| {
        let pairs = (0..REPLICAS).flat_map(|i| (0..REPLICAS).map(move |j| (i, j)));
        pairs
            .filter(|(i, j)| i != j)
            .find_map(|(i, j)| of_two(world, i, j))
    })
}

fn of_one(world: &World, i: usize) -> Option<&'static str> {
    let own = &world.replicas[i].durable;
    // The tree shows what the updates show that it stands for.
    let (is, should) = (own.tree.view(), Content::of(own.ghost).view());
    if is.key != should.key {
        return Some("I1: a key shows what was deleted or overwritten, or lost what was not");
    }
    if is.counter != should.counter {
        return Some("I3: a counter is not the sum of its increments");
    }
    // Nothing that was accepted is gone.
    let held = own.ghost | own.queue | own.aside | own.void;
    if !each(own.accepted).all(|op| has(held, op)) {
        return Some("I2: an accepted update is lost");
    }
    (own.horizon > own.floor).then_some("I4: the horizon is above the floor")
}

fn of_two(world: &World, i: usize, j: usize) -> Option<&'static str> {
    let (own, other) = (&world.replicas[i].durable, &world.replicas[j].durable);
    if let Some(broken) = lineages(world, i, j) {
        return Some(broken);
    }
    if !is_in_standing(world, i, j) {
        return None;
    }
    if !world.replicas[i].is_restored && !world.replicas[j].is_restored {
        // What was overwritten above the horizon before it came here need not come.
        let above = other.ghost & !below(other.ghost, own.horizon);
        let final_here = below(other.accepted, own.horizon);
        if !each(final_here).all(|op| has(own.ghost | other.aside | other.void | above, op)) {
            return Some("I2: below the horizon something of a member is missing");
        }
    }
    evidence(world, i, j)
}

/// No two that are members, or that lapsed, went on without each other.
fn lineages(world: &World, i: usize, j: usize) -> Option<&'static str> {
    let (own, other) = (&world.replicas[i].durable, &world.replicas[j].durable);
    if own.line.lapsed >> other.name & 1 == 1 && other.line.lapsed >> own.name & 1 == 1 {
        return Some("I5: two sides lapsed each other");
    }
    // An operator's word forks a group, visibly; who joined one side since is not in the other.
    let is_forked = own.line.forced | other.line.forced != 0;
    if !is_in_standing(world, i, j) || is_forked {
        return None;
    }
    let is_same = (own.line.founder, own.line.lapsed | own.line.forced)
        == (other.line.founder, other.line.lapsed | other.line.forced);
    if own.horizon > 0 && own.horizon == other.horizon && !is_same {
        return Some("I5: members have one horizon and two lineages");
    }
    None
}

/// Whether `j` is a member to `i`, and neither evicted the other.
fn is_in_standing(world: &World, i: usize, j: usize) -> bool {
    let (own, other) = (&world.replicas[i].durable, &world.replicas[j].durable);
    let is_known = own.tree.joins >> other.name & 1 == 1;
    let by_own = own.tree.evicted() | own.line.lapsed | own.line.forced;
    let by_other = other.tree.evicted() | other.line.lapsed | other.line.forced;
    let is_evicted = by_own >> other.name & 1 == 1 || by_other >> own.name & 1 == 1;
    is_known && !is_evicted && !other.is_fresh && !own.is_fresh
}

/// What is valid as evidence is true: below its bound both have the same, and the other takes no more.
fn evidence(world: &World, i: usize, j: usize) -> Option<&'static str> {
    let (replica, peer) = (&world.replicas[i], &world.replicas[j]);
    let (own, other, seen) = (&replica.durable, &peer.durable, &replica.seen[j]);
    let bound = seen.floor.min(seen.since);
    let is_current = seen.life == peer.life && !peer.is_restored && own.line == other.line;
    if bound == 0 || !is_current {
        return None;
    }
    let above = |ghost| ghost & !below(ghost, bound);
    let ours = each(below(own.ghost, bound)).all(|op| has(other.ghost | above(own.ghost), op));
    let have = own.ghost | other.aside | other.void | above(other.ghost);
    let theirs = each(below(other.accepted, bound)).all(|op| has(have, op));
    let is_fenced = other.floor >= bound && below(other.queue, bound) == 0;
    (!ours || !theirs || !is_fenced).then_some("fence: what counts as evidence is not true")
}

/// Lets all that is on its way arrive, without clients and faults, until nothing changes: then members
/// have one horizon and one tree.
pub fn at_rest(world: &World, bounds: &Bounds) -> Result<World, &'static str> {
    let calm = Bounds {
        late: false,
        answers: false,
        clients: [0; REPLICAS],
        ..*bounds
    };
    let mut world = world.clone();
    world.left = Default::default();
    (0..REPLICAS).try_for_each(|i| do_it(&mut world, Action::Answer(i), bounds))?;
    for _ in 0..24 {
        let before = world.clone();
        for i in 0..REPLICAS {
            do_it(&mut world, Action::Settle(i), &calm)?;
            do_it(&mut world, Action::Raise(i), &calm)?;
        }
        for _ in 0..2 {
            for (i, j) in (0..REPLICAS).flat_map(|i| (0..REPLICAS).map(move |j| (i, j))) {
                if i != j {
                    do_it(&mut world, Action::CatchUp(i, j), &calm)?;
                    do_it(&mut world, Action::Sync(i, j), &calm)?;
                    do_it(&mut world, Action::Hear(i, j), &calm)?;
                }
            }
        }
        (0..REPLICAS).try_for_each(|i| do_it(&mut world, Action::Adopt(i, 0), &calm))?;
        if world == before {
            return is_equal(&world, bounds).map(|()| world);
        }
    }
    Err("I7: it does not come to rest")
}

fn do_it(world: &mut World, action: Action, bounds: &Bounds) -> Result<(), &'static str> {
    if let Some(next) = crate::steps::step(world, action, bounds)? {
        *world = next;
        if let Some(broken) = broken(world) {
            return Err(broken);
        }
    }
    Ok(())
}

fn is_equal(world: &World, bounds: &Bounds) -> Result<(), &'static str> {
    for (i, j) in (0..REPLICAS).flat_map(|i| (0..i).map(move |j| (i, j))) {
        let (own, other) = (&world.replicas[i].durable, &world.replicas[j].durable);
        let both = is_in_standing(world, i, j) && is_in_standing(world, j, i);
        // Who showed an eviction that the other did not count stays apart until an operator says so.
        let counts = |line: &Line| line.lapsed | line.forced;
        let is_bound = own.tree.evicted() & !counts(&other.line) != 0
            || other.tree.evicted() & !counts(&own.line) != 0;
        if own.horizon != other.horizon && is_bound {
            continue;
        }
        if both && own.horizon != other.horizon {
            return Err("I5: members at rest have two horizons");
        }
        if both && own.tree != other.tree {
            return Err("I5: members at rest have two roots");
        }
        let faultless = bounds.budget.forgets == 0 && bounds.budget.lapses == 0;
        if both && faultless && own.horizon < bounds.top {
            return Err("I7: at rest something is not collected");
        }
    }
    Ok(())
}
