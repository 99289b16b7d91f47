//! `mstctl replicas`

use indicatif::HumanCount;
use serde_json::{Value, json};
use zenoh_backend_mst::net::Whereabouts;

use super::Context;
use crate::{
    exit::{Answer, Error},
    output::{Align, Field, Output, Table, Tone, safe, short},
    overview::{Storage, overview},
    replicas::{Replica, Status, storage},
};

pub(super) fn run(context: &Context) -> Result<Answer, Error> {
    let connection = context.connect()?;
    let all = connection.replicas()?;
    let replicas = context.choice().all(all.clone())?;
    let storages = overview(&replicas, &all);
    context
        .output
        .either(&document(&storages), |output| table(&storages, output))?;
    Ok(Answer::Yes)
}

fn session(storage: &Storage, place: usize) -> Option<&str> {
    let status = storage.rows.get(place)?.status.as_ref()?;
    status.replication.as_ref()?.session.as_deref()
}

/// Where a replica is, in a word or two.
fn router(status: Option<&Status>) -> String {
    let Some(Whereabouts { zid, name, host }) = status.map(|status| &status.router) else {
        return "-".to_owned();
    };
    let known = name.clone().or_else(|| zid.as_deref().map(short));
    match (known, host.is_empty()) {
        (Some(known), false) => safe(&format!("{known} on {host}")),
        (Some(known), true) => safe(&known),
        (None, false) => safe(&format!("on {host}")),
        (None, true) => "-".to_owned(),
    }
}

fn table(storages: &[Storage], output: Output) -> String {
    let mut table = Table::new(&[
        ("REPLICA", Align::Left),
        ("ROOT", Align::Left),
        ("CELLS", Align::Right),
        ("RELATION", Align::Left),
        ("SESSION", Align::Left),
        ("ROUTER", Align::Left),
        ("STORAGE", Align::Left),
    ]);
    for storage in storages {
        for (place, row) in storage.rows.iter().enumerate() {
            let cells = row.cells.map(|cells| HumanCount(cells).to_string());
            table.row([
                short(&row.replica).into(),
                short(&row.root).into(),
                cells.unwrap_or_default().into(),
                Field::new(row.relation.clone(), row.tone),
                session(storage, place).unwrap_or("-").into(),
                router(row.status.as_ref()).into(),
                Field::new(self::storage(&storage.group), Tone::Plain),
            ]);
        }
    }
    table.render(output)
}

/// Also of `watch`.
pub(super) fn document(storages: &[Storage]) -> Value {
    let rows = storages.iter().flat_map(|storage| {
        storage.rows.iter().enumerate().map(move |(place, row)| {
            json!({
                "replica": row.replica,
                "key_expr": storage.group.key_expr,
                "strip_prefix": storage.group.strip_prefix,
                "name": row.status.as_ref().map(|status| &status.name),
                "present": row.is_present(),
                "relation": row.relation,
                "root": row.root,
                "cells": row.cells,
                "session": session(storage, place),
                "router": row.status.as_ref().map(|status| &status.router),
            })
        })
    });
    rows.collect()
}

/// The replicas in lists of errors and of other commands.
pub(super) fn names(replicas: &[Replica]) -> Vec<String> {
    let names = replicas.iter();
    names
        .map(|replica| replica.base.replica.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::tests::replica;

    #[test]
    fn a_line_for_each_replica() {
        let all = [replica("a/**", 0x1a, 1234), replica("b/**", 0x2b, 5)];
        let storages = overview(&all, &all);
        let text = table(&storages, Output::new(true));
        let expected = "\
REPLICA   ROOT  CELLS  RELATION  SESSION  ROUTER  STORAGE
1a1a1a1a        1,234  single    -        -       a/**
2b2b2b2b            5  single    -        -       b/**";
        assert_eq!(text, expected);
        let document = document(&storages);
        assert_eq!(document[0]["replica"], "1a".repeat(16));
        assert_eq!(document[1]["key_expr"], "b/**");
    }
}
