//! What it costs to merge: to turn a put into cells, to fold a key's cells into its
//! value, and to read it again after one more put.

use std::{hint::black_box, sync::Arc, time::Instant};

use automerge::{AutoCommit, ROOT, transaction::Transactable};
use bytes::Bytes;
use serde_json::json;
use zenoh_backend_mst::{
    cell::{Cell, Content, Key, Part, Timestamp, Value},
    config::StorageConfig,
    merge::{Applied, Form, MergeRules, Merged, PartCell},
};
use zenoh_keyexpr::keyexpr;

const RUNS: usize = 5000;

fn key() -> Key {
    Key::from(Some("bench/key".try_into().expect("a key expression")))
}

fn rules(strategy: &str) -> MergeRules {
    let options = json!({ "replication": { "default_strategy": strategy } });
    let config = StorageConfig::parse("bench", options).expect("a configuration");
    let all = keyexpr::new("**").expect("a key expression");
    MergeRules::new(&config.merge, all, None).expect("rules")
}

/// The puts that make so many cells, and one more.
fn puts(strategy: &str, cells: usize) -> Vec<Bytes> {
    let numbers = 0..=cells;
    match strategy {
        "additive" => numbers.map(|n| format!("{n}.25").into()).collect(),
        "set_union" => numbers
            .map(|n| format!("[\"element {n}\"]").into())
            .collect(),
        "object" => numbers
            .map(|n| format!("{{\"field {n}\": [{n}, \"text\"]}}").into())
            .collect(),
        "automerge_crdt" => {
            let mut document = AutoCommit::new();
            numbers
                .map(|n| {
                    let field = format!("field {}", n % 100);
                    document.put(ROOT, field, n as i64).expect("put");
                    Bytes::from(document.save_incremental())
                })
                .collect()
        }
        _ => vec!["a value".into(), "another".into()],
    }
}

fn cells_of(rules: &MergeRules, time: u64, payload: &Bytes) -> Vec<(Part, Arc<Cell>)> {
    let timestamp = Timestamp { time, id: [1; 16] };
    let content = Content::Value(Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.clone(),
    });
    let cells = rules.write(&key(), Cell { timestamp, content });
    let cells = cells.expect("taken").into_iter();
    cells
        .map(|(part, content)| (part, Arc::new(Cell { timestamp, content })))
        .collect()
}

fn fold(cells: &[(Part, Arc<Cell>)]) -> Merged {
    let cells = cells.iter();
    let cells: Vec<_> = cells
        .map(|(part, cell)| PartCell {
            part: part.as_bytes(),
            cell,
        })
        .collect();
    Merged::fold(&cells)
}

/// The median and the 99th percentile of what `run` takes, in microseconds.
fn measure<T>(runs: usize, mut prepare: impl FnMut() -> T, mut run: impl FnMut(T)) -> (f64, f64) {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let prepared = prepare();
        let start = Instant::now();
        run(prepared);
        times.push(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    (times[runs / 2], times[runs * 99 / 100])
}

fn main() {
    println!("microseconds: median / 99th percentile");
    println!(
        "{:16} {:>6} {:>18} {:>18} {:>18}",
        "strategy", "cells", "write a put", "fold and read", "apply and read"
    );
    let sizes = |strategy: &str| match strategy {
        "lww" => vec![1],
        "automerge_crdt" => vec![1, 10, 100, 1000],
        _ => vec![1, 10, 100, 10_000],
    };
    for strategy in ["lww", "additive", "set_union", "object", "automerge_crdt"] {
        for size in sizes(strategy) {
            let rules = rules(strategy);
            let mut puts = puts(strategy, size);
            let last = puts.pop().expect("a put");
            let mut cells: Vec<_> = (1..)
                .zip(&puts)
                .flat_map(|(time, put)| cells_of(&rules, time, put))
                .collect();
            cells.sort_by(|(a, _), (b, _)| a.cmp(b));
            let more = cells_of(&rules, 1_000_000, &last);
            let runs = (RUNS * 100 / size.max(100)).max(50);
            let write = measure(
                runs,
                || (),
                |()| {
                    black_box(cells_of(&rules, 1_000_000, &last));
                },
            );
            let folded = measure(
                runs,
                || (),
                |()| {
                    black_box(fold(&cells).read(Form::Native)).expect("readable");
                },
            );
            // The fold is made anew for each, which is not measured.
            let applied = measure(
                runs.min(1000),
                || fold(&cells),
                |mut merged| {
                    for (part, cell) in &more {
                        assert_eq!(merged.apply(part.as_bytes(), cell), Applied::Yes);
                    }
                    black_box(merged.read(Form::Native)).expect("readable");
                },
            );
            let show = |(median, worst): (f64, f64)| format!("{median:.1} / {worst:.1}");
            println!(
                "{strategy:16} {size:>6} {:>18} {:>18} {:>18}",
                show(write),
                show(folded),
                show(applied)
            );
        }
    }
}
