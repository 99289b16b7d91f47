//! The tree, from a store that is opened.

use std::sync::mpsc;

use super::{
    entry::TreeEntry,
    loader::{Built, Loader},
    tree::AppliedTree,
};
use crate::{
    cell::{CellKey, Version},
    merge::ttl,
    replica::OpenError,
    store::{RowHead, Store},
};

/// What a store holds.
pub(in crate::replica) struct Loaded {
    pub(in crate::replica) tree: AppliedTree,
    /// Rows that a crash left behind, and whether their payload is apart.
    pub(in crate::replica) covered: Vec<(CellKey, bool)>,
    /// The put rules in the tree.
    pub(in crate::replica) put_rules: Vec<(CellKey, Version)>,
    /// Cells that were damaged, and have not been replaced.
    pub(in crate::replica) quarantined: Vec<(CellKey, Version)>,
    /// Cells in quarantine that were replaced just before a crash.
    pub(in crate::replica) replaced: Vec<CellKey>,
    /// The latest time of a cell.
    pub(in crate::replica) latest: u64,
}

/// Cells that are handed over at once while loading, and hand-overs that may wait.
const LOAD_CHUNK: usize = 4096;
const LOAD_AHEAD: usize = 8;

/// Builds the tree while the store is read: each takes a processor.
pub(in crate::replica) fn load(store: &dyn Store) -> Result<Loaded, OpenError> {
    let (sender, chunks) = mpsc::sync_channel::<Vec<(CellKey, TreeEntry)>>(LOAD_AHEAD);
    std::thread::scope(|scope| {
        let building = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut loader = Loader::new();
            let mut latest = 0;
            for (key, held) in chunks.into_iter().flatten() {
                latest = latest.max(held.timestamp().time);
                loader.push(key, held);
            }
            let Built {
                tree,
                covered,
                put_rules,
            } = loader.finish();
            Loaded {
                covered,
                put_rules,
                quarantined: Vec::new(),
                replaced: Vec::new(),
                tree,
                latest,
            }
        })?;
        let mut chunk = Vec::with_capacity(LOAD_CHUNK);
        // A builder that is gone has panicked, which `join` tells.
        let hand_over = |chunk| drop(sender.send(chunk));
        let scanned = store.scan(&mut |key, head| {
            let RowHead {
                version,
                is_apart,
                ttl,
            } = head;
            let ttl = ttl.as_deref();
            let until = ttl.map_or(u64::MAX, |ttl| ttl::until(version.timestamp.time, ttl));
            chunk.push((key, TreeEntry::in_row(version, is_apart, until)));
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
        for (key, lost) in store.quarantined()? {
            let current = loaded.tree.get(&key).map(TreeEntry::version);
            let covering = loaded.tree.covering(&key);
            match current < Some(lost) && covering < Some(lost.timestamp) {
                true => loaded.quarantined.push((key, lost)),
                false => loaded.replaced.push(key),
            }
        }
        Ok(loaded)
    })
}
