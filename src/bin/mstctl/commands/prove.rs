//! `mstctl prove`

use std::path::Path;

use serde_json::{Value, json};
use zenoh_backend_mst::{
    cell::Key,
    mst::RootHash,
    proof::{self, Proven},
    sync::ReplicaId,
};

use super::Context;
use crate::{
    args::Prove,
    cells,
    connection::{Connection, Request},
    exit::{Answer, Error},
    files::{Unfinished, is_standard},
    output::{Output, Tone, note, plain, safe},
    replicas::{Replica, stored_key},
    roots::{self, Heard},
};

/// Times that a proof is asked for. While data is written the root of one may have
/// been replaced before any other replica has announced it.
const TRIES: u32 = 8;

/// Between two of them.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// A proof that holds.
struct Held {
    bytes: Vec<u8>,
    root: RootHash,
    cut: Option<String>,
    proven: Proven,
}

/// Who says that the root is right.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    /// The user.
    Given,
    /// These other replicas.
    Others(Vec<ReplicaId>),
    /// Nobody but the replica that made the proof: there is no other.
    Alone,
    /// There are so many others, and none has announced it.
    Nobody(usize),
}

impl Trust {
    fn is_enough(&self) -> bool {
        !matches!(self, Self::Nobody(_))
    }
}

pub(super) fn run(context: &Context, args: &Prove) -> Result<Answer, Error> {
    let connection = context.connect()?;
    let all = connection.replicas()?;
    let replica = context.choice().of_key(&args.key, all.clone())?;
    let key = stored_key(&args.key, replica.base.group.strip_prefix.as_deref())?;
    let (held, trust) = match args.root {
        Some(root) => {
            let held = fetch(&connection, &replica, &args.key, &key, Some(root))?;
            (held, Trust::Given)
        }
        None => vouched(&connection, &replica, &all, &args.key, &key)?,
    };
    let is_to_standard = args.output.as_deref().is_some_and(is_standard);
    if let Some(file) = &args.output {
        write(context.output, file, &held.bytes)?;
    }
    if !is_to_standard {
        let document = document(&args.key, &replica, &held, &trust);
        context.output.either(&document, |output| {
            let (tone, trusted) = trusted(&trust, &replica);
            let mut text = text(&args.key, &held.root, &held.proven, output);
            text.push_str(&format!("\n\n{}", output.paint(tone, &trusted)));
            text
        })?;
    }
    Ok(Answer::of(trust.is_enough()))
}

/// Fetches a proof and verifies it; of the root that is given, or of that which it
/// says.
fn fetch(
    connection: &Connection,
    replica: &Replica,
    name: &str,
    key: &Key,
    root: Option<RootHash>,
) -> Result<Held, Error> {
    let mut request = Request::to(&replica.base, "proof").payload(name.as_bytes());
    if let Some(root) = root {
        request = request.with("root", root);
    }
    let piece = connection.ask(request)?;
    let wrong = |error: proof::ProofError| piece.problem(format!("no proof that holds: {error}"));
    let claimed = match root {
        Some(root) => root,
        None => proof::read(&piece.payload).map_err(wrong)?.0,
    };
    let proven = proof::verify(&piece.payload, &claimed, key).map_err(wrong)?;
    let beside = piece.beside().unwrap_or_default();
    Ok(Held {
        root: claimed,
        cut: beside["cut"].as_str().map(ToOwned::to_owned),
        proven,
        bytes: piece.payload,
    })
}

/// A proof of a root that another replica has announced, if there is any other.
fn vouched(
    connection: &Connection,
    replica: &Replica,
    all: &[Replica],
    name: &str,
    key: &Key,
) -> Result<(Held, Trust), Error> {
    let others: Vec<ReplicaId> = all
        .iter()
        .filter(|other| other.base.group == replica.base.group)
        .filter(|other| other.status.replication.is_some())
        .map(|other| other.base.replica)
        .filter(|other| *other != replica.base.replica)
        .collect();
    let mut heard = Heard::default();
    for tried in 1.. {
        let held = fetch(connection, replica, name, key, None)?;
        if others.is_empty() {
            return Ok((held, Trust::Alone));
        }
        roots::listen(connection, &replica.base.group, &mut heard)?;
        let mut vouching = heard.with_root(held.root);
        vouching.retain(|id| others.contains(id));
        if !vouching.is_empty() {
            return Ok((held, Trust::Others(vouching)));
        }
        if tried == TRIES {
            return Ok((held, Trust::Nobody(others.len())));
        }
        std::thread::sleep(PAUSE);
    }
    // The loop ends by itself.
    Err(Error::Nobody(replica.base.to_string()))
}

fn write(output: Output, file: &Path, bytes: &[u8]) -> Result<(), Error> {
    if is_standard(file) {
        output.refuse_terminal()?;
        return output.bytes(bytes);
    }
    let mut unfinished = Unfinished::create(file, true)?;
    unfinished.add(bytes)?;
    unfinished.finish()?;
    if !output.json {
        note(&format!(
            "wrote {} bytes to {}",
            bytes.len(),
            file.display()
        ));
    }
    Ok(())
}

fn document(key: &str, replica: &Replica, held: &Held, trust: &Trust) -> Value {
    let vouching = match trust {
        Trust::Others(others) => others.iter().map(ToString::to_string).collect(),
        Trust::Given | Trust::Alone | Trust::Nobody(_) => Vec::new(),
    };
    json!({
        "key": key,
        "root": held.root.to_string(),
        "cut": held.cut,
        "replica": replica.base.replica.to_string(),
        "vouched_by": vouching,
        "trusted": trust.is_enough(),
        "absent": held.proven.is_absent(),
        "cells": cells::proven(&held.proven),
        "proof_bytes": held.bytes.len(),
    })
}

/// What a proof proves; also of `verify`.
pub(super) fn text(key: &str, root: &RootHash, proven: &Proven, output: Output) -> String {
    let key = safe(key);
    let root = output.paint(Tone::Dim, &format!("under the root {root}"));
    let says = match (proven.is_absent(), proven.cells.len()) {
        (true, 0) => format!("proven: there is nothing at {key}, and nothing was deleted there"),
        (true, _) => format!("proven: {key} was deleted"),
        (false, 1) => format!("proven: {key} has this cell, and no other"),
        (false, count) => format!("proven: {key} has these {count} cells, and no other"),
    };
    let says = format!("{}\n{root}", output.paint(Tone::Good, &says));
    match proven.cells.is_empty() {
        true => says,
        false => {
            let table = cells::table(&cells::proven(proven), output);
            format!("{says}\n\n{table}")
        }
    }
}

fn trusted(trust: &Trust, replica: &Replica) -> (Tone, String) {
    let of = replica.short();
    match trust {
        Trust::Given => (Tone::Good, "the root is the one that you gave".to_owned()),
        Trust::Others(others) => {
            let others: Value = others
                .iter()
                .map(|id| crate::output::short(&id.to_string()))
                .collect();
            let text = format!(
                "the proof is of replica {of}; the same root is announced by {}",
                plain(&others)
            );
            (Tone::Good, text)
        }
        Trust::Alone => (
            Tone::Warn,
            format!(
                "nobody else vouches for this root: {of} is the only replica there is, and proves \
                 by its own word; compare the root with one that you trust, or give that as --root"
            ),
        ),
        Trust::Nobody(count) => (
            Tone::Bad,
            format!(
                "nobody else vouches for this root: of the {count} other replicas none has \
                 announced it, though {of} was asked {TRIES} times; see `mstctl root`, or give a \
                 root that you trust as --root"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::tests::replica;

    #[test]
    fn who_vouches_is_said() {
        let replica = replica("a/**", 0x1a, 0);
        let said = |trust: Trust| trusted(&trust, &replica).1;
        assert!(said(Trust::Others(vec![ReplicaId([0x2b; 16])])).ends_with("by 2b2b2b2b"));
        for trust in [Trust::Alone, Trust::Nobody(2)] {
            assert!(said(trust).starts_with("nobody else vouches"));
        }
        assert!(Trust::Alone.is_enough() && Trust::Given.is_enough());
        assert!(!Trust::Nobody(1).is_enough());
    }

    #[test]
    fn absence_is_proven_in_words() {
        let proven = Proven {
            key: Key::NONE,
            cells: Vec::new(),
        };
        let root = RootHash([0xab; 32]);
        let said = text("a/b", &root, &proven, Output::new(true));
        assert!(
            said.starts_with("proven: there is nothing at a/b"),
            "{said}"
        );
        assert!(said.ends_with(&"ab".repeat(32)), "{said}");
    }
}
