//! Opens what a loss of power left, and compares it with the history.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::Duration,
};

use zenoh_backend_mst::{
    cell::Version,
    config::Durability,
    mst::RootHash,
    replica::{Options, Replica},
    store::{DurableStore, complete_recovery, recover},
};

use super::{
    history::Group,
    workload::{CACHE, SMALL, rules},
};

/// A store as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub root: RootHash,
    pub cells: Group,
}

/// Why a store is not found.
#[derive(Clone, Debug)]
pub struct Refused {
    pub reason: String,
    pub is_damage: bool,
}

/// Opens the store, and reads all of it.
pub fn open(folder: &Path) -> Result<Found, Refused> {
    guarded(|| {
        let store = DurableStore::open_tuned(folder, CACHE, SMALL);
        let store = store.map_err(|error| Refused {
            is_damage: error.is_damage(),
            reason: error.to_string(),
        })?;
        look_at(store)
    })
}

/// Does what a replicated storage does whose store cannot be opened.
pub fn open_or_salvage(folder: &Path) -> Result<Found, Refused> {
    let complete = complete_recovery(folder);
    complete.map_err(|error| Refused {
        reason: error.to_string(),
        is_damage: false,
    })?;
    match open(folder) {
        Err(refused) if refused.is_damage => salvage(folder),
        opened => opened,
    }
}

/// Saves what can be read.
pub fn salvage(folder: &Path) -> Result<Found, Refused> {
    guarded(|| {
        let recovered = recover(folder, CACHE);
        let (store, _) = recovered.map_err(|error| Refused {
            reason: format!("salvage: {error}"),
            is_damage: false,
        })?;
        look_at(store)
    })
}

fn guarded(look: impl FnOnce() -> Result<Found, Refused>) -> Result<Found, Refused> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| {
        Err(Refused {
            reason: "it panicked".to_owned(),
            is_damage: true,
        })
    })
}

fn look_at(store: DurableStore) -> Result<Found, Refused> {
    let options = Options {
        durability: Durability::Always,
        sync_every: Duration::from_millis(100),
        settle: Duration::from_millis(200),
        max_clock_drift: Duration::from_secs(3600),
        keep_changes: false,
        collect_after: None,
        died_until: None,
    };
    let clock = Arc::new(|| u64::MAX / 2);
    let wrong = |reason: String| Refused {
        reason,
        is_damage: false,
    };
    let replica = Replica::open("check", Box::new(store), options, rules(), clock, ());
    let replica = replica.map_err(|error| match error {
        zenoh_backend_mst::replica::OpenError::Store(error) => Refused {
            is_damage: error.is_damage(),
            reason: error.to_string(),
        },
        error => wrong(error.to_string()),
    })?;
    let snapshot = replica
        .snapshot()
        .map_err(|error| wrong(error.to_string()))?;
    let Ok(checked) = snapshot.tree.check();
    checked.map_err(|violation| wrong(format!("{violation:?}")))?;
    let (mut cells, mut unreadable) = (Group::new(), Vec::new());
    let read = snapshot.for_each(|key, version, cell| {
        let is_right = cell.is_some_and(|cell| Version::of(key, &cell) == *version);
        cells.push((key.clone(), *version));
        if !is_right {
            unreadable.push(format!("{key:?}"));
        }
        true
    });
    read.map_err(|error| wrong(error.to_string()))?;
    if !unreadable.is_empty() {
        return Err(wrong(format!("not readable: {unreadable:?}")));
    }
    if replica.quarantined_cells() > 0 {
        return Err(wrong("there are cells in quarantine".to_owned()));
    }
    let root = snapshot.root();
    drop(snapshot);
    replica.close().map_err(|error| wrong(error.to_string()))?;
    Ok(Found { root, cells })
}
