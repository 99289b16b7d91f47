//! Has a folder be another storage's.

use std::path::Path;

use serde_json::{Value, json};
use zenoh::key_expr::OwnedKeyExpr;
use zenoh_backend_mst::{
    cell::CellKey,
    store::{
        CellStore as _, DurableStore, Owner, QuarantineStore as _, RowBatch, RowHead, Sidecar,
        StoreError,
    },
};

use super::folder::open;
use crate::{
    args::Adopt,
    commands::{Context, confirm::confirm},
    exit::{Answer, Error},
    output::{Output, Tone, counted},
    progress::Progress,
};

/// Rows that are removed at a time.
const REMOVED_AT_ONCE: usize = 1024;

/// What a folder has for the storage that adopts it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: u64,
    /// Of these, those that are not within the key expression.
    pub(super) outside: u64,
    /// A key that is within it, as it is called in the folder, and one that is not.
    within_example: Option<CellKey>,
    outside_example: Option<CellKey>,
    /// The rows of those outside, and whether their payload is apart.
    removes: Vec<(CellKey, bool)>,
    /// Cells of those outside that are in quarantine.
    released: Vec<CellKey>,
}

/// Has a folder be of the storage on -s.
pub(super) fn adopt(context: &Context, dir: &Path, args: &Adopt) -> Result<Answer, Error> {
    let Some(key_expr) = &context.global.storage else {
        return Err(Error::Usage(
            "say which storage the folder is to be of: its key expression with -s, and what it takes \
             off its keys with --strip-prefix"
                .to_owned(),
        ));
    };
    let new = Owner {
        key_expr: key_expression(key_expr)?,
        strip_prefix: args
            .strip_prefix
            .as_deref()
            .map(key_expression)
            .transpose()?,
    };
    let is_prefix = |prefix: &OwnedKeyExpr| {
        let rest = new.key_expr.as_str().strip_prefix(prefix.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && !prefix.is_wild()
    };
    if !new.strip_prefix.as_ref().is_none_or(is_prefix) {
        return Err(Error::Usage(format!(
            "--strip-prefix has to be the first chunks of {key_expr}, without wildcards"
        )));
    }
    let store = open(dir)?;
    let old = Owner::read(dir)?;
    let found = examine(&store, &new)?;
    if found.outside > 0 && !args.drop {
        return Err(Error::Place {
            path: dir.to_owned(),
            problem: format!(
                "{} of its {} are outside of {new}, such as `{}`; nothing was changed: with --drop they \
                 are removed from the folder for good",
                found.outside,
                counted(found.keys, "key", "keys"),
                named(&new, found.outside_example.as_ref()),
            ),
        });
    }
    if args.dry_run {
        let would = question(dir, old.as_ref(), &new, &found);
        let document = json!({ "dir": dir.display().to_string(), "dry_run": true, "would": would });
        context.output.either(&document, |_| would.clone())?;
        return Ok(Answer::Yes);
    }
    if !args.yes {
        confirm(&question(dir, old.as_ref(), &new, &found))?;
    }
    hand_over(&store, dir, &new, &found)?;
    said(context.output, dir, old.as_ref(), &new, &found)?;
    Ok(Answer::Yes)
}

fn key_expression(text: &str) -> Result<OwnedKeyExpr, Error> {
    OwnedKeyExpr::autocanonize(text.to_owned())
        .map_err(|_| Error::Usage(format!("`{text}` is no key expression")))
}

/// What a key of the folder is called in the storage.
pub(super) fn named(owner: &Owner, key: Option<&CellKey>) -> String {
    let key = key.map(|key| key.key.as_key_expr().map(ToString::to_string));
    match (&owner.strip_prefix, key.flatten()) {
        (Some(prefix), Some(key)) => format!("{prefix}/{key}"),
        (Some(prefix), None) => prefix.to_string(),
        (None, key) => key.unwrap_or_else(|| "(none)".to_owned()),
    }
}

pub(super) fn examine(store: &DurableStore, new: &Owner) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let progress = Progress::new("reading keys");
    let mut last: Option<(CellKey, bool)> = None;
    store.scan(&mut |key, RowHead { is_apart, .. }| {
        let same = last.as_ref().filter(|(last, _)| last.key == key.key);
        let is_within = same.map_or_else(|| new.includes(&key.key), |(_, is_within)| *is_within);
        if same.is_none() {
            found.keys += 1;
            found.outside += u64::from(!is_within);
            progress.set(found.keys, None);
            let example = match is_within {
                true => &mut found.within_example,
                false => &mut found.outside_example,
            };
            example.get_or_insert_with(|| key.clone());
        }
        if !is_within {
            found.removes.push((key.clone(), is_apart));
        }
        last = Some((key, is_within));
    })?;
    let quarantined = store.quarantined()?.into_iter().map(|(key, _)| key);
    found.released = quarantined.filter(|key| !new.includes(&key.key)).collect();
    Ok(found)
}

fn question(dir: &Path, old: Option<&Owner>, new: &Owner, found: &Found) -> String {
    let before = match old {
        Some(old) => format!("is of a storage on {old}"),
        None => "does not say whose it is".to_owned(),
    };
    let mut text = format!(
        "{} {before}. This has it be of the storage on {new}, with {}",
        dir.display(),
        counted(found.keys - found.outside, "key", "keys"),
    );
    if let Some(key) = &found.within_example {
        text += &format!(
            ": what is `{}` in the folder is `{}`",
            key.key,
            named(new, Some(key))
        );
    }
    text += ".";
    if found.outside > 0 {
        let keys = counted(found.outside, "key is", "keys are");
        text += &format!(" {keys} outside of it, and removed for good.");
    }
    text + " As a replica it gets a new name."
}

/// A crash leaves the folder its old storage's until all is done, and to do it again is safe.
pub(super) fn hand_over(
    store: &DurableStore,
    dir: &Path,
    new: &Owner,
    found: &Found,
) -> Result<(), StoreError> {
    let progress = Progress::new("removing rows");
    let mut done = 0;
    for removes in found.removes.chunks(REMOVED_AT_ONCE) {
        store.apply(&RowBatch {
            removes: removes.to_vec(),
            ..RowBatch::default()
        })?;
        done += removes.len() as u64;
        progress.set(done, Some(found.removes.len() as u64));
    }
    store.apply(&RowBatch {
        released: found.released.clone(),
        ..RowBatch::default()
    })?;
    store.flush()?;
    // Others may remember the old one, with what it had.
    Sidecar::Identity.remove(dir)?;
    Sidecar::Scrub.remove(dir)?;
    new.write(dir)
}

fn said(
    output: Output,
    dir: &Path,
    old: Option<&Owner>,
    new: &Owner,
    found: &Found,
) -> Result<(), Error> {
    let described = |owner: &Owner| -> Value {
        json!({
            "key_expr": owner.key_expr.as_str(),
            "strip_prefix": owner.strip_prefix.as_ref().map(|prefix| prefix.as_str()),
        })
    };
    let document = json!({
        "dir": dir.display().to_string(),
        "before": old.map(described),
        "owner": described(new),
        "keys": found.keys - found.outside,
        "dropped": found.outside,
    });
    output.either(&document, |output| {
        let text = format!(
            "{}: now of the storage on {new}, with {}",
            dir.display(),
            counted(found.keys - found.outside, "key", "keys")
        );
        let text = output.paint(Tone::Good, &text);
        match found.outside {
            0 => text,
            dropped => format!("{text}; {} removed", counted(dropped, "key", "keys")),
        }
    })
}
