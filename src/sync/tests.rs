//! Pulls between two trees, without a network; and what a liar can do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    pull::{Ask, Brought},
    *,
};
use crate::{
    cell::{Cell, CellKey, Content, Timestamp, Value, Version},
    hex::encode as hex,
    mst::{Resident, RootHash, TreeKey as _},
    replica::{Change, ReplicaError, Snapshot, Tree},
    store::model::ModelView,
};

pub(super) type Cells = BTreeMap<CellKey, Cell>;

pub(super) fn key(number: u32) -> CellKey {
    let text = format!("fleet/robot/{number:07}");
    CellKey::own(Some(zenoh_keyexpr::OwnedKeyExpr::try_from(text).unwrap()).into())
}

pub(super) fn cell(time: u64, payload: &str) -> Cell {
    Cell {
        timestamp: Timestamp { time, id: [7; 16] },
        content: match payload {
            "" => Content::Tombstone,
            _ => Content::Value(Value {
                encoding_id: 0,
                schema: time.is_multiple_of(3).then(|| b"s"[..].into()),
                attachment: (time % 7 == 5).then(|| b"beside"[..].into()),
                payload: payload.to_owned().into_bytes().into(),
            }),
        },
    }
}

fn tree_of(cells: &Cells) -> Tree {
    let entries = cells
        .iter()
        .map(|(key, cell)| (key.clone(), Version::of(key, cell).into()));
    Tree::from_sorted(Resident::default(), entries)
}

fn join(cells: &mut Cells, key: CellKey, cell: Cell) {
    let version = Version::of(&key, &cell);
    let is_newer = cells
        .get(&key)
        .is_none_or(|other| Version::of(&key, other) < version);
    if is_newer {
        cells.insert(key, cell);
    }
}

/// A replica that holds these, and knows of no other root.
pub(super) struct Holder<'a>(pub(super) &'a Cells);

impl Source for Holder<'_> {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        let cells = self.0.iter();
        let rows = cells.map(|(key, cell)| (key.clone(), Arc::new(cell.clone())));
        let rows = ModelView(Arc::new(rows.collect()));
        Ok(Snapshot::new(0, tree_of(self.0), Box::new(rows)))
    }
    fn changes_since(&self, _: &RootHash, _: u64) -> Option<Vec<Change>> {
        None
    }
    fn damaged(&self, key: &CellKey, _: &Version) {
        panic!("{key:?} is not damaged");
    }
}

/// What a pull cost.
#[derive(Debug, Default)]
struct Cost {
    digest_trips: usize,
    digest_bytes: usize,
    entries_trips: usize,
    cells: usize,
    useless: usize,
}

fn salted() -> Salted {
    Salted::new(*b"saltsalt", 4)
}

/// Pulls all that `theirs` has into `own`, with messages of about this size.
fn pull(own: &mut Cells, theirs: &Cells, message_bytes: usize) -> Cost {
    let their_tree = tree_of(theirs);
    let own_tree = tree_of(own);
    let newest = |_: &CellKey| None;
    let mut pull = pull::Pull::new(ReplicaId([1; 16]), salted(), message_bytes);
    let (mut cost, mut assembly, now) = (Cost::default(), None, Duration::ZERO);
    loop {
        let answer = match pull.ask(&own_tree, &newest, &mut assembly, now) {
            Ask::Nothing => return cost,
            Ask::Digests(query) => {
                let answer =
                    answer_digests(&their_tree, &crate::merge::Lifetimes::default(), &query)
                        .expect("answered");
                cost.digest_trips += 1;
                cost.digest_bytes += query.len() + answer.len();
                assert!(query.len().max(answer.len()) <= MAX_MESSAGE);
                answer
            }
            Ask::Entries(query) => {
                cost.entries_trips += 1;
                answer_entries(&Holder(theirs), &query, true).expect("answered")
            }
        };
        let brought = pull.answer(&answer, &own_tree, &mut assembly, now);
        let Brought { cells, notices, .. } = brought.expect("read");
        for notice in notices {
            assert!(notice.bytes as usize > message_bytes - CELL_OVERHEAD - 16);
            pull.fetch(notice);
        }
        for Received { key, cell, check } in cells {
            let version = Version::of(&key, &cell);
            assert!(version.digest.0.starts_with(&check));
            cost.cells += 1;
            let is_useless = own
                .get(&key)
                .is_some_and(|own| Version::of(&key, own) >= version);
            cost.useless += usize::from(is_useless);
            join(own, key, cell);
        }
    }
}

fn any_cells() -> impl Strategy<Value = Cells> {
    // Some are larger than small messages.
    let long = (1usize..4000, 0u8..26).prop_map(|(length, first)| {
        let letters = (0..length).map(|at| char::from(b'a' + (at as u8).wrapping_add(first) % 26));
        letters.collect::<String>()
    });
    let payload = prop_oneof![8 => Just(String::new()), 8 => "[a-c]{1,4}", 1 => long];
    let cell = (1u64..50, payload);
    prop::collection::btree_map(0u32..600, cell, 0..400).prop_map(|cells| {
        let cells = cells.into_iter();
        cells
            .map(|(number, (time, payload))| (key(number), self::cell(time, &payload)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_pull_makes_the_join(
        own in any_cells(), theirs in any_cells(),
        message_bytes in prop_oneof![300usize..2000, Just(MESSAGE_BYTES)],
    ) {
        let mut expected = own.clone();
        for (key, cell) in theirs.clone() {
            join(&mut expected, key, cell);
        }
        let mut pulled = own.clone();
        let cost = pull(&mut pulled, &theirs, message_bytes);
        prop_assert_eq!(&pulled, &expected);
        // Cells of one time and different content may be sent for nothing.
        let ties = own.iter().filter(|(key, cell)| {
            theirs.get(*key).is_some_and(|other| other.timestamp == cell.timestamp)
        });
        let ties = ties.count();
        prop_assert!(cost.useless <= ties);
        // And once more there is nothing to get.
        prop_assert!(pull(&mut pulled.clone(), &theirs, message_bytes).cells <= ties);
    }

    #[test]
    fn answers_that_are_tampered_with_are_refused_or_harmless(
        own in any_cells(),
        theirs in any_cells(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (own_tree, their_tree) = (tree_of(&own), tree_of(&theirs));
        let mut pull = pull::Pull::new(ReplicaId([1; 16]), salted(), 1000);
        let (mut assembly, now) = (None, Duration::ZERO);
        for _ in 0..50 {
            let mut answer = match pull.ask(&own_tree, &|_| None, &mut assembly, now) {
                Ask::Nothing => break,
                Ask::Digests(query) => answer_digests(&their_tree, &crate::merge::Lifetimes::default(), &query).unwrap(),
                Ask::Entries(query) => answer_entries(&Holder(&theirs), &query, true).unwrap(),
            };
            let at = place.index(answer.len());
            match cut {
                true => answer.truncate(at),
                false => answer[at] = byte,
            }
            let brought = pull.answer(&answer, &own_tree, &mut assembly, now);
            let Ok(Brought { cells, notices, .. }) = brought else {
                break;
            };
            for notice in notices {
                pull.fetch(notice);
            }
            // A cell that is another than they have is known by its digest.
            for received in cells {
                let is_theirs = theirs.get(&received.key) == Some(&received.cell);
                prop_assert!(is_theirs || received.intact().is_none());
            }
        }
    }

    #[test]
    fn queries_that_are_tampered_with_do_not_hurt(
        own in any_cells(),
        theirs in any_cells(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut pull = pull::Pull::new(ReplicaId([1; 16]), salted(), MESSAGE_BYTES);
        let tree = tree_of(&theirs);
        match pull.ask(&tree_of(&own), &|_| None, &mut None, Duration::ZERO) {
            Ask::Digests(mut query) => {
                let at = place.index(query.len());
                query[at] = byte;
                let _ = answer_digests(&tree, &crate::merge::Lifetimes::default(), &query);
            }
            Ask::Entries(mut query) => {
                let at = place.index(query.len());
                query[at] = byte;
                let _ = answer_entries(&Holder(&theirs), &query, true);
            }
            Ask::Nothing => {}
        }
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        kind in 1u8..10,
    ) {
        let mut bytes = bytes;
        bytes.splice(0..0, [PROTOCOL, kind]);
        if let Ok(query) = DigestQuery::decode(&bytes) {
            prop_assert_eq!(query.encode(), bytes.clone());
        }
        if let Ok(query) = EntriesQuery::decode(&bytes) {
            prop_assert_eq!(query.encode(), bytes.clone());
        }
        if let Ok(query) = DeltaQuery::decode(&bytes) {
            prop_assert_eq!(query.encode(), bytes.clone());
        }
        if let Ok(announcement) = Announcement::decode(&bytes) {
            prop_assert_eq!(announcement.encode(), bytes);
        }
    }
}

/// Names of which nothing can be foretold.
fn random_key(number: u32) -> CellKey {
    let hash = crate::hash::sha256(&[&number.to_be_bytes()]);
    let text = format!("bench/{:02x}/{}", hash[0], hex(&hash[1..9]));
    CellKey::own(Some(zenoh_keyexpr::OwnedKeyExpr::try_from(text).unwrap()).into())
}

/// 100,000 keys, of which some were overwritten over there.
fn overwritten(count: u32, seed: u64) -> (Cells, Cells) {
    let mut rng = StdRng::seed_from_u64(seed);
    let own: Cells = (0..100_000).map(|n| (key(n), cell(1, "before"))).collect();
    let mut theirs = own.clone();
    for _ in 0..count {
        theirs.insert(key(rng.gen_range(0..100_000)), cell(2, "after"));
    }
    (own, theirs)
}

#[test]
fn a_pull_costs_the_difference() {
    for (count, bytes) in [
        (0, 800),
        (1, 1_500),
        (10, 6_000),
        (100, 35_000),
        (1000, 180_000),
    ] {
        let (mut own, theirs) = overwritten(count, 1);
        let cost = pull(&mut own, &theirs, MESSAGE_BYTES);
        println!("{count}: {cost:?}");
        assert_eq!(own, theirs);
        assert!(cost.digest_trips <= 5, "{count}: {cost:?}");
        assert!(cost.digest_bytes <= bytes, "{count}: {cost:?}");
        assert_eq!(cost.useless, 0);
        assert!(cost.cells <= count as usize);
        assert!(cost.entries_trips <= 1);
    }
    for (count, bytes) in [(1, 2_500), (10, 11_000), (100, 70_000), (1000, 400_000)] {
        let mut own: Cells = (0..100_000)
            .map(|n| (random_key(n), cell(1, "b")))
            .collect();
        let mut theirs = own.clone();
        // New ones this time.
        theirs.extend((0..count).map(|n| (random_key(200_000 + n), cell(2, "a"))));
        let cost = pull(&mut own, &theirs, MESSAGE_BYTES);
        println!("{count} new, random: {cost:?}");
        assert_eq!(own, theirs);
        assert!(cost.digest_trips <= 5, "{count}: {cost:?}");
        assert!(cost.digest_bytes <= bytes, "{count}: {cost:?}");
        assert_eq!((cost.useless, cost.cells), (0, count as usize));
    }
}

/// Keys that somebody looked for, so that none, or few, of them are on the level that chance would give
/// them: a repair costs about what it costs among others.
#[test]
fn a_pull_among_mined_keys_costs_about_the_same() {
    let usual = |number: u32| random_key(number);
    let of_level = |wanted: fn(u8) -> bool, count: usize| -> Vec<CellKey> {
        let keys = (0u32..).map(usual);
        let mined = keys.filter(|key| wanted(key.position().leading_zero_digits()));
        mined.take(count).collect()
    };
    let cost_of = |keys: &[CellKey]| {
        let mut own: Cells = keys
            .iter()
            .map(|key| (key.clone(), cell(1, "before")))
            .collect();
        let mut theirs = own.clone();
        for key in keys.iter().step_by(keys.len() / 10) {
            theirs.insert(key.clone(), cell(2, "after"));
        }
        let cost = pull(&mut own, &theirs, MESSAGE_BYTES);
        assert_eq!(own, theirs);
        assert_eq!((cost.cells, cost.useless), (10, 0));
        cost
    };
    let usual_cost = cost_of(&of_level(|_| true, 20_000));
    // All on the lowest level, and none there.
    for mined in [
        of_level(|level| level == 0, 100_000),
        of_level(|level| level > 0, 20_000),
    ] {
        let cost = cost_of(&mined);
        assert!(
            cost.digest_trips <= 2 * usual_cost.digest_trips,
            "{cost:?} {usual_cost:?}"
        );
        assert!(
            cost.digest_bytes <= 10 * usual_cost.digest_bytes,
            "{cost:?} {usual_cost:?}"
        );
    }
}

#[test]
fn whoever_has_nothing_gets_all_without_a_walk() {
    let (_, theirs) = overwritten(10, 2);
    let mut own = Cells::new();
    let cost = pull(&mut own, &theirs, MESSAGE_BYTES);
    assert_eq!(own, theirs);
    assert_eq!(cost.digest_trips, 0);
    assert_eq!(cost.cells, theirs.len());
    assert!(cost.entries_trips > 5, "in pieces: {cost:?}");
    // And whoever has all gets nothing from one who has nothing.
    let cost = pull(&mut own, &Cells::new(), MESSAGE_BYTES);
    assert_eq!((cost.digest_trips, cost.cells), (1, 0));
}

#[test]
fn large_values_come_one_by_one() {
    let large = "x".repeat(300_000);
    let mut theirs: Cells = (0..9).map(|n| (key(n), cell(1, &large))).collect();
    theirs.insert(key(9), cell(1, &"y".repeat(2 << 20)));
    let mut own = Cells::from([(key(3), cell(9, "newer")), (key(5), cell(0, "older"))]);
    let cost = pull(&mut own, &theirs, MESSAGE_BYTES);
    assert_eq!(own.len(), 10);
    assert_eq!(own[&key(3)], cell(9, "newer"));
    assert_eq!(own[&key(5)], theirs[&key(5)]);
    assert!(cost.entries_trips >= 5, "{cost:?}");
}

#[test]
fn keys_of_any_length_fit_into_messages() {
    let long = |n: usize| {
        let text = format!("{}/{n:03}", "k".repeat(50_000));
        CellKey::own(Some(zenoh_keyexpr::OwnedKeyExpr::try_from(text).unwrap()).into())
    };
    let theirs: Cells = (0..300).map(|n| (long(n), cell(2, "value"))).collect();
    let mut own: Cells = (0..300)
        .step_by(3)
        .map(|n| (long(n), cell(1, "old")))
        .collect();
    pull(&mut own, &theirs, MESSAGE_BYTES);
    assert_eq!(own, theirs);
}

#[test]
fn messages_are_pinned() {
    let short = |n: u8| salted().short(&[n; 32]);
    let fragment = Fragment {
        gaps: vec![Some(short(1)), None, Some(short(2))],
        entries: vec![(key(10), short(3)), (key(11), short(4))],
        is_cut: false,
        is_sparse: false,
    };
    let range = Range {
        low: Some(key(5)),
        high: None,
    };
    let query = DigestQuery {
        salted: salted(),
        max_bytes: 1000,
        watermark: 0x0102_0304_0506_0708,
        fragments: vec![(range.clone(), fragment.clone())],
    };
    assert_eq!(
        hex(&query.encode()),
        "020273616c7473616c7404e807010203040506070801005101666c6565742f726f626f742f30303030303035020205ff2fd46112093130e729b734130531db26a89ef32cc5cb"
    );
    assert_eq!(DigestQuery::decode(&query.encode()), Ok(query.clone()));

    let inner = Fragment {
        gaps: vec![None, None],
        entries: vec![(key(7), short(5))],
        is_cut: true,
        is_sparse: false,
    };
    let reply = DigestReply(vec![vec![
        Differing::Fragment(0, inner),
        Differing::Entry(0),
        Differing::All(1),
        Differing::Later(2),
    ]]);
    let bytes = reply.encode(salted());
    assert_eq!(
        hex(&bytes),
        "0203030101005101666c6565742f726f626f742f30303030303037cf239a0701020800"
    );
    assert_eq!(
        DigestReply::decode(&bytes, &query.salted, &query.fragments),
        Ok(reply)
    );

    // Ten entries, one of them of a higher level, of which three are named: the gaps
    // have digests of lists.
    let cells: Cells = (40..50).map(|number| (key(number), cell(1, "x"))).collect();
    let mut pull = pull::Pull::new(ReplicaId([1; 16]), salted(), MESSAGE_BYTES);
    let Ask::Digests(bytes) = pull.ask(&tree_of(&cells), &|_| None, &mut None, Duration::ZERO)
    else {
        panic!("trees are compared");
    };
    assert_eq!(
        hex(&bytes),
        "020273616c7473616c740480802000000000000000000003060fe040368d005101666c6565742f726f626f742f30303030303432d2db1caf66906c4e13053518bb1045257944cf130538b969bd86402f3c12"
    );
    let decoded = DigestQuery::decode(&bytes).expect("read");
    assert!(decoded.fragments[0].1.is_sparse);
    assert_eq!(decoded.encode(), bytes);

    let wants = vec![
        Want::Key(key(10), None),
        Want::Key(key(11), Some(0x0102_0304_0506_0708)),
        Want::All(Range {
            low: Some(key(12)),
            high: Some(key(20)),
        }),
    ];
    let query = EntriesQuery {
        max_bytes: 1000,
        watermark: 0x0102_0304_0506_0708,
        wants,
    };
    assert_eq!(
        hex(&query.encode()),
        "0204e807010203040506070800005101666c6565742f726f626f742f303030303031300113053101020304050607080713053212093230"
    );
    assert_eq!(EntriesQuery::decode(&query.encode()), Ok(query.clone()));

    let received = |number, cell: Cell| {
        let (key, version) = (key(number), Version::of(&key(number), &cell));
        let check = version.digest.0[..CHECK_BYTES].try_into().unwrap();
        Received { key, cell, check }
    };
    let reply = EntriesReply {
        done: 2,
        cells: vec![
            received(10, cell(3, "on")),
            received(11, cell(1, "")),
            received(13, cell(1, "off")),
        ],
        notices: Vec::new(),
    };
    let bytes = reply.encode(true);
    assert_eq!(
        hex(&bytes),
        "0205020000005101666c6565742f726f626f742f303030303031300200000000000000030007070707070707070707070707070707000173026f6e7768cc507a1e0ba81305310100000000000000010132b92e75c2efa1f61305330000000000000000010100036f66664ca7a4f9bf8277d0"
    );
    assert_eq!(
        EntriesReply::decode(&bytes, &query.wants, 1000),
        Ok(reply.clone())
    );
    let large = EntriesReply {
        done: 2,
        cells: vec![received(10, cell(3, &"on".repeat(500)))],
        notices: Vec::new(),
    };
    let bytes = large.encode(true);
    assert!(bytes.len() < 100 && large.encode(false).len() > 1000);
    assert_eq!(EntriesReply::decode(&bytes, &query.wants, 2000), Ok(large));
}

#[test]
fn answers_to_what_was_not_asked_are_refused() {
    let wants = vec![
        Want::Key(key(10), None),
        Want::All(Range {
            low: Some(key(20)),
            high: Some(key(30)),
        }),
    ];
    let received = |number| Received {
        key: key(number),
        cell: cell(1, "x"),
        check: [0; CHECK_BYTES],
    };
    let decode = |done: usize, numbers: &[u32]| {
        let cells = numbers.iter().copied().map(received).collect();
        EntriesReply::decode(
            &EntriesReply {
                done,
                cells,
                notices: Vec::new(),
            }
            .encode(false),
            &wants,
            1000,
        )
    };
    assert!(decode(2, &[10, 21, 22]).is_ok());
    assert!(decode(1, &[10, 21]).is_ok(), "the range goes on");
    assert!(decode(1, &[]).is_ok());
    assert!(decode(2, &[]).is_ok());
    assert_eq!(decode(2, &[11]), Err(MessageError::KeyOrder));
    assert_eq!(decode(2, &[10, 22, 21]), Err(MessageError::KeyOrder));
    assert_eq!(decode(2, &[10, 22, 22]), Err(MessageError::KeyOrder));
    assert_eq!(decode(2, &[20]), Err(MessageError::KeyOrder));
    assert_eq!(decode(2, &[21, 10]), Err(MessageError::KeyOrder));
    assert_eq!(decode(0, &[]), Err(MessageError::NoProgress));
    assert_eq!(
        decode(0, &[10]),
        Err(MessageError::Range("number of answers"))
    );
    assert_eq!(
        decode(3, &[10]),
        Err(MessageError::Range("number of answers"))
    );
}
