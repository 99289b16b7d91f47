//! What has changed since a root that both have had, between two replicas without
//! a network.

use std::time::Duration;

use proptest::prelude::*;

use super::{pull::Ask, *};
use crate::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    hex::encode as hex,
    mst::RootHash,
    replica::{Change, Comparison, Now, ReplicaError, SimulatedReplica, Snapshot, Span, Tree},
};

const SETTLE: Duration = Duration::from_millis(500);
const SECOND: u64 = 1 << 32;
const START: u64 = 1_700_000_000 * SECOND;

fn key(number: u32) -> CellKey {
    CellKey::own(Key::from(Some(
        format!("k/{number:06}").try_into().unwrap(),
    )))
}

/// A time that both clocks show.
fn at(clock: u64) -> Now {
    let nanos = (u128::from(clock - START) * 1_000_000_000) >> 32;
    let monotonic = Duration::from_nanos(nanos as u64);
    Now { clock, monotonic }
}

/// A replica, and what its clock shows.
struct Side {
    replica: SimulatedReplica,
    now: u64,
    id: u8,
}

impl Side {
    fn new(id: u8) -> Self {
        Self {
            replica: SimulatedReplica::new(SETTLE, at(START)),
            now: START,
            id,
        }
    }

    /// Writes; an empty payload deletes.
    fn write(&mut self, numbers: impl IntoIterator<Item = u32>, payload: &str) {
        for number in numbers {
            self.now += 1;
            let (time, id) = (self.now, [self.id; 16]);
            let content = match payload {
                "" => Content::Tombstone,
                _ => Content::Value(Value {
                    encoding_id: 0,
                    schema: None,
                    attachment: None,
                    payload: payload.to_owned().into_bytes().into(),
                }),
            };
            let timestamp = Timestamp { time, id };
            self.replica.offer(key(number), Cell { timestamp, content });
        }
    }

    /// All that was written is part of the root.
    fn settle(&mut self) {
        // The root is made a moment later.
        for _ in 0..2 {
            self.now += 2 * SECOND;
            self.replica.settle(at(self.now));
        }
    }

    fn root(&self) -> RootHash {
        self.replica.roots().published().root
    }

    fn take(&mut self, cells: Vec<Received>) {
        for Received { key, cell, .. } in cells {
            self.replica.offer(key, cell);
        }
    }

    fn query(&self, roots: &[RootHash]) -> Option<DeltaQuery> {
        let refused = std::iter::empty();
        DeltaQuery::new(
            roots.iter().copied(),
            refused,
            self,
            Salted::new(*b"saltsalt", 4),
        )
    }

    /// Pulls from `peer`, and returns the cells that came, the queries, and whether it
    /// was by what had changed.
    fn pull(&mut self, peer: &Self, roots: &[RootHash]) -> (usize, usize, bool) {
        let salted = Salted::new(*b"saltsalt", 4);
        let mut pull = pull::Pull::new(ReplicaId([1; 16]), salted, MESSAGE_BYTES)
            .with_delta(self.query(roots));
        let (mut cells, mut queries, mut assembly) = (0, 0, None);
        let now = Duration::ZERO;
        loop {
            let tree = self.replica.tree();
            let newest = |key: &CellKey| self.replica.newest(key);
            let answer = match pull.ask(&tree, &newest, &mut assembly, now) {
                Ask::Nothing => break,
                Ask::Digests(query) => answer_digests(
                    &peer.replica.tree(),
                    &crate::merge::Lifetimes::default(),
                    &query,
                )
                .unwrap(),
                Ask::Entries(query) => answer_entries(peer, &query, true).unwrap(),
            };
            queries += 1;
            let brought = pull.answer(&answer, &tree, &mut assembly, now).unwrap();
            for notice in brought.notices {
                pull.fetch(notice);
            }
            let received = brought.cells;
            assert!(received.iter().all(|received| received.intact().is_some()));
            cells += received.len();
            self.take(received);
            self.settle();
        }
        (cells, queries, pull.is_delta)
    }
}

impl View for Side {
    fn witness(&self, _: u64) {}
    fn tree(&self) -> Tree {
        self.replica.tree()
    }
    fn has_had(&self, root: &RootHash) -> bool {
        self.replica.roots().has_had(root)
    }
    fn compare(&self, theirs: &Span) -> Comparison {
        self.replica
            .roots()
            .compare(theirs, self.replica.cut(self.now))
    }
    fn latest(&self) -> Option<(Span, u64)> {
        None
    }
    fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.replica.newest(key)
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.replica.roots().changes_since(root, after)
    }
    fn joined(&self) -> u64 {
        0
    }
    fn useful(&self) -> u64 {
        0
    }
}

impl Source for Side {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        self.replica.snapshot()
    }
    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.replica.roots().changes_since(root, after)
    }
    fn damaged(&self, key: &CellKey, _: &Version) {
        panic!("{key:?} is not damaged");
    }
}

/// Two replicas that hold the same.
fn equal(keys: u32) -> (Side, Side, RootHash) {
    let (mut own, mut theirs) = (Side::new(1), Side::new(2));
    let numbers = 0..keys;
    own.write(numbers.clone(), "of both");
    theirs.id = own.id;
    theirs.write(numbers, "of both");
    theirs.id = 2;
    own.settle();
    theirs.settle();
    assert_eq!(own.root(), theirs.root());
    let root = own.root();
    (own, theirs, root)
}

#[test]
fn what_changed_at_the_other_side_comes_with_one_answer() {
    let (mut own, mut theirs, root) = equal(5000);
    theirs.write([7, 4000, 9000], "new");
    theirs.write([8], "");
    theirs.settle();
    assert_eq!(own.pull(&theirs, &[root]), (4, 1, true));
    assert_eq!(own.root(), theirs.root());
    assert_eq!(own.pull(&theirs, &[own.root()]), (0, 1, true));
}

#[test]
fn what_the_asker_has_is_not_sent() {
    let (mut own, mut theirs, root) = equal(1000);
    for side in [&mut own, &mut theirs] {
        // The same put at both, and others.
        side.now = START + 10 * SECOND;
        let id = std::mem::replace(&mut side.id, 3);
        side.write(100..200, "known to both");
        side.id = id;
        side.write([id.into(), 500 + u32::from(id)], "mine");
        side.settle();
    }
    assert_eq!(own.pull(&theirs, &[root]), (2, 1, true));
    assert_eq!(theirs.pull(&own, &[root]), (2, 1, true));
    assert_eq!(own.root(), theirs.root());
}

#[test]
fn a_root_that_the_other_did_not_have_leads_to_a_comparison_of_the_trees() {
    let (mut own, mut theirs, root) = equal(1000);
    own.write([1], "mine");
    own.settle();
    theirs.write([2], "theirs");
    theirs.settle();
    let (cells, queries, is_delta) = own.pull(&theirs, &[own.root()]);
    assert_eq!((cells, is_delta), (1, false));
    assert!(queries > 2, "{queries}");
    // And a root that oneself did not have is not asked for.
    assert_eq!(theirs.query(&[RootHash([9; 32])]), None);
    assert!(theirs.query(&[RootHash([9; 32]), root]).is_some());
    theirs.replica.lose_roots();
    assert_eq!(theirs.query(&[root]), None, "what it was of may be lost");
}

#[test]
fn much_comes_in_pieces_that_go_on_where_the_last_ended() {
    let (mut own, mut theirs, root) = equal(100);
    let payload = "x".repeat(1000);
    theirs.write(0..3000, &payload);
    // Again: each comes once.
    theirs.write(1000..1500, &payload);
    theirs.settle();
    let mut query = own.query(&[root]).unwrap();
    let (mut cells, mut pieces) = (Vec::new(), 0);
    loop {
        let answer = answer_entries(&theirs, &query.encode(), false).unwrap();
        assert!(answer.len() <= MESSAGE_BYTES + 2000, "{}", answer.len());
        let reply = DeltaReply::decode(&answer, query.after, MAX_MESSAGE).unwrap();
        cells.extend(reply.cells);
        pieces += 1;
        match reply.progress {
            Progress::After(change) => query.after = change,
            Progress::Done => break,
            Progress::Unknown => panic!("the root is known"),
        }
    }
    assert_eq!(cells.len(), 3000);
    assert!((6..9).contains(&pieces), "{pieces}");
    own.take(cells);
    own.settle();
    assert_eq!(own.root(), theirs.root());
    // A value that is larger than a message comes in pieces: with what is before the payload, three.
    theirs.write([1], &"y".repeat(2 * MESSAGE_BYTES));
    theirs.settle();
    assert_eq!(own.pull(&theirs, &[own.root()]), (1, 1 + 3, true));
}

/// A view that counts how often what has changed since a root is listed.
struct Counted<'a>(&'a Side, std::cell::Cell<u32>);

impl View for Counted<'_> {
    fn witness(&self, _: u64) {}
    fn tree(&self) -> Tree {
        View::tree(self.0)
    }
    fn has_had(&self, root: &RootHash) -> bool {
        self.0.has_had(root)
    }
    fn compare(&self, theirs: &Span) -> Comparison {
        self.0.compare(theirs)
    }
    fn latest(&self) -> Option<(Span, u64)> {
        self.0.latest()
    }
    fn newest(&self, key: &CellKey) -> Option<Timestamp> {
        self.0.newest(key)
    }
    fn changes_since(&self, _: &RootHash, _: u64) -> Option<Vec<Change>> {
        self.1.set(self.1.get() + 1);
        None
    }
    fn joined(&self) -> u64 {
        0
    }
    fn useful(&self) -> u64 {
        0
    }
}

#[test]
fn a_root_of_many_peers_is_looked_up_once() {
    let side = Side::new(1);
    let view = Counted(&side, 0.into());
    let roots = std::iter::repeat_n(RootHash([7; 32]), 100);
    let salted = Salted::new(*b"saltsalt", 4);
    assert!(DeltaQuery::new(roots, std::iter::empty(), &view, salted).is_none());
    assert_eq!(view.1.get(), 1);
}

#[test]
fn if_too_much_has_changed_here_the_trees_are_compared() {
    let (mut own, _, root) = equal(10);
    own.write(0..MAX_HELD as u32, "mine");
    own.settle();
    let query = own.query(&[root]).expect("just enough");
    assert_eq!(query.held.len(), MAX_HELD);
    assert!(DeltaQuery::decode(&query.encode()).is_ok());
    own.write([MAX_HELD as u32], "mine");
    own.settle();
    assert_eq!(own.query(&[root]), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever both wrote since they were equal, and whatever of it they have had of
    /// each other since, with one pull the asker has all that the other has.
    #[test]
    fn a_delta_makes_the_join(
        before in 1u32..200,
        writes in prop::collection::vec((0..2usize, 0u32..250, "[a-c]{0,2}", any::<bool>()), 0..60),
    ) {
        let (mut own, mut theirs, root) = equal(before);
        for (side, number, payload, reaches_both) in writes {
            let (writer, other) = match side {
                0 => (&mut own, &mut theirs),
                _ => (&mut theirs, &mut own),
            };
            writer.write([number], &payload);
            if reaches_both {
                let (now, id) = (other.now, other.id);
                (other.now, other.id) = (writer.now - 1, writer.id);
                other.write([number], &payload);
                (other.now, other.id) = (now.max(other.now), id);
            }
        }
        own.settle();
        theirs.settle();
        own.now = own.now.max(theirs.now);
        let (_, queries, is_delta) = own.pull(&theirs, &[root]);
        prop_assert_eq!((queries, is_delta), (1, true));
        theirs.now = theirs.now.max(own.now);
        theirs.pull(&own, &[root]);
        prop_assert_eq!(own.root(), theirs.root());
    }

    #[test]
    fn messages_that_are_tampered_with_are_refused_or_harmless(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (own, mut theirs, root) = equal(20);
        theirs.write(10..40, "changed");
        theirs.settle();
        let mut query = own.query(&[root]).unwrap().encode();
        let mut answer = answer_entries(&theirs, &query, true).unwrap();
        for bytes in [&mut query, &mut answer] {
            let at = place.index(bytes.len());
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] = byte,
            }
        }
        if let Ok(query) = DeltaQuery::decode(&query) {
            let answer = answer_entries(&theirs, &query.encode(), true).unwrap();
            prop_assert!(answer.len() <= MAX_MESSAGE);
        }
        if let Ok(reply) = DeltaReply::decode(&answer, 0, MAX_MESSAGE) {
            for received in reply.cells {
                let is_theirs = theirs.replica.disk().get(&received.key)
                    .is_some_and(|cell| **cell == received.cell);
                prop_assert!(is_theirs || received.intact().is_none());
            }
        }
    }
}

#[test]
fn messages_are_pinned() {
    let salted = Salted::new(*b"saltsalt", 4);
    let mut held = [1, 2].map(|n| salted.short(&[n; 32])).to_vec();
    held.sort();
    let query = DeltaQuery {
        salted,
        max_bytes: 1000,
        watermark: 0x0102_0304_0506_0708,
        after: 300,
        roots: vec![RootHash([0xab; 32])],
        held,
    };
    assert_eq!(
        hex(&query.encode()),
        "020673616c7473616c7404e8070102030405060708ac0201ababababababababababababababababababababababababababababababababf32cc5cbff2fd461"
    );
    assert_eq!(DeltaQuery::decode(&query.encode()), Ok(query));

    let cell = Cell {
        timestamp: Timestamp {
            time: 3,
            id: [7; 16],
        },
        content: Content::Tombstone,
    };
    let version = Version::of(&key(5), &cell);
    let received = Received {
        key: key(5),
        cell,
        check: version.digest.0[..CHECK_BYTES].try_into().unwrap(),
    };
    let pinned = [
        (Progress::Unknown, vec![], "020700"),
        (Progress::Done, vec![], "0207010000"),
        (
            Progress::After(400),
            vec![received],
            "020702900300000025016b2f303030303035010000000000000003000707070707070707070707070707070701bd334b6a0d9222",
        ),
    ];
    for (progress, cells, bytes) in pinned {
        let reply = DeltaReply {
            progress,
            cells,
            notices: Vec::new(),
        };
        assert_eq!(hex(&reply.encode(true)), bytes, "{progress:?}");
        assert_eq!(
            DeltaReply::decode(&reply.encode(true), 300, 1000),
            Ok(reply)
        );
    }
}

#[test]
fn answers_that_make_no_progress_or_are_out_of_order_are_refused() {
    let received = |number| Received {
        key: key(number),
        cell: Cell {
            timestamp: Timestamp {
                time: 1,
                id: [1; 16],
            },
            content: Content::Tombstone,
        },
        check: [0; CHECK_BYTES],
    };
    let decode = |progress, numbers: &[u32]| {
        let cells = numbers.iter().copied().map(received).collect();
        DeltaReply::decode(
            &DeltaReply {
                progress,
                cells,
                notices: Vec::new(),
            }
            .encode(false),
            7,
            1000,
        )
    };
    assert!(decode(Progress::Done, &[1, 2]).is_ok());
    assert!(decode(Progress::After(8), &[1, 2]).is_ok());
    assert_eq!(decode(Progress::Done, &[2, 1]), Err(MessageError::KeyOrder));
    assert_eq!(decode(Progress::Done, &[2, 2]), Err(MessageError::KeyOrder));
    assert_eq!(
        decode(Progress::After(7), &[1]),
        Err(MessageError::NoProgress)
    );
    assert_eq!(
        decode(Progress::After(8), &[]),
        Err(MessageError::NoProgress)
    );
    let large: Vec<u32> = (0..100).collect();
    let refused = Err(MessageError::TooLarge("bytes"));
    assert_eq!(decode(Progress::Done, &large), refused);
}
