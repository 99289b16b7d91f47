//! What the tree holds of a cell.

use std::sync::{Arc, LazyLock};

use crate::{
    cell::{Cell, CellDigest, CellKey, TIMESTAMP_ID_BYTES, Timestamp, Version},
    hash::HASH_BYTES,
    merge::shown_until,
    mst::Digested,
};

/// All of a cell but its value; and if there is no store to keep the cell, the cell
/// itself.
///
/// As there is one for each cell of a storage, and they are moved about as keys come, it is small: 64
/// bytes. A tombstone has nothing but its timestamp, so none is kept; what stands in its place says that
/// it is one. The same goes for a value whose payload has a row of its own in the store. One of which its
/// own encoding says for how long it is shown has a mark of its own, which says until when.
///
/// Two are equal if they are of the same cell, whoever keeps it.
#[derive(Clone, Debug)]
pub struct TreeEntry {
    timestamp: Timestamp,
    digest: CellDigest,
    cell: Option<Arc<Cell>>,
}

const _: () = assert!(size_of::<TreeEntry>() == 64);

/// Stands for any tombstone: what counts is that it is this one.
static DELETED: LazyLock<Arc<Cell>> = LazyLock::new(mark);

/// Stands for any value whose payload is apart.
static APART: LazyLock<Arc<Cell>> = LazyLock::new(mark);

fn mark() -> Arc<Cell> {
    let (time, id) = (0, [0; TIMESTAMP_ID_BYTES]);
    Arc::new(Cell::tombstone(Timestamp { time, id }))
}

/// In the mark of a value that is shown for some time: whether its payload is apart.
const INLINE_ID: [u8; TIMESTAMP_ID_BYTES] = [0; TIMESTAMP_ID_BYTES];
const APART_ID: [u8; TIMESTAMP_ID_BYTES] = [1; TIMESTAMP_ID_BYTES];

fn until_mark(time: u64, is_apart: bool) -> Arc<Cell> {
    let id = match is_apart {
        true => APART_ID,
        false => INLINE_ID,
    };
    Arc::new(Cell::tombstone(Timestamp { time, id }))
}

impl TreeEntry {
    /// `version` is the cell's, which is here if there is no store to keep it.
    pub(in crate::replica) fn new(version: Version, cell: Option<Arc<Cell>>) -> Self {
        let Version {
            timestamp,
            tombstone,
            digest,
        } = version;
        Self {
            timestamp,
            digest,
            cell: match tombstone {
                true => Some(Arc::clone(&DELETED)),
                false => cell,
            },
        }
    }

    /// Of a cell that is in a row, whether its payload has a row of its own, and [until
    /// when](crate::merge::shown_until) it is shown.
    pub(in crate::replica) fn in_row(version: Version, is_apart: bool, shown_until: u64) -> Self {
        let is_marked = !version.tombstone && shown_until < u64::MAX;
        let mark = match (is_marked, is_apart) {
            (true, _) => Some(until_mark(shown_until, is_apart)),
            (false, true) => Some(Arc::clone(&APART)),
            (false, false) => None,
        };
        Self::new(version, mark)
    }

    /// The mark of a value that is shown for some time. No cell has the timestamp of another one: so
    /// what stands here and has another is a mark, and its time is until when.
    fn until_mark(&self) -> Option<&Cell> {
        let mark = self.cell.as_deref();
        mark.filter(|mark| mark.timestamp.time > self.timestamp.time && mark.value().is_none())
    }

    /// Whether the payload of its row has a row of its own.
    pub(in crate::replica) fn is_apart(&self) -> bool {
        let cell = self.cell.as_ref();
        let is_apart = |mark: &Cell| mark.timestamp.id == APART_ID;
        cell.is_some_and(|cell| Arc::ptr_eq(cell, &APART))
            || self.until_mark().is_some_and(is_apart)
    }

    /// From when on it is not shown, by what the cell says itself; see
    /// [`shown_until`](crate::merge::shown_until).
    pub(crate) fn shown_until(&self) -> u64 {
        match (&self.cell, self.until_mark()) {
            (None, _) => u64::MAX,
            (_, Some(mark)) => mark.timestamp.time,
            _ if self.is_tombstone() => 0,
            _ if self.is_apart() => u64::MAX,
            (Some(cell), None) => shown_until(cell),
        }
    }

    /// When the cell was written, and by whom.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Whether it is a tombstone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        let cell = self.cell.as_ref();
        cell.is_some_and(|cell| Arc::ptr_eq(cell, &DELETED))
    }

    /// Its place in the order of last writer wins.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            timestamp: self.timestamp,
            tombstone: self.is_tombstone(),
            digest: self.digest,
        }
    }

    /// Whether the cell is here, and is what the digest says. Hashes it.
    pub(in crate::replica) fn is_whole(&self, key: &CellKey) -> bool {
        let cell = self.cell();
        cell.is_some_and(|cell| Version::of(key, &cell) == self.version())
    }

    /// The cell, if it is not a value in a store.
    #[must_use]
    pub fn cell(&self) -> Option<Arc<Cell>> {
        match self.is_tombstone() {
            true => Some(Arc::new(Cell::tombstone(self.timestamp))),
            false => {
                let is_mark = self.is_apart() || self.until_mark().is_some();
                self.cell.clone().filter(|_| !is_mark)
            }
        }
    }
}

impl From<Version> for TreeEntry {
    fn from(version: Version) -> Self {
        Self::new(version, None)
    }
}

impl PartialEq for TreeEntry {
    fn eq(&self, other: &Self) -> bool {
        self.version() == other.version()
    }
}

impl Eq for TreeEntry {}

impl Digested for TreeEntry {
    fn digest(&self) -> &[u8; HASH_BYTES] {
        &self.digest.0
    }
}
