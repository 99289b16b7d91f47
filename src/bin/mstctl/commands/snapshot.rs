//! `mstctl snapshot`

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use super::{Context, stream::follow};
use crate::{
    args::Snapshot,
    connection::Request,
    exit::{Answer, Error},
    output::{Align, Field, Output, Table, Tone, safe, short},
};

/// Where snapshots are kept.
const WHAT: &str = "control/snapshot";

/// Of a snapshot that cannot be read: why not.
const PROBLEM: &str = "problem";

pub(super) fn run(context: &Context, args: &Snapshot) -> Result<Answer, Error> {
    match args {
        Snapshot::Create { name } => create(context, name),
        Snapshot::List => list(context),
        Snapshot::Delete { name } => delete(context, name),
    }
}

/// A name as a parameter. Which names there can be is for the router to say; but
/// one that would be another parameter never gets there.
pub(super) fn parameter(name: &str) -> Result<&str, Error> {
    match name.contains([';', '=', '|']) || name.is_empty() {
        false => Ok(name),
        true => Err(Error::Usage(format!(
            "`{}` is no name of a snapshot",
            safe(name)
        ))),
    }
}

fn create(context: &Context, name: &str) -> Result<Answer, Error> {
    let name = parameter(name)?;
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, WHAT)
        .with("do", "create")
        .with("name", name)
        .meant();
    let of = ("making a snapshot", "cells");
    let last = follow(&connection, request, of, context.output, |_| {})?;
    if !context.output.json {
        let made = format!("snapshot {name} made at replica {}", replica.short());
        let made = context.output.paint(Tone::Good, &made);
        let entries = [(replica.short(), last)];
        context
            .output
            .text(format!("{made}\n{}", table(&entries, context.output)))?;
    }
    Ok(Answer::Yes)
}

fn list(context: &Context) -> Result<Answer, Error> {
    let (connection, replicas) = context.all()?;
    let mut entries = Vec::new();
    let mut documents = Vec::new();
    for replica in &replicas {
        let request = Request::to(&replica.base, WHAT).with("do", "list");
        let piece = connection.ask(request)?;
        let Value::Array(list) = piece.json()? else {
            return Err(piece.problem("it is no list"));
        };
        entries.extend(list.iter().map(|entry| (replica.short(), entry.clone())));
        documents.push(json!({
            "replica": replica.base.replica.to_string(),
            "key_expr": replica.base.group.key_expr,
            "snapshots": list,
        }));
    }
    context
        .output
        .either(&documents.into(), |output| match entries.is_empty() {
            true => "no snapshots".to_owned(),
            false => table(&entries, output),
        })?;
    let is_damaged = entries.iter().any(|(_, entry)| entry[PROBLEM].is_string());
    Ok(Answer::of(!is_damaged))
}

fn delete(context: &Context, name: &str) -> Result<Answer, Error> {
    let name = parameter(name)?;
    let (connection, replica) = context.one()?;
    let request = Request::to(&replica.base, WHAT)
        .with("do", "delete")
        .with("name", name);
    let answer = connection.change(request)?.json()?;
    context.output.either(&answer, |_| {
        format!("snapshot {name} deleted at replica {}", replica.short())
    })?;
    Ok(Answer::Yes)
}

/// Entries, each with the replica that has it.
fn table(entries: &[(String, Value)], output: Output) -> String {
    let mut table = Table::new(&[
        ("REPLICA", Align::Left),
        ("NAME", Align::Left),
        ("CUT", Align::Left),
        ("CELLS", Align::Right),
        ("SIZE", Align::Right),
        ("ROOT", Align::Left),
    ]);
    for (replica, entry) in entries {
        let text = |name: &str| entry[name].as_str().map(safe).unwrap_or_default();
        let count = |name: &str| entry[name].as_u64();
        let cells = count("cells").map(|cells| HumanCount(cells).to_string());
        let bytes = count("bytes").map(|bytes| HumanBytes(bytes).to_string());
        let cut = match entry[PROBLEM].is_string() {
            true => format!("DAMAGED: {}", text(PROBLEM)),
            false => text("cut"),
        };
        let fields = [
            replica.clone(),
            text("name"),
            cut,
            cells.unwrap_or_default(),
            bytes.unwrap_or_default(),
            short(&text("root")),
        ];
        table.row(fields.map(Field::from));
    }
    table.render(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parameters() {
        assert!(parameter("before-upgrade.2").is_ok());
        for wrong in ["", "a;do=delete", "a=b", "a|b"] {
            assert!(parameter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn entries_are_a_table() {
        let entry =
            json!({ "name": "n", "cut": "c", "cells": 1234, "bytes": 2048, "root": "abcdef0123" });
        let damaged = json!({ "name": "m", "bytes": 7, "problem": "p" });
        let text = table(
            &[("r".to_owned(), entry), ("s".to_owned(), damaged)],
            Output::new(true),
        );
        let expected = "\
REPLICA  NAME  CUT         CELLS      SIZE  ROOT
r        n     c           1,234  2.00 KiB  abcdef01
s        m     DAMAGED: p              7 B";
        assert_eq!(text, expected);
    }
}
