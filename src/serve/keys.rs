//! Keys as clients write them, and as a storage keeps them.

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use crate::{
    cell::{Key, intersect},
    replica::Keys,
    wildcard::Reach,
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

/// What a pattern of clients stands for in a storage: all keys that it matches match one of these
/// patterns, or are among these keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Relative {
    pub(super) patterns: Vec<OwnedKeyExpr>,
    pub(super) keys: Vec<Key>,
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
        key.with_prefix(self.0.as_ref())
    }

    /// What a pattern stands for in the storage: patterns, and keys.
    pub(super) fn relative(&self, pattern: &keyexpr) -> Relative {
        let mut relative = Relative::default();
        let Some(prefix) = &self.0 else {
            relative.patterns.push(pattern.to_owned());
            return relative;
        };
        let text = pattern.as_str();
        let ends = text.match_indices('/').map(|(end, _)| end);
        for end in ends.chain([text.len()]) {
            let before = keyexpr::new(&text[..end]).ok();
            if !before.is_some_and(|before| intersect(before, prefix)) {
                continue;
            }
            // A `**` may stand for more than the rest of the prefix.
            let rest = match text[..end].ends_with("**") {
                true => &text[end - 2..],
                false if end == text.len() => {
                    relative.keys.push(Key::NONE);
                    continue;
                }
                false => &text[end + 1..],
            };
            let Ok(rest) = OwnedKeyExpr::try_from(rest) else {
                continue;
            };
            match rest.is_wild() {
                true => relative.patterns.push(rest),
                false => relative.keys.push(Some(rest).into()),
            }
        }
        if let Some(all) = relative.patterns.iter().find(|all| all.as_str() == "**") {
            return Relative {
                patterns: vec![all.clone()],
                keys: Vec::new(),
            };
        }
        relative
    }

    /// Where to look for the keys that `pattern` matches.
    pub(super) fn places(&self, pattern: &keyexpr) -> Places {
        let Reach { exact, beginning } = Reach::of(pattern);
        let exact = exact.and_then(|exact| self.strip(exact));
        let below = match &self.0 {
            None => Some(beginning),
            Some(prefix) => match beginning.strip_prefix(prefix.as_str()) {
                // Of a wildcard within a chunk of the prefix, or beyond it.
                Some("") => Some(""),
                Some(rest) => rest.strip_prefix('/'),
                None => prefix.as_str().starts_with(beginning).then_some(""),
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
    use crate::wildcard::matches;

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

    #[test]
    fn patterns_are_kept_without_the_prefix() {
        let relative = |stripped, pattern| {
            let Relative { patterns, keys } = prefix(stripped).relative(ke(pattern));
            let keys = keys
                .iter()
                .map(|key| key.as_str().unwrap_or("(none)").to_owned());
            let patterns = patterns.iter().map(ToString::to_string);
            patterns.chain(keys).collect::<Vec<_>>()
        };
        assert_eq!(relative(None, "a/**"), ["a/**"]);
        assert_eq!(relative(Some("a"), "a/**"), ["**"]);
        assert_eq!(relative(Some("a"), "**"), ["**"]);
        assert_eq!(relative(Some("a"), "a/*/c"), ["*/c"]);
        assert_eq!(relative(Some("a"), "**/c"), ["**/c"]);
        assert_eq!(relative(Some("a"), "**/a"), ["**/a", "(none)"]);
        assert_eq!(relative(Some("a"), "*"), ["(none)"]);
        assert_eq!(relative(Some("a"), "*/b"), ["b"]);
        assert_eq!(relative(Some("a"), "b/*"), [""; 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

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
            let relative = prefix.relative(&pattern);
            let is_of_pattern = relative.patterns.iter().any(|pattern| matches(pattern, &key));
            let is_there = is_of_pattern || relative.keys.contains(&key);
            prop_assert_eq!(is_there, intersect(&pattern, ke(&full)), "{:?}", relative);
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
