//! The tree, from a store that is opened.

use std::sync::mpsc;

use super::{
    error::OpenError,
    settled::{Loader, Settled},
};
use crate::{
    cell::{CellKey, CellMeta},
    store::Store,
};

/// What a store holds.
pub(super) struct Loaded {
    pub(super) settled: Settled,
    /// Rows that a crash left behind.
    pub(super) covered: Vec<CellKey>,
    /// Cells that were damaged, and have not been replaced.
    pub(super) quarantined: Vec<(CellKey, CellMeta)>,
    /// The latest time of a cell.
    pub(super) latest: u64,
}

/// Cells that are handed over at once while loading, and hand-overs that may wait.
const LOAD_CHUNK: usize = 4096;
const LOAD_AHEAD: usize = 8;

/// Builds the tree while the store is read: each takes a processor.
pub(super) fn load(store: &dyn Store) -> Result<Loaded, OpenError> {
    let (sender, chunks) = mpsc::sync_channel::<Vec<(CellKey, CellMeta)>>(LOAD_AHEAD);
    std::thread::scope(|scope| {
        let building = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut loader = Loader::new();
            let mut latest = 0;
            for (key, meta) in chunks.into_iter().flatten() {
                latest = latest.max(meta.version.stamp.time);
                loader.push(key, meta);
            }
            Loaded {
                covered: std::mem::take(&mut loader.covered),
                quarantined: Vec::new(),
                settled: loader.finish(),
                latest,
            }
        })?;
        let mut chunk = Vec::with_capacity(LOAD_CHUNK);
        // A builder that is gone has panicked, which `join` tells.
        let hand_over = |chunk| drop(sender.send(chunk));
        let scanned = store.scan(&mut |key, meta| {
            chunk.push((key, meta));
            if chunk.len() == LOAD_CHUNK {
                hand_over(std::mem::replace(
                    &mut chunk,
                    Vec::with_capacity(LOAD_CHUNK),
                ));
            }
        });
        hand_over(chunk);
        drop(sender);
        let loaded = building.join();
        scanned?;
        let mut loaded = loaded.map_err(|_| OpenError::Panic)?;
        // What replaces one is committed before the one is let go of.
        let mut quarantined = store.quarantined()?;
        quarantined.retain(|(key, lost)| {
            let replaced = loaded.settled.get(key).map(|meta| meta.version());
            let covering = loaded.settled.covering(key);
            replaced < Some(lost.version) && covering < Some(lost.version.stamp)
        });
        loaded.quarantined = quarantined;
        Ok(loaded)
    })
}
