//! Lifetimes that become longer for what has been stamped already.
//!
//! What died under the shorter one is gone, and deletes with it: a replica that was away may still
//! have what they deleted, and by the longer lifetime it lives. So a storage remembers beside its data
//! by which lifetimes cells have died there, and up to when, and takes no lifetimes by which something
//! would live on that has died by those.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zenoh_keyexpr::OwnedKeyExpr;

use super::{lifetimes::Lifetime, rules::specificity};
use crate::{
    cell::{intersect, ntp64_span},
    config::{ConfigError, LifetimeStep, LifetimesConfig, MAX_LIFETIME_STEPS, Span},
};

/// By which lifetimes cells have died, and up to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RememberedLifetimes {
    /// Milliseconds since 1970.
    pub until: u64,
    /// The lifetimes.
    pub lifetimes: LifetimesConfig,
}

/// A new lifetime begins so long from now, or a little later, in the example of an error.
const AHEAD: u64 = 600_000;

/// What an example has for keys that are to have no lifetime: the longest there is.
const LONGEST: u64 = 3_660 * 86_400_000;

type Steps = Vec<LifetimeStep>;

impl RememberedLifetimes {
    /// Whether these lifetimes may hold from now on, at `now` in milliseconds since 1970.
    ///
    /// Two key expressions are compared if there may be a key of which they are the most specific, in
    /// the old lifetimes and in the new ones. That a key expression is included in several others
    /// together is not seen: then the error is one too many.
    ///
    /// # Errors
    /// If something would live on that has died; it says what to write.
    pub fn check(&self, new: &LifetimesConfig, now: u64) -> Result<(), ConfigError> {
        let old = specificity::sort(self.lifetimes.keys.clone());
        let new = specificity::sort(new.keys.clone());
        for (index, (pattern, steps)) in old.iter().enumerate() {
            let is_hidden_by = |rules: &[(OwnedKeyExpr, Steps)], pattern: &OwnedKeyExpr| {
                rules.iter().any(|(first, _)| first.includes(pattern))
            };
            for (place, (other, longer)) in new.iter().enumerate() {
                // Where an old one that is more specific has all keys of the new one, or a new one all
                // of the old one, these two do not meet.
                let meet = intersect(pattern, other)
                    && !is_hidden_by(&old[..index], other)
                    && !is_hidden_by(&new[..place], pattern);
                if meet && self.lengthens(steps, Some(longer)) {
                    return Err(self.error(other, steps, Some(longer), now));
                }
            }
            if !is_hidden_by(&new, pattern) && self.lengthens(steps, None) {
                return Err(self.error(pattern, steps, None, now));
            }
        }
        Ok(())
    }

    /// Whether something is not dead by the new steps that has died by the old ones.
    fn lengthens(&self, old: &[LifetimeStep], new: Option<&Steps>) -> bool {
        let until = ntp64_span(Duration::from_millis(self.until));
        let dead = |steps: &[LifetimeStep]| Lifetime::new(steps).latest_dead(until);
        new.and_then(|new| dead(new)) < dead(old)
    }

    fn error(
        &self,
        pattern: &OwnedKeyExpr,
        old: &[LifetimeStep],
        new: Option<&Steps>,
        now: u64,
    ) -> ConfigError {
        let kept = new
            .and_then(|steps| steps.last())
            .map_or(LONGEST, |step| step.kept);
        let mut steps = old.to_vec();
        // Those that are over say nothing any more.
        while steps.len() >= MAX_LIFETIME_STEPS {
            steps.remove(0);
        }
        let last = steps.last().map_or(0, |step| step.from);
        let from = (now + AHEAD).max(last + 1).next_multiple_of(AHEAD);
        steps.push(LifetimeStep { from, kept });
        let found = match new {
            Some(new) => written(new),
            None => "none".to_owned(),
        };
        ConfigError::Option {
            option: format!("lifetimes.{pattern}"),
            reason: format!(
                "found {found}, and in the folder values have died by {}: what would live longer now \
                 is gone, and so are deletes, so replicas that were away would bring back what was \
                 deleted; write, at all replicas alike, from when on the new one holds, which has to \
                 be ahead: {}; or begin with an empty folder",
                written(old),
                written(&steps)
            ),
        }
    }
}

/// Steps as they are written in a configuration.
fn written(steps: &[LifetimeStep]) -> String {
    let span = |kept| Span(Duration::from_millis(kept)).to_string();
    if let [LifetimeStep { from: 0, kept }] = steps {
        return span(*kept);
    }
    let steps = steps.iter().enumerate().map(|(index, step)| match index {
        0 => format!("{{ for: {} }}", span(step.kept)),
        _ => {
            let from = UNIX_EPOCH + Duration::from_millis(step.from);
            let from = humantime::format_rfc3339(from);
            format!("{{ from: \"{from}\", for: {} }}", span(step.kept))
        }
    });
    format!("[{}]", steps.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{cell::Key, config::StorageConfig, merge::Lifetimes};

    /// 2026-11-28, in milliseconds.
    const NOW: u64 = 1_795_824_000_000;

    fn config(lifetimes: &Value) -> LifetimesConfig {
        let config = StorageConfig::parse("demo", json!({ "lifetimes": lifetimes }));
        config.expect("valid").lifetimes
    }

    fn check(old: &Value, new: &Value) -> Result<(), String> {
        let remembered = RememberedLifetimes {
            until: NOW,
            lifetimes: config(old),
        };
        let checked = remembered.check(&config(new), NOW + 1);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn what_lengthens_from_the_past_on_is_refused() {
        let short = json!({ "a/*": "10s" });
        for new in [
            json!({ "a/*": "10s" }),
            json!({ "a/*": "5s" }),
            json!({ "a/*": "10s", "b/**": "1h" }),
            json!({ "a/**": "10s" }),
            json!({ "a/*": [{ "for": "10s" }, { "from": "2027-01-01T00:00:00Z", "for": "1d" }] }),
            // No stamp of these has died, as it holds for longer than the clock goes back.
            json!({ "a/*": [{ "for": "10s" }, { "from": "2026-11-27T23:59:55Z", "for": "1d" }] }),
        ] {
            assert_eq!(check(&short, &new), Ok(()), "{new}");
        }
        for new in [
            json!({}),
            json!({ "b/*": "10s" }),
            json!({ "a/*": "11s" }),
            json!({ "a/*": "10s", "a/1": "1h" }),
            json!({ "a/1": "10s" }),
            json!({ "a/*": [{ "for": "1h" }, { "from": "2027-01-01T00:00:00Z", "for": "10s" }] }),
            json!({ "a/*": [{ "for": "10s" }, { "from": "2026-11-27T00:00:00Z", "for": "1d" }] }),
        ] {
            let error = check(&short, &new).expect_err("it lengthens");
            assert!(error.starts_with("option `lifetimes.a/"), "{new}: {error}");
        }
        let both = json!({ "a/**": "1h", "a/b": "2h", "**/b": "3h" });
        assert_eq!(check(&both, &both), Ok(()));
    }

    #[test]
    fn the_error_says_what_to_write_and_that_is_taken() {
        let short = json!({ "a/*": "10s" });
        let error = check(&short, &json!({ "a/*": "30s" })).expect_err("it lengthens");
        let write = r#"[{ for: "10s" }, { from: "2026-11-28T00:20:00Z", for: "30s" }]"#;
        assert!(error.starts_with(r#"option `lifetimes.a/*`: found "30s", and in the folder values have died by "10s": "#), "{error}");
        assert!(
            error.contains(&format!("which has to be ahead: {write}; or begin")),
            "{error}"
        );
        let steps: Value = serde_json::from_str(
            &write
                .replace("for:", r#""for":"#)
                .replace("from:", r#""from":"#),
        )
        .expect("as it is written");
        assert_eq!(check(&short, &json!({ "a/*": steps })), Ok(()));
        let error = check(&short, &json!({})).expect_err("there is none any more");
        assert!(error.contains(r#"for: "3660d" }]; or begin"#), "{error}");
    }

    const KEYS: [&str; 6] = ["a/b", "a/c", "a/b/c", "b", "c/b", "a"];

    fn any_lifetimes() -> impl Strategy<Value = Value> {
        let patterns = ["a/*", "a/**", "a/b", "**/b", "**", "b"];
        let steps = (1u64..5, prop::option::of((0u64..5, 1u64..5)));
        let some = prop::collection::vec((0..patterns.len(), steps), 0..4);
        some.prop_map(move |some| {
            let pattern = |(index, (kept, step)): (usize, (u64, Option<(u64, u64)>))| {
                let mut steps = vec![json!({ "for": format!("{kept}h") })];
                if let Some((ago, kept)) = step {
                    let from = UNIX_EPOCH + Duration::from_millis(NOW - 3_600_000 * ago);
                    let from = humantime::format_rfc3339(from).to_string();
                    steps.push(json!({ "from": from, "for": format!("{kept}h") }));
                }
                (patterns[index].to_owned(), json!(steps))
            };
            Value::Object(some.into_iter().map(pattern).collect())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

        // Whatever is taken, of no key anything lives that has died; and the same is taken.
        #[test]
        fn nothing_that_has_died_lives_on(old in any_lifetimes(), new in any_lifetimes()) {
            prop_assert_eq!(check(&old, &old), Ok(()));
            if check(&old, &new).is_err() {
                return Ok(());
            }
            let all = zenoh_keyexpr::keyexpr::new("**").expect("a key expression");
            let made = |written| Lifetimes::new(&config(written), all, None).expect("they match");
            let (old, new) = (made(&old), made(&new));
            let now = ntp64_span(Duration::from_millis(NOW));
            for text in KEYS {
                let key = Key::from(OwnedKeyExpr::try_from(text).ok());
                prop_assert!(new.expired(&key, now) >= old.expired(&key, now), "{text}");
            }
        }
    }
}
