//! Finding what differs between two replicas, beside negentropy (range-based set
//! reconciliation) on the same sets: bytes both ways, round trips, and time on
//! both sides.
//!
//! `cargo bench --bench digests [-- KEYS]`; ratios below 1 mean that ours takes
//! less. Negentropy is given a digest of 32 bytes of each cell, all with one
//! timestamp, and no limit of frames.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::median;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use rand::{SeedableRng, rngs::StdRng, seq::index::sample};
use zenoh_backend_mst::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    merge::Lifetimes,
    mst::{Resident, RootHash},
    replica::{Change, Comparison, Span, Tree},
    sync::{
        Action, Announcement, Context, Event, Fingerprint, Group, Incarnation, Machine, PROTOCOL,
        Query, ReplicaId, Settings, Token, View, answer_digests,
    },
};

const RUNS: u64 = 3;

fn key(number: u32) -> CellKey {
    let text = format!("robot/{number:08}/odometer");
    CellKey::own(Key::from(Some(text.try_into().expect("a key expression"))))
}

fn version(key: &CellKey, time: u64) -> Version {
    let content = Content::Value(Value {
        encoding_id: 1,
        schema: None,
        attachment: None,
        payload: Bytes::from_static(b"value"),
    });
    let timestamp = Timestamp { time, id: [7; 16] };
    Version::of(key, &Cell { timestamp, content })
}

/// What finding the difference took.
#[derive(Clone, Copy)]
struct Cost {
    trips: usize,
    bytes: usize,
    asker: Duration,
    answerer: Duration,
}

/// A replica that differs from all others.
struct Divergent(Tree);

impl View for Divergent {
    fn witness(&self, _: u64) {}
    fn tree(&self) -> Tree {
        self.0.clone()
    }
    fn has_had(&self, _: &RootHash) -> bool {
        false
    }
    fn compare(&self, _: &Span) -> Comparison {
        Comparison::Divergent
    }
    fn latest(&self) -> Option<(Span, u64)> {
        None
    }
    fn newest(&self, _: &CellKey) -> Option<Timestamp> {
        None
    }
    /// There is no history: the trees have to be compared.
    fn changes_since(&self, _: &RootHash, _: u64) -> Option<Vec<Change>> {
        None
    }
    fn joined(&self) -> u64 {
        0
    }
    fn useful(&self) -> u64 {
        0
    }
}

fn ours(own: &Tree, theirs: &Tree, seed: u64) -> Cost {
    let view = Divergent(own.clone());
    let mut random = seed;
    let mut context = Context {
        now: Duration::ZERO,
        wall: 0,
        random: &mut || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random
        },
        view: &view,
    };
    let fingerprint = Fingerprint::of("lww");
    let incarnation = Incarnation {
        started: 0,
        nonce: 0,
    };
    let group = Group {
        key_expr: "robot/**".to_owned(),
        strip_prefix: None,
    };
    let peer = ReplicaId([2; 16]);
    let settings = Settings {
        replica: ReplicaId([1; 16]),
        incarnation,
        group: group.clone(),
        fingerprint,
        sync_interval: Duration::from_secs(30),
        max_clock_drift: Duration::from_secs(10),
        members: None,
    };
    let mut machine = Machine::new(settings, &mut context);
    let token = Token {
        protocol: PROTOCOL,
        group,
        replica: peer,
    };
    machine.handle(Event::Appeared(token), &mut context);
    let Ok(root) = theirs.root();
    let announcement = Announcement {
        stand: None,
        fingerprint,
        incarnation,
        clock: 0,
        span: Span {
            from: 0,
            to: 0,
            root,
        },
        cells: 0,
    };
    let mut cost = Cost {
        trips: 0,
        bytes: 0,
        asker: Duration::ZERO,
        answerer: Duration::ZERO,
    };
    let mut event = Event::Announced(peer, announcement.encode());
    loop {
        let start = Instant::now();
        let actions = machine.handle(event, &mut context);
        cost.asker += start.elapsed();
        let ask = actions.into_iter().find_map(|action| match action {
            Action::Ask(request, _, Query::Digest, bytes) => Some((request, bytes)),
            _ => None,
        });
        // The first query of cells, or the end.
        let Some((request, query)) = ask else {
            assert!(cost.trips > 0, "it did not pull");
            return cost;
        };
        let start = Instant::now();
        let answer = answer_digests(theirs, &Lifetimes::default(), &query).expect("answered");
        cost.answerer += start.elapsed();
        cost.trips += 1;
        cost.bytes += query.len() + answer.len();
        event = Event::Answer(request, Ok(answer));
    }
}

fn storage(versions: &[Version]) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::with_capacity(versions.len());
    for version in versions {
        let id = Id::from_byte_array(version.digest.0);
        storage.insert(0, id).expect("inserted");
    }
    storage.seal().expect("sealed");
    storage
}

fn negentropys(own: &NegentropyStorageVector, theirs: &NegentropyStorageVector) -> Cost {
    let mut client = Negentropy::borrowed(own, 0).expect("a client");
    let mut server = Negentropy::borrowed(theirs, 0).expect("a server");
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let mut query = Some(client.initiate().expect("a query"));
    let mut cost = Cost {
        trips: 0,
        bytes: 0,
        asker: start.elapsed(),
        answerer: Duration::ZERO,
    };
    while let Some(asked) = query {
        let start = Instant::now();
        let answer = server.reconcile(&asked).expect("an answer");
        cost.answerer += start.elapsed();
        cost.trips += 1;
        cost.bytes += asked.len() + answer.len();
        let start = Instant::now();
        query = client
            .reconcile_with_ids(&answer, &mut have, &mut need)
            .expect("read");
        cost.asker += start.elapsed();
    }
    cost
}

fn typical(costs: Vec<Cost>) -> Cost {
    Cost {
        asker: median(costs.iter().map(|cost| cost.asker).collect()),
        answerer: median(costs.iter().map(|cost| cost.answerer).collect()),
        ..costs[0]
    }
}

fn main() {
    let keys = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let keys: u32 = keys.unwrap_or(1_000_000);
    println!("{keys} keys; (ours / negentropy), medians of {RUNS} runs");
    let own: Vec<(CellKey, Version)> = (0..keys)
        .map(|number| {
            let key = key(number);
            let version = version(&key, 1);
            (key, version)
        })
        .collect();
    let own_tree = Tree::from_sorted(
        Resident::default(),
        own.iter()
            .map(|(key, version)| (key.clone(), (*version).into())),
    );
    let Ok(_) = own_tree.root();
    let versions: Vec<Version> = own.iter().map(|(_, version)| *version).collect();
    let own_storage = storage(&versions);
    for overwritten in [1, 10, 100, 1000] {
        let (mut of_ours, mut of_negentropy) = (Vec::new(), Vec::new());
        for seed in 0..RUNS {
            let mut tree = own_tree.clone();
            let mut versions = versions.clone();
            let mut rng = StdRng::seed_from_u64(seed);
            for place in sample(&mut rng, keys as usize, overwritten) {
                let key = &own[place].0;
                versions[place] = version(key, 2);
                let Ok(_) = tree.upsert(key.clone(), versions[place].into());
            }
            let Ok(_) = tree.root();
            of_ours.push(ours(&own_tree, &tree, seed));
            of_negentropy.push(negentropys(&own_storage, &storage(&versions)));
        }
        let (ours, peer) = (typical(of_ours), typical(of_negentropy));
        let ratio = |ours: Duration, peer: Duration| ours.as_secs_f64() / peer.as_secs_f64();
        println!(
            "{overwritten:>5} overwritten: {:>7} / {:>7} bytes x{:.2}, {} / {} round trips, \
             asker {:?} / {:?} x{:.2}, answerer {:?} / {:?} x{:.2}",
            ours.bytes,
            peer.bytes,
            ours.bytes as f64 / peer.bytes as f64,
            ours.trips,
            peer.trips,
            ours.asker,
            peer.asker,
            ratio(ours.asker, peer.asker),
            ours.answerer,
            peer.answerer,
            ratio(ours.answerer, peer.answerer),
        );
    }
}
