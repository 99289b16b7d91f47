//! What can be read of a damaged store, and what cannot.

use std::path::Path;

use super::{
    StoreError, Write,
    catch_up::Newest,
    engine::Engine,
    folder::Folders,
    layout,
    quarantine::quarantined,
    rows::{Met, scan_readable},
    wal::Wal,
};
use crate::cell::{CellKey, Version};

/// A part of a damaged store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostPart {
    /// A cell, and its version if it is known.
    Cell(CellKey, Option<Version>),
    /// All rows between these two, which were read; from the first row on, or to the last.
    Rows {
        /// The last row before.
        after: Option<CellKey>,
        /// The first row behind.
        before: Option<CellKey>,
    },
    /// A part of the write-ahead log, whose cells may be in rows or not.
    Log,
}

/// What could not be read of a damaged store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it is.
    pub part: LostPart,
    /// Why.
    pub reason: String,
}

/// Hears of what can be read, and of what cannot.
pub(super) trait Salvager {
    fn save(&mut self, write: Write) -> Result<(), StoreError>;
    fn lose(&mut self, lost: Lost);
}

/// Shows what can be read of a damaged store: first rows from both ends, then the log.
///
/// # Errors
/// What saving fails with, and what is no damage: a folder in use, or that may not be read.
pub(super) fn read_damaged(
    path: &Path,
    cache_size: u64,
    salvager: &mut dyn Salvager,
) -> Result<(), StoreError> {
    let folders = Folders::in_store(path);
    // Where it lacks something the engine would remove the rest.
    let engine =
        layout::check(path, &folders).and_then(|()| Engine::open(path, &folders, cache_size));
    match engine {
        Ok(engine) => read_rows(&engine, salvager)?,
        Err(error) if error.is_damage() => salvager.lose(Lost {
            part: LostPart::Rows {
                after: None,
                before: None,
            },
            reason: error.to_string(),
        }),
        Err(error) => return Err(error),
    }
    let mut newest = Newest::default();
    let unreadable = Wal::salvage(&folders.log, &mut |key, cell| {
        newest.join(Write::of(key, cell))
    });
    for reason in unreadable {
        let part = LostPart::Log;
        salvager.lose(Lost { part, reason });
    }
    newest
        .0
        .into_values()
        .try_for_each(|write| salvager.save(write))
}

fn read_rows(engine: &Engine, salvager: &mut dyn Salvager) -> Result<(), StoreError> {
    let (rows, snapshot) = (engine.rows(), engine.database.snapshot());
    let mut ends = [None, None];
    let mut stopped = None;
    for (end, is_backward) in ends.iter_mut().zip([false, true]) {
        let mut result = Ok(());
        let read = scan_readable(&rows, &snapshot, is_backward, &mut |met| {
            match met {
                Met::Whole(write) => {
                    *end = Some(write.key.clone());
                    result = salvager.save(write);
                }
                Met::Damaged(key, version, error) => {
                    *end = Some(key.clone());
                    salvager.lose(Lost {
                        part: LostPart::Cell(key, version),
                        reason: error.to_string(),
                    });
                }
            }
            result.is_ok()
        });
        result?;
        stopped = match read {
            // All of it: there is nothing left for the way back.
            Ok(()) => None,
            Err(error) if error.is_damage() => Some(error),
            Err(error) => return Err(error),
        };
        if stopped.is_none() {
            break;
        }
    }
    if let Some(error) = stopped {
        let [after, before] = ends;
        salvager.lose(Lost {
            part: LostPart::Rows { after, before },
            reason: error.to_string(),
        });
    }
    match quarantined(engine) {
        Ok(damaged) => damaged.into_iter().for_each(|(key, version)| {
            salvager.lose(Lost {
                part: LostPart::Cell(key, Some(version)),
                reason: "it was found damaged before, and is in quarantine".to_owned(),
            });
        }),
        // Whatever was in it is in no row.
        Err(error) => tracing::warn!("saving what can be read of a store: {error}"),
    }
    Ok(())
}
