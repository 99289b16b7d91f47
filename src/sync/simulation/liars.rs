//! Answerers that lie, in fifteen ways: nothing that nobody wrote is taken, others are not kept from
//! what there is, and who lies is asked less and less often.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    super::*,
    from_environment,
    model::key,
    node::{Node, START},
    scenario::Scenario,
    world::World,
    written,
};
use crate::cell::{Cell, CellKey, Content, Key, Part, Timestamp, Value, Version};

/// What is wrong with answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// Values are others than their digests say.
    Payload,
    /// Digests are others than those of the cells.
    Check,
    /// A cell of a key that the storage does not have.
    Foreign,
    /// A cell that was not asked for.
    Unasked,
    /// Cells in another order.
    Order,
    /// A cell twice.
    Twice,
    /// More is done than was asked for.
    Done,
    /// It goes on, and brings nothing.
    Nothing,
    /// Cells of tomorrow.
    Future,
    /// Cells that no strategy writes.
    Strategy,
    /// The end is missing.
    Cut,
    /// It is longer than any may be.
    Long,
    /// Differences that there are not.
    MadeUp,
    /// Differences outside of what was asked for.
    Outside,
    /// It is of another version of the protocol.
    Protocol,
}

const LIES: [Lie; 15] = [
    Lie::Payload,
    Lie::Check,
    Lie::Foreign,
    Lie::Unasked,
    Lie::Order,
    Lie::Twice,
    Lie::Done,
    Lie::Nothing,
    Lie::Future,
    Lie::Strategy,
    Lie::Cut,
    Lie::Long,
    Lie::MadeUp,
    Lie::Outside,
    Lie::Protocol,
];

/// A cell with the digest that it has.
fn intact(key: CellKey, cell: Cell) -> Received {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&Version::of(&key, &cell).digest.0[..CHECK_BYTES]);
    Received { key, cell, check }
}

/// A cell that nobody wrote.
fn made_up(key: CellKey, time: u64) -> Received {
    let value = Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: "made up".into(),
    };
    let timestamp = Timestamp { time, id: [9; 16] };
    let content = Content::Value(value);
    intact(key, Cell { timestamp, content })
}

fn key_of(text: &str) -> CellKey {
    let key = zenoh_keyexpr::OwnedKeyExpr::try_from(text.to_owned()).expect("a key");
    CellKey::own(Key::from(Some(key)))
}

impl Lie {
    /// An answer with the lie in it, if there is a place for it.
    fn tell(
        self,
        query: Query,
        asked: &[u8],
        answer: &[u8],
        now: u64,
        rng: &mut StdRng,
    ) -> Option<Vec<u8>> {
        let mut bytes = answer.to_vec();
        match (self, query) {
            (Self::Cut, _) => {
                bytes.truncate(rng.gen_range(0..bytes.len().max(1)));
                Some(bytes)
            }
            (Self::Long, _) => {
                bytes.resize(max_answer(MESSAGE_BYTES) + 1, 0);
                Some(bytes)
            }
            (Self::Protocol, _) => {
                *bytes.first_mut()? ^= 1 << rng.gen_range(0..8);
                Some(bytes)
            }
            (Self::MadeUp | Self::Outside, Query::Digest) => self.of_digests(asked, rng),
            (_, Query::Entries) => self.of_cells(asked, answer, now),
            (_, Query::Digest) => None,
        }
    }

    /// Fragments of made-up entries.
    fn of_digests(self, asked: &[u8], rng: &mut StdRng) -> Option<Vec<u8>> {
        let query = DigestQuery::decode(asked).ok()?;
        let mut has_lied = false;
        let fragments = query.fragments.iter().map(|(range, fragment)| {
            let gap = fragment.gap(range, 0);
            let key = match self {
                Self::Outside => key_of("zzz/outside"),
                _ => key_of(&format!("k/{}", rng.gen_range(0..1000))),
            };
            let is_told = match self {
                Self::Outside => !gap.contains(&key),
                _ => gap.contains(&key),
            };
            let short = query.salted.short(&[rng.r#gen(); 32]);
            let theirs = Fragment {
                entries: vec![(key, short)],
                gaps: vec![Some(short), Some(short)],
                ..Fragment::default()
            };
            has_lied |= is_told;
            match is_told {
                true => vec![Differing::Fragment(0, theirs)],
                false => Vec::new(),
            }
        });
        let reply = DigestReply(fragments.collect()).encode(query.salted);
        has_lied.then_some(reply)
    }

    fn of_cells(self, asked: &[u8], answer: &[u8], now: u64) -> Option<Vec<u8>> {
        let most = max_answer(MESSAGE_BYTES);
        if let Ok(query) = DeltaQuery::decode(asked) {
            let mut reply = DeltaReply::decode(answer, query.after, most).ok()?;
            let is_told = match self {
                Self::Done => {
                    reply.progress = Progress::After(query.after);
                    true
                }
                Self::Nothing => {
                    reply.progress = Progress::After(query.after + 1);
                    reply.cells.clear();
                    true
                }
                // All that has changed is asked for.
                Self::Unasked => false,
                _ => self.of_list(&mut reply.cells, now),
            };
            return is_told.then(|| reply.encode(true));
        }
        let query = EntriesQuery::decode(asked).ok()?;
        let mut reply = EntriesReply::decode(answer, &query.wants, most).ok()?;
        let is_told = match self {
            Self::Done => {
                reply.done = query.wants.len() + 1;
                true
            }
            Self::Nothing => {
                (reply.done, reply.cells) = (0, Vec::new());
                true
            }
            Self::Unasked => {
                let are_keys = query.wants.iter().all(|want| matches!(want, Want::Key(..)));
                reply.cells.push(made_up(key_of("k/unasked"), now));
                are_keys
            }
            _ => self.of_list(&mut reply.cells, now),
        };
        is_told.then(|| reply.encode(true))
    }

    fn of_list(self, cells: &mut Vec<Received>, now: u64) -> bool {
        match self {
            Self::Payload => {
                for Received { cell, .. } in cells.iter_mut() {
                    if let Content::Value(value) = &mut cell.content {
                        value.payload = "another".into();
                    }
                }
            }
            Self::Check => cells.iter_mut().for_each(|received| received.check[0] ^= 1),
            Self::Foreign => cells.insert(0, made_up(key_of("@hidden/x"), now)),
            Self::Order if cells.len() > 1 => cells.reverse(),
            Self::Twice if !cells.is_empty() => cells.insert(0, cells[0].clone()),
            Self::Future => {
                for Received { key, cell, check } in cells.iter_mut() {
                    cell.timestamp.time = now + (86_400 << 32);
                    *check = intact(key.clone(), cell.clone()).check;
                }
            }
            Self::Strategy => {
                for received in cells.iter_mut() {
                    let mut key = received.key.clone();
                    key.part = Part::from(&[0xfe, 0xfe][..]);
                    *received = intact(key, received.cell.clone());
                }
            }
            _ => return false,
        }
        !cells.is_empty()
    }
}

impl World {
    /// What a node answers, who may lie.
    pub(super) fn say(
        &mut self,
        node: usize,
        query: Query,
        asked: &[u8],
        answer: Result<Vec<u8>, String>,
    ) -> Result<Vec<u8>, String> {
        let Some(lie) = self.nodes[node].lie else {
            return answer;
        };
        let now = self.wall(node);
        let told = lie.tell(query, asked, &answer.clone()?, now, &mut self.rng);
        self.nodes[node].lies += u64::from(told.is_some());
        told.map_or(answer, Ok)
    }
}

/// Three, of which the last lies. The second has all that it has, and the first about half; what is newest
/// the liar alone has.
fn among_liars(lie: Lie, seed: u64) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let scenario = Scenario {
        loss: 0,
        ..Scenario::calm(3)
    };
    let mut world = World::new(seed, scenario);
    world.nodes[2].lie = Some(lie);
    let count = rng.gen_range(2..400);
    for number in 0..count {
        let (key, cell) = (key(number), written(&mut world, number));
        world.wrote(&key, &cell);
        for node in 0..3 {
            if node > 0 || rng.r#gen() {
                world.update(node, key.clone(), cell.clone());
            }
        }
    }
    let (own, cell) = (key(5000), written(&mut world, 5000));
    world.wrote(&own, &cell);
    world.update(2, own.clone(), cell);
    world.now = 5000;
    (0..3).for_each(|node| world.settle(node));
    world.begin();
    let all: Vec<CellKey> = (0..count).map(key).collect();
    let has_all = |node: &Node| {
        let disk = node.replica.disk();
        all.iter().all(|key| disk.contains_key(key))
    };
    // That nobody wrote anything else is looked at when it is joined.
    let limit = world.now + 120_000;
    let done = world.run(limit, |world| world.nodes[..2].iter().all(has_all));
    assert!(done, "{lie:?}, seed {seed}: the liar keeps others from it");
    let started = |world: &World| {
        let nodes = world.nodes[..2].iter();
        nodes.map(|node| node.machine.status().started).sum::<u64>()
    };
    world.run(world.now + 60_000, |_| false);
    let before = started(&world);
    world.run(world.now + 300_000, |_| false);
    let pulls = started(&world) - before;
    assert!(
        pulls <= 40,
        "{lie:?}, seed {seed}: {pulls} pulls of two in 300 s"
    );
    for node in &world.nodes[..2] {
        let disk = node.replica.disk();
        for (key, cell) in disk.iter() {
            let version = Version::of(key, cell);
            assert!(
                world.written.contains(&version),
                "{lie:?}: nobody wrote {key:?}"
            );
        }
        assert!(disk.len() >= count as usize);
    }
    assert!(world.nodes[0].replica.tree().len() >= count as usize && START > 0);
    world.nodes[2].lies
}

#[test]
fn simulated_liars_are_not_believed() {
    let seeds = from_environment("MST_SIM_SEEDS").unwrap_or(50);
    for lie in LIES {
        let lies: u64 = (0..seeds).map(|seed| among_liars(lie, seed)).sum();
        assert!(lies > 0, "{lie:?} was never told");
    }
}
