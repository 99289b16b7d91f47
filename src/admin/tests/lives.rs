//! Backups, restores, rollbacks and checks of a storage whose keys have lifetimes.

use super::*;
use crate::cell::Version;

/// How old, in seconds, what is written is: of what has a lifetime, [`LIFE`], the last two are dead.
const AGES: [u64; 4] = [1, 30, 90, 3600];
const LIFE: u64 = 60;

const KEYS: [&str; 6] = [
    "short/1", "short/2", "short/3", "long/1", "long/2", "long/3",
];

/// Of which key, how old, and what; nothing for a delete.
type Old = (usize, usize, Option<u8>);

fn any_old() -> impl Strategy<Value = Vec<Old>> {
    let content = prop::option::weighted(0.8, 0u8..3);
    prop::collection::vec((0..KEYS.len(), 0..AGES.len(), content), 0..20)
}

fn with_lifetimes() -> Administration {
    let lives = lifetimes(json!({ "short/*": format!("{LIFE}s") }));
    let rules = MergeRules::lww().with_lifetimes(lives);
    administration_by(None, rules.expect("valid"))
}

fn cell_of((_, age, content): Old, now: u64) -> Cell {
    let timestamp = Timestamp {
        time: now - (AGES[age] << 32),
        id: [5; 16],
    };
    let content = content.map(|byte| {
        Content::Value(Value {
            encoding_id: 4,
            schema: None,
            attachment: None,
            payload: vec![byte].into(),
        })
    });
    Cell {
        timestamp,
        content: content.unwrap_or(Content::Tombstone),
    }
}

/// Of each key the newest, be it dead.
fn join(cells: &mut BTreeMap<Key, Cell>, olds: &[Old], now: u64) {
    for old in olds {
        let (key, cell) = (key(KEYS[old.0]), cell_of(*old, now));
        let version = |cell: &Cell| Version::of(&CellKey::own(key.clone()), cell);
        let newest = cells.entry(key.clone()).or_insert_with(|| cell.clone());
        if version(newest) < version(&cell) {
            *newest = cell;
        }
    }
}

/// Without what is dead.
fn living(cells: &BTreeMap<Key, Cell>, now: u64) -> BTreeMap<Key, Cell> {
    let mut living = cells.clone();
    living.retain(|key, cell| !is_dead(key, cell, now));
    living
}

fn is_dead(key: &Key, cell: &Cell, now: u64) -> bool {
    key.to_string().starts_with("short/") && cell.timestamp.time + (LIFE << 32) <= now
}

fn put_old(admin: &Administration, olds: &[Old], now: u64) {
    for old in olds {
        let put = admin.replica.put(key(KEYS[old.0]), cell_of(*old, now));
        drop(put.expect("taken"));
    }
}

fn cells_of(admin: &Administration) -> BTreeMap<Key, Cell> {
    let mut cells = BTreeMap::new();
    let snapshot = admin.replica.snapshot().expect("sound");
    let read = snapshot.for_each(|key, _, cell| {
        let cell = cell.expect("it is there");
        cells.insert(key.key.clone(), Cell::clone(&cell));
        true
    });
    read.expect("it can be read");
    cells
}

fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let reader = BackupReader::open(bytes).expect("a backup");
    let frames = reader.verified_frames();
    frames.map(|frame| frame.expect("a frame")).collect()
}

/// The payloads that are shown.
fn payloads(cells: &BTreeMap<Key, Cell>) -> BTreeMap<Key, Vec<u8>> {
    let shown = cells.iter();
    let shown = shown.filter_map(|(key, cell)| Some((key.clone(), cell.value()?.payload.to_vec())));
    shown.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    // L6: backups, restores, rollbacks and checks give what is not dead, and nothing else; what is dropped
    // is counted.
    #[test]
    fn neither_backup_nor_restore_nor_rollback_has_what_is_dead(
        backed_up in any_old(),
        own in any_old(),
    ) {
        // One without lifetimes: what died in the backup since.
        let (source, now) = (administration_by(None, MergeRules::lww()), clock()());
        put_old(&source, &backed_up, now);
        let (bytes, _) = backup(&source);
        let mut was = BTreeMap::new();
        join(&mut was, &backed_up, now);

        let admin = with_lifetimes();
        put_old(&admin, &own, now);
        settle(&admin);
        let mut model = BTreeMap::new();
        join(&mut model, &own, now);
        model = living(&model, now);
        prop_assert_eq!(&cells_of(&admin), &model);

        let (mut would, mut done) = (Restored::default(), Restored::default());
        for frame in frames(&bytes) {
            let previewed = admin.preview_restore(&frame).expect("restored");
            let restored = admin.restore(&frame, &mut |_, _| ()).expect("restored");
            for (sum, one) in [(&mut would, previewed), (&mut done, restored)] {
                sum.cells += one.cells;
                sum.newest += one.newest;
                sum.rejected += one.rejected;
                sum.dead += one.dead;
            }
        }
        // (Of two of one time only the one that is restored tells which is newer.)
        prop_assert_eq!((would.cells, would.rejected, would.dead), (done.cells, done.rejected, done.dead));
        let dead = was.iter().filter(|(key, cell)| is_dead(key, cell, now));
        prop_assert_eq!(done.dead, dead.count() as u64);
        prop_assert_eq!((done.cells, done.rejected), (was.len() as u64, 0));
        settle(&admin);
        join(&mut model, &backed_up, now);
        model = living(&model, now);
        prop_assert_eq!(&cells_of(&admin), &model);

        // So has a backup of that, and an empty storage that is restored from it; nothing of it is damaged.
        let (again, copied) = backup(&admin);
        prop_assert_eq!(copied.cells, model.len() as u64);
        let restored = with_lifetimes();
        for frame in frames(&again) {
            restored.restore(&frame, &mut |_, _| ()).expect("restored");
        }
        settle(&restored);
        prop_assert_eq!((root(&restored), cells_of(&restored)), (copied.root, model.clone()));
        let verified = admin.verify(&mut |_, _| true).expect("verified");
        prop_assert_eq!((verified.damaged, verified.tree), (0, Ok(())));

        // A rollback has keys back whose values live, deletes those that were not there, and leaves alone
        // those whose values have died since.
        let mut expected = payloads(&living(&was, now));
        let left = payloads(&model).into_iter();
        expected.extend(left.filter(|(key, _)| was.get(key).is_some_and(|cell| is_dead(key, cell, now))));
        let mut rolled_back = RolledBack::default();
        let reader = BackupReader::open(&bytes[..]).expect("a backup");
        for frame in reader.rollback_frames(WildcardRules::default()) {
            let frame = frame.expect("a frame");
            let preview = admin.preview_rollback(frame.clone()).expect("previewed");
            let done = admin.roll_back(frame, [6; 16], &mut |_, _| ()).expect("rolled back");
            prop_assert_eq!(preview, done);
            rolled_back.add(done);
        }
        let shown = values(&admin).into_iter();
        let shown: BTreeMap<_, _> = shown.map(|(key, value)| (key, value.payload.to_vec())).collect();
        prop_assert_eq!(shown, expected);
        prop_assert_eq!(rolled_back.dead, done.dead);
    }
}
