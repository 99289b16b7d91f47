//! `mstctl status`

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use zenoh_backend_mst::net::Whereabouts;

use super::Context;
use crate::{
    exit::{Answer, Error},
    output::{Output, Tone, counted, note, safe, short},
    replicas::{Peer, Replica, Scrub, Status, storage},
};

/// Damaged cells that are shown.
const MAX_SHOWN: usize = 5;

/// From which offset on a peer's clock is told of: less may be the way of a message.
const CLOCK_SHOWN_MS: u64 = 500;

/// Replicas of which all is asked for: of more there are the brief ones.
const MAX_IN_FULL: usize = 32;

pub(super) fn run(context: &Context) -> Result<Answer, Error> {
    let (connection, mut replicas) = context.all()?;
    if replicas.len() <= MAX_IN_FULL {
        for replica in &mut replicas {
            match connection.in_full(replica) {
                Ok(full) => *replica = full,
                Err(error) => note(&format!("{error}; what it said before is shown")),
            }
        }
    }
    let documents = replicas.iter().map(|replica| {
        let mut document = replica.document.clone();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("base".to_owned(), replica.base.to_string().into());
        }
        document
    });
    let documents: Value = documents.collect();
    context.output.either(&documents, |output| {
        let blocks = replicas.iter().map(|replica| {
            let (health, tone) = health(&replica.status);
            let health = output.paint(tone, &health);
            let title = output.paint(Tone::Strong, &title(replica));
            format!("{title}  {health}\n{}", block(&replica.status, output))
        });
        blocks.collect::<Vec<_>>().join("\n\n")
    })?;
    Ok(Answer::Yes)
}

fn title(replica: &Replica) -> String {
    let storage = storage(&replica.base.group);
    let name = match replica.status.name.as_str() {
        "" => String::new(),
        name => format!("  `{}`", safe(name)),
    };
    format!("{storage}{name}  {}", replica.base.replica)
}

/// What an operator should look at first.
fn health(status: &Status) -> (String, Tone) {
    if status.failure.is_some() {
        return ("FAILED: it takes no more writes".to_owned(), Tone::Bad);
    }
    match quarantined(status) {
        0 => {}
        count => {
            let cells = counted(count as u64, "cell", "cells");
            return (format!("DAMAGED: {cells}"), Tone::Bad);
        }
    }
    if status.recovered.is_some() {
        let text =
            "RECOVERED: saved from a damaged store; what could not be read is gone, or at others";
        return (text.to_owned(), Tone::Bad);
    }
    let Some(replication) = &status.replication else {
        return ("ok, not replicated".to_owned(), Tone::Good);
    };
    let with = |relation: &str| {
        let present = replication.peers.iter().filter(|peer| peer.present);
        present.filter(|peer| peer.relation == relation).count()
    };
    match (with("isolated"), with("divergent")) {
        (0, 0) => ("ok".to_owned(), Tone::Good),
        (0, count) => (format!("differs from {count}"), Tone::Warn),
        (count, _) => (format!("ISOLATED from {count}"), Tone::Bad),
    }
}

/// Cells that are damaged, and have not been had from another replica.
fn quarantined(status: &Status) -> usize {
    let scrub = status.scrub.as_ref();
    scrub.map_or(0, |scrub| {
        let all = usize::try_from(scrub.quarantined_cells).unwrap_or(usize::MAX);
        all.max(scrub.quarantined.len())
    })
}

/// A line for each thing that there is to say.
fn block(status: &Status, output: Output) -> String {
    let mut lines = vec![
        ("router", router(&status.router)),
        ("root", status.root.clone()),
        ("cut", status.cut.clone()),
        ("holds", holds(status)),
        ("queues", queues(status)),
        ("since open", counters(status)),
    ];
    let heads = std::iter::once("refused").chain(std::iter::repeat(""));
    let last = status.refused.iter().rev().take(MAX_SHOWN);
    let last = last.map(|refused| {
        let text = format!("key {}, {}", safe(&refused.key), safe(&refused.reason));
        output.paint(Tone::Warn, &format!("{text}, at {}", safe(&refused.at)))
    });
    lines.extend(heads.zip(last));
    if let Some(scrub) = &status.scrub {
        lines.push(("scrub", self::scrub(scrub)));
        let heads = std::iter::once("damaged").chain(std::iter::repeat(""));
        let shown = scrub.quarantined.iter().take(MAX_SHOWN);
        let shown = shown.map(|cell| {
            let key = cell.key.as_deref().map_or("none".to_owned(), safe);
            let text = format!("key {key}, timestamp {}", safe(&cell.timestamp));
            output.paint(Tone::Bad, &text)
        });
        lines.extend(heads.zip(shown));
        let all = quarantined(status);
        if all > MAX_SHOWN {
            let more = all - MAX_SHOWN;
            lines.push(("", format!("and {more} more: `mstctl scrub --json`")));
        }
    }
    if let Some(aside) = &status.recovered {
        lines.push(("recovered", output.paint(Tone::Warn, &recovered(aside))));
    }
    if let Some(replication) = &status.replication {
        let session = replication.session.as_deref();
        lines.push(("session", session.unwrap_or("none yet").to_owned()));
        let heads = std::iter::once("peers").chain(std::iter::repeat(""));
        match (
            replication.peers.len(),
            replication.equal_peers.unwrap_or(0),
        ) {
            (0, 0) => lines.push(("peers", "none".to_owned())),
            (_, 0) => {}
            (_, equal) => lines.push(("peers", format!("{equal} equal"))),
        }
        let peers = replication
            .peers
            .iter()
            .map(|peer| self::peer(peer, output));
        lines.extend(heads.zip(peers));
        if replication.pulls.failed > 0 {
            let failed = HumanCount(replication.pulls.failed);
            lines.push(("pulls", format!("{failed} failed")));
        }
    }
    if let Some(failure) = &status.failure {
        lines.push(("failure", output.paint(Tone::Bad, &safe(failure))));
    }
    layout(&lines, output)
}

/// Where the damaged store is of which one was saved; also of a folder.
pub(super) fn recovered(aside: &str) -> String {
    format!(
        "saved from a damaged store, which is in {}: `mstctl scrub acknowledge`",
        safe(aside)
    )
}

/// Which router, of which machine.
pub(super) fn router(router: &Whereabouts) -> String {
    let named = router.name.iter().chain(&router.zid).map(|text| safe(text));
    let router_host = match router.host.is_empty() {
        true => None,
        false => Some(format!("on {}", safe(&router.host))),
    };
    named.chain(router_host).collect::<Vec<_>>().join(" ")
}

/// Lines, each with its name before it.
pub(super) fn layout(lines: &[(&str, String)], output: Output) -> String {
    let lines = lines.iter().map(|(name, text)| {
        let name = output.paint(Tone::Dim, &format!("{name:10}"));
        format!("  {name}  {text}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How much there is.
pub(super) fn holds(status: &Status) -> String {
    let mut holds = format!(
        "{}, {}, {}",
        counted(status.keys, "key", "keys"),
        counted(status.cells, "cell", "cells"),
        counted(
            status.tombstones,
            "of them a tombstone",
            "of them tombstones"
        )
    );
    match status.is_in_memory() {
        true => holds.push_str(", in memory"),
        false => holds.push_str(&format!(", {} on disk", HumanBytes(status.disk_bytes))),
    }
    holds
}

fn queues(status: &Status) -> String {
    let queues = &status.queues;
    match queues.is_empty() {
        true => "empty".to_owned(),
        false => format!(
            "{} not on disk ({}), {} not settled",
            HumanCount(queues.uncommitted),
            HumanBytes(queues.uncommitted_bytes),
            HumanCount(queues.unsettled)
        ),
    }
}

/// How far the scrub is; also of `scrub`.
pub(super) fn scrub(scrub: &Scrub) -> String {
    let pass = &scrub.pass;
    let (checked, of) = (HumanCount(pass.checked), counted(pass.of, "cell", "cells"));
    let last = scrub.last_completed.as_deref().map_or_else(
        || "none completed yet".to_owned(),
        |last| format!("last completed {}", safe(last)),
    );
    let mut text = format!("{}, {checked} of {of}, {last}", safe(&scrub.state));
    if scrub.damaged_cells > 0 {
        let (damaged, repaired) = (scrub.damaged_cells, scrub.repaired_cells);
        text.push_str(&format!("; {damaged} damaged, {repaired} of them repaired"));
    }
    text
}

fn counters(status: &Status) -> String {
    let counters = &status.counters;
    format!(
        "{}, {}, {}, {} refused",
        counted(counters.puts, "put", "puts"),
        counted(counters.deletes, "delete", "deletes"),
        counted(counters.gets, "get", "gets"),
        HumanCount(counters.refused)
    )
}

fn peer(peer: &Peer, output: Output) -> String {
    let relation = format!("{:9}", peer.relation);
    let relation = output.paint(Tone::of_relation(&peer.relation), &relation);
    let presence = match peer.present {
        true => "",
        false => ", absent",
    };
    let reason = peer.reason.as_deref();
    let reason = reason.map_or(String::new(), |reason| format!(": {}", safe(reason)));
    let since = safe(&peer.since);
    let clock = match peer.clock_offset_ms {
        Some(offset) if offset.unsigned_abs() >= CLOCK_SHOWN_MS => {
            let direction = if offset > 0 { "ahead" } else { "behind" };
            let seconds = offset.unsigned_abs() as f64 / 1000.0;
            output.paint(
                Tone::Warn,
                &format!(", its clock is {seconds:.1} s {direction}"),
            )
        }
        _ => String::new(),
    };
    let refused = match peer.refused_cells {
        0 => String::new(),
        count => {
            let text = format!(", {} of it rejected", counted(count, "cell", "cells"));
            output.paint(Tone::Warn, &text)
        }
    };
    format!(
        "{}  {relation}  since {since}{presence}{clock}{refused}{reason}",
        short(&peer.replica)
    )
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

    fn status(document: Value) -> Status {
        Status::deserialize(document).expect("a status")
    }

    #[test]
    fn what_is_wrong_is_seen_first() {
        let told = |document: Value| health(&status(document)).0;
        let peers = |relations: &[&str]| -> Value {
            let peers = relations.iter();
            peers
                .map(|relation| json!({ "present": true, "relation": relation }))
                .collect()
        };
        assert_eq!(told(json!({})), "ok, not replicated");
        let replicated =
            |relations: &[&str]| told(json!({ "replication": { "peers": peers(relations) } }));
        assert_eq!(replicated(&["equal"]), "ok");
        assert_eq!(replicated(&["equal", "divergent"]), "differs from 1");
        assert_eq!(replicated(&["isolated", "divergent"]), "ISOLATED from 1");
        assert!(told(json!({ "failure": "full" })).starts_with("FAILED"));
        let recovered = json!({ "recovered": "d.damaged-1", "replication": { "peers": [] } });
        assert!(told(recovered).starts_with("RECOVERED"));
        let scrub = |quarantined: Value| told(json!({ "scrub": { "quarantined": quarantined } }));
        assert_eq!(scrub(json!([])), "ok, not replicated");
        assert_eq!(scrub(json!([{ "key": "a" }])), "DAMAGED: 1 cell");
    }

    #[test]
    fn only_what_is_in_memory_is_said_to_be() {
        let holds = |configuration: Value| {
            holds(&status(
                json!({ "disk_bytes": 0, "configuration": configuration }),
            ))
        };
        let memory = json!({ "persistence": "memory" });
        assert!(holds(json!({ "volume": memory })).ends_with("in memory"));
        assert!(holds(memory).ends_with("in memory"));
        for durable in [
            json!({}),
            json!({ "volume": "mst" }),
            json!({ "volume": { "id": "mst" } }),
        ] {
            assert!(holds(durable).ends_with("0 B on disk"));
        }
    }

    #[test]
    fn a_block_has_a_line_for_each_thing() {
        let status = status(json!({
            "router": { "zid": "f00", "name": "r1", "host": "robot-7" },
            "refused": [{ "key": "k", "reason": "too far", "at": "then" }],
            "root": "ab", "cut": "c", "keys": 1234, "cells": 1250, "tombstones": 16,
            "disk_bytes": 67108864, "queues": { "uncommitted": 1, "unsettled": 2 },
            "scrub": {
                "state": "running", "pass": { "checked": 5, "of": 1250 }, "last_completed": "t",
                "damaged_cells": 3, "repaired_cells": 2,
                "quarantined": [{ "key": "k", "timestamp": "1/a" }],
            },
            "replication": { "peers": [
                { "replica": "0123456789", "relation": "equal", "present": true, "since": "s",
                  "clock_offset_ms": -499 },
                { "replica": "89abcdef01", "relation": "behind", "present": true, "since": "s",
                  "clock_offset_ms": 3600000, "refused_cells": 1200 },
                { "replica": "fedcba9876", "relation": "isolated", "reason": "r\u{1b}", "since": "s" },
            ] },
        }));
        let expected = "  \
  router      r1 f00 on robot-7
  root        ab
  cut         c
  holds       1,234 keys, 1,250 cells, 16 of them tombstones, 64.00 MiB on disk
  queues      1 not on disk (0 B), 2 not settled
  since open  0 puts, 0 deletes, 0 gets, 0 refused
  refused     key k, too far, at then
  scrub       running, 5 of 1,250 cells, last completed t; 3 damaged, 2 of them repaired
  damaged     key k, timestamp 1/a
  session     none yet
  peers       01234567  equal      since s
              89abcdef  behind     since s, its clock is 3600.0 s ahead, 1,200 cells of it rejected
              fedcba98  isolated   since s, absent: r\\u{1b}";
        assert_eq!(block(&status, Output::new(true)), expected);
    }
}
