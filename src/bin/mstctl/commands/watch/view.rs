//! What `watch` shows: rates, lag and events from one look to the next, and the
//! lines that tell them.

use std::collections::{BTreeMap, VecDeque};

use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};
use zenoh::time::NTP64;

use crate::{
    output::{Align, Field, Output, Table, Tone, short},
    overview::{Row, Storage},
    replicas::{Status, storage},
};

/// Events that are remembered.
const MAX_EVENTS: usize = 8;

/// What a replica had counted at a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    writes: u64,
    gets: u64,
    pulled: u64,
}

impl Counted {
    fn of(status: &Status) -> Self {
        let replication = status.replication.as_ref();
        Self {
            writes: status.counters.puts + status.counters.deletes,
            gets: status.counters.gets,
            pulled: replication.map_or(0, |replication| replication.pulls.bytes_received),
        }
    }
}

/// What a replica does, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    writes: f64,
    gets: f64,
    pulled: f64,
}

impl Rates {
    /// Between two looks. Counters that were begun anew count from there.
    fn between(before: Counted, now: Counted, seconds: f64) -> Self {
        let rate = |before: u64, now: u64| match (now.checked_sub(before), seconds > 0.0) {
            (Some(more), true) => more as f64 / seconds,
            _ => 0.0,
        };
        Self {
            writes: rate(before.writes, now.writes),
            gets: rate(before.gets, now.gets),
            pulled: rate(before.pulled, now.pulled),
        }
    }
}

/// What is remembered of a replica from one look to the next.
struct Seen {
    at: f64,
    counted: Option<Counted>,
    rates: Rates,
    relation: String,
    /// When all that came was last seen to be in the root; 0 if never.
    idle: u64,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct View {
    seen: BTreeMap<(String, String), Seen>,
    events: VecDeque<String>,
}

impl View {
    /// One more look, at a time in seconds that only goes on, and which on the
    /// clock is `clock`.
    pub(super) fn look(&mut self, storages: &[Storage], at: f64, clock: u64) {
        let is_first = self.seen.is_empty();
        let mut there = BTreeMap::new();
        for storage in storages {
            for row in &storage.rows {
                let key = (storage.group.to_string(), row.replica.clone());
                let before = self.seen.remove(&key);
                if !is_first {
                    self.tell(storage, row, before.as_ref(), clock);
                }
                let counted = row.status.as_ref().map(Counted::of);
                let then = before.as_ref();
                let then = then.and_then(|then| Some((then.at, then.counted?)));
                let rates = match (then, counted) {
                    (Some((then, before)), Some(now)) => Rates::between(before, now, at - then),
                    _ => Rates::default(),
                };
                let is_idle = row.status.as_ref().is_some_and(|now| now.queues.is_empty());
                let seen = Seen {
                    at,
                    counted,
                    rates,
                    relation: row.relation.clone(),
                    idle: match is_idle {
                        true => clock,
                        false => before.map_or(0, |before| before.idle),
                    },
                };
                there.insert(key, seen);
            }
        }
        for (_, replica) in std::mem::replace(&mut self.seen, there).into_keys() {
            self.event(clock, &format!("{} has gone", short(&replica)));
        }
    }

    fn tell(&mut self, storage: &Storage, row: &Row, before: Option<&Seen>, clock: u64) {
        let id = short(&row.replica);
        match before {
            None => {
                let of = self::storage(&storage.group);
                self.event(clock, &format!("{id} of {of} has come: {}", row.relation));
            }
            Some(before) if before.relation != row.relation => {
                let change = format!("{id} was {}, is {}", before.relation, row.relation);
                self.event(clock, &change);
            }
            Some(_) => {}
        }
    }

    fn event(&mut self, clock: u64, what: &str) {
        let at = NTP64(clock).to_string_rfc3339_lossy();
        // The time of day, to the second.
        let at = at.get(11..19).unwrap_or_default();
        self.events.push_back(format!("{at}  {what}"));
        while self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    /// What a replica does a second, and when it was last seen at rest.
    fn seen(&self, storage: &Storage, row: &Row) -> (Rates, u64) {
        let key = (storage.group.to_string(), row.replica.clone());
        let seen = self.seen.get(&key);
        seen.map_or((Rates::default(), 0), |seen| (seen.rates, seen.idle))
    }

    /// All that there is to see, a table for each storage.
    pub(super) fn text(&self, storages: &[Storage], clock: u64, output: Output) -> String {
        let tables = storages.iter().map(|storage| {
            let title = output.paint(Tone::Strong, &self::storage(&storage.group));
            format!("{title}\n{}", self.table(storage, clock, output))
        });
        let mut text = tables.collect::<Vec<_>>().join("\n\n");
        if !self.events.is_empty() {
            let head = output.paint(Tone::Dim, "EVENTS (UTC)");
            text.push_str(&format!("\n\n{head}"));
            for event in &self.events {
                text.push_str(&format!("\n{event}"));
            }
        }
        text
    }

    fn table(&self, storage: &Storage, clock: u64, output: Output) -> String {
        let mut table = Table::new(&[
            ("REPLICA", Align::Left),
            ("RELATION", Align::Left),
            ("ROOT", Align::Left),
            ("CELLS", Align::Right),
            ("LAG", Align::Right),
            ("PUT/S", Align::Right),
            ("GET/S", Align::Right),
            ("PULL/S", Align::Right),
        ]);
        for row in &storage.rows {
            let (rates, idle) = self.seen(storage, row);
            let cells = row.cells.map(|cells| HumanCount(cells).to_string());
            let (mut lag, mut numbers) = (String::new(), <[String; 3]>::default());
            if let Some(status) = &row.status {
                lag = lag_text(status, idle, clock);
                numbers = [count(rates.writes), count(rates.gets), bytes(rates.pulled)];
            }
            let [puts, gets, pulled] = numbers;
            table.row([
                short(&row.replica).into(),
                Field::new(row.relation.clone(), row.tone),
                short(&row.root).into(),
                cells.unwrap_or_default().into(),
                lag.into(),
                puts.into(),
                gets.into(),
                pulled.into(),
            ]);
        }
        table.render(output)
    }

    /// The same for programs: one look.
    pub(super) fn document(&self, storages: &[Storage], clock: u64) -> Value {
        let rows = storages.iter().flat_map(|storage| {
            storage.rows.iter().map(move |row| {
                let (rates, idle) = self.seen(storage, row);
                json!({
                    "key_expr": storage.group.key_expr,
                    "strip_prefix": storage.group.strip_prefix,
                    "replica": row.replica,
                    "present": row.is_present(),
                    "relation": row.relation,
                    "root": row.root,
                    "cells": row.cells,
                    "lag_seconds": row.status.as_ref().and_then(|status| lag(status, idle, clock)),
                    "writes_per_second": rates.writes,
                    "gets_per_second": rates.gets,
                    "pulled_bytes_per_second": rates.pulled,
                })
            })
        });
        json!({
            "time": NTP64(clock).to_string_rfc3339_lossy(),
            "replicas": rows.collect::<Vec<_>>(),
        })
    }
}

/// Seconds from the cut until now; nothing while all that came is in the root. The
/// cut stands still then, so what comes after that lags since `idle` at the most.
fn lag(status: &Status, idle: u64, clock: u64) -> Option<f64> {
    if status.queues.is_empty() {
        return None;
    }
    let cut = NTP64::parse_rfc3339(&status.cut).ok()?;
    let since = cut.as_u64().max(idle);
    Some(NTP64(clock.saturating_sub(since)).as_secs_f64())
}

fn lag_text(status: &Status, idle: u64, clock: u64) -> String {
    match lag(status, idle, clock) {
        None => "idle".to_owned(),
        Some(seconds) if seconds < 100.0 => format!("{seconds:.1} s"),
        Some(seconds) => format!("{seconds:.0} s"),
    }
}

/// A rate in a few letters.
fn count(rate: f64) -> String {
    match rate {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => HumanCount(rate.round() as u64).to_string(),
    }
}

fn bytes(rate: f64) -> String {
    match rate.round() as u64 {
        0 => "0".to_owned(),
        bytes => BinaryBytes(bytes).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;
    use crate::{
        overview::overview,
        replicas::{Replica, tests::replica},
    };

    fn at(puts: u64, relation: &str) -> Vec<Replica> {
        let base = replica("fleet/**", 0x1a, 0).base;
        let document = json!({
            "root": "abcdef0123456789", "cells": 1_234_567, "cut": "1970-01-01T00:00:01Z",
            "queues": { "unsettled": 1 },
            "counters": { "puts": puts, "deletes": 1, "gets": 0 },
            "replication": {
                "pulls": { "bytes_received": puts * 1024 },
                "peers": [{ "replica": "2b", "present": true, "relation": relation }],
            },
        });
        vec![Replica::new(base, document)]
    }

    fn look(view: &mut View, replicas: &[Replica], seconds: f64) -> Vec<Storage> {
        let storages = overview(replicas, replicas);
        view.look(&storages, seconds, 3 << 32);
        storages
    }

    #[test]
    fn rates_are_differences_and_fit_eighty_columns() {
        let mut view = View::default();
        look(&mut view, &at(100, "equal"), 0.0);
        let storages = look(&mut view, &at(9100, "equal"), 2.0);
        let text = view.text(&storages, 3 << 32, Output::new(true));
        let expected = "\
fleet/**
REPLICA   RELATION  ROOT          CELLS    LAG  PUT/S  GET/S    PULL/S
1a1a1a1a  equal     abcdef01  1,234,567  2.0 s  4,500      0  4.39 MiB";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        let document = view.document(&storages, 3 << 32);
        assert_eq!(document["replicas"][0]["writes_per_second"], 4500.0);
        assert_eq!(document["replicas"][0]["lag_seconds"], 2.0);
    }

    #[test]
    fn counters_that_begin_anew_are_no_rate() {
        let (before, now) = (
            Counted {
                writes: 9,
                ..Counted::default()
            },
            Counted::default(),
        );
        assert_eq!(Rates::between(before, now, 1.0), Rates::default());
        assert_eq!(Rates::between(now, before, 0.0), Rates::default());
        assert_eq!(Rates::between(now, before, 2.0).writes, 4.5);
    }

    #[test]
    fn what_changes_is_an_event() {
        let mut view = View::default();
        look(&mut view, &at(0, "equal"), 0.0);
        assert!(view.events.is_empty());
        look(&mut view, &at(0, "divergent"), 1.0);
        look(&mut view, &[], 2.0);
        let events: Vec<&str> = view.events.iter().map(String::as_str).collect();
        let expected = [
            "00:00:03  1a1a1a1a was equal, is divergent",
            "00:00:03  1a1a1a1a has gone",
        ];
        assert_eq!(events, expected);
        for round in 0..100 {
            let relation = ["equal", "divergent"][round % 2];
            look(&mut view, &at(0, relation), 3.0);
        }
        assert_eq!(view.events.len(), MAX_EVENTS);
    }

    #[test]
    fn a_storage_at_rest_has_no_lag() {
        let status = |document| Status::deserialize(document).expect("a status");
        let rest = status(json!({ "cut": "1970-01-01T00:00:01Z" }));
        assert_eq!(lag_text(&rest, 0, 500 << 32), "idle");
        let busy = status(json!({ "cut": "1970-01-01T00:00:01Z", "queues": { "uncommitted": 1 } }));
        assert_eq!(lag_text(&busy, 0, 500 << 32), "499 s");
        assert_eq!(lag_text(&busy, 499 << 32, 500 << 32), "1.0 s");
        assert_eq!(count(0.0), "0");
        assert_eq!(count(3.16), "3.2");
        assert_eq!(count(1234.4), "1,234");
    }
}
