//! The log against a list of groups, with every end that a loss of power can leave, and damage.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::cell::{Content, Timestamp, Value, tests::key};

type Cells = Vec<(CellKey, Cell)>;

/// A group of cells, of which each tells the group and its place.
fn group(number: u64, lengths: &[usize]) -> Cells {
    let cell = |(place, length): (usize, &usize)| {
        // Values of many zeros are usual: maps, pictures.
        let payload = (0..*length).map(|at| (at as u64 % 700 / 680 * number) as u8);
        let value = Value {
            encoding_id: place as u16,
            schema: None,
            attachment: None,
            payload: payload.collect::<Vec<_>>().into(),
        };
        let timestamp = Timestamp {
            time: number,
            id: [1; 16],
        };
        let content = match length {
            0 => Content::Tombstone,
            _ => Content::Value(value),
        };
        (
            CellKey::own(key(&format!("k/{place}"))),
            Cell { timestamp, content },
        )
    };
    lengths.iter().enumerate().map(cell).collect()
}

fn append(wal: &Wal, group: &Cells, commit: Commit) -> u64 {
    let mut cells = group.iter().map(|(key, cell)| (key, cell));
    wal.append(&mut cells, commit).expect("appended")
}

/// The cells of the groups beyond `applied`, and the log.
fn open(folder: &Path, applied: u64) -> Result<(Cells, Wal), StoreError> {
    let mut cells = Cells::new();
    let logged = read(folder, applied, applied, &mut |key, cell| {
        cells.push((key, cell))
    })?;
    Ok((cells, Wal::begin(folder, logged, FILE_BYTES)?))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

/// A log of one file that has these groups, the first so many of them synced.
fn make(folder: &Path, groups: &[Cells], synced: usize) -> PathBuf {
    let (_, wal) = open(folder, 0).expect("a log");
    for (place, group) in groups.iter().enumerate() {
        let commit = match place + 1 == synced {
            true => Commit::Synced,
            false => Commit::Buffered,
        };
        assert_eq!(append(&wal, group, commit), place as u64 + 1);
    }
    drop(wal);
    let [file] = &files(folder)[..] else {
        panic!("one file");
    };
    file.clone()
}

/// What happens to bytes on a disk. Zeros are not among it: they look like a sector that was never
/// written.
#[derive(Clone, Debug)]
enum Damage {
    Bit(u8),
    Bytes(Vec<u8>),
}

fn any_groups() -> impl Strategy<Value = Vec<Cells>> {
    let length = prop_oneof![6 => 0usize..200, 1 => 400usize..3000];
    let lengths = prop::collection::vec(prop::collection::vec(length, 1..6), 1..12);
    lengths.prop_map(|groups| {
        let groups = groups.iter().enumerate();
        groups
            .map(|(place, lengths)| group(place as u64 + 1, lengths))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// What is cut off at any place: the groups that are whole are there, and can be gone on from.
    #[test]
    fn any_end_of_the_file_leaves_whole_groups(groups in any_groups(), cut in any::<prop::sample::Index>(), applied in 0u64..4) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = make(folder.path(), &groups, 0);
        let bytes = fs::read(&file).expect("read");
        let end = cut.index(bytes.len() + 1);
        fs::write(&file, &bytes[..end]).expect("written");
        let applied = applied.min(groups.len() as u64);
        let (found, wal) = open(folder.path(), applied).expect("opened");
        let whole = wal.last() as usize;
        prop_assert!(end < bytes.len() || whole == groups.len());
        let expected: Cells = groups.iter().take(whole).skip(applied as usize).flatten().cloned().collect();
        prop_assert_eq!(&found, &expected);
        // The next group is behind these, whatever was left of those that were not whole.
        let next = group(77, &[5, 600]);
        let number = append(&wal, &next, Commit::Synced);
        prop_assert_eq!(number, whole.max(applied as usize) as u64 + 1);
        drop(wal);
        let (found, _) = open(folder.path(), applied).expect("opened again");
        prop_assert_eq!(found, [expected, next].concat());
    }

    /// A loss of power leaves any of the sectors that were not synced, and zeros for the others.
    #[test]
    fn any_sectors_that_are_missing_leave_what_was_synced_and_no_half_of_a_group(
        groups in any_groups(), synced in any::<prop::sample::Index>(), seed: u64,
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let synced = synced.index(groups.len() + 1);
        let reference = tempfile::tempdir().expect("a folder");
        let on_disk = match synced {
            0 => EMPTY_FILE_BYTES as usize,
            _ => fs::read(make(reference.path(), &groups[..synced], synced)).expect("read").len(),
        };
        let file = make(folder.path(), &groups, synced);
        let mut bytes = fs::read(&file).expect("read");
        let keep = random.gen_range(0.0..1.0);
        for start in (on_disk / 512 * 512..bytes.len()).step_by(512) {
            if random.gen_bool(keep) {
                continue;
            }
            let end = bytes.len().min(start + 512);
            bytes[start.max(on_disk)..end].fill(0);
        }
        if random.gen_bool(0.3) {
            bytes.truncate(random.gen_range(on_disk..=bytes.len()));
        }
        fs::write(&file, &bytes).expect("written");
        let (found, wal) = open(folder.path(), 0).expect("a loss of power is no damage");
        let whole = wal.last() as usize;
        prop_assert!((synced..=groups.len()).contains(&whole), "{} of {}, {} synced", whole, groups.len(), synced);
        prop_assert_eq!(found, groups[..whole].concat());
    }

    /// Damage to what was synced is never taken for the end of the log.
    #[test]
    fn damage_to_what_was_synced_is_noticed(
        groups in any_groups(), later in 0usize..3, at in any::<prop::sample::Index>(),
        damage in prop_oneof![(0u8..8).prop_map(Damage::Bit), prop::collection::vec(1u8.., 1..700).prop_map(Damage::Bytes)],
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let synced = groups.len();
        let later: Vec<Cells> = (0..later).map(|n| group((synced + n + 1) as u64, &[9])).collect();
        let all = [groups, later].concat();
        let reference = tempfile::tempdir().expect("a folder");
        let on_disk = fs::read(make(reference.path(), &all[..synced], synced)).expect("read").len();
        let file = make(folder.path(), &all, synced);
        let written = fs::read(&file).expect("read");
        let place = at.index(on_disk);
        let mut bytes = written.clone();
        match &damage {
            Damage::Bit(bit) => bytes[place] ^= 1 << bit,
            Damage::Bytes(others) => {
                let damaged = bytes[place..on_disk].iter_mut();
                damaged.zip(others).for_each(|(byte, other)| *byte = *other);
            }
        }
        prop_assume!(bytes != written);
        fs::write(&file, &bytes).expect("written");
        match open(folder.path(), 0) {
            Ok(_) => prop_assert!(false, "it was opened"),
            Err(error) => prop_assert!(error.is_damage(), "{}", error),
        }
        // What can be read is read when somebody wants that.
        let mut found = BTreeSet::new();
        Wal::salvage(folder.path(), &mut |key, cell| {
            found.insert(cell.timestamp.time);
            let cell = (key, cell);
            assert!(all.iter().any(|group| group.contains(&cell)));
        });
        let touched = if matches!(damage, Damage::Bit(_)) { 1 } else { all.len() };
        prop_assert!(found.len() + touched >= all.len(), "{:?} of {}", found, all.len());
    }
}

/// A log whose values are zeros, damaged at each of its bits in turn.
#[test]
fn a_flipped_bit_among_zeros_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let groups = [group(1, &[3]), group(2, &[600, 400])];
    let file = make(folder.path(), &groups, 2);
    let written = fs::read(&file).expect("read");
    for bit in 0..written.len() * 8 {
        let mut bytes = written.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &bytes).expect("written");
        let error = open(folder.path(), 0).err().expect("it is noticed");
        assert!(error.is_damage(), "{bit}: {error}");
    }
}

#[test]
fn files_are_begun_and_removed_as_groups_are_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, wal) = open(folder.path(), 0).expect("a log");
    // Groups of several frames.
    let groups: Vec<Cells> = (1..=12)
        .map(|number| group(number, &[1 << 20, 3, 1 << 19]))
        .collect();
    for group in &groups {
        append(&wal, group, Commit::Buffered);
    }
    assert!(files(folder.path()).len() >= 4);
    assert!(wal.full_bytes_through(12) > wal.full_bytes_through(4));
    for applied in 1..=4 {
        wal.remove_through(applied).expect("removed");
        let mut found = Cells::new();
        let mut visit = |key, cell| found.push((key, cell));
        read(folder.path(), applied, applied, &mut visit).expect("no group is missing");
        assert_eq!(found, groups[applied as usize..].concat());
    }
    let left = files(folder.path()).len();
    assert!((2..=4).contains(&left), "{left} files");
    drop(wal);
    let error = open(folder.path(), 1).err().expect("groups are missing");
    assert!(
        error.is_damage() && error.to_string().contains("missing"),
        "{error}"
    );
    let (found, wal) = open(folder.path(), 5).expect("opened");
    assert_eq!(found, groups[5..].concat());
    let before = files(folder.path());
    wal.empty(11).expect("nothing to do");
    assert_eq!(files(folder.path()), before);
    wal.empty(12).expect("emptied");
    assert_eq!(files(folder.path()).len(), 1);
    drop(wal);
    let (found, wal) = open(folder.path(), 12).expect("opened");
    assert_eq!((found, wal.last()), (Cells::new(), 12));
}

#[test]
fn a_group_of_several_frames_is_torn_wherever_it_ends() {
    let groups = [group(1, &[9]), group(2, &[5 << 19, 7])];
    let folder = tempfile::tempdir().expect("a folder");
    let file = make(folder.path(), &groups, 1);
    let bytes = fs::read(&file).expect("read");
    let frame = sectors::with_marks(FRAME_HEAD_BYTES + MAX_BODY_BYTES);
    for end in [100, frame, frame + 200, 2 * frame, 2 * frame + 100] {
        for is_zeros in [false, true] {
            for other in files(folder.path()) {
                fs::remove_file(other).expect("removed");
            }
            let end = (bytes.len() - frame / 2 - 2 * frame + end).min(bytes.len() - 1);
            let mut torn = bytes[..end].to_vec();
            torn.resize(if is_zeros { bytes.len() } else { end }, 0);
            fs::write(&file, torn).expect("written");
            let (found, wal) = open(folder.path(), 0).expect("a loss of power is no damage");
            assert_eq!((found, wal.last()), (groups[0].clone(), 1), "at {end}");
        }
    }
}

/// Whatever the bytes are, they are groups, or torn, or damaged.
#[test]
fn any_bytes_are_read_or_refused() {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..300 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut written = frame::header(1).to_vec();
        written.extend((0..random.gen_range(0..900)).map(|_| random.r#gen::<u8>()));
        let mut bytes = Vec::new();
        sectors::lay_out(0, &written, &mut bytes);
        fs::write(folder.path().join("00000000000000000001.wal"), bytes).expect("written");
        if let Err(error) = open(folder.path(), 0) {
            assert!(error.is_damage(), "{error}");
        }
        Wal::salvage(folder.path(), &mut |_, _| panic!("there are no cells"));
    }
}

#[test]
fn a_file_that_is_not_the_last_is_never_torn() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, wal) = open(folder.path(), 0).expect("a log");
    for number in 1..=9 {
        append(&wal, &group(number, &[1 << 20]), Commit::Buffered);
    }
    drop(wal);
    let first = &files(folder.path())[0];
    let bytes = fs::read(first).expect("read");
    for changed in [&bytes[..bytes.len() - 1], &bytes[..100], &[]] {
        fs::write(first, changed).expect("written");
        let error = open(folder.path(), 0).err().expect("damaged");
        assert!(error.is_damage(), "{error}");
    }
    fs::write(first, &bytes[..bytes.len() - 1]).expect("written");
    let error = open(folder.path(), 0).err().expect("damaged").to_string();
    assert!(error.contains("in a file that was synced"), "{error}");
    fs::remove_file(first).expect("removed");
    assert!(open(folder.path(), 0).err().expect("damaged").is_damage());
}

/// What was not synced may be lost although the rows of it are there.
#[test]
fn rows_may_know_of_groups_that_the_log_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = make(folder.path(), &[group(1, &[3]), group(2, &[4])], 0);
    let bytes = fs::read(&file).expect("read");
    fs::write(&file, &bytes[..bytes.len() - 2]).expect("written");
    let (found, wal) = open(folder.path(), 7).expect("opened");
    assert_eq!((found, wal.last()), (Cells::new(), 7));
    assert_eq!(append(&wal, &group(8, &[5]), Commit::Synced), 8);
    drop(wal);
    let (found, _) = open(folder.path(), 7).expect("opened");
    assert_eq!(found, group(8, &[5]));
}

/// A sector that is not there is a torn end only of what was not synced: the next group knows of the sync.
#[test]
fn a_missing_sector_of_the_last_group_that_was_synced_is_damage() {
    let groups = [group(1, &[3]), group(2, &[2000]), group(3, &[4])];
    let length = |groups: &[Cells]| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = make(folder.path(), groups, 0);
        fs::metadata(file).expect("there").len() as usize
    };
    let start = length(&groups[..1]).next_multiple_of(512);
    assert!(
        start + 512 <= length(&groups[..2]),
        "it is of that group alone"
    );
    for (synced, is_damage) in [(1, false), (2, true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = make(folder.path(), &groups, synced);
        let mut bytes = fs::read(&file).expect("read");
        bytes[start..start + 512].fill(0);
        fs::write(&file, bytes).expect("written");
        match open(folder.path(), 0) {
            Ok((found, _)) => assert!(!is_damage && found == groups[0]),
            Err(error) => assert!(is_damage && error.is_damage(), "{error}"),
        }
    }
}

/// It is not known what the file ends with.
#[test]
fn after_an_error_nothing_is_appended() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, wal) = open(folder.path(), 0).expect("a log");
    let first = group(1, &[3]);
    append(&wal, &first, Commit::Synced);
    let read_only = File::open(&files(folder.path())[0]).expect("opened");
    let sound = std::mem::replace(&mut wal.state().file, read_only);
    let try_append = || {
        let next = group(2, &[4]);
        let mut cells = next.iter().map(|(key, cell)| (key, cell));
        wal.append(&mut cells, Commit::Synced)
            .map_err(|error| error.to_string())
    };
    let error = try_append().expect_err("it cannot be written");
    assert!(!error.contains("failed before"), "{error}");
    wal.state().file = sound;
    let error = try_append().expect_err("what failed may be there");
    assert!(error.contains("failed before"), "{error}");
    let (found, _) = open(folder.path(), 0).expect("opened");
    assert_eq!(found, first);
}
