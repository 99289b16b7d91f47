//! `mstctl --dir FOLDER salvage`

use std::path::Path;

use serde_json::{Value, json};
use zenoh_backend_mst::{
    cell::CellKey,
    hex,
    store::{self, Lost, LostPart, Owner, Recovered, Saved},
};

use super::{
    adopt::named,
    folder::{CACHE, FORMAT},
};
use crate::{
    args::Salvage,
    exit::{Answer, Error},
    output::{Output, Tone, counted, safe},
};

/// Parts that are listed where the output is not JSON.
const MAX_SHOWN: usize = 100;

/// Saves what can be read into another folder, or one that takes its place.
pub(super) fn salvage(output: Output, dir: &Path, args: &Salvage) -> Result<Answer, Error> {
    store::complete_recovery(args.to.as_deref().unwrap_or(dir))?;
    let owner = Owner::read(dir)?;
    let (saved, to, aside) = match &args.to {
        Some(to) => (store::salvage(dir, to, CACHE)?, to.as_path(), None),
        None => {
            if !dir.join(FORMAT).is_file() {
                let path = dir.to_owned();
                return Err(store::StoreError::Nothing { path }.into());
            }
            let (store, Recovered { aside, saved }) = store::recover(dir, CACHE)?;
            drop(store);
            (saved, dir, Some(aside))
        }
    };
    let document = json!({
        "dir": dir.display().to_string(),
        "to": to.display().to_string(),
        "aside": aside.as_ref().map(|aside| aside.display().to_string()),
        "saved": saved.cells,
        "lost_parts": saved.lost_parts,
        "lost": saved.lost.iter().map(|lost| lost_json(owner.as_ref(), lost)).collect::<Value>(),
    });
    output.either(&document, |output| {
        let mut lines = vec![format!(
            "{}: {} saved",
            to.display(),
            counted(saved.cells, "cell", "cells")
        )];
        if let Some(aside) = &aside {
            lines.push(format!("the damaged store is in {}", aside.display()));
        }
        lines.extend(lost_lines(&saved, owner.as_ref(), output));
        lines.join("\n")
    })?;
    Ok(Answer::of(saved.lost_parts == 0))
}

fn lost_lines(saved: &Saved, owner: Option<&Owner>, output: Output) -> Vec<String> {
    if saved.lost_parts == 0 {
        return vec![output.paint(Tone::Good, "nothing is lost")];
    }
    let shown = saved.lost.iter().take(MAX_SHOWN);
    let mut lines: Vec<String> = shown
        .map(|lost| {
            let text = format!("lost: {}: {}", part_text(owner, &lost.part), lost.reason);
            output.paint(Tone::Bad, &safe(&text))
        })
        .collect();
    let more = saved.lost_parts - lines.len() as u64;
    if more > 0 {
        lines.push(format!("and {more} more: --json lists them"));
    }
    lines
}

fn key_text(owner: Option<&Owner>, key: &CellKey) -> String {
    owner.map_or_else(|| key.key.to_string(), |owner| named(owner, Some(key)))
}

fn part_text(owner: Option<&Owner>, part: &LostPart) -> String {
    let name = |key: &CellKey| format!("`{}`", key_text(owner, key));
    match part {
        LostPart::Cell(key, _) if key.part.is_empty() => format!("the value of {}", name(key)),
        LostPart::Cell(key, _) => format!("a part of the value of {}", name(key)),
        LostPart::Rows { after, before } => match (after, before) {
            (None, None) => "all rows".to_owned(),
            (Some(after), None) => format!("all keys after {}", name(after)),
            (None, Some(before)) => format!("all keys before {}", name(before)),
            (Some(after), Some(before)) => {
                format!("all keys between {} and {}", name(after), name(before))
            }
        },
        LostPart::Log => "updates in the write-ahead log".to_owned(),
    }
}

fn lost_json(owner: Option<&Owner>, lost: &Lost) -> Value {
    let bound = |key: &Option<CellKey>| key.as_ref().map(|key| key_text(owner, key));
    let reason = &lost.reason;
    match &lost.part {
        LostPart::Cell(key, version) => json!({
            "key": key_text(owner, key),
            "part": hex::encode(key.part.as_bytes()),
            "timestamp": version.map(|version| version.timestamp.to_string()),
            "reason": reason,
        }),
        LostPart::Rows { after, before } => json!({
            "after": bound(after),
            "before": bound(before),
            "reason": reason,
        }),
        LostPart::Log => json!({ "log": true, "reason": reason }),
    }
}
