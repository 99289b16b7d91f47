//! `mstctl verify`: a proof, a backup, or what a replica holds.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

use indicatif::HumanCount;
use serde_json::{Value, json};
use zenoh_backend_mst::{
    backup::{self, BackupError, Header},
    proof::{self, MAX_PROOF_BYTES},
};

use super::{Context, stream::follow};
use crate::{
    args::Verify,
    cells,
    connection::Request,
    exit::{Answer, Error, file_error},
    files,
    output::{Output, Tone, counted, plain, safe, time},
    progress::Progress,
    replicas::stored_key,
};

/// What a replica, or a folder, was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Cells that were looked at.
    pub(super) checked: u64,
    /// What is wrong.
    pub(super) damaged: Vec<Value>,
}

impl Findings {
    /// What a replica says of its progress.
    pub(super) fn see(&mut self, part: &Value) {
        self.checked = part["checked"].as_u64().unwrap_or(self.checked);
        let damaged = part["damaged"].as_array().into_iter().flatten();
        self.damaged.extend(damaged.cloned());
        if let Some(violation) = part["tree"].as_str() {
            let reason = format!("the tree in memory is wrong: {violation}");
            self.damaged.push(json!({ "reason": reason }));
        }
    }

    /// In words.
    pub(super) fn text(&self, output: Output) -> String {
        let checked = counted(self.checked, "cell", "cells");
        if self.damaged.is_empty() {
            let sound = format!("{checked} checked, no damage");
            return output.paint(Tone::Good, &sound);
        }
        let count = HumanCount(self.damaged.len() as u64);
        let head = format!("{checked} checked, {count} damaged:");
        let mut lines = vec![output.paint(Tone::Bad, &head)];
        lines.extend(
            self.damaged
                .iter()
                .map(|damage| format!("  {}", damage_text(damage))),
        );
        lines.join("\n")
    }
}

/// A damaged cell, by its key, and why.
fn damage_text(damage: &Value) -> String {
    let Some(reason) = damage["reason"].as_str() else {
        return plain(damage);
    };
    let mut text = safe(reason);
    if let Some(part) = damage["part"].as_str().filter(|part| !part.is_empty()) {
        text = format!("part {}: {text}", safe(part));
    }
    match damage["key"].as_str() {
        Some(key) => format!("{}: {text}", safe(key)),
        None => text,
    }
}

/// Has a replica check all that it holds.
pub(super) fn storage(context: &Context) -> Result<Answer, Error> {
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, "control/verify");
    let mut findings = Findings::default();
    let of = ("verifying", "checked");
    follow(&connection, request, of, context.output, |part| {
        findings.see(part);
    })?;
    if !context.output.json {
        context.output.text(findings.text(context.output))?;
    }
    Ok(Answer::of(findings.damaged.is_empty()))
}

/// Checks a file.
pub(super) fn file(context: &Context, path: &Path, args: &Verify) -> Result<Answer, Error> {
    let mut reader = BufReader::new(files::open(path)?);
    let beginning = reader.fill_buf().map_err(file_error("read", path))?;
    match beginning.first() {
        Some(&proof::VERSION) => proof(context, path, reader, args),
        Some(_) if args.root.is_none() && args.key.is_none() => backup(context, path, reader),
        Some(_) => Err(Error::Place {
            path: path.to_owned(),
            problem: "it is no proof; leave --root and --key out to verify a backup".to_owned(),
        }),
        None => Err(Error::Place {
            path: path.to_owned(),
            problem: "it is empty".to_owned(),
        }),
    }
}

fn proof(
    context: &Context,
    path: &Path,
    reader: impl Read,
    args: &Verify,
) -> Result<Answer, Error> {
    let mut bytes = Vec::new();
    // One byte more than a proof may have is enough to refuse it.
    let mut reader = reader.take(MAX_PROOF_BYTES as u64 + 1);
    reader
        .read_to_end(&mut bytes)
        .map_err(file_error("read", path))?;
    let (Some(root), Some(name)) = (args.root, &args.key) else {
        return Err(Error::Usage(ask_for_root(&bytes)));
    };
    let key = stored_key(name, args.strip_prefix.as_deref())?;
    match proof::verify(&bytes, &root, &key) {
        Ok(proven) => {
            let document = json!({
                "holds": true,
                "key": name,
                "root": root.to_string(),
                "absent": proven.is_absent(),
                "cells": cells::proven(&proven),
            });
            context.output.either(&document, |output| {
                super::prove::text(name, &root, &proven, output)
            })?;
            Ok(Answer::Yes)
        }
        Err(error) => {
            let document = json!({ "holds": false, "key": name, "problem": error.to_string() });
            context.output.either(&document, |output| {
                output.paint(Tone::Bad, &format!("it does not hold: {error}"))
            })?;
            Ok(Answer::No)
        }
    }
}

/// A proof alone proves nothing: what to give with it.
fn ask_for_root(bytes: &[u8]) -> String {
    let needed = "it is a proof, which is checked against a root that you trust and a key: give \
                  --root and --key";
    match proof::read(bytes) {
        Ok((root, proven)) => format!("{needed}; it says that it is of {} and {root}", proven.key),
        Err(error) => format!("{needed}; and {error}"),
    }
}

fn backup(context: &Context, path: &Path, reader: impl Read) -> Result<Answer, Error> {
    match check(reader) {
        Ok(header) => {
            let document = json!({ "sound": true, "backup": describe(&header) });
            context.output.either(&document, |output| {
                let sound = output.paint(Tone::Good, "the backup is complete and sound");
                format!("{sound}\n{}", text(&header))
            })?;
            Ok(Answer::Yes)
        }
        Err(BackupError::NotABackup) => Err(Error::Place {
            path: path.to_owned(),
            problem: "it is neither a proof nor a backup of this backend".to_owned(),
        }),
        Err(error) if is_unreadable(&error) => Err(Error::Place {
            path: path.to_owned(),
            problem: error.to_string(),
        }),
        Err(error) => {
            let document = json!({ "sound": false, "problem": error.to_string() });
            context.output.either(&document, |output| {
                output.paint(Tone::Bad, &error.to_string())
            })?;
            Ok(Answer::No)
        }
    }
}

/// Whether it is no backup that this version can read, which is not damage.
fn is_unreadable(error: &BackupError) -> bool {
    matches!(error, BackupError::Io(_) | BackupError::Format(_))
}

/// Reads a backup to its end, and shows how far that is.
pub(super) fn check(reader: impl Read) -> Result<Header, BackupError> {
    let progress = Progress::new("verifying");
    backup::verify(reader, &mut |cells, of| progress.set(cells, Some(of)))
}

/// A backup, in JSON.
pub(super) fn describe(header: &Header) -> Value {
    json!({
        "key_expr": header.key_expr,
        "strip_prefix": header.strip_prefix,
        "cut": time(header.cut),
        "root": header.root.to_string(),
        "cells": header.cells,
        "replica": header.replica,
        "storage": header.storage,
        "missing": header.missing,
    })
}

/// A backup, in words.
pub(super) fn text(header: &Header) -> String {
    let group = zenoh_backend_mst::sync::Group {
        key_expr: header.key_expr.clone(),
        strip_prefix: header.strip_prefix.clone(),
    };
    let missing = match &header.missing[..] {
        [] => String::new(),
        keys => format!("\n  LOST   {}: they were damaged", safe(&keys.join(", "))),
    };
    format!(
        "  of     {}\n  cut    {}\n  root   {}\n  cells  {}{missing}",
        crate::replicas::storage(&group),
        time(header.cut),
        header.root,
        HumanCount(header.cells)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_by_key_and_reason() {
        let output = Output::new(true);
        let mut findings = Findings {
            checked: 1234,
            damaged: Vec::new(),
        };
        assert_eq!(findings.text(output), "1,234 cells checked, no damage");
        findings.see(&json!({ "checked": 2000, "damaged": [
            { "key": "a/b", "part": "", "reason": "its digest" },
            { "key": "a\u{1b}", "part": "01ff", "reason": "its row" },
        ] }));
        findings.see(&json!({ "checked": 2001, "damaged": [], "tree": "no order", "done": true }));
        let expected = "\
2,001 cells checked, 3 damaged:
  a/b: its digest
  a\\u{1b}: part 01ff: its row
  the tree in memory is wrong: no order";
        assert_eq!(findings.text(output), expected);
    }

    #[test]
    fn a_proof_needs_a_root() {
        let asked = ask_for_root(&[proof::VERSION]);
        assert!(asked.contains("--root and --key"), "{asked}");
    }
}
