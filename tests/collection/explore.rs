//! Breadth-first search over all worlds.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
};

use crate::{
    invariants::{at_rest, broken},
    steps::step,
    world::{Action, Bounds, World},
};

/// The fingerprints are hashes already.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// 64 bits of a hash that is the same in each run.
pub fn fingerprint(of: &impl Hash) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(of)
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    pub states: usize,
    pub depth: usize,
    /// A broken invariant, and how it came to be.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// Of each kind of what is meant to happen, how often it did.
    pub reached: HashMap<&'static str, usize>,
    /// Whether there are more than were looked at.
    pub is_cut: bool,
}

type Parents = HashMap<u64, Option<(u64, Action)>, BuildHasherDefault<Identity>>;

/// Looks at all worlds within the bounds, up to `most`, until an invariant is broken. In one of `rests`
/// all is let come to rest, too.
pub fn explore(bounds: &Bounds, most: usize, rests: u64) -> Found {
    let mut first = World::new(bounds);
    for action in bounds.before {
        let after = step(&first, *action, bounds).expect("nothing is broken yet");
        first = after.expect("it can happen");
    }
    let mut found = Found::default();
    let mut parents = Parents::default();
    let mut layer = vec![first];
    parents.insert(fingerprint(&layer[0]), None);
    while !layer.is_empty() && found.broken.is_none() {
        let mut next = Vec::new();
        for world in &layer {
            let at = fingerprint(world);
            let fails = broken(world).or_else(|| rest(world, at, bounds, rests));
            if let Some(fails) = fails {
                found.broken = Some((fails, trace(&parents, at)));
                break;
            }
            found.saw(world);
            for action in world.actions(bounds) {
                let after = match step(world, action, bounds) {
                    Ok(None) => continue,
                    Ok(Some(after)) => after,
                    Err(fails) => {
                        let mut trace = trace(&parents, at);
                        trace.push(action);
                        found.broken = Some((fails, trace));
                        break;
                    }
                };
                if let Entry::Vacant(entry) = parents.entry(fingerprint(&after)) {
                    entry.insert(Some((at, action)));
                    next.push(after);
                }
            }
        }
        found.states = parents.len();
        found.is_cut = parents.len() >= most && !next.is_empty();
        if found.is_cut {
            break;
        }
        found.depth += 1;
        layer = next;
    }
    found
}

fn rest(world: &World, at: u64, bounds: &Bounds, rests: u64) -> Option<&'static str> {
    let is_due = rests > 0 && at.is_multiple_of(rests);
    is_due.then(|| at_rest(world, bounds).err()).flatten()
}

fn trace(parents: &Parents, mut at: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some((before, action)) = parents.get(&at).copied().flatten() {
        actions.push(action);
        at = before;
    }
    actions.reverse();
    actions
}

impl Found {
    fn saw(&mut self, world: &World) {
        let all = |is: fn(&crate::world::Replica) -> bool| world.replicas.iter().all(is);
        let any = |is: fn(&crate::world::Replica) -> bool| world.replicas.iter().any(is);
        for (name, is) in [
            (
                "all at the first horizon",
                all(|it| it.durable.horizon == 3),
            ),
            ("all at the last horizon", all(|it| it.durable.horizon == 5)),
            ("something aside", any(|it| it.durable.aside != 0)),
            ("a base", any(|it| it.durable.tree.base.0 != 0)),
            (
                "evidence that a late join lowered",
                any(|it| {
                    it.seen
                        .iter()
                        .any(|seen| seen.floor > seen.since && seen.since > 0)
                }),
            ),
            ("another name", any(|it| it.durable.name >= 3)),
            ("restored", any(|it| it.is_restored)),
        ] {
            *self.reached.entry(name).or_default() += usize::from(is);
        }
    }
}
