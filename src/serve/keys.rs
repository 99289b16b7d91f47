//! Keys as clients write them, and as a storage keeps them.

use zenoh_keyexpr::{keyexpr, OwnedKeyExpr};

use crate::{
    cell::{intersect, Key},
    replica::Keys,
};

/// Strips a storage's prefix, and puts it back.
#[derive(Clone, Debug)]
pub(super) struct Prefix(Option<OwnedKeyExpr>);

/// Where the keys are that a pattern matches: beyond these there is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) exact: Option<Key>,
    pub(super) below: Option<Keys>,
}

/// The text of a pattern up to its first wildcard.
fn literal(pattern: &keyexpr) -> &str {
    let text = pattern.as_str();
    let end = text.find(['*', '$']).unwrap_or(text.len());
    &text[..end]
}

impl Prefix {
    pub(super) fn new(prefix: Option<OwnedKeyExpr>) -> Self {
        Self(prefix)
    }

    /// The key that the storage keeps; nothing if it does not begin with the prefix.
    pub(super) fn strip(&self, full: &keyexpr) -> Option<Key> {
        let Some(prefix) = &self.0 else {
            return Some(Some(full.to_owned()).into());
        };
        let rest = full.as_str().strip_prefix(prefix.as_str())?;
        if rest.is_empty() {
            return Some(Key::NONE);
        }
        let rest = keyexpr::new(rest.strip_prefix('/')?).ok()?;
        Some(Some(rest.to_owned()).into())
    }

    /// The key as clients write it; nothing if there is none, which the storage then
    /// never took.
    pub(super) fn put_back(&self, key: &Key) -> Option<OwnedKeyExpr> {
        match (&self.0, key.as_key_expr()) {
            (None, key) => key.cloned(),
            (Some(prefix), None) => Some(prefix.clone()),
            (Some(prefix), Some(key)) => OwnedKeyExpr::try_from(format!("{prefix}/{key}")).ok(),
        }
    }

    /// Where to look for the keys that `pattern` matches.
    pub(super) fn places(&self, pattern: &keyexpr) -> Places {
        let literal = literal(pattern);
        // `a/**` matches `a`, too, which does not begin with `a/`.
        let exact = literal.strip_suffix('/');
        let exact = exact.and_then(|exact| keyexpr::new(exact).ok());
        let exact = exact.filter(|exact| intersect(pattern, exact));
        let exact = exact.and_then(|exact| self.strip(exact));
        let below = match &self.0 {
            None => Some(literal),
            Some(prefix) => match literal.strip_prefix(prefix.as_str()) {
                // Of a wildcard within a chunk of the prefix, or beyond it.
                Some("") => Some(""),
                Some(rest) => rest.strip_prefix('/'),
                None => prefix.as_str().starts_with(literal).then_some(""),
            },
        };
        let below = below.map(Keys::beginning_with);
        // Where all are looked at it is among them.
        let is_there = |key: &Key| below.as_ref().is_some_and(|below| below.has(key));
        let exact = exact.filter(|key| !is_there(key));
        Places { exact, below }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: Option<&str>) -> Prefix {
        Prefix::new(text.map(|text| text.try_into().expect("a key")))
    }

    fn ke(text: &str) -> &keyexpr {
        keyexpr::new(text).expect("a key expression")
    }

    #[test]
    fn only_what_begins_as_the_pattern_is_looked_at() {
        let places = |stripped, pattern| prefix(stripped).places(ke(pattern));
        let below = |text| Some(Keys::beginning_with(text));
        let key = |text: &str| Key::from(Some(text.try_into().expect("a key")));
        let all = Places {
            exact: None,
            below: below(""),
        };
        assert_eq!(places(None, "**"), all);
        assert_eq!(places(None, "a/*/c").below, below("a/"));
        assert_eq!(places(None, "a/*/c").exact, None);
        assert_eq!(places(None, "a/b$*").below, below("a/b"));
        let with_itself = Places {
            exact: Some(key("a/b")),
            below: below("a/b/"),
        };
        assert_eq!(places(None, "a/b/**"), with_itself);
        assert_eq!(places(Some("a"), "a/**"), all);
        assert_eq!(places(Some("a/b"), "a/*/c"), all);
        assert_eq!(places(Some("a"), "a/b/*").below, below("b/"));
        assert_eq!(places(Some("a"), "b/*"), Places::default());
        assert_eq!(places(Some("a"), "ab/*"), Places::default());
    }

    proptest! {
        #[test]
        fn every_key_that_matches_is_at_its_place_and_at_one(
            stripped in prop_oneof![Just(None), Just(Some("a")), Just(Some("a/b"))],
            pattern in "(a|b|ab|\\*|\\*\\*|a\\$\\*)(/(a|b|ab|\\*|\\*\\*|a\\$\\*)){0,3}",
            full in "(a|b|ab)(/(a|b|ab)){0,4}",
        ) {
            let pattern = OwnedKeyExpr::autocanonize(pattern).expect("a key expression");
            let prefix = prefix(stripped);
            let Some(key) = prefix.strip(ke(&full)) else {
                return Ok(());
            };
            let back = prefix.put_back(&key).expect("it was put");
            prop_assert_eq!(back.as_str(), full.as_str());
            let places = prefix.places(&pattern);
            let is_exact = places.exact.as_ref() == Some(&key);
            let is_below = places.below.is_some_and(|below| below.has(&key));
            prop_assert!(!(is_exact && is_below));
            if intersect(&pattern, ke(&full)) {
                prop_assert!(is_exact || is_below);
            }
        }
    }
}
