use proptest::prelude::*;

use super::*;
use crate::cell::{Content, Value};

fn at(time: u64) -> Timestamp {
    Timestamp { time, id: [1; 16] }
}

fn put(time: u64, payload: &str) -> Arc<Cell> {
    let value = Value {
        encoding_id: 0,
        schema: None,
        attachment: None,
        payload: payload.to_owned().into(),
    };
    Arc::new(Cell {
        timestamp: at(time),
        content: Content::Value(value),
    })
}

fn pattern(text: &str) -> OwnedKeyExpr {
    OwnedKeyExpr::try_from(text).expect("a pattern")
}

fn key(text: &str) -> Key {
    match text {
        "" => Key::NONE,
        text => Some(pattern(text)).into(),
    }
}

const PATTERNS: [&str; 12] = [
    "**", "*", "a/**", "a/*", "a/**/c", "a/b$*", "a/b/**", "*/b", "**/c", "@x/**", "a/@x/*", "$*b",
];

const KEYS: [&str; 14] = [
    "", "a", "b", "ab", "a/b", "a/bc", "a/b/c", "a/c", "b/b", "b/c", "@x", "@x/a", "a/@x/b", "a!",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// The index finds what comparing a key with each rule finds, and the order does not matter.
    #[test]
    fn rules_are_found_by_each_key_that_they_match(
        rules in prop::collection::vec((0..PATTERNS.len(), 1u64..6, prop::option::of("[xy]")), 0..12),
        swaps in prop::collection::vec(0usize..12, 12),
    ) {
        let rules = rules.into_iter().map(|(index, time, value)| {
            let rule = rule_key(pattern(PATTERNS[index]), value.is_some());
            let cell = value.map_or_else(
                || Arc::new(Cell::tombstone(at(time))),
                |value| put(time, &value),
            );
            (rule, cell)
        });
        let rules: Vec<_> = rules.collect();
        let mut index = WildcardRules::default();
        rules.iter().for_each(|(key, cell)| index.join(key, cell));
        let mut shuffled = rules.clone();
        for (from, to) in swaps.into_iter().enumerate() {
            if from < shuffled.len() && to < shuffled.len() {
                shuffled.swap(from, to);
            }
        }
        let mut other = WildcardRules::default();
        shuffled.iter().for_each(|(key, cell)| other.join(key, cell));
        for text in KEYS {
            let key = key(text);
            let matching = |is_put: bool| {
                let key = &key;
                let of_kind = rules.iter().filter(move |(rule, _)| is_put != rule.part.is_empty());
                of_kind.filter(move |(rule, _)| match text {
                    "" => rule.key.as_str() == Some("**"),
                    text => rule.key.as_key_expr().is_some_and(|rule| {
                        rule.intersects(key.as_key_expr().expect(text))
                    }),
                })
            };
            let deleted = matching(false).map(|(_, cell)| cell.timestamp).max();
            let ruled = index.of_key(&key).unwrap_or_default();
            prop_assert_eq!(ruled.deleted, deleted, "{}", text);
            prop_assert_eq!(index.deleted(&key), deleted);
            // Those that their own pattern's delete covers may be missing.
            let put = matching(true).map(|(_, cell)| cell.timestamp).max();
            let put = put.filter(|put| Some(*put) > deleted);
            let found = ruled.put.as_ref().map(|put| put.timestamp);
            prop_assert_eq!(found.filter(|put| Some(*put) > deleted), put, "{}", text);
            prop_assert_eq!(index.of_key(&key), other.of_key(&key), "{}", text);
        }
        prop_assert_eq!((index.len(), index.bytes()), (other.len(), other.bytes()));
        prop_assert_eq!(index.len(), index.iter().count());
        for (key, ..) in other.iter() {
            prop_assert!(index.has(&key));
            index.remove(&key);
        }
        prop_assert!(index.is_empty() && index.bytes() == 0 && index.by_beginning.is_empty());
    }

    #[test]
    fn what_a_pattern_matches_is_within_its_reach(
        pattern in "(a|b|ab|\\*|\\*\\*|a\\$\\*)(/(a|b|ab|\\*|\\*\\*|a\\$\\*)){0,3}",
        key in "(a|b|ab)(/(a|b|ab)){0,4}",
    ) {
        let pattern = OwnedKeyExpr::autocanonize(pattern).expect("a key expression");
        let reach = Reach::of(&pattern);
        let is_exact = reach.exact.is_some_and(|exact| exact.as_str() == key);
        let key = OwnedKeyExpr::try_from(key).expect("a key");
        if intersect(&pattern, &key) {
            prop_assert!(is_exact || key.starts_with(reach.beginning));
        }
    }
}

#[test]
fn what_is_no_rule_is_named() {
    let rule = |text: &str, part: &[u8]| CellKey {
        key: key(text),
        part: part.into(),
    };
    let tombstone = Cell::tombstone(at(1));
    let value = put(1, "x");
    assert_eq!(check(&rule("a/*", b""), &tombstone), Ok(()));
    assert_eq!(check(&rule("a/*", PUT_PART), &value), Ok(()));
    assert_eq!(check(&rule("a/*", b""), &value), Err(InvalidRule::Kind));
    assert_eq!(
        check(&rule("a/*", PUT_PART), &tombstone),
        Err(InvalidRule::Kind)
    );
    assert_eq!(check(&rule("a/*", b"\x01"), &value), Err(InvalidRule::Kind));
    let long = "a".repeat(MAX_PATTERN_BYTES) + "/*";
    let error = Err(InvalidRule::PatternTooLong(long.len()));
    assert_eq!(check(&rule(&long, b""), &tombstone), error);
    let large = put(1, &"x".repeat(MAX_RULE_VALUE_BYTES + 1));
    let error = Err(InvalidRule::ValueTooLong(MAX_RULE_VALUE_BYTES + 1));
    assert_eq!(check(&rule("a/*", PUT_PART), &large), error);
}
