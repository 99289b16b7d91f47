//! Rules and cells, joined in any order, and what is shown of them, compared with a naive model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use zenoh_keyexpr::OwnedKeyExpr;

use super::{entry::TreeEntry, joined::Joined, loader::Loader, tree::AppliedTree};
use crate::{
    cell::{Cell, CellKey, Content, Key, Timestamp, Value, Version},
    merge::fields_around,
    replica::read::liveness::{KeyLiveness, Shown},
    wildcard::{PUT_PART, Ruled, WildcardRules, matches},
};

const PATTERNS: [&str; 10] = [
    "**", "a/**", "a/*", "*/c", "**/c", "a/b/**", "a/b$*", "$*b", "*", "a/**/c",
];

/// Some sort between a key and those below it, some before a wildcard.
const KEYS: [&str; 12] = [
    "", "a", "b", "a/b", "a/c", "b/c", "a/b/c", "a!", "a!/c", "a-b", "a/!", "ab",
];

/// A counter and a set; a field, and in it a counter, an object, a field of that and its set.
const PARTS: [&[u8]; 7] = [
    b"\x01",
    b"\x02",
    b"\x03a\0\x01",
    b"\x03a\0\x01\x01",
    b"\x03a\0\x01\x03",
    b"\x03a\0\x01\x03b\0\x01",
    b"\x03a\0\x01\x03b\0\x01\x02\x12",
];

type Update = (CellKey, Arc<Cell>);

fn any_update() -> impl Strategy<Value = Update> {
    let value = |text: String| {
        Content::Value(Value {
            encoding_id: 0,
            schema: None,
            attachment: None,
            payload: text.into(),
        })
    };
    let value = "[xy]".prop_map(value);
    let key = |text: &str| match text {
        "" => Key::NONE,
        text => Some(OwnedKeyExpr::try_from(text).expect("a key")).into(),
    };
    let own = (0..KEYS.len(), prop::option::of(value.clone())).prop_map(move |(index, value)| {
        let content = value.unwrap_or(Content::Tombstone);
        (CellKey::own(key(KEYS[index])), content)
    });
    let of_part = prop::option::of(value.clone());
    let part = (0..KEYS.len(), 0..PARTS.len(), of_part).prop_map(move |(index, part, value)| {
        let part = PARTS[part].into();
        let key = key(KEYS[index]);
        (CellKey { key, part }, value.unwrap_or(Content::Tombstone))
    });
    let rule = (0..PATTERNS.len(), prop::option::of(value)).prop_map(move |(index, value)| {
        let part = if value.is_some() { PUT_PART } else { b"" };
        let (key, part) = (key(PATTERNS[index]), part.into());
        (CellKey { key, part }, value.unwrap_or(Content::Tombstone))
    });
    let cell = prop_oneof![4 => own, 3 => part, 2 => rule];
    (cell, 1u64..9, 1u8..3).prop_map(|((key, content), time, id)| {
        let timestamp = Timestamp { time, id: [id; 16] };
        (key, Arc::new(Cell { timestamp, content }))
    })
}

/// Joins batches as the core does, and keeps rows as a store would.
struct Joiner {
    tree: AppliedTree,
    rows: BTreeMap<CellKey, Version>,
}

impl Joiner {
    fn new() -> Self {
        Self {
            tree: Loader::new().finish().tree,
            rows: BTreeMap::new(),
        }
    }

    fn join(&mut self, batch: &[Update], joined_at_once: usize, covered_at_once: usize) {
        let mut newest = BTreeMap::<CellKey, Version>::new();
        for (key, cell) in batch {
            let version = Version::of(key, cell);
            let kept = newest.entry(key.clone()).or_insert(version);
            *kept = (*kept).max(version);
        }
        let cells = newest.into_iter();
        let cells: Vec<_> = cells
            .map(|(key, version)| (key, TreeEntry::from(version)))
            .collect();
        let mut joined = Joined::new(true);
        for some in cells.chunks(joined_at_once) {
            self.tree.join_all(some, &mut joined);
        }
        while joined.is_covering() && self.tree.cover(&mut joined, covered_at_once) {}
        assert!(!joined.is_covering());
        for key in &joined.won {
            // The core looks at the tree, since a rule may have covered it in the same batch.
            if let Some(held) = self.tree.get(key) {
                self.rows.insert(key.clone(), held.version());
            }
        }
        for (key, _) in joined.covered {
            self.rows.remove(&key);
        }
    }

    fn cells(&self) -> BTreeMap<CellKey, Version> {
        let cells = self.tree.iter();
        cells
            .map(|(key, held)| (key.clone(), held.version()))
            .collect()
    }
}

/// What stays of all updates: of each key and part the newest, unless it is covered.
fn model(updates: &[Update]) -> BTreeMap<CellKey, Version> {
    let mut newest = BTreeMap::<CellKey, Version>::new();
    for (key, cell) in updates {
        let version = Version::of(key, cell);
        let kept = newest.entry(key.clone()).or_insert(version);
        *kept = (*kept).max(version);
    }
    let is_covered = |key: &CellKey, version: &Version| {
        let own = newest.get(&CellKey::own(key.key.clone()));
        let by_own = own.is_some_and(|own| own.timestamp >= version.timestamp);
        let by_rule = newest.iter().any(|(rule, deleted)| {
            let is_delete = rule.key.is_pattern() && rule.part.is_empty();
            let pattern = rule.key.as_key_expr().filter(|_| is_delete);
            let is_of = pattern.is_some_and(|pattern| matches(pattern, &key.key));
            is_of && deleted.timestamp >= version.timestamp
        });
        let by_field = fields_around(key.part.as_bytes()).any(|field| {
            let (key, part) = (key.key.clone(), field.into());
            let own = newest.get(&CellKey { key, part });
            own.is_some_and(|own| own.timestamp >= version.timestamp)
        });
        by_field || (!key.part.is_empty() && by_own) || (!key.key.is_pattern() && by_rule)
    };
    let kept = newest
        .iter()
        .filter(|(key, version)| !is_covered(key, version));
    kept.map(|(key, version)| (key.clone(), *version)).collect()
}

/// What is shown of a key, said of all updates, without any normal form.
fn shown(updates: &[Update], key: &Key) -> Shown {
    let rules = updates.iter().filter(|(rule, _)| {
        let pattern = rule.key.as_key_expr().filter(|_| rule.key.is_pattern());
        pattern.is_some_and(|pattern| matches(pattern, key))
    });
    let of_kind = |is_put: bool| {
        let rules = rules
            .clone()
            .filter(move |(rule, _)| is_put != rule.part.is_empty());
        rules.map(|(_, cell)| cell.timestamp).max()
    };
    let live = updates.iter().filter(|(cell, _)| cell.key == *key);
    let live = live.filter(|(_, cell)| Some(cell.timestamp) > of_kind(false));
    let own = live.clone().filter(|(cell, _)| cell.part.is_empty());
    let own = own.map(|(key, cell)| Version::of(key, cell)).max();
    let parts = live.filter(|(cell, _)| !cell.part.is_empty());
    let part = parts.map(|(_, cell)| cell.timestamp).max();
    match (own, part) {
        (None, None) => Shown::Nothing,
        (own, Some(part)) if own.map(|own| own.timestamp) < Some(part) => Shown::Cells(part),
        (Some(own), _) if own.tombstone => Shown::Nothing,
        (Some(own), _) => match of_kind(true).filter(|put| *put > own.timestamp) {
            Some(put) => Shown::Put(put),
            None => Shown::Cells(own.timestamp),
        },
        (None, Some(_)) => unreachable!("no cell is older than none"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn rules_and_cells_are_a_join(
        updates in prop::collection::vec(any_update(), 0..24),
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
        cuts in prop::collection::vec(1usize..8, 40),
        steps in (1usize..5, 1usize..5),
    ) {
        let expected = model(&updates);

        // At once.
        let mut whole = Joiner::new();
        whole.join(&updates, usize::MAX, usize::MAX);
        prop_assert_eq!(&whole.cells(), &expected);
        prop_assert_eq!(&whole.rows, &expected);

        // In any order, some of them twice, in batches of any size, in steps.
        let mut shuffled = updates.clone();
        for (from, to) in order.iter().enumerate() {
            if from < shuffled.len() {
                shuffled.swap(from, to.index(updates.len()));
            }
        }
        let again: Vec<_> = shuffled.iter().step_by(3).cloned().collect();
        shuffled.extend(again);
        let mut apart = Joiner::new();
        let mut left = &shuffled[..];
        for size in cuts {
            let (batch, rest) = left.split_at(size.min(left.len()));
            apart.join(batch, steps.0, steps.1);
            left = rest;
            // Rows are the tree between batches.
            prop_assert_eq!(&apart.rows, &apart.cells());
        }
        apart.join(left, steps.0, steps.1);
        prop_assert_eq!(&apart.cells(), &expected);
        prop_assert_eq!(&apart.rows, &expected);

        // A tree that is built of the rows, with what a crash left in them, is the same.
        let mut loader = Loader::new();
        let mut left_behind = expected.clone();
        for (key, cell) in &updates {
            let version = Version::of(key, cell);
            let kept = left_behind.entry(key.clone()).or_insert(version);
            *kept = (*kept).max(version);
        }
        for (key, version) in &left_behind {
            loader.push(key.clone(), TreeEntry::from(*version));
        }
        let built = loader.finish();
        let covered: BTreeSet<_> = built.covered.iter().map(|(key, _)| key.clone()).collect();
        let not_kept = left_behind.keys().filter(|key| !expected.contains_key(key));
        prop_assert_eq!(covered, not_kept.cloned().collect::<BTreeSet<_>>());
        prop_assert_eq!(whole.tree.publish(), apart.tree.publish());
        prop_assert_eq!(whole.tree.publish(), built.tree.publish());

        // What is shown is a function of the updates.
        let mut rules = WildcardRules::default();
        for (key, cell) in &shuffled {
            if key.key.is_pattern() {
                rules.join(key, cell);
            }
        }
        for text in KEYS {
            let key = match text {
                "" => Key::NONE,
                text => Some(OwnedKeyExpr::try_from(text).expect("a key")).into(),
            };
            let mut liveness = KeyLiveness::default();
            for (cell, held) in apart.tree.iter().filter(|(cell, _)| cell.key == key) {
                liveness.see(&cell.part, held.timestamp(), held.shown_until());
            }
            let ruled = rules.of_key(&key).unwrap_or_else(Ruled::default);
            prop_assert_eq!(liveness.shown(&ruled, 1), shown(&updates, &key), "{}", text);
        }
    }
}
