//! What a crash leaves of a simulated replica.

use std::{collections::BTreeMap, sync::Arc};

use super::disk::Disk;
use crate::{
    cell::{Cell, CellKey, Version},
    merge::{Lifetimes, shown_until},
    replica::apply::{
        entry::TreeEntry,
        loader::{Built, Loader},
    },
    store::model::Rows,
    wildcard::WildcardRules,
};

/// The newest version of each cell of which a writer was told that it is on the disk.
pub(crate) type Promised = BTreeMap<CellKey, Version>;

/// What a crash left, and what was promised of it.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(super) disk: Disk,
    pub(super) promised: Promised,
    /// The latest watermark at which what is dead has left the disk.
    pub(super) died: u64,
}

/// What a crash is to take back, of what it may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    /// Batches of rows.
    pub(crate) batches: usize,
    /// Groups of the log.
    pub(crate) groups: u64,
    /// Whether the group that is being appended is lost.
    pub(crate) is_append_torn: bool,
}

/// The tree of what is stored, and what a crash left behind.
pub(super) fn load(rows: &Rows) -> Built {
    let mut loader = Loader::new();
    for (key, cell) in rows {
        let version = Version::of(key, cell);
        loader.push(
            key.clone(),
            TreeEntry::in_row(version, false, shown_until(cell)),
        );
    }
    loader.finish()
}

/// That rows have what was promised, or what is newer, or covers it, but for what is dead at this
/// watermark, and tombstones below the floor, which cover as if they were there.
pub(crate) fn check_promised(
    rows: &Rows,
    promised: &Promised,
    lifetimes: &Lifetimes,
    died: u64,
    floor: u64,
) {
    let may_be_collected = |version: &Version| version.tombstone && version.timestamp.time < floor;
    let collected = |key: &CellKey| {
        let version = promised.get(key).copied();
        version
            .filter(may_be_collected)
            .map(|version| version.timestamp)
    };
    let mut rules = WildcardRules::default();
    for (key, cell) in rows.iter().filter(|(key, _)| key.key.is_pattern()) {
        rules.join(key, cell);
    }
    for (key, version) in promised {
        if key.key.is_pattern() && key.part.is_empty() && may_be_collected(version) {
            rules.join(key, &Arc::new(Cell::tombstone(version.timestamp)));
        }
    }
    for (key, version) in promised {
        let held = rows.get(key).map(|cell| Version::of(key, cell));
        let own_key = CellKey::own(key.key.clone());
        let own = rows.get(&own_key).map(|own| own.timestamp);
        let own = own.max(collected(&own_key));
        let own = own.filter(|_| !key.part.is_empty() || collected(&own_key) == own);
        let gone = rules.deleted(&key.key).max(lifetimes.dead(&key.key, died));
        let is_covered = own.max(gone) >= Some(version.timestamp);
        assert!(
            held >= Some(*version) || is_covered,
            "{key:?} was promised as {version:?}, and there is {held:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        cell::{Cell, Key, Timestamp},
        config::Durability,
        replica::{
            Now,
            simulated::{SimulatedReplica, ideal},
        },
    };

    const NOW: Now = Now {
        clock: 1_700_000_000 << 32,
        monotonic: Duration::ZERO,
    };
    const SETTLE: Duration = Duration::from_millis(500);

    fn open(image: Image, durability: Durability) -> SimulatedReplica {
        SimulatedReplica::open(image, SETTLE, durability, ideal(), &Arc::default(), NOW)
    }

    fn key() -> CellKey {
        CellKey::own(Key::from(Some("k".try_into().unwrap())))
    }

    /// After a write with this durability.
    fn written(durability: Durability) -> SimulatedReplica {
        let mut replica = open(Image::default(), durability);
        let (time, id) = (NOW.clock, [1; 16]);
        replica.offer(key(), Cell::tombstone(Timestamp { time, id }));
        replica.request_commit();
        replica
    }

    #[test]
    fn what_was_promised_survives_a_crash_and_what_was_not_need_not() {
        for durability in [Durability::Always, Durability::Interval, Durability::None] {
            let replica = written(durability);
            let most = replica.most_lost();
            assert_eq!(most.groups, u64::from(durability == Durability::None));
            let reopened = open(replica.crash(most), durability);
            let is_there = reopened.disk().contains_key(&key());
            assert_eq!(is_there, durability != Durability::None);
        }
    }

    #[test]
    #[should_panic(expected = "was promised")]
    fn a_disk_that_loses_what_was_promised_is_found_out() {
        let mut image = written(Durability::Always).crash(Lost::default());
        image.disk = Disk::default();
        open(image, Durability::Always);
    }
}
