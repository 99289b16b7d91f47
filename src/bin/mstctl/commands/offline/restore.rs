//! Makes a folder of a backup.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use zenoh::key_expr::OwnedKeyExpr;
use zenoh_backend_mst::{
    backup::{BackupReader, Header},
    cell::Version,
    store::{CellStore as _, DurableStore, Owner, Write},
};

use super::folder::{CACHE, FORMAT, load};
use crate::{
    args::Restore,
    commands::{
        restore::{backup_error, verified},
        verify,
    },
    exit::{Answer, Error, file_error},
    files::{self, sync_parent, with_suffix},
    output::{Output, Tone, note},
    progress::Progress,
};

/// The same, while it is being made.
const UNFINISHED_FORMAT: &str = "FORMAT.new";

/// What a folder is called while a backup is restored into it: this is added to
/// its name.
const RESTORING: &str = ".restoring";

/// Restores into a folder of another name, which gets its own when all is there.
pub(super) fn restore(output: Output, dir: &Path, args: &Restore) -> Result<Answer, Error> {
    if args.force_key_expr {
        return Err(Error::Usage(
            "--force-key-expr is for a live storage; a folder takes any backup".to_owned(),
        ));
    }
    let unfinished = vacant(dir)?;
    let header = verified(&args.file)?;
    let filled = fill(&unfinished, &args.file, &header);
    if filled.is_err() {
        // The error says more than a failure to clean up.
        let _ = fs::remove_dir_all(&unfinished);
    }
    filled?;
    if dir.is_dir() {
        fs::remove_dir(dir).map_err(file_error("replace", dir))?;
    }
    fs::rename(&unfinished, dir).map_err(file_error("rename", &unfinished))?;
    sync_parent(dir)?;
    let document = json!({
        "dir": dir.display().to_string(),
        "cells": header.cells,
        "root": header.root.to_string(),
        "verified": true,
    });
    output.either(&document, |output| {
        let made = format!(
            "{}: restored, and verified: its root is the backup's",
            dir.display()
        );
        format!(
            "{}\n{}",
            output.paint(Tone::Good, &made),
            verify::text(&header)
        )
    })?;
    Ok(Answer::Yes)
}

/// Where a folder is to be made that is not there, or empty. What an earlier restore
/// has left, that was killed, is removed.
pub(super) fn vacant(dir: &Path) -> Result<PathBuf, Error> {
    if dir.exists() {
        let mut entries = fs::read_dir(dir).map_err(file_error("list", dir))?;
        if entries.next().is_some() {
            return Err(Error::Place {
                path: dir.to_owned(),
                problem: "a backup is restored into a folder that is missing or empty: choose \
                          another, or move this one away"
                    .to_owned(),
            });
        }
    }
    let unfinished = with_suffix(dir, RESTORING);
    if !unfinished.exists() {
        return Ok(unfinished);
    }
    let is_ours = [FORMAT, UNFINISHED_FORMAT]
        .iter()
        .any(|name| unfinished.join(name).is_file());
    if !is_ours {
        return Err(Error::Place {
            path: unfinished,
            problem: "it is in the way, and not left behind by a restore: move it away".to_owned(),
        });
    }
    note(&format!(
        "removing {}, which a restore did not finish",
        unfinished.display()
    ));
    // Whoever is at it at this moment keeps it.
    drop(DurableStore::open(&unfinished, CACHE)?);
    fs::remove_dir_all(&unfinished).map_err(file_error("remove", &unfinished))?;
    Ok(unfinished)
}

/// The storage that a backup is of.
fn owner_of(header: &Header, path: &Path) -> Result<Owner, Error> {
    let parse = |text: &str| {
        OwnedKeyExpr::autocanonize(text.to_owned()).map_err(|_| Error::Place {
            path: path.to_owned(),
            problem: "the storage that it is of has no key expression".to_owned(),
        })
    };
    Ok(Owner {
        key_expr: parse(&header.key_expr)?,
        strip_prefix: header.strip_prefix.as_deref().map(parse).transpose()?,
    })
}

fn fill(dir: &Path, path: &Path, header: &Header) -> Result<(), Error> {
    let damaged = backup_error(path);
    let store = DurableStore::open(dir, CACHE)?;
    owner_of(header, path)?.write(dir)?;
    let mut reader = BackupReader::open(files::open(path)?).map_err(&damaged)?;
    let progress = Progress::new("restoring");
    let mut done = 0;
    while let Some(frame) = reader.next_frame().map_err(&damaged)? {
        let frame = frame.into_iter().map(|(key, cell)| Write {
            version: Version::of(&key, &cell),
            cell: cell.into(),
            key,
        });
        let batch: Vec<Write> = frame.collect();
        done += batch.len() as u64;
        store.apply(&batch.into())?;
        progress.set(done, Some(header.cells));
    }
    store.flush()?;
    let root = load(&store)?.root();
    match root == header.root {
        true => Ok(()),
        false => Err(Error::Place {
            path: dir.to_owned(),
            problem: format!(
                "what was restored has the root {root}, and not the backup's, {}; it was removed",
                header.root
            ),
        }),
    }
}
