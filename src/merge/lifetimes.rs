//! How long cells are kept, by key.
//!
//! A lifetime is a wildcard delete that moves with the watermark: at the watermark C, a cell is dead
//! whose death time is not later. The death time d is a function of key and timestamp alone, and
//! **never decreases with the timestamp**: of two cells of a key, the later one dies no earlier. So
//! dropping what is dead commutes with the join of cells. If the winner of a cell is dead, what it
//! beats is dead, too, and so is what it covers; if it is not, nothing changes. Replicas that have
//! received the same updates hold the same cells at each watermark, whatever came late, or not at
//! all; and what a delete hid cannot come back when the delete is gone.
//!
//! Deaths are on a grid, so that they come in batches: a cell leaves the tree at the first multiple
//! of the grid that is not before its death time. Readers see the exact time.

use zenoh_keyexpr::{OwnedKeyExpr, keyexpr};

use super::rules::specificity;
use crate::{
    cell::{Key, TIMESTAMP_ID_BYTES, Timestamp, intersect, ntp64_span},
    config::{ConfigError, LifetimeStep, LifetimesConfig},
};

/// The finest grid, in NTP64: the unit of the watermark.
const FINEST: u64 = crate::replica::BUCKET;

/// The coarsest: 4,096 s.
const COARSEST: u64 = 1 << 44;

/// Grid steps that a lifetime has, at least.
const GRID_STEPS: u64 = 64;

/// A span or time of the configuration, in NTP64.
fn ntp64(millis: u64) -> u64 {
    ntp64_span(std::time::Duration::from_millis(millis))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// It holds for what is stamped from here on.
    from: u64,
    kept: u64,
    /// What is stamped in this step dies no earlier than what was stamped before it.
    earliest: u64,
}

/// How long cells of some keys are kept. Times are in NTP64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Ascending; the first holds from 0.
    steps: Vec<Step>,
    grid: u64,
}

impl Lifetime {
    pub(super) fn new(config: &[LifetimeStep]) -> Self {
        let mut steps: Vec<Step> = Vec::with_capacity(config.len());
        for LifetimeStep { from, kept } in config {
            let (from, kept) = (ntp64(*from), ntp64(*kept));
            let earliest = steps
                .last()
                .map_or(0, |last| last.earliest.max(from.saturating_add(last.kept)));
            steps.push(Step {
                from,
                kept,
                earliest,
            });
        }
        let longest = steps.iter().map(|step| step.kept).max().unwrap_or(0);
        let finest = (longest / GRID_STEPS).max(1).ilog2();
        Self {
            steps,
            grid: (1 << finest).clamp(FINEST, COARSEST),
        }
    }

    /// When a cell dies that is stamped with this time: it is not shown from then on.
    #[must_use]
    pub fn death(&self, time: u64) -> u64 {
        let step = self.steps.iter().rev().find(|step| step.from <= time);
        step.map_or(u64::MAX, |step| {
            time.saturating_add(step.kept).max(step.earliest)
        })
    }

    /// The first watermark at which the tree does not have it any more.
    #[must_use]
    pub fn leaves_at(&self, time: u64) -> u64 {
        let death = self.death(time);
        death
            .checked_next_multiple_of(self.grid)
            .unwrap_or(u64::MAX)
    }

    /// The latest time whose death is not after this: that of no earlier one is.
    pub(super) fn latest_dead(&self, at: u64) -> Option<u64> {
        let mut until = u64::MAX;
        for step in self.steps.iter().rev() {
            let latest = at.checked_sub(step.kept).map(|latest| latest.min(until));
            let latest = latest.filter(|latest| *latest >= step.from && step.earliest <= at);
            if latest.is_some() {
                return latest;
            }
            until = step.from.saturating_sub(1);
        }
        None
    }

    /// What is not newer than this is not shown when the clock says `now`.
    #[must_use]
    pub fn expired(&self, now: u64) -> Option<Timestamp> {
        self.latest_dead(now).map(last_of)
    }

    /// What is not newer than this is not in the tree at this watermark.
    #[must_use]
    pub fn dead(&self, cut: u64) -> Option<Timestamp> {
        self.latest_dead(cut / self.grid * self.grid).map(last_of)
    }
}

/// The last timestamp of a time.
fn last_of(time: u64) -> Timestamp {
    let id = [u8::MAX; TIMESTAMP_ID_BYTES];
    Timestamp { time, id }
}

/// The lifetime of the keys that a pattern matches, made for the keys that a storage keeps, from
/// which its prefix is stripped.
#[derive(Clone, Debug)]
struct Rule {
    /// As it was written.
    written: OwnedKeyExpr,
    keys: Vec<OwnedKeyExpr>,
    /// Whether it matches the key that is the prefix itself.
    matches_prefix: bool,
    lifetime: Lifetime,
}

impl Rule {
    fn matches(&self, key: &Key) -> bool {
        let Some(key) = key.as_key_expr() else {
            return self.matches_prefix;
        };
        self.keys.iter().any(|pattern| {
            // Most keys differ from most patterns at once.
            let text = pattern.as_str();
            let literal = &text[..text.find(['*', '$']).unwrap_or(text.len())];
            let literal = literal.trim_end_matches('/');
            key.as_str().starts_with(literal) && intersect(pattern, key)
        })
    }
}

/// The lifetimes of a storage: of the patterns that match a key, that of the most specific counts.
#[derive(Clone, Debug, Default)]
pub struct Lifetimes {
    /// The most specific first.
    rules: Vec<Rule>,
    text: String,
}

impl Lifetimes {
    /// The lifetimes of a storage with this key expression, from whose keys this prefix is stripped.
    ///
    /// # Errors
    /// If one of them could never match.
    pub fn new(
        config: &LifetimesConfig,
        key_expr: &keyexpr,
        strip_prefix: Option<&keyexpr>,
    ) -> Result<Self, ConfigError> {
        for (pattern, _) in &config.keys {
            if !intersect(pattern, key_expr) {
                return Err(ConfigError::Option {
                    option: format!("lifetimes.{pattern}"),
                    reason: format!("it matches no key of the storage, which keeps `{key_expr}`"),
                });
            }
        }
        let sorted = specificity::sort(config.keys.clone()).into_iter();
        let rules = sorted.map(|(written, steps)| Rule {
            keys: match strip_prefix {
                None => vec![written.clone()],
                Some(prefix) => written
                    .strip_prefix(prefix)
                    .into_iter()
                    .map(ToOwned::to_owned)
                    .collect(),
            },
            matches_prefix: strip_prefix.is_some_and(|prefix| intersect(&written, prefix)),
            written,
            lifetime: Lifetime::new(&steps),
        });
        Ok(Self {
            rules: rules.collect(),
            text: config.text(),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many key expressions have one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// All by which replicas have to agree on deaths, in one form; nothing if there are no lifetimes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key expressions, as they are written.
    pub fn patterns(&self) -> impl Iterator<Item = &OwnedKeyExpr> {
        self.rules.iter().map(|rule| &rule.written)
    }

    /// The lifetime of a key, if it has one; patterns have none.
    #[must_use]
    pub fn of(&self, key: &Key) -> Option<&Lifetime> {
        if self.rules.is_empty() || key.is_pattern() {
            return None;
        }
        let rule = self.rules.iter().find(|rule| rule.matches(key));
        rule.map(|rule| &rule.lifetime)
    }

    /// What is not newer than this is not shown of a key when the clock says `now`.
    #[must_use]
    pub fn expired(&self, key: &Key, now: u64) -> Option<Timestamp> {
        self.of(key)?.expired(now)
    }

    /// What is not newer than this is not in the tree of a key at this watermark.
    #[must_use]
    pub fn dead(&self, key: &Key, cut: u64) -> Option<Timestamp> {
        self.of(key)?.dead(cut)
    }

    /// Whether what is stamped with this is not in the tree of a key at this watermark.
    #[must_use]
    pub fn is_dead(&self, key: &Key, timestamp: Timestamp, cut: u64) -> bool {
        self.dead(key, cut) >= Some(timestamp)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::StorageConfig;

    /// Lifetimes as they are written, for a storage that keeps all keys.
    pub(crate) fn lifetimes(written: serde_json::Value) -> Lifetimes {
        let config = StorageConfig::parse("demo", json!({ "lifetimes": written }));
        let all = keyexpr::new("**").expect("a key expression");
        Lifetimes::new(&config.expect("valid").lifetimes, all, None).expect("they match")
    }

    fn key(text: &str) -> Key {
        Some(OwnedKeyExpr::try_from(text).expect("a key")).into()
    }

    fn any_lifetime() -> impl Strategy<Value = Lifetime> {
        let steps = prop::collection::vec((1u64..100_000, 1_000u64..100_000), 1..5);
        steps.prop_map(|steps| {
            let mut from = 0;
            let steps = steps.into_iter().enumerate().map(|(index, (after, kept))| {
                from += if index == 0 { 0 } else { after };
                LifetimeStep { from, kept }
            });
            Lifetime::new(&steps.collect::<Vec<_>>())
        })
    }

    /// The death time as the design says it: of all that is stamped up to `time` the last.
    fn naive_death(lifetime: &Lifetime, time: u64) -> u64 {
        let mut last = 0;
        for (index, step) in lifetime.steps.iter().enumerate() {
            if step.from > time {
                break;
            }
            let next = lifetime.steps.get(index + 1);
            let until = next.map_or(time, |next| next.from.min(time));
            last = last.max(until + step.kept);
        }
        last
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        // L7, and that all ways to ask agree.
        #[test]
        fn deaths_never_come_earlier_for_what_is_later(
            lifetime in any_lifetime(),
            times in prop::collection::vec(0u64..500_000, 2),
            at in 0u64..700_000,
        ) {
            let mut times: Vec<_> = times.into_iter().map(ntp64).collect();
            times.sort_unstable();
            prop_assert!(lifetime.death(times[0]) <= lifetime.death(times[1]));
            prop_assert!(lifetime.leaves_at(times[0]) <= lifetime.leaves_at(times[1]));
            let at = ntp64(at);
            for time in times {
                let timestamp = Timestamp { time, id: [7; TIMESTAMP_ID_BYTES] };
                prop_assert_eq!(lifetime.death(time), naive_death(&lifetime, time));
                prop_assert_eq!(
                    Some(timestamp) <= lifetime.expired(at), lifetime.death(time) <= at
                );
                let cut = at / FINEST * FINEST;
                prop_assert_eq!(
                    Some(timestamp) <= lifetime.dead(cut), lifetime.leaves_at(time) <= cut
                );
                // The tree has nothing for longer than its life and a grid step.
                prop_assert!(lifetime.leaves_at(time) - lifetime.death(time) < lifetime.grid);
            }
        }
    }

    #[test]
    fn the_grid_is_a_64th_at_most() {
        let grid = |kept| Lifetime::new(&[LifetimeStep { from: 0, kept }]).grid;
        assert_eq!(grid(1_000), FINEST);
        assert_eq!(grid(10_000), FINEST);
        assert_eq!(grid(64_000), 1 << 32);
        assert_eq!(grid(127_000), 1 << 32);
        assert_eq!(grid(86_400_000), 1024 << 32);
        assert_eq!(grid(3_660 * 86_400_000), COARSEST);
    }

    #[test]
    fn the_most_specific_counts_and_patterns_have_none() {
        let lifetimes = lifetimes(json!({ "a/**": "1m", "a/*/pose": "10s", "**/log": "1h" }));
        let kept = |text: &str| {
            let lifetime = lifetimes.of(&key(text));
            lifetime.map(|lifetime| lifetime.death(0) >> 32)
        };
        assert_eq!(kept("a/1/pose"), Some(10));
        assert_eq!(kept("a/1/image"), Some(60));
        assert_eq!(kept("a"), Some(60));
        assert_eq!(kept("a/log"), Some(60), "its first chunk says more");
        assert_eq!(kept("b/log"), Some(3600));
        assert_eq!(kept("ab/c"), None);
        assert_eq!(kept("b/1/pose"), None);
        assert_eq!(kept("a/*/pose"), None);
        assert!(lifetimes.of(&Key::NONE).is_none());
    }

    #[test]
    fn a_prefix_is_stripped() {
        let config = StorageConfig::parse(
            "demo",
            json!({ "lifetimes": { "fleet/*": "10s", "fleet/**": "1m" } }),
        );
        let config = config.expect("valid").lifetimes;
        let fleet = |text| keyexpr::new(text).expect("a key expression");
        let made = Lifetimes::new(&config, fleet("fleet/**"), Some(fleet("fleet")));
        let made = made.expect("they match");
        let kept = |key: &Key| made.of(key).map(|lifetime| lifetime.death(0) >> 32);
        assert_eq!(kept(&key("a")), Some(10));
        assert_eq!(kept(&key("a/b")), Some(60));
        assert_eq!(kept(&Key::NONE), Some(60));
        let error = Lifetimes::new(&config, fleet("other/**"), None).expect_err("none match");
        let said = "option `lifetimes.fleet/*`: it matches no key of the storage, which keeps \
                    `other/**`";
        assert!(
            error.to_string().starts_with("option `lifetimes.fleet/"),
            "{error} {said}"
        );
    }
}
