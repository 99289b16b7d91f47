//! What is written in the simulation, and what has to come of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{Rng, rngs::StdRng};
use serde_json::json;

use crate::{
    cell::{Cell, CellKey, Content, Timestamp, Value, Version},
    merge::{
        Form, Lifetimes, MergeRules, Merged, PartCell, lifetimes::tests::lifetimes, tests::merging,
    },
    store::model::Rows,
    wildcard::{WildcardRules, rule_key},
};

fn text_value(text: String) -> Value {
    Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: text.into(),
    }
}

fn text_of(cell: &Cell) -> String {
    let payload = cell.value().expect("a value").payload.to_vec();
    String::from_utf8(payload).expect("text")
}

pub(super) fn key(number: u32) -> CellKey {
    let text = format!("k/{number}");
    CellKey::own(Some(zenoh_keyexpr::OwnedKeyExpr::try_from(text).unwrap()).into())
}

/// What each key is, by its number: of some the last writer wins, others count,
/// are sets, or objects with a field that counts.
pub(super) const KINDS: [&str; 5] = ["lww", "lww", "additive", "set_union", "object"];

/// What was put to a key, and what has to come of it.
#[derive(Clone, Copy)]
pub(super) enum Put {
    Any(u32),
    Add(i64),
    /// An element, and whether it is added.
    Element(u32, bool),
    Fields {
        plain: u32,
        hours: i64,
    },
}

/// What was put to a key, or that it was deleted.
pub(super) struct Written {
    timestamp: Timestamp,
    put: Option<Put>,
    cells: Vec<(CellKey, Version)>,
}

impl Written {
    /// Whether what it says of a field is there: of `disk`, if not all need be that was written.
    fn counts(&self, field: &[u8], disk: Option<&Rows>) -> bool {
        let Some(disk) = disk else {
            return true;
        };
        let is_field = |key: &CellKey| {
            let part = key.part.as_bytes();
            field.is_empty() || part.windows(field.len()).any(|window| window == field)
        };
        self.cells.iter().any(|(key, version)| {
            let held = disk.get(key).map(|cell| Version::of(key, cell));
            is_field(key) && held == Some(*version)
        })
    }
}

/// When a lifetime becomes shorter: some seconds after the beginning.
const SHORTENED: &str = "2023-11-14T22:13:27Z";

/// Patterns that are put to, or deleted: of some keys, and of all.
const PATTERNS: [&str; 5] = ["k/$*3", "k/1$*", "k/2$*", "k/**", "*/*"];

/// The merge rules, and all that was put.
pub(super) struct Merging {
    pub(super) rules: Vec<MergeRules>,
    pub(super) puts: BTreeMap<u32, Vec<Written>>,
    /// How long cells are kept.
    pub(super) lifetimes: Arc<Lifetimes>,
    /// What was put to patterns, and deletes of them.
    wildcards: Vec<(CellKey, Arc<Cell>)>,
}

impl Merging {
    pub(super) fn new(has_lifetimes: bool) -> Self {
        let written = match has_lifetimes {
            true => json!({
                "k/$*1": "3s", "k/$*2": "5s", "k/$*3": "4s", "k/$*4": "2s", "k/$*7": "20s",
                "k/$*8": "1d", "k/$*9": [{ "for": "9s" }, { "from": SHORTENED, "for": "5s" }],
            }),
            false => json!({}),
        };
        let rules = KINDS.iter().map(|kind| merging(kind)).collect();
        let puts = BTreeMap::new();
        Self {
            rules,
            puts,
            lifetimes: Arc::new(lifetimes(written)),
            wildcards: Vec::new(),
        }
    }

    /// A put to a pattern, or a delete of it.
    pub(super) fn draw_rule(
        &mut self,
        timestamp: Timestamp,
        delete: bool,
        rng: &mut StdRng,
    ) -> (CellKey, Cell) {
        // Those of all keys are seldom.
        let most = if rng.gen_ratio(1, 4) {
            PATTERNS.len()
        } else {
            3
        };
        let pattern = PATTERNS[rng.gen_range(0..most)];
        let pattern = zenoh_keyexpr::OwnedKeyExpr::try_from(pattern).unwrap();
        let content = match delete {
            true => Content::Tombstone,
            false => Content::Value(text_value(rng.r#gen::<u32>().to_string())),
        };
        let (key, cell) = (rule_key(pattern, !delete), Cell { timestamp, content });
        self.wildcards.push((key.clone(), Arc::new(cell.clone())));
        (key, cell)
    }

    /// The rules that there are; of `disk`, if not all need be there that were written.
    pub(super) fn rules_there(&self, disk: Option<&Rows>) -> WildcardRules {
        let mut rules = WildcardRules::default();
        match disk {
            Some(disk) => {
                let there = disk.iter().filter(|(key, _)| key.key.is_pattern());
                there.for_each(|(key, cell)| rules.join(key, cell));
            }
            None => {
                let written = self.wildcards.iter();
                written.for_each(|(key, cell)| rules.join(key, cell));
            }
        }
        rules
    }

    pub(super) fn kind(number: u32) -> usize {
        number as usize % KINDS.len()
    }

    pub(super) fn draw(&self, number: u32, rng: &mut StdRng) -> Put {
        match KINDS[Self::kind(number)] {
            "additive" => Put::Add(rng.gen_range(-9..=9)),
            "set_union" => Put::Element(rng.gen_range(0..5), rng.gen_ratio(2, 3)),
            "object" => Put::Fields {
                plain: rng.r#gen(),
                hours: rng.gen_range(-9..=9),
            },
            _ => Put::Any(rng.r#gen()),
        }
    }

    pub(super) fn write(
        &mut self,
        number: u32,
        timestamp: Timestamp,
        put: Option<Put>,
    ) -> Vec<(CellKey, Cell)> {
        let text = put.map(|put| match put {
            Put::Any(number) => number.to_string(),
            Put::Add(number) => number.to_string(),
            Put::Element(element, true) => format!("[{element}]"),
            Put::Element(element, false) => format!("{{\"remove\":[{element}]}}"),
            Put::Fields { plain, hours } => format!("{{\"plain\":{plain},\"hours\":{hours}}}"),
        });
        let content = text.map_or(Content::Tombstone, |text| Content::Value(text_value(text)));
        let own = key(number);
        let rules = &self.rules[Self::kind(number)];
        let cells = rules.write(&own.key, Cell { timestamp, content });
        let cells = cells.expect("taken").into_iter();
        let cells = cells.map(|(part, content)| {
            let key = own.key.clone();
            (CellKey { key, part }, Cell { timestamp, content })
        });
        let cells: Vec<_> = cells.collect();
        let versions = cells.iter();
        let versions = versions.map(|(key, cell)| (key.clone(), Version::of(key, cell)));
        self.puts.entry(number).or_default().push(Written {
            timestamp,
            put,
            cells: versions.collect(),
        });
        cells
    }

    /// What is read of a key that merges: of all puts that are newer than the last
    /// delete every one counts, once. Of those that `disk` has, if not all need be there.
    pub(super) fn expected(
        &self,
        number: u32,
        disk: Option<&Rows>,
        rules: &WildcardRules,
        died: u64,
    ) -> Option<String> {
        let puts = &self.puts[&number];
        let deletes = puts
            .iter()
            .filter(|written| written.put.is_none() && written.counts(b"", disk));
        let deleted = deletes.map(|written| written.timestamp).max();
        let ruled = rules.of_key(&key(number).key);
        let ruled = ruled.unwrap_or_default();
        let dead = self.lifetimes.dead(&key(number).key, died);
        let deleted = deleted.max(ruled.deleted).max(dead);
        let mut visible: Vec<_> = puts
            .iter()
            .filter_map(|written| Some((written, written.put?)))
            .filter(|(written, _)| Some(written.timestamp) > deleted)
            .filter(|(written, _)| written.counts(b"", disk))
            .collect();
        visible.sort_by_key(|(written, _)| written.timestamp);
        let (mut sum, mut elements, mut last) = (0, BTreeSet::new(), None);
        for (written, put) in &visible {
            match *put {
                Put::Any(number) => last = Some(number),
                Put::Add(number) => sum += number,
                Put::Element(element, true) => drop(elements.insert(element)),
                Put::Element(element, false) => drop(elements.remove(&element)),
                Put::Fields { plain, hours } => {
                    if written.counts(b"plain", disk) {
                        last = Some(plain);
                    }
                    if written.counts(b"hours", disk) {
                        sum += hours;
                    }
                }
            }
        }
        let last = last.unwrap_or_default();
        let written = visible.last().map(|(written, _)| written.timestamp);
        let put = ruled.put.filter(|put| Some(put.timestamp) > written);
        if let Some(put) = put.filter(|_| KINDS[Self::kind(number)] == "lww") {
            return written.map(|_| text_of(&put));
        }
        (!visible.is_empty()).then(|| match KINDS[Self::kind(number)] {
            "additive" => sum.to_string(),
            "set_union" => {
                let elements: Vec<_> = elements.iter().map(u32::to_string).collect();
                format!("[{}]", elements.join(","))
            }
            "object" => format!("{{\"hours\":{sum},\"plain\":{last}}}"),
            _ => last.to_string(),
        })
    }

    /// What is read of each key is what has to come of what was put.
    pub(super) fn check(&self, disk: &Rows, loses_writes: bool, died: u64) {
        let there = loses_writes.then_some(disk);
        let rules = self.rules_there(Some(disk));
        let expected_rules = self.rules_there(there);
        for number in self.puts.keys() {
            let key = key(*number).key;
            let cells = disk.range(CellKey::own(key.clone())..);
            let cells = cells.take_while(|(cell, _)| cell.key == key);
            let cells: Vec<_> = cells
                .map(|(key, cell)| PartCell {
                    part: key.part.as_bytes(),
                    cell,
                })
                .collect();
            let read = Merged::fold(&cells).read(Form::Native).expect("readable");
            // A put to a pattern is shown by keys that are not merged.
            let ruled = rules.of_key(&key);
            let put = ruled.and_then(|ruled| ruled.put).filter(|put| {
                let newest = read.as_ref().map(|cell| cell.timestamp);
                newest.is_some_and(|newest| newest < put.timestamp)
                    && cells.iter().all(|cell| cell.part.is_empty())
            });
            let text = put.or(read).map(|cell| text_of(&cell));
            assert_eq!(
                text,
                self.expected(*number, there, &expected_rules, died),
                "of key {number}"
            );
        }
    }
}
