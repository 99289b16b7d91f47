//! Values in pieces, between two maps, without a network.

use std::time::Duration;

use super::{
    pieces::{Assembly, piece, read_notices, write_notices},
    pull::{Ask, Pull},
    tests::{Cells, Holder, cell, key},
    wire::{Reader, Writer},
    *,
};
use crate::{
    cell::{Cell, CellKey, Version},
    hex::encode as hex,
    replica::Tree,
};

const NOW: Duration = Duration::ZERO;
const SMALL: usize = 1000;

fn text(length: usize, seed: u32) -> String {
    // No repetition that a compression would find.
    let letter = |at: u32| char::from(b'a' + (at.wrapping_mul(at ^ seed) >> 7) as u8 % 26);
    (0..length as u32).map(letter).collect()
}

/// Small values, and large ones before and between them.
fn cells() -> Cells {
    (0..40)
        .map(|number| match number % 10 {
            0 => (key(number), cell(4, &text(2_500 + number as usize, number))),
            _ => (key(number), cell(4, "small")),
        })
        .collect()
}

fn pull_from(peer: u8) -> Pull {
    let salted = Salted::new(*b"saltsalt", 4);
    Pull::new(ReplicaId([peer; 16]), salted, SMALL)
}

/// Goes on with a pull into an empty map, for so many answers; returns what came, and whether that
/// is all.
fn go_on(
    pull: &mut Pull,
    theirs: &Cells,
    assembly: &mut Option<Assembly>,
    answers: usize,
) -> (Vec<(CellKey, Cell)>, bool) {
    let empty = Tree::default();
    let mut came = Vec::new();
    for _ in 0..answers {
        let source = Holder(theirs);
        let answer = match pull.ask(&empty, &|_| None, assembly, NOW) {
            Ask::Nothing => return (came, true),
            Ask::Digests(query) => {
                let tree = source.snapshot().expect("a snapshot").tree;
                answer_digests(&tree, &crate::merge::Lifetimes::default(), &query)
                    .expect("answered")
            }
            Ask::Entries(query) => answer_entries(&source, &query, true).expect("answered"),
        };
        assert!(answer.len() < SMALL + 200, "{} bytes", answer.len());
        let brought = pull.answer(&answer, &empty, assembly, NOW).expect("read");
        brought
            .notices
            .into_iter()
            .for_each(|notice| pull.fetch(notice));
        for received in brought.cells {
            assert!(received.intact().is_some());
            came.push((received.key, received.cell));
        }
    }
    (came, false)
}

#[test]
fn what_is_small_comes_first_and_all_comes() {
    let theirs = cells();
    let (came, is_all) = go_on(&mut pull_from(1), &theirs, &mut None, 1000);
    assert!(is_all);
    let large = came.iter().position(|(_, cell)| cell.value_bytes() > SMALL);
    assert_eq!(large, Some(36), "36 of 40 are small");
    assert_eq!(came.into_iter().collect::<Cells>(), theirs);
}

#[test]
fn a_value_goes_on_where_it_broke_off_with_any_replica_that_has_it() {
    let theirs = Cells::from([(key(1), cell(3, &text(9_500, 7)))]);
    let whole = {
        let mut answers = 0;
        let (mut pull, mut assembly) = (pull_from(1), None);
        while !go_on(&mut pull, &theirs, &mut assembly, 1).1 {
            answers += 1;
        }
        answers
    };
    assert!(whole >= 11, "{whole} answers");
    let (mut assembly, mut answers, mut pulls) = (None, 0, 0);
    let came = loop {
        pulls += 1;
        // Each pull breaks off after a few answers.
        let (came, is_all) = go_on(&mut pull_from(pulls), &theirs, &mut assembly, 4);
        answers += 4;
        if is_all || !came.is_empty() {
            break came;
        }
    };
    assert_eq!(came.into_iter().collect::<Cells>(), theirs);
    // What each begins with it asks for anew, and no piece twice.
    assert!(pulls >= 3 && answers <= whole + 3 * pulls as usize);
}

#[test]
fn a_value_that_is_replaced_meanwhile_is_given_up() {
    let mut theirs = Cells::from([(key(1), cell(3, &text(9_500, 7))), (key(2), cell(3, "b"))]);
    let (mut pull, mut assembly) = (pull_from(1), None);
    assert!(!go_on(&mut pull, &theirs, &mut assembly, 6).1);
    assert!(assembly.is_some());
    theirs.insert(key(1), cell(5, "short"));
    let (came, is_all) = go_on(&mut pull, &theirs, &mut assembly, 100);
    assert_eq!((came, is_all), (Vec::new(), true));
    assert!(assembly.is_none());
    // The next pull sees what there is now.
    let (came, _) = go_on(&mut pull_from(1), &theirs, &mut assembly, 100);
    assert_eq!(came.into_iter().collect::<Cells>(), theirs);
}

#[test]
fn a_value_that_came_another_way_is_not_fetched() {
    let theirs = cells();
    let (mut pull, mut assembly) = (pull_from(1), None);
    let empty = Tree::default();
    while assembly.is_none() {
        assert!(!go_on(&mut pull, &theirs, &mut assembly, 1).1);
    }
    let newest = |key: &CellKey| theirs.get(key).map(|cell| cell.timestamp);
    let next = pull.ask(&empty, &newest, &mut assembly, NOW);
    assert!(matches!(next, Ask::Nothing));
}

/// Two values bear one timestamp: which wins their digests say, so both have to know both.
#[test]
fn another_value_of_the_same_timestamp_is_fetched() {
    let theirs = Cells::from([(key(1), cell(3, &text(3_000, 7)))]);
    let own = Cells::from([(key(1), cell(3, &text(3_000, 8)))]);
    let source = Holder(&theirs);
    for (has, is_fetched) in [(&own, true), (&theirs, false)] {
        let tree = Holder(has).snapshot().expect("a snapshot").tree;
        let newest = |key: &CellKey| has.get(key).map(|cell| cell.timestamp);
        let (cell_key, value) = theirs.first_key_value().expect("one");
        let version = Version::of(cell_key, value);
        let mut pull = pull_from(1);
        pull.fetch(Notice::of(
            cell_key,
            &version,
            value.value().expect("a value"),
        ));
        let mut assembly = None;
        let mut came = Vec::new();
        for _ in 0..100 {
            let answer = match pull.ask(&tree, &newest, &mut assembly, NOW) {
                Ask::Nothing => break,
                Ask::Digests(query) => {
                    let tree = source.snapshot().expect("a snapshot").tree;
                    answer_digests(&tree, &crate::merge::Lifetimes::default(), &query)
                        .expect("answered")
                }
                Ask::Entries(query) => answer_entries(&source, &query, true).expect("answered"),
            };
            let brought = pull
                .answer(&answer, &tree, &mut assembly, NOW)
                .expect("read");
            came.extend(brought.cells.into_iter().map(|received| received.cell));
        }
        assert_eq!(came.contains(value), is_fetched);
    }
}

#[test]
fn more_than_the_notice_said_is_refused() {
    let value = cell(1, &text(3_000, 3));
    let version = Version::of(&key(1), &value);
    let value = value.value().expect("a value");
    let notice = Notice {
        bytes: 2_000,
        ..Notice::of(&key(1), &version, value)
    };
    let mut assembly = Assembly::new(notice, NOW);
    let first = piece(value, 0, 1_500).expect("a piece");
    assert_eq!(assembly.add(&first, NOW), Ok(false));
    let second = piece(value, 1_500, 1_500).expect("a piece");
    let error = assembly.add(&second, NOW).expect_err("too many");
    assert_eq!(error, MessageError::TooLarge("bytes of a value"));
}

#[test]
fn pieces_are_the_content_wherever_they_begin() {
    for payload in [text(900, 1), text(3, 2)] {
        let cell = cell(3, &payload);
        let version = Version::of(&key(1), &cell);
        let value = cell.value().expect("a value");
        assert!(value.schema.is_some());
        let notice = Notice::of(&key(1), &version, value);
        for room in [1, 2, 3, 5, 64, 2_000] {
            let mut assembly = Assembly::new(notice.clone(), NOW);
            loop {
                let query = assembly.query(room);
                assert_eq!(PieceQuery::decode(&query.encode()), Ok(query.clone()));
                let piece = piece(value, query.offset, room).expect("a piece");
                let reply = PieceReply(Some(piece));
                let bytes = reply.encode(true);
                assert_eq!(PieceReply::decode(&bytes, room), Ok(reply.clone()));
                let length = reply.0.as_ref().map_or(0, Vec::len);
                assert!(length <= room && PieceReply::decode(&bytes, length - 1).is_err());
                let piece = reply.0.expect("a piece");
                if assembly.add(&piece, NOW).expect("no more than was said") {
                    break;
                }
            }
            let received = assembly.finish().1.expect("a value");
            assert_eq!(received.intact(), Some(version));
            assert_eq!(received.cell, cell);
        }
        assert_eq!(piece(value, notice.bytes, 10), None);
        assert_eq!(piece(value, u64::MAX, 10), None);
    }
}

#[test]
fn messages_are_pinned() {
    let large = cell(3, &"ab".repeat(300));
    let version = Version::of(&key(10), &large);
    let notice = Notice::of(&key(10), &version, large.value().expect("a value"));
    let mut writer = Writer::default();
    write_notices(std::slice::from_ref(&notice), &mut writer);
    let bytes = writer.into_bytes();
    assert_eq!(
        hex(&bytes),
        "01005101666c6565742f726f626f742f3030303030313000000000000000030707070707070707070707070707"
            .to_owned()
            + "0707e215830d2bd7c7adfccab26707e6a6061a043c6f93eabf17de1aacf680a80a3edc04"
    );
    assert_eq!(
        read_notices(&mut Reader::new(&bytes)),
        Ok(vec![notice.clone()])
    );
    let query = Assembly::new(notice, NOW).query(48 << 10);
    assert_eq!(
        hex(&query.encode()),
        "0208808003005101666c6565742f726f626f742f30303030303130000000000000000307070707070707"
            .to_owned()
            + "070707070707070707e215830d2bd7c7adfccab26707e6a6061a043c6f93eabf17de1aacf680a80a3e00"
    );
    let reply = PieceReply(Some(b"piece".to_vec()));
    assert_eq!(hex(&reply.encode(true)), "020901007069656365");
    assert_eq!(hex(&PieceReply(None).encode(true)), "020900");
    assert_eq!(
        PieceReply::decode(&PieceReply(None).encode(true), 9),
        Ok(PieceReply(None))
    );
}
