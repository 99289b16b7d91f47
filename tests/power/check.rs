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
    merge::MergeRules,
    mst::RootHash,
    replica::{Options, Replica},
    store::{CellStore as _, DurableStore, complete_recovery, recover},
};

use super::{
    history::{Group, is_dead, root_of},
    workload::{CACHE, SMALL, rules},
};

/// A store as it is found: what lives in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub root: RootHash,
    pub cells: Group,
    /// Rows that were dead, and there still, before it was opened.
    pub dead_rows: usize,
}

/// Why a store is not found.
#[derive(Clone, Debug)]
pub struct Refused {
    pub reason: String,
    pub is_damage: bool,
}

/// A clock of which no write is ahead.
pub const LATEST: u64 = u64::MAX / 2;

/// By which rules, and at which time, a store is opened.
#[derive(Clone)]
pub struct Opening {
    pub rules: Arc<MergeRules>,
    pub clock: u64,
}

/// Opens a store of which nothing dies, and reads all of it.
pub fn open(folder: &Path) -> Result<Found, Refused> {
    let opening = Opening {
        rules: rules(),
        clock: LATEST,
    };
    opening.open(folder)
}

fn guarded(look: impl FnOnce() -> Result<Found, Refused>) -> Result<Found, Refused> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| {
        Err(Refused {
            reason: "it panicked".to_owned(),
            is_damage: true,
        })
    })
}

impl Opening {
    /// Opens the store, and reads all of it.
    pub fn open(&self, folder: &Path) -> Result<Found, Refused> {
        guarded(|| {
            let store = DurableStore::open_tuned(folder, CACHE, SMALL);
            let store = store.map_err(|error| Refused {
                is_damage: error.is_damage(),
                reason: error.to_string(),
            })?;
            self.look_at(store)
        })
    }

    /// Does what a replicated storage does whose store cannot be opened.
    pub fn open_or_salvage(&self, folder: &Path) -> Result<Found, Refused> {
        let complete = complete_recovery(folder);
        complete.map_err(|error| Refused {
            reason: error.to_string(),
            is_damage: false,
        })?;
        match self.open(folder) {
            Err(refused) if refused.is_damage => self.salvage(folder),
            opened => opened,
        }
    }

    /// Saves what can be read.
    pub fn salvage(&self, folder: &Path) -> Result<Found, Refused> {
        guarded(|| {
            let recovered = recover(folder, CACHE);
            let (store, _) = recovered.map_err(|error| Refused {
                reason: format!("salvage: {error}"),
                is_damage: false,
            })?;
            self.look_at(store)
        })
    }

    fn look_at(&self, store: DurableStore) -> Result<Found, Refused> {
        let options = Options {
            durability: Durability::Always,
            sync_every: Duration::from_millis(100),
            settle: Duration::from_millis(200),
            max_clock_drift: Duration::from_secs(3600),
            keep_changes: false,
            collect_after: None,
            died_until: None,
        };
        let (clock, lifetimes) = (self.clock, Arc::clone(self.rules.lifetimes()));
        let wrong = |reason: String| Refused {
            reason,
            is_damage: false,
        };
        let mut dead_rows = 0;
        if !lifetimes.is_empty() {
            let scanned = store.scan(&mut |key, head| {
                dead_rows += usize::from(is_dead(&lifetimes, &(key, head.version), clock));
            });
            scanned.map_err(|error| Refused {
                is_damage: error.is_damage(),
                reason: error.to_string(),
            })?;
        }
        let rules = Arc::clone(&self.rules);
        let told = Arc::new(move || clock);
        let replica = Replica::open("check", Box::new(store), options, rules, told, ());
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
        if snapshot.root() != root_of(cells.iter().cloned()) {
            return Err(wrong("the root is not that of its cells".to_owned()));
        }
        drop(snapshot);
        replica.close().map_err(|error| wrong(error.to_string()))?;
        // How far the deaths had come by then differs.
        cells.retain(|cell| !is_dead(&lifetimes, cell, clock));
        Ok(Found {
            root: root_of(cells.iter().cloned()),
            cells,
            dead_rows,
        })
    }
}
