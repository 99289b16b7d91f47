//! `mstctl diff`

use std::collections::BTreeMap;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use zenoh_backend_mst::{cell::CellKey, hex, sync::Group};

use super::{
    Context,
    keys::{Wanted, each},
};
use crate::{
    args::Diff,
    connection::{Connection, Request},
    exit::{Answer, Error},
    output::{Output, Tone, counted, safe},
    replicas::{Choice, Replica},
};

/// What one replica lacks of another's, by key.
type Lacks = BTreeMap<String, Lack>;

/// What one replica lacks of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lack {
    /// Whether it has anything of the key.
    is_here: bool,
    /// The cells, by their part; of each the time of the one that it has instead, if
    /// it has one. Digests do not tell which of two is newer, so each replica is said
    /// to lack the other's.
    cells: BTreeMap<String, Option<u64>>,
}

/// How two replicas differ in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    OnlyA,
    OnlyB,
    NewerInA,
    NewerInB,
    /// Each has cells that the other lacks.
    Both,
}

impl Difference {
    fn sign(self) -> char {
        match self {
            Self::OnlyA => '<',
            Self::OnlyB => '>',
            Self::NewerInA | Self::NewerInB | Self::Both => '~',
        }
    }

    /// In JSON, and in words where the sign does not say it.
    fn name(self) -> &'static str {
        match self {
            Self::OnlyA => "only_a",
            Self::OnlyB => "only_b",
            Self::NewerInA => "newer_in_a",
            Self::NewerInB => "newer_in_b",
            Self::Both => "both",
        }
    }

    fn remark(self) -> &'static str {
        match self {
            Self::OnlyA | Self::OnlyB => "",
            Self::NewerInA => "  (newer in A)",
            Self::NewerInB => "  (newer in B)",
            Self::Both => "  (each has cells that the other lacks)",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::OnlyA => Tone::Bad,
            Self::OnlyB => Tone::Good,
            Self::NewerInA | Self::NewerInB | Self::Both => Tone::Warn,
        }
    }
}

/// All differences, by key.
fn merge(a_lacks: &Lacks, b_lacks: &Lacks) -> BTreeMap<String, Difference> {
    let keys = a_lacks.keys().chain(b_lacks.keys());
    let differences = keys.map(|key| {
        let difference = match (a_lacks.get(key), b_lacks.get(key)) {
            (Some(a), Some(b)) => newer(&a.cells, &b.cells),
            (Some(a), None) if a.is_here => Difference::NewerInB,
            (Some(_), None) => Difference::OnlyB,
            (None, Some(b)) if b.is_here => Difference::NewerInA,
            (None, _) => Difference::OnlyA,
        };
        (key.clone(), difference)
    });
    differences.collect()
}

/// Which is newer, where both are said to lack cells of a key.
fn newer(
    a_lacks: &BTreeMap<String, Option<u64>>,
    b_lacks: &BTreeMap<String, Option<u64>>,
) -> Difference {
    let parts = a_lacks.keys().chain(b_lacks.keys());
    let mut found = parts.map(|part| match (a_lacks.get(part), b_lacks.get(part)) {
        (Some(_), None) => Difference::NewerInB,
        (None, Some(_)) => Difference::NewerInA,
        (Some(a), Some(b)) if a < b => Difference::NewerInB,
        (Some(a), Some(b)) if a > b => Difference::NewerInA,
        _ => Difference::Both,
    });
    let first = found.next().unwrap_or(Difference::Both);
    match found.all(|other| other == first) {
        true => first,
        false => Difference::Both,
    }
}

/// What it took to find out.
#[derive(Clone, Copy, Debug)]
struct Cost {
    round_trips: u64,
    bytes: u64,
    /// Whether that is all: replicas do not look further when there is too much.
    is_all: bool,
}

pub(super) fn run(context: &Context, args: &Diff) -> Result<Answer, Error> {
    let connection = context.connect()?;
    let all = connection.replicas()?;
    let (a, b) = (
        choose(context, &args.a, &all)?,
        choose(context, &args.b, &all)?,
    );
    if a.base.replica == b.base.replica {
        let twice = "A and B are the same replica: name two".to_owned();
        return Err(Error::Usage(twice));
    }
    if a.base.group != b.base.group {
        return Err(Error::Usage(format!(
            "A is of {}, and B of {}: replicas of one storage can be compared",
            crate::replicas::storage(&a.base.group),
            crate::replicas::storage(&b.base.group)
        )));
    }
    let mut cost = Cost {
        round_trips: 0,
        bytes: 0,
        is_all: true,
    };
    let a_lacks = lacks(&connection, &a, &b, &mut cost)?;
    let b_lacks = lacks(&connection, &b, &a, &mut cost)?;
    let merged = merge(&a_lacks, &b_lacks);
    context
        .output
        .either(&document(&a, &b, &merged, cost), |output| {
            text(&a, &b, &merged, cost, output)
        })?;
    Ok(Answer::of(merged.is_empty() && cost.is_all))
}

fn choose(context: &Context, replica: &str, all: &[Replica]) -> Result<Replica, Error> {
    let choice = Choice {
        storage: context.global.storage.as_deref(),
        replica: Some(replica),
    };
    let mut fitting = choice.all(all.to_vec())?;
    match (fitting.len(), fitting.pop()) {
        (1, Some(fits)) => Ok(fits),
        (_, last) => Err(Error::Several {
            what: "replicas",
            option: "more digits",
            found: super::replicas::names(&fitting.into_iter().chain(last).collect::<Vec<_>>()),
        }),
    }
}

/// What `of` has and `at` does not.
fn lacks(
    connection: &Connection,
    at: &Replica,
    of: &Replica,
    cost: &mut Cost,
) -> Result<Lacks, Error> {
    let request = Request::to(&at.base, "control/diff").with("with", of.base.replica);
    let answer = connection.ask(request)?.json()?;
    cost.round_trips += answer["round_trips"].as_u64().unwrap_or_default();
    cost.bytes += answer["bytes"].as_u64().unwrap_or_default();
    cost.is_all &= answer["complete"] != false;
    let mut lacks = Lacks::new();
    for differing in answer["differ"].as_array().into_iter().flatten() {
        if let Some(key) = differing["key"].as_str() {
            // A key of several cells is told of with each.
            let lack = lacks.entry(key.to_owned()).or_default();
            lack.is_here |= differing["here"].is_string();
            let part = differing["part"].as_str().unwrap_or_default();
            let time = differing["cell"].as_str().and_then(time_of);
            lack.cells.insert(part.to_owned(), time);
        }
    }
    for range in answer["ranges"].as_array().into_iter().flatten() {
        let wanted = Wanted {
            deleted: true,
            low: range["low"].as_str(),
            high: range["high"].as_str(),
            ..Wanted::default()
        };
        let bounds = [wanted.low, wanted.high];
        let bounds = bounds.map(|bound| full_key(&of.base.group, bound?));
        // All that the other has in there is missing; but a key may have further
        // cells beyond the bounds, which then are of that key.
        each(connection, &of.base, wanted, |listed| {
            let Some(key) = listed["key"].as_str() else {
                return Ok(());
            };
            let is_bound = bounds.iter().flatten().any(|bound| bound == key);
            let is_here = is_bound && has_any(connection, at, key)?;
            lacks.entry(key.to_owned()).or_default().is_here |= is_here;
            Ok(())
        })?;
    }
    Ok(lacks)
}

/// The key of a cell as clients write it, from the cell's in hexadecimal.
fn full_key(group: &Group, bound: &str) -> Option<String> {
    let key = CellKey::from_canonical(&hex::decode(bound)?).ok()?;
    group.full_key(&key.key)
}

/// Whether a replica has cells of a key.
fn has_any(connection: &Connection, at: &Replica, key: &str) -> Result<bool, Error> {
    let request = Request::to(&at.base, "cells").payload(key.as_bytes());
    let cells = connection.ask(request)?.json()?;
    Ok(cells.as_array().is_some_and(|cells| !cells.is_empty()))
}

/// The time of a timestamp, which is the number before its ID.
fn time_of(timestamp: &str) -> Option<u64> {
    timestamp.split_once('/')?.0.parse().ok()
}

fn document(a: &Replica, b: &Replica, merged: &BTreeMap<String, Difference>, cost: Cost) -> Value {
    let keys = merged.iter();
    let keys: Value = keys
        .map(|(key, difference)| json!({ "key": key, "difference": difference.name() }))
        .collect();
    json!({
        "a": a.base.replica.to_string(),
        "b": b.base.replica.to_string(),
        "equal": merged.is_empty() && cost.is_all,
        "complete": cost.is_all,
        "keys": keys,
        "round_trips": cost.round_trips,
        "bytes": cost.bytes,
    })
}

fn text(
    a: &Replica,
    b: &Replica,
    merged: &BTreeMap<String, Difference>,
    cost: Cost,
    output: Output,
) -> String {
    let mut lines = vec![
        output.paint(Tone::Dim, &format!("A {}", a.base.replica)),
        output.paint(Tone::Dim, &format!("B {}", b.base.replica)),
    ];
    lines.extend(merged.iter().map(|(key, difference)| {
        let line = format!("{} {}{}", difference.sign(), safe(key), difference.remark());
        output.paint(difference.tone(), &line)
    }));
    let found = match merged.len() {
        0 => "no key differs".to_owned(),
        count => counted(count as u64, "key differs", "keys differ"),
    };
    let (trips, bytes) = (HumanCount(cost.round_trips), HumanBytes(cost.bytes));
    let found = format!("{found} (round trips: {trips}; {bytes})");
    lines.push(output.paint(Tone::Dim, &found));
    if !cost.is_all {
        let more = "there is more: too much differs to be listed";
        lines.push(output.paint(Tone::Warn, more));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::tests::replica;

    /// Of each key the time of the own cell that is there instead.
    fn lacks_of(keys: &[(&str, Option<u64>)]) -> Lacks {
        let lack = |time: Option<u64>| Lack {
            is_here: time.is_some(),
            cells: BTreeMap::from([(String::new(), time)]),
        };
        let keys = keys.iter();
        keys.map(|(key, time)| ((*key).to_owned(), lack(*time)))
            .collect()
    }

    fn merged() -> BTreeMap<String, Difference> {
        let mut a_lacks = lacks_of(&[
            ("b", None),
            ("c", Some(1)),
            ("e", Some(1)),
            ("f", Some(4)),
            ("g", Some(3)),
        ]);
        let b_lacks = lacks_of(&[
            ("a", None),
            ("d", Some(2)),
            ("e", Some(3)),
            ("f", Some(3)),
            ("g", Some(2)),
        ]);
        // And another part of it that B alone has.
        let g = a_lacks.get_mut("g").expect("g");
        g.cells.insert("05".to_owned(), None);
        merge(&a_lacks, &b_lacks)
    }

    #[test]
    fn both_sides_are_merged_and_sorted() {
        let merged: Vec<_> = merged().into_iter().collect();
        let expected = [
            ("a", Difference::OnlyA),
            ("b", Difference::OnlyB),
            ("c", Difference::NewerInB),
            ("d", Difference::NewerInA),
            ("e", Difference::NewerInB),
            ("f", Difference::NewerInA),
            ("g", Difference::Both),
        ];
        let expected = expected.map(|(key, difference)| (key.to_owned(), difference));
        assert_eq!(merged, expected);
        assert!(merge(&Lacks::new(), &Lacks::new()).is_empty());
    }

    #[test]
    fn what_changed_between_the_two_looks_is_listed_once() {
        let merged = merge(&lacks_of(&[("a", None)]), &lacks_of(&[("a", None)]));
        assert_eq!(merged["a"], Difference::Both);
    }

    #[test]
    fn differences_are_shown_as_diff_does() {
        let (a, b) = (replica("x/**", 0xa, 0), replica("x/**", 0xb, 0));
        let output = Output::new(true);
        let cost = Cost {
            round_trips: 4,
            bytes: 2048,
            is_all: true,
        };
        let shown = text(&a, &b, &merged(), cost, output);
        let lines: Vec<&str> = shown.lines().skip(2).collect();
        let expected = [
            "< a",
            "> b",
            "~ c  (newer in B)",
            "~ d  (newer in A)",
            "~ e  (newer in B)",
            "~ f  (newer in A)",
            "~ g  (each has cells that the other lacks)",
            "7 keys differ (round trips: 4; 2.00 KiB)",
        ];
        assert_eq!(lines, expected);
        let document = document(&a, &b, &merged(), cost);
        assert_eq!(document["keys"][2]["difference"], "newer_in_b");
        assert_eq!(document["equal"], false);
    }
}
