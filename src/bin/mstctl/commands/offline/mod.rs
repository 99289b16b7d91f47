//! What is done with `--dir`: to the data folder of a storage that no router has
//! open.
//!
//! | part | what it is |
//! |---|---|
//! | `folder` | the folder, and what it holds |
//! | `adopt`, `verify`, `backup`, `restore` | the commands that are more than a listing |

mod adopt;
mod backup;
mod folder;
mod restore;
mod salvage;
mod verify;

#[cfg(test)]
pub(super) mod tests;

use std::path::Path;

use serde_json::{Value, json};
use zenoh::key_expr::keyexpr;
use zenoh_backend_mst::{
    cell::{Cell, Key, intersect},
    merge::{Form, Merged, PartCell, encoding, raw},
    store::{CellStore as _, Owner, Sidecar},
};

use super::{
    Context, check_config, completions,
    get::{self, Reading, Shown},
    keys::{Listing, check_pattern, listed},
    man, schema, status,
    verify::file,
};
use crate::{
    args::{Command, Get, Keys},
    exit::{Answer, Error},
    output::{Output, Tone, counted, note, time},
    replicas::{Status, stored_key},
};
use folder::{is_deleted, is_rule, load, open};

pub(super) fn run(context: &Context, dir: &Path, command: &Command) -> Result<Answer, Error> {
    match command {
        Command::Status => self::status(context.output, dir),
        Command::Root(_) => root(context.output, dir),
        Command::Keys(args) => keys(context.output, dir, args),
        Command::Get(args) => get(context.output, dir, args),
        Command::Verify(args) => match &args.file {
            Some(path) => file(context, path, args),
            None => verify::verify(context.output, dir),
        },
        Command::Backup(args) => backup::backup(context, dir, args),
        Command::Restore(args) => restore::restore(context.output, dir, args),
        Command::Adopt(args) => adopt::adopt(context, dir, args),
        Command::Salvage(args) => salvage::salvage(context.output, dir, args),
        Command::CheckConfig { file, strategies } => check_config::run(context, file, strategies),
        Command::Schema(strategies) => schema::run(context, strategies),
        Command::Completions { shell } => completions::run(context, *shell),
        Command::Man { folder } => man::run(folder),
        Command::Replicas
        | Command::Lifetimes(_)
        | Command::Diff(_)
        | Command::Prove(_)
        | Command::Scrub(_)
        | Command::Collect(_)
        | Command::Rollback(_)
        | Command::Snapshot(_)
        | Command::Sync(_)
        | Command::Members(_)
        | Command::Watch(_) => Err(Error::Usage(
            "a folder has status, root, keys, get, verify, backup, restore, adopt and salvage; the \
             other commands ask a router: leave --dir out"
                .to_owned(),
        )),
    }
}

fn status(output: Output, dir: &Path) -> Result<Answer, Error> {
    let store = open(dir)?;
    let owner = Owner::read(dir)?;
    let recovered = Sidecar::Recovered.read(dir)?;
    let loaded = load(&store)?;
    let status = Status {
        root: loaded.root().to_string(),
        keys: loaded.keys,
        cells: loaded.entries.len() as u64,
        tombstones: loaded.tombstones,
        disk_bytes: store.disk_bytes()?,
        ..Status::default()
    };
    let lost = loaded.quarantined.len();
    let document = json!({
        "dir": dir.display().to_string(),
        "key_expr": owner.as_ref().map(|owner| owner.key_expr.as_str()),
        "strip_prefix": owner.as_ref().and_then(|owner| owner.strip_prefix.as_deref()).map(|p| p.as_str()),
        "root": status.root,
        "latest": time(loaded.latest),
        "keys": status.keys,
        "cells": status.cells,
        "tombstones": status.tombstones,
        "disk_bytes": status.disk_bytes,
        "quarantined": lost,
        "recovered": recovered,
    });
    output.either(&document, |output| {
        let title = output.paint(Tone::Strong, &dir.display().to_string());
        let owner = owner.as_ref().map(ToString::to_string);
        let mut lines = vec![
            (
                "of",
                owner.unwrap_or_else(|| "no storage that it names".to_owned()),
            ),
            ("root", status.root.clone()),
            ("last write", time(loaded.latest)),
            ("holds", status::holds(&status)),
        ];
        if lost > 0 {
            let cells = counted(lost as u64, "cell", "cells");
            let text = format!("{cells}: `mstctl verify` lists them");
            lines.push(("damaged", output.paint(Tone::Bad, &text)));
        }
        if let Some(from) = &recovered {
            let text = status::recovered(from);
            lines.push(("recovered", output.paint(Tone::Warn, &text)));
        }
        format!("{title}\n{}", status::layout(&lines, output))
    })?;
    Ok(Answer::Yes)
}

fn root(output: Output, dir: &Path) -> Result<Answer, Error> {
    let loaded = load(&open(dir)?)?;
    let root = loaded.root().to_string();
    let document = json!({ "root": root, "latest": time(loaded.latest) });
    output.either(&document, |_| root.clone())?;
    Ok(Answer::Yes)
}

fn keys(output: Output, dir: &Path, args: &Keys) -> Result<Answer, Error> {
    check_pattern(args)?;
    let pattern = args.pattern.as_deref();
    let pattern = pattern.and_then(|pattern| keyexpr::new(pattern).ok());
    let loaded = load(&open(dir)?)?;
    let matches = |key: &Key| match (pattern, key.as_key_expr()) {
        (None, _) => true,
        (Some(pattern), Some(key)) => intersect(pattern, key),
        (Some(_), None) => false,
    };
    let shown = loaded
        .by_key()
        .filter(|cells| args.deleted || is_rule(cells) || !is_deleted(cells))
        .filter(|cells| cells.first().is_some_and(|(key, _)| matches(&key.key)));
    let limit = args.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut listing = Listing::new(output);
    for cells in shown.take(limit) {
        let Some((key, first)) = cells.first() else {
            continue;
        };
        let timestamps = cells.iter().map(|(_, version)| version.timestamp);
        let timestamp = timestamps.fold(first.timestamp, Ord::max);
        let key = key.key.to_string();
        listing.show(&listed(
            &key,
            timestamp,
            cells.len() as u64,
            is_deleted(cells),
        ))?;
    }
    Ok(Answer::Yes)
}

fn get(output: Output, dir: &Path, args: &Get) -> Result<Answer, Error> {
    let key = match args.key.is_empty() {
        true => Key::NONE,
        false => stored_key(&args.key, None)?,
    };
    let parts = open(dir)?.view().parts(&key)?;
    let cells: Vec<PartCell<'_>> = parts
        .iter()
        .map(|(part, cell)| PartCell {
            part: part.as_bytes(),
            cell,
        })
        .collect();
    let value = match Merged::fold(&cells).read(Form::Native) {
        Ok(value) => value,
        Err(error) => {
            note(&format!("mstctl: {error}"));
            None
        }
    };
    let reading = |cell: &Cell| {
        let value = cell.value()?;
        Some(Reading {
            payload: value.payload.to_vec(),
            encoding: encoding::text(value.encoding_id, value.schema.as_deref()),
            time: Some(cell.timestamp.time),
        })
    };
    let shown = Shown {
        key: key.to_string(),
        value: value.as_deref().and_then(reading),
        cells: raw(&cells).as_ref().map_or(json!([]), json_of),
        from: None,
        ended: None,
    };
    get::show(output, &shown, args.value)
}

/// The JSON that a cell holds.
fn json_of(cell: &Cell) -> Value {
    let payload = cell.value().map(|value| &value.payload);
    let parsed = payload.and_then(|payload| serde_json::from_slice(payload).ok());
    parsed.unwrap_or(Value::Null)
}
