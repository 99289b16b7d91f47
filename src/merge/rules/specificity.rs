//! Which of several key expressions is the most specific.
//!
//! All rules are put into one order, and the first that matches a key is taken:
//!
//! 1. A rule comes before those that include it.
//! 2. Of rules of which none includes the other, chunk by chunk from the left,
//!    that comes first which has a chunk without wildcards where the other has
//!    one with, one with `$*` before `*`, and `*` before `**`; then the one with
//!    more chunks; then the one whose text is the lesser.

use std::cmp::Ordering;

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

/// How much a chunk leaves open.
fn openness(chunk: &str) -> u8 {
    match chunk {
        "**" => 3,
        "*" => 2,
        chunk if chunk.contains("$*") => 1,
        _ => 0,
    }
}

/// The second part of the rule.
fn by_chunks(a: &keyexpr, b: &keyexpr) -> Ordering {
    let openness = |rule: &keyexpr| -> Vec<u8> { rule.as_str().split('/').map(openness).collect() };
    let (open_a, open_b) = (openness(a), openness(b));
    let pairs = open_a.iter().zip(&open_b);
    pairs
        .map(|(a, b)| a.cmp(b))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| open_b.len().cmp(&open_a.len()))
        .then_with(|| a.as_str().cmp(b.as_str()))
}

/// Puts rules into the order in which they are tried.
pub(in crate::merge) fn sort<T>(rules: Vec<(OwnedKeyExpr, T)>) -> Vec<(OwnedKeyExpr, T)> {
    let mut left = rules;
    left.sort_by(|(a, _), (b, _)| by_chunks(a, b));
    let mut sorted = Vec::with_capacity(left.len());
    while !left.is_empty() {
        // There is one that includes none of the others, since inclusion is an
        // order.
        let includes_none = |(rule, _): &(OwnedKeyExpr, T)| {
            let mut others = left.iter();
            others.all(|(other, _)| other == rule || !rule.includes(other))
        };
        let next = left.iter().position(includes_none).unwrap_or(0);
        sorted.push(left.remove(next));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(rules: &[&str]) -> Vec<String> {
        let rules = rules.iter();
        let rules = rules
            .map(|rule| (OwnedKeyExpr::try_from(*rule).expect("a key expression"), ()))
            .collect();
        sort(rules)
            .into_iter()
            .map(|(rule, ())| rule.to_string())
            .collect()
    }

    #[test]
    fn the_more_specific_comes_first() {
        let expected = [
            "fleet/truck7/odometer",
            "fleet/truck7/*",
            "fleet/truck7/**",
            "fleet/truck$*/odometer",
            "fleet/*/odometer",
            "fleet/*/*",
            "fleet/**",
            "*/*/odometer",
            "**/odometer",
            "**",
        ];
        let mut backwards = expected;
        backwards.reverse();
        assert_eq!(sorted(&expected), expected);
        assert_eq!(sorted(&backwards), expected);
    }

    #[test]
    fn inclusion_goes_before_chunks() {
        // By its chunks the second leaves less open.
        assert_eq!(sorted(&["**/b", "**/$*a/b"]), ["**/$*a/b", "**/b"]);
    }

    proptest! {
        #[test]
        fn the_order_depends_on_the_rules_alone(rules in prop::collection::btree_set("(a|b|\\*|\\*\\*|a\\$\\*)(/(a|b|\\*|\\*\\*)){0,2}", 0..8), turn: usize) {
            let canonical = rules.iter().filter_map(|rule| OwnedKeyExpr::autocanonize(rule.clone()).ok());
            let mut rules: Vec<(OwnedKeyExpr, ())> = canonical.map(|rule| (rule, ())).collect();
            rules.sort_by(|(a, ()), (b, ())| a.as_str().cmp(b.as_str()));
            rules.dedup();
            let expected = sort(rules.clone());
            for (index, (rule, ())) in expected.iter().enumerate() {
                for (later, ()) in &expected[index + 1..] {
                    prop_assert!(!rule.includes(later), "{rule} before {later}");
                }
            }
            if !rules.is_empty() {
                let turn = turn % rules.len();
                rules.rotate_left(turn);
            }
            prop_assert_eq!(sort(rules), expected);
        }
    }
}
