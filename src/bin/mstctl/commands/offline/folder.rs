//! The data folder of a storage, and what it holds.

use std::{path::Path, sync::Arc};

use zenoh_backend_mst::{
    cell::{Cell, CellKey, Key, Timestamp, Version},
    mst::{Builder, Mst, Resident, RootHash},
    store::{CellStore as _, DurableStore, QuarantineStore as _, RowHead, StoreError},
    wildcard::WildcardRules,
};

use crate::{exit::Error, progress::Progress};

/// Memory for the storage engine while a command runs.
pub(super) const CACHE: u64 = 64 << 20;

/// What says that a folder is a storage's.
pub(super) const FORMAT: &str = "FORMAT";

/// Opens a folder that is there: opening one that is not would make it.
pub(super) fn open(dir: &Path) -> Result<DurableStore, Error> {
    let problem = match (dir.is_dir(), dir.join(FORMAT).is_file()) {
        (true, true) => return Ok(DurableStore::open(dir, CACHE)?),
        (true, false) => "it is not the data folder of a storage: there is no file FORMAT in it",
        (false, _) => "there is no such folder",
    };
    Err(Error::Place {
        path: dir.to_owned(),
        problem: problem.to_owned(),
    })
}

type Entries = Vec<(CellKey, Version)>;

/// What a folder holds, without what a crash has left behind.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) entries: Entries,
    pub(super) keys: u64,
    pub(super) tombstones: u64,
    /// The latest time of a cell.
    pub(super) latest: u64,
    /// Cells that were found damaged, and have not been replaced.
    pub(super) quarantined: Entries,
    /// The delete rules.
    rules: WildcardRules,
}

impl Loaded {
    pub(super) fn tree(&self) -> Mst<Resident<CellKey, Version>> {
        let mut builder = Builder::new(Resident::default());
        for (key, version) in &self.entries {
            builder.push(key.clone(), *version);
        }
        builder.finish()
    }

    pub(super) fn root(&self) -> RootHash {
        let Ok(root) = self.tree().root();
        root
    }

    /// The cells of each key: all in a row.
    pub(super) fn by_key(&self) -> impl Iterator<Item = &[(CellKey, Version)]> {
        self.entries.chunk_by(|(a, _), (b, _)| a.key == b.key)
    }
}

/// Whether the cells are wildcard rules.
pub(super) fn is_rule(cells: &[(CellKey, Version)]) -> bool {
    cells.first().is_some_and(|(key, _)| key.key.is_pattern())
}

/// Whether a key has no value: it has nothing but a tombstone of its own.
pub(super) fn is_deleted(cells: &[(CellKey, Version)]) -> bool {
    let is_deletion =
        |(key, version): &(CellKey, Version)| key.part.is_empty() && version.tombstone;
    cells.iter().all(is_deletion)
}

/// Reads a folder. The error of a row that is damaged comes with what was read
/// before it.
pub(super) fn scan(store: &DurableStore) -> (Loaded, Result<(), StoreError>) {
    let mut loaded = Loaded::default();
    let progress = Progress::new("reading cells");
    // The own cell of the key that is being read, which comes first.
    let mut own: Option<(Key, Timestamp)> = None;
    let scanned = store.scan(&mut |key, RowHead { version, .. }| {
        let timestamp = version.timestamp;
        if key.part.is_empty() {
            own = Some((key.key.clone(), timestamp));
        } else if own
            .as_ref()
            .is_some_and(|(of, own)| *of == key.key && *own >= timestamp)
        {
            // It is covered, as if it had never been.
            return;
        }
        loaded.latest = loaded.latest.max(timestamp.time);
        if key.key.is_pattern() && version.tombstone {
            let tombstone = Arc::new(Cell::tombstone(timestamp));
            loaded.rules.join(&key, &tombstone);
        }
        loaded.entries.push((key, version));
        progress.set(loaded.entries.len() as u64, None);
    });
    if !loaded.rules.is_empty() {
        let rules = &loaded.rules;
        let is_covered = |key: &CellKey, at: Timestamp| rules.deleted(&key.key) >= Some(at);
        let entries = &mut loaded.entries;
        entries.retain(|(key, version)| !is_covered(key, version.timestamp));
    }
    let tombstones = loaded.entries.iter();
    let tombstones = tombstones.filter(|(key, held)| held.tombstone && !key.key.is_pattern());
    loaded.tombstones = tombstones.count() as u64;
    let keys = loaded
        .by_key()
        .filter(|cells| !is_rule(cells) && !is_deleted(cells))
        .count();
    loaded.keys = keys as u64;
    let quarantined = scanned.and_then(|()| store.quarantined());
    let quarantined = quarantined.map(|mut lost| {
        lost.retain(|(key, lost)| !is_replaced(&loaded, key, lost));
        loaded.quarantined = lost;
    });
    (loaded, quarantined)
}

/// Whether there is a cell in the place of one that was lost, or one that covers it.
fn is_replaced(loaded: &Loaded, key: &CellKey, lost: &Version) -> bool {
    let find = |key: &CellKey| {
        let entries = &loaded.entries;
        let place = entries.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        Some(entries.get(place)?.1)
    };
    let own = find(&CellKey::own(key.key.clone()));
    let covers = own.map(|own| own.timestamp);
    let covers = covers.max(loaded.rules.deleted(&key.key));
    find(key) >= Some(*lost) || covers >= Some(lost.timestamp)
}

pub(super) fn load(store: &DurableStore) -> Result<Loaded, Error> {
    let (loaded, scanned) = scan(store);
    scanned?;
    Ok(loaded)
}
