//! Which of the engine's keyspaces have the rows, as the sidecar `ROWS` says after a
//! [rewrite](super::rewrite).

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{Sidecar, StoreError, folder::io_error, rows::Rows};

/// The keyspaces that have the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Current {
    pub(super) generation: u64,
    cells: u64,
    payloads: u64,
    quarantine: u64,
    /// The last number that the engine has given to a keyspace which was, or may have been, deleted: see
    /// [`reserve`](Self::reserve).
    last: u64,
}

impl Current {
    /// What the folder says; nothing if rows were never rewritten.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let Some(line) = Sidecar::Rows.read(dir)? else {
            return Ok(None);
        };
        let current = serde_json::from_str(&line);
        current.map(Some).map_err(|_| StoreError::List {
            path: dir.join(Sidecar::Rows.name()),
        })
    }

    pub(super) fn of(rows: &Rows, quarantine: u64, last: u64) -> Self {
        let (cells, payloads) = (rows.cells.id(), rows.payloads.id());
        Self {
            generation: rows.generation,
            cells,
            payloads,
            quarantine,
            last: last.max(cells).max(payloads).max(quarantine),
        }
    }

    /// Has the engine give no number to a keyspace that another one had. It numbers by the folders that
    /// are there, and remembers of a deleted keyspace that it is deleted, under its number: after the loss
    /// of a journal what it says of a new keyspace may count as older than that, and the keyspace be
    /// removed at the next opening (`recover_keyspaces` and `MetaKeyspace` of fjall 3.1.13). A folder that
    /// is nothing to it is removed when it is opened, and counts.
    pub(super) fn reserve(&self, engine: &Path) -> Result<(), StoreError> {
        let keyspaces = engine.join("keyspaces");
        let reserved = keyspaces.join(self.last.to_string());
        match keyspaces.is_dir() && !reserved.exists() {
            true => fs::create_dir(&reserved).map_err(io_error("create", &reserved)),
            false => Ok(()),
        }
    }

    /// The last number that is not to be given again.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn write(self, dir: &Path) -> Result<(), StoreError> {
        // Numbers and their names: there is nothing that could not be written.
        let line = serde_json::to_string(&self).unwrap_or_default();
        Sidecar::Rows.write(dir, &line)
    }

    /// Removes what is left of a rewrite that was cut short, or whose end was: the folders of keyspaces that
    /// are not needed. Their numbers are not given again. Of a keyspace whose deletion was cut short the
    /// engine may find the name and not the options, and ends the process; so it sees none of them. That
    /// nobody has the folder open was looked at before (`layout::check`).
    pub(super) fn without_others(self, dir: &Path, engine: &Path) -> Result<Self, StoreError> {
        let keyspaces = engine.join("keyspaces");
        let mut others = Vec::new();
        if keyspaces.is_dir() {
            for entry in fs::read_dir(&keyspaces).map_err(io_error("list", &keyspaces))? {
                let path = entry.map_err(io_error("list", &keyspaces))?.path();
                let number = path
                    .file_name()
                    .and_then(|name| name.to_str()?.parse().ok());
                others.extend(number.filter(|number| !self.needs(*number)));
            }
        }
        let last = others.iter().copied().fold(self.last, u64::max);
        let current = Self { last, ..self };
        if last != self.last {
            current.write(dir)?;
        }
        for number in others {
            let path = keyspaces.join(number.to_string());
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
        Ok(current)
    }

    /// Whether the store needs the engine's keyspace of this number. 0 is its own.
    pub(super) fn needs(&self, number: u64) -> bool {
        [0, self.cells, self.payloads, self.quarantine].contains(&number)
    }
}
