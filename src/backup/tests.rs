//! Backups that are whole, and all that can be wrong with others.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    cell::{
        Cell, CellKey, Content, Key, Timestamp, Value,
        tests::{any_cell_key, key},
    },
    hex,
    mst::{Builder, Digesting, MAX_WIDTH, Mst, Resident, RootHash, TreeKey},
    sync::{CellsWriter, MessageError, Received, cells_block},
    wildcard::WildcardRules,
};

type Cells = BTreeMap<CellKey, Cell>;

fn any_cell() -> impl Strategy<Value = Cell> {
    let length = prop_oneof![20 => 0usize..60, 1 => 100_000usize..300_000];
    let schema = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
    let value = (any::<u16>(), schema, length, any::<u8>());
    let value = value.prop_map(|(encoding_id, schema, length, byte)| Value {
        encoding_id,
        schema: schema.map(Into::into),
        attachment: None,
        payload: Bytes::from(vec![byte; length]),
    });
    (any::<u64>(), 1u8..4, prop::option::of(value)).prop_map(|(time, id, value)| Cell {
        timestamp: Timestamp { time, id: [id; 16] },
        content: value.map_or(Content::Tombstone, Content::Value),
    })
}

fn any_cells() -> impl Strategy<Value = Cells> {
    prop::collection::btree_map(any_cell_key(), any_cell(), 0..40)
}

fn root_of(cells: &Cells) -> RootHash {
    let versions = cells.iter();
    let versions = versions.map(|(key, cell)| (key.clone(), Version::of(key, cell)));
    let Ok(root) = Mst::from_sorted(Resident::default(), versions).root();
    root
}

fn header_of(cells: &Cells) -> Header {
    Header {
        key_expr: "fleet/**".to_owned(),
        strip_prefix: Some("fleet".to_owned()),
        cut: u64::MAX - 1,
        root: root_of(cells),
        cells: cells.len() as u64,
        rules: "lww".to_owned(),
        replica: None,
        storage: "fleet".to_owned(),
        missing: Vec::new(),
    }
}

fn write(header: &Header, cells: &Cells) -> Result<Vec<u8>, BackupError> {
    write_to(Vec::new(), header, cells)
}

fn write_to<W: Write>(sink: W, header: &Header, cells: &Cells) -> Result<W, BackupError> {
    let mut writer = BackupWriter::new(sink, header)?;
    for (key, cell) in cells {
        writer.push(key, &Version::of(key, cell), cell)?;
    }
    writer.finish()
}

fn backup(cells: &Cells) -> Vec<u8> {
    write(&header_of(cells), cells).expect("written")
}

fn check_of(bytes: &[u8]) -> Result<Header, BackupError> {
    verify(bytes, &mut |_, _| ())
}

fn numbered(number: u32) -> CellKey {
    CellKey::own(key(&format!("robot/{number:05}")))
}

fn small(number: u32) -> Cell {
    Cell {
        timestamp: Timestamp {
            time: u64::from(number) + 1,
            id: [7; 16],
        },
        content: Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: vec![number as u8; 900].into(),
        }),
    }
}

/// Enough for several frames.
fn many() -> Cells {
    (0..1500).map(|n| (numbered(n), small(n))).collect()
}

/// The pieces of a backup: what comes before the frames, each frame, and the end.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let length = |at: usize| {
        let length = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(length) as usize
    };
    let mut at = MAGIC.len();
    at += 4 + length(at) + CHECK_BYTES;
    let mut pieces = vec![bytes[..at].to_vec()];
    while length(at) > 0 {
        let end = at + 4 + length(at) + CHECK_BYTES;
        pieces.push(bytes[at..end].to_vec());
        at = end;
    }
    pieces.push(bytes[at..].to_vec());
    pieces
}

/// Bytes after their length.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A piece of a backup, with room for its check.
fn piece(bytes: &[u8]) -> Vec<u8> {
    [counted(bytes), vec![0; CHECK_BYTES]].concat()
}

/// A backup of pieces, with checks that fit.
fn sealed(mut pieces: Vec<Vec<u8>>) -> Vec<u8> {
    let last = pieces.len() - 1;
    for (number, piece) in pieces.iter_mut().enumerate() {
        let (start, place) = match number {
            0 => (MAGIC.len() + 4, HEADER_PLACE),
            _ if number == last => (4, END_PLACE),
            _ => (4, number as u64),
        };
        let end = piece.len() - CHECK_BYTES;
        let check = check(place, &piece[start..end]);
        piece[end..].copy_from_slice(&check);
    }
    pieces.concat()
}

/// A backup that is consistent in all but what its frames say.
fn forged(header: &Header, frames: &[Vec<u8>]) -> Vec<u8> {
    forged_with(&header.encode(), header, frames)
}

fn forged_with(text: &[u8], header: &Header, frames: &[Vec<u8>]) -> Vec<u8> {
    let end = [
        &[0; 4][..],
        &(frames.len() as u64).to_be_bytes()[..],
        &header.cells.to_be_bytes()[..],
        &header.root.0[..],
        &[0; CHECK_BYTES][..],
    ];
    let mut pieces = vec![[&MAGIC[..], &piece(text)[..]].concat()];
    pieces.extend_from_slice(frames);
    pieces.push(end.concat());
    sealed(pieces)
}

fn is_damaged(bytes: &[u8]) -> bool {
    matches!(check_of(bytes), Err(BackupError::Damaged { .. }))
}

/// So large that no two fit into a frame.
fn large(number: u32) -> Cell {
    let mut cell = small(number);
    if let Content::Value(value) = &mut cell.content {
        value.payload = vec![number as u8; 300_000].into();
    }
    cell
}

/// The root of the keys' tree, and what is found without the tree.
fn roots(keys: impl Iterator<Item = CellKey> + Clone) -> (RootHash, RootHash) {
    let versions = keys.map(|key| {
        let version = Version::of(&key, &small(0));
        (key, version)
    });
    let Ok(root) = Mst::from_sorted(Resident::default(), versions.clone()).root();
    let mut builder = Builder::new(Digesting::default());
    versions.for_each(|(key, version)| builder.push(key, version));
    (root, builder.finish().root().expect("a root"))
}

/// The pieces of a rollback to these cells: each key in one, and each one sent.
fn rollback_frames(cells: &Cells) -> Vec<RollbackFrame> {
    let bytes = backup(cells);
    let (mut low, mut read, mut is_over) = (None::<Key>, Cells::new(), false);
    let mut frames = Vec::new();
    let reader = BackupReader::open(&bytes[..]).expect("a backup");
    for frame in reader.rollback_frames(WildcardRules::default()) {
        assert!(!is_over);
        let frame = frame.expect("sound");
        assert_eq!(frame.low, low);
        let sent = frame.encode();
        let read_back = RollbackFrame::decode(&sent, sent.len());
        assert_eq!(read_back.as_ref(), Ok(&frame));
        let too_large = RollbackFrame::decode(&sent, sent.len() - 1);
        assert_eq!(too_large, Err(MessageError::TooLarge("bytes")));
        let within = cells.iter().filter(|(key, _)| {
            let is_above = frame.low.as_ref().is_none_or(|low| *low < key.key);
            is_above && frame.high.as_ref().is_none_or(|high| key.key <= *high)
        });
        let within: Vec<_> = within
            .map(|(key, cell)| (key.clone(), cell.clone()))
            .collect();
        assert_eq!(frame.cells, within);
        is_over = frame.high.is_none();
        low.clone_from(&frame.high);
        read.extend(frame.cells.clone());
        frames.push(frame);
    }
    assert!(is_over);
    assert_eq!(read, *cells);
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(cells in any_cells()) {
        let bytes = backup(&cells);
        prop_assert_eq!(check_of(&bytes).expect("sound"), header_of(&cells));
        let mut reader = BackupReader::open(&bytes[..]).expect("a backup");
        let mut read = Cells::new();
        while let Some(frame) = reader.next_frame().expect("sound") {
            read.extend(frame);
        }
        prop_assert_eq!(&read, &cells);
        let frames = BackupReader::open(&bytes[..]).expect("a backup").verified_frames();
        let mut received = 0;
        for frame in frames {
            received += read_restore_frame(&frame.expect("sound")).expect("a frame").len();
        }
        prop_assert_eq!(received, cells.len());
    }

    #[test]
    fn pieces_for_a_rollback_are_of_whole_keys_and_of_all(cells in any_cells()) {
        rollback_frames(&cells);
    }

    #[test]
    fn hostile_frames_are_refused_or_frames(
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut: bool,
        cells in any_cells(),
    ) {
        let (low, high) = (None, None);
        let cells = cells.into_iter().collect();
        let mut bytes = RollbackFrame { low, high, cells }.encode();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] = byte,
        }
        if let Ok(frame) = RollbackFrame::decode(&bytes, usize::MAX) {
            prop_assert_eq!(RollbackFrame::decode(&frame.encode(), usize::MAX), Ok(frame));
        }
    }

    #[test]
    fn a_root_needs_no_tree(count in 0u32..3000) {
        let (root, found) = roots((0..count).map(numbered));
        prop_assert_eq!(found, root);
    }

    #[test]
    fn headers_read_back(
        texts: (String, String, String),
        strip_prefix: Option<String>,
        replica: Option<String>,
        cut: u64,
    ) {
        let (key_expr, rules, storage) = texts;
        let (root, cells) = (RootHash::of_empty(), 0);
        let missing = vec![storage.clone(); usize::from(cells % 2 == 0)];
        let header = Header { key_expr, strip_prefix, cut, root, cells, rules, replica, storage, missing };
        let bytes = write(&header, &Cells::new()).expect("written");
        prop_assert_eq!(check_of(&bytes).expect("sound"), header);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check_of(&bytes).is_err());
        prop_assert!(check_of(&[&MAGIC[..], &bytes].concat()).is_err());
        let _ = read_restore_frame(&bytes);
        if let Ok(frame) = RollbackFrame::decode(&bytes, usize::MAX) {
            prop_assert!(frame.cells.is_empty());
        }
    }
}

#[test]
fn every_byte_counts() {
    let cells = (0..3).map(|n| (numbered(n), small(n))).collect();
    let bytes = backup(&cells);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(check_of(&damaged).is_err(), "byte {at}");
        let error = check_of(&bytes[..at]).expect_err("it ends too early");
        let is_told = matches!(
            error,
            BackupError::Truncated(_) | BackupError::NotABackup | BackupError::Damaged { .. }
        );
        assert!(is_told, "{at}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(check_of(&longer).is_err());
}

#[test]
fn frames_are_where_they_were() {
    let whole = pieces(&backup(&many()));
    assert!(whole.len() > 4, "several frames");
    assert!(check_of(&whole.concat()).is_ok());
    let refused = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut pieces = whole.clone();
        change(&mut pieces);
        check_of(&pieces.concat()).expect_err("refused").to_string()
    };
    let swapped = refused(&|pieces| pieces.swap(1, 2));
    assert!(swapped.contains("frame 1"), "{swapped}");
    let twice = refused(&|pieces| pieces.insert(2, pieces[1].clone()));
    assert!(
        twice.contains("frame 2") && twice.contains("after key"),
        "{twice}"
    );
    refused(&|pieces| drop(pieces.remove(1)));
    refused(&|pieces| drop(pieces.remove(pieces.len() - 2)));
}

#[test]
fn what_is_said_is_what_is_there() {
    let cells = many();
    let mut header = header_of(&cells);
    header.root = RootHash([1; 32]);
    let bytes = write(&header, &cells).expect("written");
    assert!(matches!(check_of(&bytes), Err(BackupError::Root { .. })));
    header.cells += 1;
    assert!(matches!(
        write(&header, &cells),
        Err(BackupError::Cells { .. })
    ));

    // Another order, and a cell that is not what its digest says.
    let header = header_of(&cells);
    for is_reversed in [true, false] {
        let mut writer = BackupWriter::new(Vec::new(), &header).expect("written");
        let mut keys: Vec<_> = cells.iter().collect();
        if is_reversed {
            keys.reverse();
        }
        for (key, cell) in keys {
            let version = match is_reversed {
                true => Version::of(key, cell),
                false => Version::of(&numbered(0), cell),
            };
            writer.push(key, &version, cell).expect("written");
        }
        let bytes = writer.finish().expect("written");
        assert!(matches!(check_of(&bytes), Err(BackupError::Damaged { .. })));
    }
    assert!(matches!(check_of(b"mst1bac"), Err(BackupError::NotABackup)));
}

#[test]
fn cells_outside_of_a_range_are_refused() {
    let frame = RollbackFrame {
        low: Some(numbered(3).key),
        high: Some(numbered(5).key),
        cells: [4, 5].map(|n| (numbered(n), small(n))).to_vec(),
    };
    assert!(RollbackFrame::decode(&frame.encode(), usize::MAX).is_ok());
    for outside in [3, 6] {
        let mut frame = frame.clone();
        frame.cells = vec![(numbered(outside), small(outside))];
        assert!(RollbackFrame::decode(&frame.encode(), usize::MAX).is_err());
    }
}

#[test]
fn a_newer_format_is_named() {
    let text = br#"{"format":3,"other":true}"#;
    let error = Header::decode(text).expect_err("unknown").to_string();
    assert!(
        error.contains("format 3") && error.contains("format 2"),
        "{error}"
    );
}

#[test]
fn a_root_needs_no_tree_where_runs_are_too_wide() {
    // None of a higher digit among the first 4,000 numbers.
    let is_low = |key: &CellKey| key.position().leading_zero_digits() == 0;
    let kept = (0..5_000).filter(|number| *number >= 4_000 || is_low(&numbered(*number)));
    let keys = kept.map(numbered);
    let run = keys.clone().take_while(is_low).count();
    assert!(run > 20 * MAX_WIDTH, "{run}");
    let (root, found) = roots(keys);
    assert_eq!(found, root);
}

#[test]
fn nothing_and_the_key_that_is_none_are_backed_up() {
    let nothing = Cells::new();
    let bytes = backup(&nothing);
    assert_eq!(pieces(&bytes).len(), 2, "no frames");
    assert_eq!(check_of(&bytes).expect("sound").root, RootHash::of_empty());
    assert_eq!(rollback_frames(&nothing).len(), 1);

    let mut tombstone = small(2);
    tombstone.content = Content::Tombstone;
    let part = CellKey {
        key: Key::NONE,
        part: b"\0p"[..].into(),
    };
    let cells = [(CellKey::own(Key::NONE), tombstone), (part, small(1))].into();
    assert!(check_of(&backup(&cells)).is_ok());
    rollback_frames(&cells);
}

#[test]
fn every_end_but_the_last_is_too_early() {
    let bytes = backup(&many());
    let frames = pieces(&bytes);
    let mut at = 0;
    let boundaries = frames.iter().flat_map(|piece| {
        at += piece.len();
        // With and without the length, and the check, of what comes next.
        [at - CHECK_BYTES, at - 1, at, at + 1, at + 4]
    });
    let anywhere = (MAGIC.len()..bytes.len()).step_by(997);
    for at in boundaries.chain(anywhere).filter(|at| *at < bytes.len()) {
        let error = check_of(&bytes[..at]).expect_err("it ends too early");
        assert!(matches!(error, BackupError::Truncated(_)), "{at}: {error}");
    }
    for at in 0..MAGIC.len() {
        let error = check_of(&bytes[..at]).expect_err("it ends too early");
        assert!(matches!(error, BackupError::NotABackup), "{at}: {error}");
    }
    for more in [&bytes[..], &[0], frames[1].as_slice()] {
        assert!(is_damaged(&[&bytes[..], more].concat()));
    }
}

#[test]
fn checks_that_fit_are_not_enough() {
    let cells = (0..4).map(|n| (numbered(n), large(n))).collect();
    let header = header_of(&cells);
    let bytes = backup(&cells);
    let whole = pieces(&bytes);
    let (before, frames, end) = (&whole[0], &whole[1..5], &whole[5..].concat());
    assert_eq!(forged(&header, frames), bytes);
    let raw = |frames: &[Vec<u8>]| [&before[..], &frames.concat()[..], &end[..]].concat();
    for a in 0..4 {
        let mut without = frames.to_vec();
        without.remove(a);
        assert!(is_damaged(&raw(&without)));
        assert!(is_damaged(&forged(&header, &without)));
        let cells = 3;
        let fewer = Header {
            cells,
            ..header.clone()
        };
        let error = check_of(&forged(&fewer, &without)).expect_err("one is missing");
        assert!(matches!(error, BackupError::Root { .. }), "{error}");
        for b in 0..4 {
            let mut twice = frames.to_vec();
            twice.insert(b, frames[a].clone());
            assert!(is_damaged(&raw(&twice)));
            let cells = 5;
            let more = Header {
                cells,
                ..header.clone()
            };
            assert!(is_damaged(&forged(&more, &twice)));
            let mut swapped = frames.to_vec();
            swapped.swap(a, b);
            assert_eq!(check_of(&raw(&swapped)).is_ok(), a == b);
            assert_eq!(is_damaged(&forged(&header, &swapped)), a != b);
        }
    }
}

/// A block of cells, whatever they are.
fn block(cells: &[&Received]) -> Vec<u8> {
    let mut writer = CellsWriter::default();
    for Received { key, cell, check } in cells {
        writer.push(key, cell, check);
    }
    cells_block(writer)
}

#[test]
fn frames_that_no_writer_writes_are_refused() {
    let (key, cell) = (numbered(1), small(1));
    let header = header_of(&[(key.clone(), cell.clone())].into());
    let check = cell_check(&Version::of(&key, &cell));
    let received = Received { key, cell, check };
    let frame = |cells: &[&Received]| piece(&block(cells));
    let sound = frame(&[&received]);
    assert!(check_of(&forged(&header, std::slice::from_ref(&sound))).is_ok());
    let mut other = received.clone();
    other.check[0] ^= 1;
    for frames in [
        vec![frame(&[])],
        vec![sound.clone(), frame(&[])],
        vec![frame(&[&received, &received])],
        vec![frame(&[&other])],
        vec![piece(b"?")],
    ] {
        assert!(is_damaged(&forged(&header, &frames)), "{frames:x?}");
    }
    // Too long to be, or longer than there is.
    let whole = [forged_with(b"{}", &header, &[]), forged(&header, &[sound])];
    let at = [MAGIC.len(), pieces(&whole[1])[0].len()];
    for ((bytes, at), most) in whole.iter().zip(at).zip([MAX_HEADER, MAX_FRAME]) {
        let with = |length: u32| {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
            check_of(&bytes).expect_err("no such length")
        };
        assert!(matches!(with(most), BackupError::Truncated(_)));
        assert!(matches!(with(most + 1), BackupError::Damaged { .. }));
    }
}

#[test]
fn headers_that_no_writer_writes_are_refused() {
    let header = header_of(&Cells::new());
    let text = String::from_utf8(header.encode()).expect("text");
    let with = |text: &str| check_of(&forged_with(text.as_bytes(), &header, &[]));
    assert!(with(&text).is_ok());
    let more = text.replacen('{', r#"{"later":[1,2],"#, 1);
    assert_eq!(with(&more).expect("passed over"), header);
    let root = header.root.to_string();
    for damaged in [
        "",
        "{}",
        "[]",
        r#"{"format":2}"#,
        &text.replace("\"format\":2", "\"format\":\"2\""),
        &text.replace(&root, &root[2..]),
        &text.replace(&root, &root.replace('b', "g")),
        &text.replace("\"cut\":\"", "\"cut\":\"-"),
        &text.replace("\"cells\":0", "\"cells\":-1"),
    ] {
        let error = with(damaged).expect_err(damaged).to_string();
        assert!(error.contains("in its header"), "{error}");
    }
    let error = with(&text.replace("\"format\":2", "\"format\":1"));
    assert_eq!(
        error.expect_err("unknown").to_string(),
        "the backup has format 1, this version reads format 2: use a version that reads it"
    );
    let rules = "x".repeat(MAX_HEADER as usize);
    let error = write(&Header { rules, ..header }, &Cells::new());
    assert!(matches!(error, Err(BackupError::Header(_))));
}

#[test]
fn the_writer_counts() {
    let cells: Cells = (0..3).map(|n| (numbered(n), small(n))).collect();
    for expected in [0, 2, 4] {
        let mut header = header_of(&cells);
        header.cells = expected;
        let error = write(&header, &cells).expect_err("other cells").to_string();
        let told = format!("3 cells were written to a backup of {expected}");
        assert_eq!(error, told);
    }
    let mut told = Vec::new();
    let bytes = backup(&many());
    verify(&bytes[..], &mut |cells, of| told.push((cells, of))).expect("sound");
    assert!(told.len() > 1 && told.is_sorted(), "{told:?}");
    assert_eq!(told.last(), Some(&(1500, 1500)));
}

/// Gives few bytes at a time, and at the end an error.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(7);
        match self.0.is_empty() {
            true => Err(io::Error::other("the disk is lost")),
            false => self.0.read(&mut buffer[..room]),
        }
    }
}

#[test]
fn what_fails_below_is_told() {
    let cells = (0..3).map(|n| (numbered(n), small(n))).collect();
    let (header, bytes) = (header_of(&cells), backup(&cells));
    for at in 0..=bytes.len() {
        let error = verify(Failing(&bytes[..at]), &mut |_, _| ());
        assert!(matches!(error, Err(BackupError::Io(_))), "{at}: {error:?}");
        let mut room = vec![0; at];
        let left = write_to(&mut room[..], &header, &cells).map(|left| left.len());
        match left {
            Ok(left) => assert_eq!(left, 0),
            Err(error) => assert!(matches!(error, BackupError::Io(_)), "{at}: {error}"),
        }
        assert_eq!(room == bytes, at == bytes.len());
    }
}

#[test]
fn a_key_stays_whole_in_a_rollback() {
    let part = |text: &str, number: u8| CellKey {
        key: key(text),
        part: [number][..].into(),
    };
    let mut cells = Cells::new();
    let mut put = |key: CellKey| drop(cells.insert(key, large(1)));
    put(CellKey::own(Key::NONE));
    put(CellKey::own(key("a")));
    // More than a piece, in many frames; with others before and after.
    (0..10).for_each(|number| put(part("b", number)));
    (0..3).for_each(|number| put(part("c", number)));
    (0..6).for_each(|number| put(numbered(number)));
    let frames = rollback_frames(&cells);
    assert!(frames.len() > 3, "{}", frames.len());
}

#[test]
fn damage_ends_what_is_read() {
    let cells = (0..8).map(|n| (numbered(n), large(n))).collect();
    let mut pieces = pieces(&backup(&cells));
    pieces[7][20] ^= 1;
    let bytes = pieces.concat();
    let open = || BackupReader::open(&bytes[..]).expect("a header");
    let mut rolled: Vec<_> = open().rollback_frames(WildcardRules::default()).collect();
    let error = rolled.pop().and_then(Result::err).expect("damaged");
    let place = "in frame 7, after key 'robot/00005'";
    assert!(error.to_string().contains(place), "{error}");
    assert!(!rolled.is_empty() && rolled.iter().all(Result::is_ok));
    let mut frames: Vec<_> = open().verified_frames().collect();
    let error = frames.pop().and_then(Result::err).expect("damaged");
    assert!(error.to_string().contains("in frame 7"), "{error}");
    assert_eq!(frames.into_iter().filter_map(Result::ok).count(), 6);
}

#[test]
fn a_changed_rollback_frame_has_nothing_that_was_not_sent() {
    let cells = [1, 2, 3].map(|n| (numbered(n), small(n)));
    let first = RollbackFrame {
        low: Some(Key::NONE),
        high: Some(numbered(3).key),
        cells: cells[..2].to_vec(),
    };
    let second = RollbackFrame {
        low: None,
        high: None,
        cells: cells[2..].to_vec(),
    };
    let (head, tail) = (unchecked(&first.encode()), unchecked(&second.encode()));
    let bytes = checked(&[&head[..], &tail[1..]].concat());
    let decode = |bytes: &[u8]| RollbackFrame::decode(bytes, bytes.len());
    assert_eq!(decode(&bytes).expect("a frame").cells, cells);

    for at in 0..bytes.len() {
        assert!(decode(&bytes[..at]).is_err(), "{at}");
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(decode(&changed), Err(MessageError::Check));
        }
    }
}

/// With the check that a rollback frame ends with.
fn checked(bytes: &[u8]) -> Vec<u8> {
    [bytes, &check(END_PLACE, bytes)].concat()
}

fn unchecked(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() - CHECK_BYTES].to_vec()
}

#[test]
fn rollback_frames_that_nobody_writes_are_refused() {
    let [a, b] = [1, 2].map(|n| (numbered(n), small(n)));
    let frame_of = |(key, cell): &(CellKey, Cell), version: &Version| {
        let (key, cell, check) = (key.clone(), cell.clone(), cell_check(version));
        let cells = [Received { key, cell, check }];
        counted(&block(&cells.iter().collect::<Vec<_>>()))
    };
    let sound = |cell: &(CellKey, Cell)| frame_of(cell, &Version::of(&cell.0, &cell.1));
    let decode = |bytes: &[u8]| RollbackFrame::decode(&checked(bytes), usize::MAX);
    let refused = |bytes: &[u8]| decode(bytes).expect_err("refused");
    let of = |frames: &[Vec<u8>]| [vec![0], frames.concat()].concat();
    let both = decode(&of(&[sound(&a), sound(&b)]));
    assert_eq!(both.expect("a frame").cells, [a.clone(), b.clone()]);

    let backwards = of(&[sound(&b), sound(&a)]);
    assert_eq!(refused(&backwards), MessageError::KeyOrder);
    let twice = of(&[sound(&a), sound(&a)]);
    assert_eq!(refused(&twice), MessageError::KeyOrder);
    let other = of(&[frame_of(&a, &Version::of(&a.0, &b.1))]);
    assert_eq!(refused(&other), MessageError::Range("digest of a cell"));
    let part = CellKey {
        part: b"p"[..].into(),
        ..a.0
    };
    let bound = [vec![1], counted(&part.to_canonical())].concat();
    assert_eq!(refused(&bound), MessageError::Range("bound of a range"));
    assert_eq!(refused(&[4]), MessageError::Range("flags of a range"));
    assert_eq!(refused(b""), MessageError::Truncated("range"));
    assert_eq!(refused(&[0, 0]), MessageError::Truncated("rollback frame"));
    let long = [0, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(refused(&long), MessageError::Truncated("rollback frame"));
}

#[test]
fn backups_are_pinned() {
    let cell = Cell {
        timestamp: Timestamp {
            time: 0x0102_0304_0506_0708,
            id: *b"0123456789abcdef",
        },
        content: Content::Value(Value {
            encoding_id: 5,
            schema: None,
            attachment: None,
            payload: "on".into(),
        }),
    };
    let cells = [(CellKey::own(key("room/lamp")), cell)].into();
    let pieces = pieces(&backup(&cells));
    let (before, after) = (pieces[0].as_slice(), pieces[1..].concat());
    let text = String::from_utf8_lossy(&before[12..before.len() - CHECK_BYTES]);
    let expected = format!(
        r#"{{"format":2,"key_expr":"fleet/**","strip_prefix":"fleet","cut":"{}","root":"{}","cells":1,"rules":"lww","replica":null,"storage":"fleet","program":"zenoh-backend-mst {}"}}"#,
        u64::MAX - 1,
        root_of(&cells),
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(text, expected);
    assert_eq!(&before[..8], b"mst1back");
    assert_eq!(hex::encode(&after), PINNED);
}

/// A backup that this format wrote, as it is checked in. `MST_WRITE_GOLDEN=1` writes it anew, for a new
/// format.
#[test]
fn a_backup_of_this_format_is_read() {
    let name = format!("tests/golden/backup-{FORMAT}.mst");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let cells = many();
    if std::env::var_os("MST_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, backup(&cells)).expect("written");
    }
    let bytes = std::fs::read(&path).expect("checked in");
    assert_eq!(check_of(&bytes).expect("sound"), header_of(&cells));
    let mut reader = BackupReader::open(&bytes[..]).expect("opened");
    let (mut found, mut frames) = (Cells::new(), 0);
    while let Some(frame) = reader.next_frame().expect("read") {
        found.extend(frame);
        frames += 1;
    }
    assert_eq!(found, cells);
    assert!(frames > 1, "{frames}");
}

/// A frame and the end.
const PINNED: &str = concat!(
    "00000033",
    "00",
    "002901726f6f6d2f6c616d70",
    "00",
    "0102030405060708",
    "0030313233343536373839616263646566",
    "05026f6e",
    "942ceb89b24772d7",
    "ae4dbc969360d5fc",
    "00000000",
    "0000000000000001",
    "0000000000000001",
    "368eb90d0338fd8e54eb2b0416fec329fe8a2bdf61da4396c85354de36fc9c70",
    "d15df980e52e53bf",
);
